"""What clients outside need for each route, followed from the gateway to the service."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantics.exposure import compare, table
from semantics.objects import MeshObjects
from semantics.requirements import Level
from tests.unit.semantics.generated import generate
from tests.unit.semantics.mesh_objects import APPS, ROOT, item, operation, policy, source
from tests.unit.semantics.test_access import DENY_ALL, service

HOST = "api.example"
ISSUER = "https://issuer.example"
GATEWAY = item(
    "Gateway",
    "main",
    {
        "selector": {"istio": "gateway"},
        "servers": [
            {
                "port": {"number": 80, "protocol": "HTTP"},
                "hosts": ["*"],
                "tls": {"httpsRedirect": True},
            },
            {
                "port": {"number": 443, "protocol": "HTTPS"},
                "hosts": ["*.example"],
                "tls": {"mode": "SIMPLE"},
            },
        ],
    },
    ROOT,
)
PODS = item(
    "Deployment",
    "gateway",
    {
        "template": {
            "metadata": {"labels": {"istio": "gateway"}},
            "spec": {"serviceAccountName": "gateway", "containers": []},
        }
    },
    ROOT,
)


def at_gateway(*rules: dict[str, Any], name: str = "gateway", **more: Any) -> dict[str, Any]:
    return policy(
        *rules, name=name, namespace=ROOT, selector={"matchLabels": {"istio": "gateway"}}, **more
    )


def tokens(namespace: str, **rule: Any) -> dict[str, Any]:
    return item(
        "RequestAuthentication", "jwt", {"jwtRules": [{"issuer": ISSUER, **rule}]}, namespace
    )


def route(*matches: dict[str, Any], to: str = "web", **more: Any) -> dict[str, Any]:
    destination = {"destination": {"host": to, "port": {"number": 8080}}}
    return {"match": list(matches), "route": [destination], **more}


def virtual_service(*routes: dict[str, Any]) -> dict[str, Any]:
    return item(
        "VirtualService",
        "api",
        {"hosts": [HOST], "gateways": [f"{ROOT}/main"], "http": list(routes)},
    )


FROM_GATEWAY = policy(
    source(principals=[f"cluster.local/ns/{ROOT}/sa/gateway"]), name="web-gateway", app="web"
)
NEEDS_TOKEN = at_gateway(source(notRequestPrincipals=["*"]), action="DENY", name="token")
BASE = [
    DENY_ALL,
    GATEWAY,
    PODS,
    tokens(ROOT, forwardOriginalToken=True),
    *service("web"),
    FROM_GATEWAY,
    at_gateway(operation(hosts=[HOST])),
    virtual_service(route({"uri": {"prefix": "/a"}})),
]


def level(objects: list[dict[str, Any]], path: str = "/a", method: str = "GET") -> Level:
    return next(
        row.requirement.level
        for row in table(MeshObjects(objects))
        if row.path == path and method in row.methods
    )


def replaced(kind: str, name: str, *new: dict[str, Any]) -> list[dict[str, Any]]:
    kept = [o for o in BASE if (o["kind"], o["metadata"]["name"]) != (kind, name)]
    return [*kept, *new]


def test_open_where_nothing_asks_for_a_token() -> None:
    assert level(BASE) is Level.OPEN


def test_a_token_where_the_gateway_asks_for_one() -> None:
    assert level([*BASE, NEEDS_TOKEN]) is Level.ANY_TOKEN


def test_a_role_where_the_gateway_asks_for_one() -> None:
    roles = at_gateway(
        {"when": [{"key": "request.auth.claims[role]", "notValues": ["admin"]}]},
        action="DENY",
        name="roles",
    )
    rows = table(MeshObjects([*BASE, roles]))
    assert {r.requirement.level for r in rows} == {Level.CERTAIN_TOKENS}
    assert "role admin" in rows[0].requirement.text


def test_certain_addresses_only() -> None:
    addresses = at_gateway(
        source(notRemoteIpBlocks=["198.51.100.0/24"]), action="DENY", name="addresses"
    )
    rows = table(MeshObjects([*BASE, addresses]))
    assert {r.requirement.level for r in rows} == {Level.CERTAIN_ADDRESSES}
    assert "only from 198.51.100.0/24" in rows[0].requirement.text


def test_refused_where_the_service_does_not_let_the_gateway_in() -> None:
    assert level(replaced("AuthorizationPolicy", "web-gateway")) is Level.REFUSED


def test_the_service_asks_again_and_needs_the_forwarded_token() -> None:
    asks = policy(source(notRequestPrincipals=["*"]), action="DENY", app="web", name="asks")
    assert level([*BASE, asks, tokens(APPS)]) is Level.ANY_TOKEN
    kept = replaced("RequestAuthentication", "jwt", tokens(ROOT, forwardOriginalToken=False))
    assert level([*kept, asks, tokens(APPS)]) is Level.REFUSED


def test_a_rewritten_path_is_what_the_service_sees() -> None:
    only_b = policy(operation(paths=["/b*"]), name="web-gateway", app="web")
    rewriting = virtual_service(route({"uri": {"prefix": "/a"}}, rewrite={"uri": "/b"}))
    objects = [
        o for o in BASE if o["kind"] != "VirtualService" and o["metadata"]["name"] != "web-gateway"
    ]
    assert level([*objects, only_b, rewriting]) is Level.OPEN
    assert (
        level([*objects, only_b, virtual_service(route({"uri": {"prefix": "/a"}}))])
        is Level.REFUSED
    )


def test_only_the_first_route_that_takes_a_request_counts() -> None:
    routes = virtual_service(
        route({"uri": {"prefix": "/a"}, "method": {"exact": "GET"}}),
        route({"uri": {"prefix": "/a"}}, to="nowhere-known"),
    )
    rows = table(MeshObjects(replaced("VirtualService", "api", routes)))
    assert {r.service for r in rows if "GET" in r.methods and r.path == "/a"} == {"web"}


def test_a_host_no_server_serves_is_not_exposed() -> None:
    elsewhere = virtual_service(route({"uri": {"prefix": "/a"}}))
    elsewhere["spec"]["hosts"] = ["api.other"]
    assert table(MeshObjects(replaced("VirtualService", "api", elsewhere))) == []


CLOSED = at_gateway({}, action="DENY", name="closed")
CHANGES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str, str, bool]] = {
    "a lost token": ([*BASE, NEEDS_TOKEN], BASE, "any valid token", "without a token", True),
    "a token asked for": (BASE, [*BASE, NEEDS_TOKEN], "without a token", "any valid token", False),
    "a new route": (
        replaced("VirtualService", "api", virtual_service()),
        BASE,
        "no route",
        "without a token",
        True,
    ),
    "a new route that is refused": (
        [*replaced("VirtualService", "api", virtual_service()), CLOSED],
        [*BASE, CLOSED],
        "no route",
        "refused",
        False,
    ),
    "a withdrawn route": (
        BASE,
        replaced("VirtualService", "api"),
        "without a token",
        "no route",
        False,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name: str) -> None:
    old, new, before, after, opens = CHANGES[name]
    [change] = compare(MeshObjects(old), MeshObjects(new))
    assert (change.before.text, change.after.text) == (before, after)
    assert change.opens is opens
    assert change.host == HOST
    assert set(change.paths) == {"/a", "/a/some"}


def test_what_opens_nothing_is_no_change() -> None:
    slower = virtual_service(route({"uri": {"prefix": "/a"}}, timeout="9s"))
    assert compare(MeshObjects(BASE), MeshObjects(replaced("VirtualService", "api", slower))) == []


def test_many_issuers_claims_and_headers_do_not_hide_what_is_asked() -> None:
    claims = [
        at_gateway(
            {"when": [{"key": f"request.auth.claims[c{n}]", "notValues": ["x", "y"]}]},
            action="DENY",
            name=f"claim-{n}",
        )
        for n in range(3)
    ]
    headers = [
        at_gateway(
            {"when": [{"key": f"request.headers[h{n}]", "values": ["a", "b", "c"]}]},
            action="DENY",
            name=f"header-{n}",
        )
        for n in range(8)
    ]
    issuers = item(
        "RequestAuthentication",
        "jwt",
        {"jwtRules": [{"issuer": f"https://{n}.example"} for n in range(4)]},
        ROOT,
    )
    objects = [o for o in BASE if o["kind"] != "RequestAuthentication"]
    rows = table(MeshObjects([*objects, issuers, *claims, *headers]))
    assert {r.requirement.level for r in rows} == {Level.CERTAIN_TOKENS}
    assert "c0 x, y, c1 x, y, c2 x, y" in rows[0].requirement.text


def _generated_at_gateway(seed: int) -> list[dict[str, Any]]:
    made = [o for o in generate(seed).objects if o["kind"] == "AuthorizationPolicy"]
    for each in made:
        each["metadata"]["namespace"] = ROOT
        each["spec"]["selector"] = {"matchLabels": {"istio": "gateway"}}
    return made


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 3), st.booleans())
def test_leaving_out_what_can_not_differ_leaves_out_nothing(
    seed: int, kept: int, broad: bool
) -> None:
    routes = virtual_service(*(route({"uri": {"prefix": p}}) for p in ("/a", "/users", "/admin")))
    common = [
        *replaced("VirtualService", "api", routes),
        *([] if broad else [NEEDS_TOKEN]),
    ]
    policies = _generated_at_gateway(seed)
    old, new = (MeshObjects([*common, *some]) for some in (policies[:kept], policies))
    told = {
        (path, method): (change.before, change.after)
        for change in compare(old, new)
        for path in change.paths
        for method in change.methods
    }
    before, after = (
        {(r.path, method): r.requirement for r in table(objects) for method in r.methods}
        for objects in (old, new)
    )
    for key in before.keys() & after.keys():
        same = (before[key].level, before[key].text) == (after[key].level, after[key].text)
        if key not in told:
            assert same, key
