"""Which of two ALLOW rules undoes the other, and which two stand side by side."""

from __future__ import annotations

from typing import Any

import pytest

from policies.regions import mesh_of, regions
from policies.stack import Stack
from policies.widening import Comparison, Surroundings

GATEWAY = "cluster.local/ns/istio-system/sa/gateway"
CART = "cluster.local/ns/shop/sa/cart"
ISSUER = "https://login.example/*"
AROUND = Surroundings(frozenset({8080, 9000}), frozenset({"web", "app"}))
Rule = dict[str, Any]


def rule(
    source: dict[str, Any] | None = None,
    operation: dict[str, Any] | None = None,
    **when: list[str],
) -> Rule:
    """A rule of one source, one operation and conditions `claim_x` or `header_x`."""
    keys = {
        "claim": "request.auth.claims[{}]",
        "header": "request.headers[{}]",
        "auth": "request.auth.{}",
        "connection": "connection.{}",
    }
    conditions = []
    for name, values in when.items():
        kind, _, key = name.partition("_")
        conditions.append({"key": keys[kind].format(key), "values": values})
    return {
        "from": [{"source": source}] if source is not None else [],
        "to": [{"operation": operation}] if operation is not None else [],
        "when": conditions,
    }


BY_TOKEN = {"principals": [GATEWAY], "requestPrincipals": [ISSUER]}
NARROW = rule(BY_TOKEN, {"paths": ["/orders", "/orders/*"], "ports": ["8080"]})


def lost(
    wide: Rule,
    narrow: Rule = NARROW,
    *,
    declared: bool = False,
    around: Surroundings = AROUND,
) -> set[str]:
    mesh = mesh_of(Stack([]))
    one, other = (
        next(regions({"metadata": {"namespace": "shop"}, "spec": {"rules": [each]}}, mesh))
        for each in (wide, narrow)
    )
    return set(Comparison().lost(one, other, around, declared=declared))


