"""Small builders of mesh objects for the tests of semantics and diff."""

from __future__ import annotations

from typing import Any

from semantics.authorization import Guard
from semantics.mesh import Mesh
from semantics.objects import MeshObjects, Workload
from semantics.request import principal_of

APPS = "apps"
ROOT = "istio-system"


_GROUPS = {
    "AuthorizationPolicy": "security.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "Deployment": "apps/v1",
    "Service": "v1",
}


def item(kind: str, name: str, spec: dict[str, Any], namespace: str = APPS) -> dict[str, Any]:
    return {
        "apiVersion": _GROUPS.get(kind, "networking.istio.io/v1"),
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def policy(
    *rules: dict[str, Any],
    action: str | None = None,
    name: str = "policy",
    namespace: str = APPS,
    app: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    spec: dict[str, Any] = {"rules": list(rules), **more}
    if action:
        spec["action"] = action
    if app:
        spec["selector"] = {"matchLabels": {"app": app}}
    return item("AuthorizationPolicy", name, spec, namespace)


def source(**fields: list[str]) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def operation(**fields: list[str]) -> dict[str, Any]:
    return {"to": [{"operation": fields}]}


def when(key: str, values: list[str] | None = None, not_values: list[str] | None = None) -> Any:
    condition: dict[str, Any] = {"key": key}
    if values:
        condition["values"] = values
    if not_values:
        condition["notValues"] = not_values
    return {"when": [condition]}


def peer(account: str, namespace: str = APPS, domain: str = "cluster.local") -> str:
    return principal_of(namespace, account, domain)


def guard(
    *objects: dict[str, Any], mesh: Mesh | None = None, workload: Workload | None = None
) -> Guard:
    mesh_objects = MeshObjects(objects, mesh or Mesh(path_normalization="DECODE_AND_MERGE_SLASHES"))
    return Guard(workload or Workload(APPS, "web", {"app": "web"}), mesh_objects)
