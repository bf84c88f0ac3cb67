"""Where meshConfig stands in a set of objects: istiod's ConfigMap, or values of a Helm release.

Source: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from policies.policy import Finding, Object, name_of, spec_of

RELEASE_KINDS = ("Release", "HelmRelease")
"""A release as the view of the engine's resources shows it, and as Flux writes it."""


@dataclass(frozen=True)
class MeshConfig:
    """One meshConfig and the object that holds it."""

    holder: Object
    path: str
    """Where in the object meshConfig begins."""
    values: Mapping[str, Any]

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path."""
        value: Any = self.values
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return default if value is None else value

    def finding(self, path: str, message: str) -> Finding:
        """A finding at a dotted path of meshConfig."""
        return Finding(self.holder, f"{self.path}.{path}", message)

    @property
    def providers(self) -> frozenset[str]:
        """Names of the extension providers."""
        return frozenset(str(p.get("name")) for p in self.get("extensionProviders", ()))


def mesh_configs(objects: Iterable[Object]) -> Iterator[MeshConfig]:
    """Every meshConfig of the set."""
    for item in objects:
        if item.get("kind") == "ConfigMap":
            text = (item.get("data") or {}).get("mesh")
            if name_of(item).split("-")[0] == "istio" and isinstance(text, str):
                yield MeshConfig(item, "data.mesh", parsed(text))
        elif item.get("kind") in RELEASE_KINDS:
            values = release_values(item)
            if chart_of(item) == "istiod" or "meshConfig" in values:
                yield MeshConfig(item, "spec.values.meshConfig", values.get("meshConfig") or {})


def release_values(item: Object) -> Mapping[str, Any]:
    """The values of a release; a chart's `_internal` defaults are not among them."""
    return spec_of(item).get("values") or {}


def chart_of(item: Object) -> str:
    """Name of a release's chart, without repository."""
    chart = spec_of(item).get("chart") or ""
    if isinstance(chart, Mapping):  # Flux
        chart = (chart.get("spec") or {}).get("chart") or ""
    return str(chart).rstrip("/").rsplit("/", 1)[-1]


def parsed(text: Any) -> Mapping[str, Any]:
    """The mapping that a text holds as YAML; empty where it holds none."""
    try:
        value = yaml.load(str(text or ""), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError:
        return {}  # the proxies would have Istio's defaults, and so have the policies
    return value if isinstance(value, Mapping) else {}
