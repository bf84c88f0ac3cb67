"""What the index over a set of objects says exists, selects and applies."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from manifests import read
from policies.access_rules import clauses, covers
from policies.routing import seconds
from policies.run import check
from policies.stack import Stack

SOUND = Path(__file__).parent / "testdata" / "sound.yaml"


def thing(kind: str, namespace: str, name: str = "x", **rest: Any) -> dict[str, Any]:
    apis = {"Service": "v1", "Namespace": "v1", "Deployment": "apps/v1"}
    metadata = {"name": name, "namespace": namespace, **rest.pop("metadata", {})}
    api = apis.get(kind, "security.istio.io/v1")
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


@pytest.fixture(scope="module")
def sound() -> Stack:
    return Stack(read([SOUND]))


@pytest.mark.parametrize(
    ("host", "exists"),
    [
        ("orders.shop.svc.cluster.local", True),
        ("orders", True),  # short: in the namespace of whoever names it
        ("order", False),
        ("orders.shop", False),  # Istio knows no such form
        ("payments.example", True),
        ("other.example", False),
        ("collector.data.svc.cluster.local", True),  # declared as deployed elsewhere
        ("collectors.data.svc.cluster.local", False),
        ("orders.stop.svc.cluster.local", False),
    ],
)
def test_hosts(sound: Stack, host: str, exists: bool) -> None:
    assert sound.host_exists(host, "shop") is exists


def test_nothing_is_judged_that_the_set_can_not_tell() -> None:
    empty = Stack([])
    assert empty.host_exists("orders.shop.svc.cluster.local", "shop") is None
    assert empty.namespace_exists("shop")
    assert empty.providers is None
    elsewhere = Stack([thing("Service", "data"), thing("AuthorizationPolicy", "shop")])
    assert elsewhere.host_exists("orders.shop.svc.cluster.local", "shop") is None


def test_a_gateway_release_stands_for_its_pods(sound: Stack) -> None:
    (pods,) = sound.selected({"istio": "ingressgateway"}, None)
    assert str(pods) == "istio-system/istio-ingressgateway"
    assert sound.gateway_accounts == {"istio-system/istio-ingressgateway"}
    assert sound.is_gateway({"app": "istio-ingressgateway", "istio": "ingressgateway"})


def test_pods_of_a_service_that_someone_else_deploys() -> None:
    service = thing("Service", "shop", "orders", spec={"selector": {"app": "orders"}})
    stack = Stack([service])
    (implied,) = stack.workloads
    assert not implied.known
    assert implied.matched_by({"app": "orders"})
    assert implied.matched_by({"app": "orders", "version": "v1"})  # they may have it
    assert not implied.matched_by({"app": "cart"})
    assert not implied.matched_by({"tier": "web"})


def test_policies_of_the_root_namespace_apply_everywhere() -> None:
    service = thing("Service", "shop", spec={"selector": {"app": "orders"}})
    policies = [
        thing("AuthorizationPolicy", "istio-system", "mesh", spec={}),
        thing("AuthorizationPolicy", "shop", "namespace", spec={}),
        thing(
            "AuthorizationPolicy",
            "shop",
            "own",
            spec={"selector": {"matchLabels": {"app": "orders"}}},
        ),
        thing(
            "AuthorizationPolicy",
            "shop",
            "other",
            spec={"selector": {"matchLabels": {"app": "cart"}}},
        ),
        thing("AuthorizationPolicy", "elsewhere", "far", spec={}),
        thing(
            "AuthorizationPolicy",
            "shop",
            "waypoint",
            spec={"targetRefs": [{"kind": "Gateway", "name": "waypoint"}]},
        ),
    ]
    stack = Stack([service, *policies])
    (workload,) = stack.workloads
    names = {p["metadata"]["name"] for p in stack.applying("AuthorizationPolicy", workload)}
    assert names == {"mesh", "namespace", "own"}
    assert stack.taken_by(policies[-1]) == []


@pytest.mark.parametrize(
    ("labels", "injected"),
    [
        ({}, False),
        ({"istio-injection": "enabled"}, True),
        ({"istio-injection": "disabled"}, False),
        ({"istio.io/rev": "canary"}, True),
        ({"istio.io/rev": "canary", "istio-injection": "disabled"}, False),
    ],
)
def test_injection_of_namespaces(labels: dict[str, str], injected: bool) -> None:
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    assert Stack([item]).injects("shop") is injected
    assert Stack([item]).injects("other") is None


@pytest.mark.parametrize(
    ("pattern", "value", "within"),
    [
        ("*", "anything", True),
        ("/a", "/a", True),
        ("/a", "/a/*", False),
        ("/a*", "/a/*", True),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a", False),
        ("*.example", "api.example", True),
        ("*b", "a*", False),
        ("a*", "*", False),
        ("a*", "*a", False),
    ],
)
def test_patterns(pattern: str, value: str, within: bool) -> None:
    assert covers(pattern, value) is within


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("10s", Decimal(10)),
        ("1h30m", Decimal(5400)),
        ("250ms", Decimal("0.25")),
        ("0s", Decimal(0)),
        ("1.5s", Decimal("1.5")),
        ("10", None),
        ("s", None),
        ("", None),
        (None, None),
        ("10s later", None),
    ],
)
def test_durations(text: Any, amount: Decimal | None) -> None:
    assert seconds(text) == amount


def test_clauses_are_every_source_with_every_operation() -> None:
    rule = {
        "from": [{"source": {"principals": ["a"]}}, {"source": {"notPrincipals": ["b"]}}],
        "to": [{"operation": {"paths": ["/x"]}}, {"operation": {"notMethods": ["GET"]}}],
        "when": [{"key": "request.auth.principal", "values": ["i/s"]}],
    }
    policy = thing("AuthorizationPolicy", "shop", spec={"rules": [rule]})
    found = [(dict(c.fields), dict(c.negative)) for c in clauses(policy)]
    token = {"requestPrincipals": ("i/s",)}
    assert found == [
        ({**token, "principals": ("a",), "paths": ("/x",)}, {}),
        ({**token, "principals": ("a",)}, {"methods": ("GET",)}),
        ({**token, "paths": ("/x",)}, {"principals": ("b",)}),
        (token, {"principals": ("b",), "methods": ("GET",)}),
    ]


def _allow(name: str, source: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    rule = {"from": [{"source": source}], "to": [{"operation": operation}]}
    spec = {"selector": {"matchLabels": {"app": "orders"}}, "rules": [rule]}
    return thing("AuthorizationPolicy", "shop", name, spec=spec)


ONE, TWO = "cluster.local/ns/shop/sa/one", "cluster.local/ns/shop/sa/two"
NARROW = _allow("narrow", {"principals": [ONE]}, {"paths": ["/a", "/b"], "methods": ["GET"]})


@pytest.mark.parametrize(
    ("source", "operation", "undone"),
    [
        ({"principals": [ONE]}, {}, True),
        ({"principals": [ONE, TWO]}, {"paths": ["/b"]}, True),
        ({"principals": [ONE]}, {"paths": ["*"], "methods": ["GET"]}, True),
        ({"principals": ["cluster.local/*"]}, {"paths": ["/a"], "methods": ["GET"]}, True),
        ({"principals": [ONE]}, {"methods": ["GET", "PUT"]}, True),
        ({"principals": [TWO]}, {}, False),
        ({"principals": [ONE]}, {"paths": ["/c"]}, False),
        ({"principals": [ONE]}, {"methods": ["PUT"]}, False),
        ({"principals": [ONE]}, {"paths": ["/a"], "methods": ["GET"]}, False),
        ({"principals": [ONE], "requestPrincipals": ["i/*"]}, {}, False),
        ({"principals": [ONE]}, {"paths": ["/a"], "hosts": ["h"]}, True),
    ],
)
def test_a_broad_allow_undoes_a_narrow_one(
    source: dict[str, Any], operation: dict[str, Any], undone: bool
) -> None:
    service = thing("Service", "shop", "orders", spec={"selector": {"app": "orders"}})
    broad = _allow("broad", source, operation)
    found = [v for v in check([service, NARROW, broad]) if v.policy_id == "allow-not-undone"]
    assert [v.object for v in found] == (["AuthorizationPolicy shop/broad"] if undone else [])
