"""What counts as a change, and what another controller owns."""

from __future__ import annotations

from typing import Any

import pytest

from apply.apply_set import identifier, parent, parent_name
from apply.changes import Action, changes, content, keeping_ignored
from apply.kubectl import ClusterError
from components.objects import IGNORE_CHANGES


def config_map(name: str, data: str = "1", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "apps", **metadata},
        "data": {"key": data},
    }


def virtual_service(*weights: int, ignored: str = "spec.http[*].route[*].weight") -> dict[str, Any]:
    annotations = {IGNORE_CHANGES: ignored} if ignored else {}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "one", "namespace": "apps", "annotations": annotations},
        "spec": {
            "hosts": ["one"],
            "http": [{"route": [{"weight": weight, "destination": {}} for weight in weights]}],
        },
    }


def test_each_object_is_created_changed_unchanged_or_pruned() -> None:
    before = [config_map("same"), config_map("other"), config_map("gone")]
    after = [config_map("same"), config_map("other", "2"), config_map("new")]
    assert [(change.action, change.object) for change in changes(before, after)] == [
        (Action.UNCHANGED, "ConfigMap apps/same"),
        (Action.CHANGED, "ConfigMap apps/other"),
        (Action.CREATED, "ConfigMap apps/new"),
        (Action.PRUNED, "ConfigMap apps/gone"),
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {"resourceVersion": "7", "uid": "x", "generation": 3, "creationTimestamp": "now"},
        {"managedFields": [{"manager": "kubectl"}]},
        {"labels": {"applyset.kubernetes.io/part-of": "applyset-x-v1"}},
        {"annotations": {"deployment.kubernetes.io/revision": "2"}},
    ],
)
def test_what_the_server_keeps_for_itself_is_no_change(metadata: dict[str, Any]) -> None:
    live = {**config_map("one", **metadata), "status": {"phase": "Active"}}
    assert content(live) == content(config_map("one"))


@pytest.mark.parametrize(
    "metadata", [{"labels": {"app": "x"}}, {"annotations": {"voicemesh.io/reason": "x"}}]
)
def test_labels_and_annotations_of_our_own_are_changes(metadata: dict[str, Any]) -> None:
    assert content(config_map("one", **metadata)) != content(config_map("one"))


def test_weights_that_a_controller_owns_stay_as_they_are() -> None:
    declared, live = virtual_service(90, 10), virtual_service(50, 50)
    kept = keeping_ignored(declared, live)
    assert [route["weight"] for route in kept["spec"]["http"][0]["route"]] == [50, 50]
    assert [route["weight"] for route in declared["spec"]["http"][0]["route"]] == [90, 10]


@pytest.mark.parametrize(
    ("declared", "live"),
    [
        (virtual_service(90, 10, ignored=""), virtual_service(50, 50)),
        (virtual_service(90, 10), None),
        (virtual_service(90, 10), virtual_service(100)),
    ],
)
def test_otherwise_the_declared_weights_count(
    declared: dict[str, Any], live: dict[str, Any] | None
) -> None:
    assert keeping_ignored(declared, live) == declared


def test_the_apply_set_is_named_after_the_stack() -> None:
    assert identifier("dev") == parent("dev")["metadata"]["labels"]["applyset.kubernetes.io/id"]
    assert identifier("dev") != identifier("prod")
    assert parent_name("dev") == "meshstacks.apply.voicemesh.io/dev"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("The connection to the server 127.0.0.1:6443 was refused - connection refused", True),
        ('Internal error occurred: failed calling webhook "rev.validation.istio.io"', True),
        ("etcdserver: request timed out", True),
        ('admission webhook "rev.validation.istio.io" denied the request: bad port', False),
        ('namespaces "x" is forbidden', False),
    ],
)
def test_a_lost_cluster_is_told_from_one_that_refuses(text: str, lost: bool) -> None:
    assert ClusterError(text).lost is lost
