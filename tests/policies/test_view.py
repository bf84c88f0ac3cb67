"""From the engine's proxies to plain data, with what is not known yet in its place."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi_policy import PolicyResource, PolicyResourceOptions
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from policies.view import UnknownValue, object_of, objects_of, plain


def resource(token: str, properties: dict[str, Any], name: str = "r") -> PolicyResource:
    options = PolicyResourceOptions(False, [], None, [], None, [], None)  # type: ignore[arg-type]
    props = unknown_checking_proxy(properties)
    return PolicyResource(token, props, f"urn::{name}", name, options, None, None, [], {})


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"port": 15001.0}, {"port": 15001}),
        ({"share": 0.5}, {"share": 0.5}),
        ({"list": [1.0, {"a": [2.0]}]}, {"list": [1, {"a": [2]}]}),
        ({"on": True, "none": None, "text": "8.0"}, {"on": True, "none": None, "text": "8.0"}),
        ({}, {}),
    ],
)
def test_proxies_become_plain_data(sent: dict[str, Any], read: dict[str, Any]) -> None:
    seen = plain(unknown_checking_proxy(sent))
    assert seen == read
    assert type(seen) is dict
    assert type(seen.get("port", 1)) is int


def test_only_reading_an_unknown_value_raises() -> None:
    seen = plain(unknown_checking_proxy({"spec": {"a": UNKNOWN_STRING_VALUE, "b": [1.0]}}))
    assert seen["spec"]["b"] == [1]
    assert set(seen["spec"]) == {"a", "b"}
    for read in (
        lambda: seen["spec"]["a"],
        lambda: seen["spec"].get("a"),
        lambda: list(seen["spec"].values()),
        lambda: list(seen["spec"].items()),
    ):
        with pytest.raises(UnknownValue, match=r"spec\.a"):
            read()


def test_an_unknown_member_of_a_list_is_named_by_its_place() -> None:
    seen = plain(unknown_checking_proxy({"hosts": ["a", UNKNOWN_STRING_VALUE]}))
    assert seen["hosts"][0] == "a"
    assert len(seen["hosts"]) == 2
    with pytest.raises(UnknownValue, match=r"hosts\[1\]"):
        list(seen["hosts"])


def test_kubernetes_resources_are_objects() -> None:
    policy = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "spec": {}}
    seen = object_of(resource("kubernetes:security.istio.io/v1:PeerAuthentication", policy))
    assert seen == policy


def test_a_release_is_an_object_with_its_values() -> None:
    properties = {"chart": "istiod", "namespace": "istio-system", "values": {"replicas": 2.0}}
    seen = object_of(resource("kubernetes:helm.sh/v3:Release", properties, name="istiod"))
    assert seen is not None
    assert seen["metadata"] == {"name": "istiod", "namespace": "istio-system"}
    assert seen["spec"]["values"] == {"replicas": 2}


@pytest.mark.parametrize(
    "token",
    [
        "voicemesh:istio:Gateways",
        "random:index/randomPassword:RandomPassword",
        "pulumi:providers:kubernetes",
        "kubernetes:core/v1:ServicePatch",
    ],
)
def test_other_resources_are_none(token: str) -> None:
    item = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    assert object_of(resource(token, item)) is None


def test_objects_keep_their_resource() -> None:
    item = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    service = resource("kubernetes:core/v1:Service", item)
    other = resource("voicemesh:istio:Gateways", {})
    assert [(r.urn, o["kind"]) for r, o in objects_of([service, other])] == [
        (service.urn, "Service")
    ]
