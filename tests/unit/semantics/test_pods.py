"""Whatever makes pods is a workload that policies are about."""

from __future__ import annotations

from typing import Any

import pytest

from semantics.objects import ANY_OTHER, MeshObjects, Workload
from semantics.pods import INJECT, POD_TEMPLATES
from tests.unit.semantics.mesh_objects import APPS

NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": APPS, "labels": {"istio-injection": "enabled"}},
}


def made(
    kind: str, *, pod: dict[str, Any] | None = None, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": "web", **(labels or {})}},
        "spec": {"serviceAccountName": "reader", "containers": [{"name": "c"}], **(pod or {})},
    }
    for key in reversed(POD_TEMPLATES.get(kind, "spec.template.").split(".")[:-1]):
        template = {key: template}
    metadata: dict[str, Any] = {"name": "web", "namespace": APPS}
    metadata |= template.get("metadata", {})
    return {"apiVersion": "v1", "kind": kind, **template, "metadata": metadata}


def workloads(*objects: dict[str, Any]) -> list[Workload]:
    return [w for w in MeshObjects([NAMESPACE, *objects]).workloads if w.name != ANY_OTHER]


@pytest.mark.parametrize("kind", [*POD_TEMPLATES, "DeploymentConfig"])
def test_every_kind_that_makes_pods(kind: str) -> None:
    [workload] = workloads(made(kind))
    assert (str(workload), workload.service_account) == (f"{APPS}/web", "reader")
    assert workload.labels["app"] == "web"
    assert workload.proxied


@pytest.mark.parametrize(
    ("item", "proxied"),
    [
        (made("Job", pod={"hostNetwork": True}), False),
        (made("Job", labels={INJECT: "false"}), False),
        (made("Job", labels={INJECT: "n"}), False),
        (made("Job", labels={INJECT: "yes"}), True),
    ],
    ids=["on the node's network", "false", "n", "yes"],
)
def test_pods_that_get_a_proxy(item: dict[str, Any], proxied: bool) -> None:
    assert [w.proxied for w in workloads(item)] == [proxied]


def test_what_another_object_makes_is_no_workload_of_its_own() -> None:
    owned = made("ReplicaSet")
    owned["metadata"] = {
        "name": "web-5d",
        "namespace": APPS,
        "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}],
    }
    assert [w.name for w in workloads(made("Deployment"), owned)] == ["web"]