@pytest.mark.parametrize(
    ("wide", "fields"),
    [
        (rule(BY_TOKEN), {"paths", "ports"}),
        (rule(BY_TOKEN, {"hosts": ["*"]}), {"paths", "ports"}),
        (rule(BY_TOKEN, {"hosts": ["api.example"]}), {"paths", "ports"}),
        (rule(BY_TOKEN, {"paths": ["/*"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"paths": ["*"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"paths": ["/{**}"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"paths": ["/{*}/{**}"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"paths": ["/o*"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"paths": ["*/users"], "ports": ["8080"]}), {"paths"}),
        (rule(BY_TOKEN, {"ports": ["8080", "9000"]}), {"paths", "ports"}),
        (
            rule(BY_TOKEN, {"methods": ["GET", "POST", "PUT", "PATCH", "DELETE"]}),
            {"paths", "ports"},
        ),
        (rule(BY_TOKEN, {"methods": ["GET", "POST"]}), {"paths", "ports"}),
        (rule(BY_TOKEN, header_any=["*"]), {"paths", "ports"}),
        (rule(BY_TOKEN, connection_sni=["*"]), {"paths", "ports"}),
        (rule(BY_TOKEN, claim_iss=["*"]), {"paths", "ports"}),
        (rule(BY_TOKEN, auth_audiences=["web", "app"]), {"paths", "ports"}),
        (rule({**BY_TOKEN, "remoteIpBlocks": ["0.0.0.0/1", "128.0.0.0/1"]}), {"paths", "ports"}),
        (rule({**BY_TOKEN, "ipBlocks": ["10.0.0.0/8"]}), {"paths", "ports"}),
        (
            rule({"principals": [GATEWAY]}, claim_tenant=["*"]),
            {"requestPrincipals", "paths", "ports"},
        ),
        (
            rule({"serviceAccounts": ["istio-system/gateway"]}, NARROW["to"][0]["operation"]),
            {"requestPrincipals"},
        ),
        (
            rule({"namespaces": ["istio-system"]}, NARROW["to"][0]["operation"]),
            {"principals", "requestPrincipals"},
        ),
        (
            rule({**BY_TOKEN, "requestPrincipals": ["*"]}, NARROW["to"][0]["operation"]),
            {"requestPrincipals"},
        ),
    ],
    ids=repr,
)
def test_a_field_that_asks_nothing_hides_no_broad_rule(wide: Rule, fields: set[str]) -> None:
    assert lost(wide) == fields


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        pytest.param(NARROW, NARROW, id="the same"),
        pytest.param(NARROW, rule(BY_TOKEN), id="the narrower of the two"),
        pytest.param(rule({"principals": [CART]}), NARROW, id="another caller"),
        pytest.param(
            rule({"principals": [GATEWAY, CART]}, NARROW["to"][0]["operation"]),
            rule({"principals": [GATEWAY]}, NARROW["to"][0]["operation"]),
            id="a second caller by name",
        ),
        pytest.param(
            rule({"principals": [CART]}),
            rule({"requestPrincipals": [ISSUER]}, {"paths": ["/orders"]}),
            id="callers by certificate beside callers by token",
        ),
        pytest.param(rule(BY_TOKEN, claim_role=["admin"]), NARROW, id="administrators everywhere"),
        pytest.param(
            rule({"principals": [GATEWAY]}, {"paths": ["/health"]}), NARROW, id="another path"
        ),
        pytest.param(
            rule({"principals": [GATEWAY]}, {"paths": ["/health"]}),
            rule(BY_TOKEN),
            id="a path of its own beside all paths with a token",
        ),
        pytest.param(rule(BY_TOKEN, {"ports": ["9000"]}), NARROW, id="another port"),
        pytest.param(
            rule(BY_TOKEN, {"hosts": ["a.example"]}),
            rule(BY_TOKEN, {"hosts": ["b.example"], "paths": ["/orders"]}),
            id="another host",
        ),
        pytest.param(
            rule({**BY_TOKEN, "remoteIpBlocks": ["198.51.100.0/24"]}), NARROW, id="known addresses"
        ),
        pytest.param(
            rule(BY_TOKEN, {"methods": ["GET", "POST"]}),
            rule(BY_TOKEN, {"methods": ["GET"]}),
            id="a second method by name",
        ),
        pytest.param(
            rule(BY_TOKEN, {"paths": ["/a", "/b"]}),
            rule(BY_TOKEN, {"paths": ["/a"]}),
            id="a second path by name",
        ),
        pytest.param(
            rule(BY_TOKEN, {"hosts": ["a.example", "a.example:*"]}),
            rule(BY_TOKEN, {"hosts": ["a.example"]}),
            id="a host with its ports",
        ),
    ],
)
def test_rules_that_stand_side_by_side(wide: Rule, narrow: Rule) -> None:
    assert lost(wide, narrow) == set()


def test_a_declared_opening_is_limited_by_methods_but_not_by_what_anybody_sends() -> None:
    preflight = rule(None, {"methods": ["OPTIONS"]}, header_origin=["*"])
    assert lost(preflight, declared=True) == set()
    assert "requestPrincipals" in lost(preflight)
    anybody = rule(None, {"paths": ["/orders/*"]}, header_accept=["*"])
    assert "requestPrincipals" in lost(anybody, declared=True)


def test_an_exception_that_the_other_rule_lacks_is_lost() -> None:
    narrow = rule(BY_TOKEN, {"notPaths": ["/orders/admin"]})
    assert lost(rule(BY_TOKEN), narrow) == {"notPaths"}


@pytest.mark.parametrize(
    ("routed", "path", "undone"),
    [
        ({"/orders"}, "/orders/*", False),
        ({"/orders"}, "/orders/{**}", False),
        ({"/orders/export"}, "/orders/*", True),
        ({"/orders"}, "/ord*", True),
        ({"/orders"}, "/*", True),
        (set(), "/orders/*", False),
        (set(), "/ord*", True),
        (set(), "/{*}/export", True),
    ],
)
def test_a_path_below_a_routed_one_is_meant(routed: set[str], path: str, undone: bool) -> None:
    around = Surroundings(AROUND.ports, routed=frozenset(routed))
    narrow = rule(BY_TOKEN, {"paths": ["/orders/export"]})
    found = lost(rule(BY_TOKEN, {"paths": [path]}), narrow, around=around)
    assert found == ({"paths"} if undone else set())
    # What else the narrow rule asks is lost all the same.
    assert "requestPrincipals" in lost(
        rule({"principals": [GATEWAY]}, {"paths": [path]}), narrow, around=around
    )
