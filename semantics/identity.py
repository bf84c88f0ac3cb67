"""What names an object: kind, namespace, name, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]

_GROUPS = {"Gateway": "networking.istio.io", "Service": ""}
"""Kinds whose names other groups have too, and the group that is meant."""


def kind_of(item: Object) -> str:
    """The object's kind; with its group where Istio or Kubernetes has another of that name.

    The Gateway API's Gateway is `Gateway.gateway.networking.k8s.io`, Knative's Service is
    `Service.serving.knative.dev`.
    """
    kind = str(item.get("kind", ""))
    group, slash, _ = str(item.get("apiVersion", "")).partition("/")
    own = _GROUPS.get(kind)
    return kind if own is None or (group if slash else "") == own else f"{kind}.{group}"


def name_of(item: Object) -> str:
    """The object's name."""
    return str((item.get("metadata") or {}).get("name", ""))


def namespace_of(item: Object) -> str:
    """The object's namespace; `default` where it is left out."""
    return str((item.get("metadata") or {}).get("namespace") or "default")


def labels_of(item: Object) -> Mapping[str, str]:
    """The object's labels."""
    return (item.get("metadata") or {}).get("labels") or {}
