"""Which kinds get wire types, and where their CRDs come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ISTIO_KINDS = (
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "Sidecar",
    "ServiceEntry",
    "EnvoyFilter",
    "ProxyConfig",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
    "Telemetry",
)
PROMETHEUS_OPERATOR_KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")

_MATURITY = ("v1", "v1beta1", "v1alpha3", "v1alpha1")
"""Newest API first; a CRD's own order of versions says nothing."""


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 gives a lone `=` a type of its own; in CRDs it is a string like any other."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


@dataclass(frozen=True)
class Kind:
    """One version of one custom resource."""

    name: str
    api_version: str
    """Group and version: `networking.istio.io/v1`."""
    spec: Mapping[str, Any]
    """OpenAPI v3 schema of `spec`."""
    spec_required: bool


def load_kinds(files: Iterable[Path], names: Iterable[str]) -> list[Kind]:
    """The named kinds from CRD files, each in the newest version that is served.

    Raises LookupError for a kind that no file has.
    """
    crds = {
        crd["spec"]["names"]["kind"]: crd
        for file in files
        for crd in yaml.load_all(file.read_text(), _Loader)
        if crd
    }
    kinds = []
    for name in names:
        if name not in crds:
            raise LookupError(f"no CRD defines the kind {name}")
        crd = crds[name]["spec"]
        version = min(
            (version for version in crd["versions"] if version["served"]),
            key=lambda version: _MATURITY.index(version["name"]),
        )
        schema = version["schema"]["openAPIV3Schema"]
        kinds.append(
            Kind(
                name=name,
                api_version=f"{crd['group']}/{version['name']}",
                spec=schema["properties"]["spec"],
                spec_required="spec" in schema.get("required", ()),
            )
        )
    return kinds
