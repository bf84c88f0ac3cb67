"""What changed, what another controller owns, what somebody else has written."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from apply import apply_set
from apply.changes import Action, changes, keeping_ignored, strays
from components.objects import IGNORE_CHANGES, Manifest


def policy(spec: dict[str, Any], **metadata: Any) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny-all", "namespace": "istio-system", **metadata},
        "spec": spec,
    }


def split(*weights: int, **metadata: Any) -> Manifest:
    route = [{"destination": {"host": f"s{i}"}, "weight": w} for i, w in enumerate(weights)]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "s", "namespace": "apps", **metadata},
        "spec": {"hosts": ["s"], "http": [{"route": route}]},
    }


OWNED = {"annotations": {IGNORE_CHANGES: "spec.http[*].route[*].weight"}}


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ([], [policy({})], Action.CREATED),
        ([policy({})], [policy({})], Action.UNCHANGED),
        ([policy({})], [policy({"rules": [{}]})], Action.CHANGED),
        ([policy({})], [], Action.PRUNED),
        ([policy({}, labels={"a": "b"})], [policy({}, labels={"a": "c"})], Action.CHANGED),
        # What the server and its controllers keep for themselves is no change.
        ([policy({}, resourceVersion="1", generation=1)], [policy({}, uid="u")], Action.UNCHANGED),
        ([{**policy({}), "status": {"a": 1}}], [policy({})], Action.UNCHANGED),
        ([policy({}, labels={apply_set.PART_OF: "x"})], [policy({})], Action.UNCHANGED),
    ],
)
def test_changes(before: list[Manifest], after: list[Manifest], action: Action) -> None:
    (change,) = changes(before, after)
    assert change == (action, "AuthorizationPolicy istio-system/deny-all", "AuthorizationPolicy")


def test_what_someone_added_to_a_policy_is_seen() -> None:
    declared = policy({})
    assert strays([declared], [policy({"rules": [{}]})]) == [declared]
    assert strays([declared], [policy({})]) == []
    assert strays([declared], []) == [], "what is not there was not changed"


def test_fields_that_the_server_fills_in_are_no_strays() -> None:
    declared = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "apps"},
        "spec": {"ports": [{"port": 80}]},
    }
    live = copy.deepcopy(declared)
    live["spec"] |= {"clusterIP": "10.0.0.1"}  # type: ignore[operator]
    assert strays([declared], [live]) == []


def test_weights_of_a_controller_are_kept() -> None:
    declared = split(90, 10, **OWNED)
    kept = keeping_ignored(declared, split(30, 70))
    assert [d["weight"] for d in kept["spec"]["http"][0]["route"]] == [30, 70]
    assert declared == split(90, 10, **OWNED), "what was declared is not changed itself"


def test_weights_of_the_stack_are_the_stacks() -> None:
    assert keeping_ignored(split(90, 10), split(30, 70)) == split(90, 10)


def test_another_number_of_routes_is_the_stacks() -> None:
    assert keeping_ignored(split(100, **OWNED), split(30, 70)) == split(100, **OWNED)


def test_a_first_deployment_has_nothing_to_keep() -> None:
    assert keeping_ignored(split(90, 10, **OWNED), None) == split(90, 10, **OWNED)


def test_the_id_of_a_set_is_kubectls() -> None:
    """`applyset-` + base64url(sha256("NAME.NAMESPACE.KIND.GROUP")) + `-v1`, as kubectl checks it."""
    assert apply_set.identifier("dev") != apply_set.identifier("prod")
    identifier = apply_set.identifier("dev")
    assert identifier.startswith("applyset-")
    assert identifier.endswith("-v1")
    assert len(identifier) <= 63, "it is a label's value"
    parent = apply_set.parent("dev", [])
    assert parent["metadata"]["labels"]["applyset.kubernetes.io/id"] == identifier


def test_the_record_of_a_set_has_every_kind_and_namespace() -> None:
    members = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "m"}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "n"},
        },
    ]
    record = apply_set.parent("dev", members)["metadata"]["annotations"]
    assert record[apply_set.KINDS] == "Deployment.apps,Namespace,Service"
    assert record[apply_set.NAMESPACES] == "m,n"
