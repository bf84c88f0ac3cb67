"""CustomResourceDefinitions the stack's objects need, from the projects' own Go modules."""

from __future__ import annotations

from pathlib import Path

from lab.toolchain.go import source

_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
_OPERATOR_KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def istio_crds() -> Path:
    """Istio's CRDs as its base chart installs them, with the lab's istiod (one YAML file)."""
    return source("istio", "istio.io/istio") / "manifests/charts/base/files/crd-all.gen.yaml"


def istio_api_crds() -> Path:
    """Istio's CRDs of the released API (istio.io/api), the source of the wire types."""
    return source("custom-resources", "istio.io/api") / (
        "kubernetes/customresourcedefinitions.gen.yaml"
    )


def prometheus_operator_crds() -> list[Path]:
    """PodMonitor, PrometheusRule and ServiceMonitor, one file each."""
    directory = source("custom-resources", _OPERATOR) / "example/prometheus-operator-crd"
    return [directory / f"monitoring.coreos.com_{kind}.yaml" for kind in _OPERATOR_KINDS]
