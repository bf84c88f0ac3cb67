"""Helm releases as plain objects: what Istio's charts make of our values, without a cluster.

Rendering, policies and lab see through a release with this; the engine leaves it to Helm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import yaml
from helm_python.chart import Chart

from components.objects import HelmRelease, Manifest, reference
from model.invalid import InvalidInput


class Charts(Protocol):
    """Directories of the charts that releases may name."""

    @property
    def base(self) -> Path:
        """CRDs and default webhook."""
        ...

    @property
    def istiod(self) -> Path:
        """Control plane."""
        ...

    @property
    def gateway(self) -> Path:
        """Ingress gateway."""
        ...


_CLUSTER_SCOPED = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "GatewayClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "PriorityClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)


class ChartMismatch(InvalidInput):
    """A chart at hand is not the one that a release names."""


def expand(release: HelmRelease, charts: Charts) -> list[Manifest]:
    """The objects of a release, CRDs first, then by kind, namespace and name.

    Rendered as for a first installation; no cluster is asked, so the result depends on the chart
    and the values alone.

    Raises:
        ChartMismatch: there is no such chart, or it has another version than the release.
        helm_python.HelmError: the chart does not accept the values.
    """
    directories = {"base": charts.base, "istiod": charts.istiod, "gateway": charts.gateway}
    if release.chart not in directories:
        known = ", ".join(directories)
        raise ChartMismatch(f"release {release.name}: no chart {release.chart} (charts: {known})")
    with Chart.load(directories[release.chart]) as chart:
        if chart.version != release.version:
            raise ChartMismatch(
                f"voicemesh:controlPlane.version: release {release.name} is pinned to chart"
                f" {release.chart} {release.version}, and the charts at hand are {chart.version}"
            )
        texts = [crd["data"] for crd in chart.crds]
        rendered = chart.render(
            dict(release.values), name=release.name, namespace=release.namespace, is_install=True
        )
    texts += [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    manifests = [
        _placed(manifest, release.namespace) for text in texts for manifest in _parse(text)
    ]
    manifests.sort(key=_order)
    return manifests


def _parse(text: str) -> Iterator[Manifest]:
    for document in yaml.load_all(text, Loader=_PlainLoader):
        if document:
            yield document


def _placed(manifest: Manifest, namespace: str) -> Manifest:
    """The object with the release's namespace, where its chart leaves that to Helm."""
    if manifest["kind"] == "CustomResourceDefinition":
        return manifest
    clean: Manifest = _without_nulls(manifest)
    if manifest["kind"] not in _CLUSTER_SCOPED:
        clean["metadata"].setdefault("namespace", namespace)
    return clean


def _without_nulls(value: Any) -> Any:
    """Templates leave nulls behind; an API server drops them, so a later diff would show them."""
    match value:
        case dict():
            return {key: _without_nulls(one) for key, one in value.items() if one is not None}
        case list():
            return [_without_nulls(one) for one in value]
        case _:
            return value


def _order(manifest: Manifest) -> tuple[bool, str]:
    return manifest["kind"] != "CustomResourceDefinition", reference(manifest)


class _PlainLoader(yaml.CSafeLoader):
    """PyYAML's safe loader on libyaml, without dates: JSON has none, so Kubernetes has none."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
