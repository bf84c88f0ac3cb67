"""Which requests reach which service: matches, hosts, delegates, namespaces, rewrites, streams."""

from __future__ import annotations

from typing import Any

import pytest

from semantics.exposure import ExposureChange, compare, unjudged
from semantics.objects import MeshObjects
from semantics.requirements import Level
from tests.unit.semantics.mesh_objects import APPS, ROOT, item, operation, policy, source
from tests.unit.semantics.test_access import service
from tests.unit.semantics.test_exposure import HOST, PODS, at_gateway

OPEN, NO_ROUTE = "without a token", "no route"
Objects = list[dict[str, Any]]


def gateway(*hosts: str, name: str = "main", **server: Any) -> dict[str, Any]:
    tls = {"port": {"number": 443, "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE"}}
    servers = [{**tls, "hosts": list(hosts), **server}]
    return item("Gateway", name, {"selector": {"istio": "gateway"}, "servers": servers}, ROOT)


def to(service: str, **more: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": service, "port": {"number": 8080}}}], **more}


def routed(*http: dict[str, Any], host: str = HOST, name: str = "api", **spec: Any) -> Any:
    body = {"hosts": [host], "gateways": [f"{ROOT}/main"], "http": list(http), **spec}
    return item("VirtualService", name, body)


def prefix(path: str, **more: Any) -> dict[str, Any]:
    return {"match": [{"uri": {"prefix": path}, **more}]}


SERVICES = [PODS, *service("web"), *service("other")]
X = to("web", **prefix("/x"))


def compared(old: Objects, new: Objects) -> list[ExposureChange]:
    return compare(MeshObjects([*SERVICES, *old]), MeshObjects([*SERVICES, *new]))


def words(change: ExposureChange) -> tuple[str, str, str, str, str]:
    return (change.host, change.paths[0], change.service, change.before.text, change.after.text)


MAIN = gateway("*")
NEWLY: dict[str, tuple[Objects, Objects, tuple[str, str, str]]] = {
    "a method": (
        [MAIN, routed(to("web", **prefix("/x", method={"exact": "GET"})))],
        [
            MAIN,
            routed(
                to("web", **prefix("/x", method={"exact": "GET"})),
                to("other", **prefix("/x", method={"exact": "POST"})),
            ),
        ],
        (HOST, "/x", "other"),
    ),
    "a method of one's own": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", method={"regex": "PURGE|BAN"})))],
        (HOST, "/x", "web"),
    ),
    "an expression": (
        [MAIN],
        [MAIN, routed(to("web", match=[{"uri": {"regex": "/v[0-9]+/(a|b).*"}}]))],
        (HOST, "/v1/a", "web"),
    ),
    "a header": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", headers={"X-Debug": {"exact": "1"}})))],
        (HOST, "/x [x-debug=1]", "web"),
    ),
    "a parameter": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", queryParams={"debug": {"exact": "1"}})))],
        (HOST, "/x/some?debug=1", "web"),
    ),
    "an authority within a wildcard": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", authority={"exact": "a.b"})), host="*")],
        ("a.b", "/x", "web"),
    ),
    "a wildcard on a server for one host": (
        [gateway(HOST)],
        [gateway(HOST), routed(X, host="*")],
        (HOST, "/x", "web"),
    ),
    "one host on a server for a wildcard": (
        [gateway("*.example")],
        [gateway("*.example"), routed(X)],
        (HOST, "/x", "web"),
    ),
    "a server that takes routes of more namespaces": (
        [gateway(f"elsewhere/{HOST}"), routed(X)],
        [gateway(f"*/{HOST}"), routed(X)],
        (HOST, "/x", "web"),
    ),
    "an export to all namespaces": (
        [MAIN, routed(X, exportTo=["."])],
        [MAIN, routed(X)],
        (HOST, "/x", "web"),
    ),
    "a delegate": (
        [MAIN],
        [
            MAIN,
            routed({**prefix("/x"), "delegate": {"name": "own", "namespace": APPS}}),
            item("VirtualService", "own", {"http": [to("web", **prefix("/x/y"))]}),
        ],
        (HOST, "/x/y", "web"),
    ),
    "a port of TCP": (
        [MAIN],
        [
            gateway("*", port={"number": 5432, "protocol": "TCP"}, tls=None),
            routed(tcp=[to("web", match=[{"port": 5432}])], host="*"),
        ],
        ("*", "TCP port 5432", "web"),
    ),
    "TLS passed through": (
        [gateway("*", tls={"mode": "PASSTHROUGH"})],
        [
            gateway("*", tls={"mode": "PASSTHROUGH"}),
            routed(tls=[to("web", match=[{"sniHosts": [HOST]}])]),
        ],
        (HOST, "TLS port 443", "web"),
    ),
    "plain text beside TLS": (
        [gateway("*", port={"number": 80, "protocol": "HTTP"}, tls={"httpsRedirect": True}), routed(X)],
        [gateway("*", port={"number": 80, "protocol": "HTTP"}, tls=None), routed(X)],
        (HOST, "/x", "web"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWLY)
def test_what_is_newly_routed_opens(name: str) -> None:
    old, new, what = NEWLY[name]
    [change] = compared(old, new)
    after = "connections" if "port" in what[1] else OPEN
    assert words(change) == (*what, NO_ROUTE, after)
    assert change.opens
    [closes] = compared(new, old)
    assert words(closes) == (*what, after, NO_ROUTE)
    assert not closes.opens


SAME: dict[str, tuple[Objects, Objects]] = {
    "a wildcard where only one host is served": (
        [gateway(HOST), routed(X)],
        [gateway(HOST), routed(X, host="*")],
    ),
    "a host of another server": ([gateway(HOST)], [gateway(HOST), routed(X, host="b.example")]),
    "a route of the mesh": ([MAIN], [MAIN, routed(X, gateways=["mesh"])]),
    "a route for other gateways' pods": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", sourceLabels={"istio": "other"})))],
    ),
    "a route for another port": ([MAIN], [MAIN, routed(to("web", **prefix("/x", port=8443)))]),
    "a route for plain text": (
        [MAIN],
        [MAIN, routed(to("web", **prefix("/x", scheme={"exact": "http"})))],
    ),
    "a delegate's route beside what is handed over": (
        [MAIN, routed({**prefix("/x"), "delegate": {"name": "own"}})],
        [
            MAIN,
            routed({**prefix("/x"), "delegate": {"name": "own"}}),
            item("VirtualService", "own", {"http": [to("web", **prefix("/y"))]}),
        ],
    ),
    "HTTP routes where TLS is passed through": (
        [gateway("*", tls={"mode": "PASSTHROUGH"})],
        [gateway("*", tls={"mode": "PASSTHROUGH"}), routed(X)],
    ),
    "a header that sends on to the same service": (
        [MAIN, routed(X)],
        [MAIN, routed(to("web", **prefix("/x", headers={"x-cohort": {"exact": "b"}})), X)],
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_reaches_nobody_new_is_no_change(name: str) -> None:
    old, new = SAME[name]
    assert [c for c in compared(old, new) if c.opens] == []


def test_the_closest_host_answers_alone() -> None:
    """Envoy looks no further than the routes of the closest host."""
    everywhere = routed(X, host="*")
    own = routed(to("other", **prefix("/y")), name="own")
    changes = compared([MAIN, everywhere], [MAIN, everywhere, own])
    assert {(c.paths[0], c.service, c.after.text) for c in changes if c.host == HOST} == {
        ("/y", "other", OPEN),
        ("/x", "web", NO_ROUTE),
    }


def test_a_service_that_newly_answers_is_told_though_as_much_is_asked() -> None:
    debug = to("other", **prefix("/x", headers={"x-debug": {"exact": "1"}}))
    [change] = compared([MAIN, routed(X)], [MAIN, routed(debug, X)])
    assert change.opens
    assert (change.instead_of, change.service) == ("web", "other")
    elsewhere = routed(X, to("other", **prefix("/y")))
    assert compared([MAIN, elsewhere], [MAIN, routed(debug, X, to("other", **prefix("/y")))]) == []


def test_a_path_rewritten_by_an_expression_is_what_the_service_sees() -> None:
    only_admin = policy(operation(paths=["/admin/*"]), name="web", app="web")
    regex = {"uriRegexRewrite": {"match": "^/x/(.*)$", "rewrite": r"/admin/\1"}}
    changes = compared(
        [MAIN, only_admin, routed(X)],
        [MAIN, only_admin, routed(to("web", **prefix("/x"), rewrite=regex))],
    )
    assert [(c.paths, c.before.level, c.after.level) for c in changes if c.opens] == [
        (("/x/some",), Level.REFUSED, Level.OPEN)
    ]


ADDRESSES = {
    "everything": (["0.0.0.0/0", "::/0"], OPEN),
    "nearly everything": (["0.0.0.0/1", "128.0.0.0/1"], OPEN),
    "every address of one version": (["0.0.0.0/0"], OPEN),
    "an office": (["198.51.100.0/24"], f"{OPEN}, only from 198.51.100.0/24"),
    "what is no range": (["198.51.100.0/24", "office"], "refused"),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_ranges_of_any_width(name: str) -> None:
    def only(blocks: list[str]) -> dict[str, Any]:
        return at_gateway(source(remoteIpBlocks=blocks), name="addresses")

    blocks, text = ADDRESSES[name]
    [change] = compared([MAIN, only(blocks)], [MAIN, only(blocks), routed(X)])
    assert change.after.text == text
    narrow = [MAIN, routed(X), only(["198.51.100.0/24"])]
    changes = compared(narrow, [MAIN, routed(X), only(blocks)])
    assert [c.opens for c in changes] == {OPEN: [True], "refused": [False]}.get(text, [])


UNREADABLE = {
    "an expression that is none": to("web", match=[{"uri": {"regex": "/a("}}]),
    "an expression of RE2 alone": to("web", **prefix("/x", headers={"a": {"regex": r"\pL+"}})),
    "a rewrite that is none": to(
        "web", **prefix("/x"), rewrite={"uriRegexRewrite": {"match": "(", "rewrite": "/"}}
    ),
    "a rewrite to a group there is not": to(
        "web", **prefix("/x"), rewrite={"uriRegexRewrite": {"match": "/x", "rewrite": r"\1"}}
    ),
    "a delegate of someone else": {**prefix("/x"), "delegate": {"name": "theirs"}},
    "a match that is text": to("web", match=[{"method": "GET"}]),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_no_request_can_be_made_for_is_said_and_no_error(name: str) -> None:
    objects = [*SERVICES, MAIN, routed(UNREADABLE[name])]
    assert compare(MeshObjects(objects), MeshObjects(objects)) == []
    compare(MeshObjects(SERVICES), MeshObjects(objects))
    [about] = unjudged(MeshObjects(objects))
    assert about.startswith(f"VirtualService {APPS}/api (")
    assert unjudged(MeshObjects([*SERVICES, MAIN, routed(X)])) == []
