"""Pairs that open and close between two revisions, from their policies alone."""

from __future__ import annotations

from typing import Any

import pytest

from semantics.access import Change, PairChange, allowed_callers, compare
from semantics.authorization import Guard
from semantics.objects import ANY_OTHER, MeshObjects
from tests.unit.semantics.mesh_objects import APPS, ROOT, item, operation, policy, source

DENY_ALL = policy(name="deny-all", namespace=ROOT)
STRICT = item("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, ROOT)


def service(name: str, port: int = 8080, protocol: str = "http") -> list[dict[str, Any]]:
    ports = [{"name": protocol, "port": port, "targetPort": port}]
    return [
        item("Service", name, {"selector": {"app": name}, "ports": ports}),
        item("ServiceAccount", name, {}),
    ]


def allow(target: str, *callers: str, **fields: list[str]) -> dict[str, Any]:
    rule = source(principals=[f"cluster.local/ns/{APPS}/sa/{caller}" for caller in callers])
    if fields:
        rule |= operation(**fields)
    return policy(rule, name=f"{target}-callers", app=target)


MESH = [DENY_ALL, STRICT, *service("a"), *service("b"), *service("c"), allow("b", "a")]


def changes(new: list[dict[str, Any]], old: list[dict[str, Any]] | None = None) -> list[PairChange]:
    return compare(MeshObjects(old or MESH), MeshObjects(new))


def told(new: list[dict[str, Any]], old: list[dict[str, Any]] | None = None) -> list[str]:
    return [
        f"{c.caller} → {c.workload.name}: {c.change}"
        for c in changes(new, old)
        if c.workload.name != ANY_OTHER
    ]


def without(name: str) -> list[dict[str, Any]]:
    return [o for o in MESH if o["metadata"]["name"] != name]


ROWS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "nothing": (list(reversed(MESH)), []),
    "one caller more": (
        [*without("b-callers"), allow("b", "a", "c")],
        ["c → b: opened"],
    ),
    "one caller less": (
        without("b-callers"),
        ["a → b: closed"],
    ),
    "a caller with fewer methods": (
        [*without("b-callers"), allow("b", "a", methods=["GET"])],
        ["a → b: narrowed"],
    ),
    "a deny for one of several callers": (
        [
            *MESH,
            policy(
                {**source(namespaces=[APPS]), **operation(paths=["/x*"])}, action="DENY", app="b"
            ),
        ],
        ["a → b: narrowed"],
    ),
    "another order of the same rules": (
        [*without("b-callers"), allow("b", "a"), policy(name="empty", app="b")],
        [],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_pairs(name: str) -> None:
    new, expected = ROWS[name]
    assert told(new) == expected


def test_a_namespace_wide_allow_is_told_for_each_workload() -> None:
    broad = policy(source(namespaces=[APPS]), name="broad")
    found = told([*MESH, broad])
    assert all("opened" in each for each in found)
    assert {each.split(" → ")[1] for each in found} == {"a: opened", "b: opened", "c: opened"}
    assert all("any other identity in apps" in each for each in found)
    # `a` could call `b` before, so it is no news there.
    assert next(each for each in found if "→ b" in each).startswith("b, c, any other")


def test_removing_deny_by_default_opens_all_to_everyone() -> None:
    found = told([o for o in MESH if o is not DENY_ALL])
    assert found == ["any identity of the mesh → a: opened", "any identity of the mesh → c: opened"]


def test_what_nobody_has_deployed_yet_is_told_too() -> None:
    guarded = [*MESH, policy(name="a-own", app="a"), policy(name="c-own", app="c")]
    new = [o for o in guarded if o is not DENY_ALL]
    assert told(new, guarded) == []
    found = {f"{c.caller} → {c.workload}" for c in changes(new, guarded)}
    assert found == {
        "any identity of the mesh → apps/(any other workload)",
        "any identity of the mesh → some-other/(any other workload)",
    }


def test_permissive_lets_plaintext_in_only_where_policies_do() -> None:
    permissive = item("PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}}, ROOT)
    new = [permissive if o is STRICT else o for o in MESH]
    assert told(new) == []
    open_to_all = policy({}, name="open", app="c")
    found = told([*new, open_to_all], [*MESH, open_to_all])
    assert found == ["anyone without an identity (plaintext) → c: opened"]


def test_not_principals_in_allow_lets_everyone_else_in() -> None:
    careless = policy(source(notPrincipals=["cluster.local/ns/apps/sa/a"]), name="x", app="c")
    assert told([*MESH, careless]) == ["any identity of the mesh → c: opened"]


def test_a_new_service_is_told_with_its_callers() -> None:
    new = [*MESH, *service("d"), allow("d", "a")]
    assert told(new) == ["a → d: opened"]


def test_a_new_identity_is_told_with_what_it_may_reach() -> None:
    named_before = [*MESH, allow("c", "late")]
    found = told([*named_before, item("ServiceAccount", "late", {})], named_before)
    assert found == ["late → c: opened"]


def test_a_new_identity_that_may_what_anyone_may_is_no_news() -> None:
    public = [*MESH, policy({}, name="open", app="c")]
    assert told([*public, item("ServiceAccount", "late", {})], public) == []


def test_a_workload_taken_out_of_the_mesh_is_open_to_plaintext() -> None:
    def deployment(**labels: str) -> dict[str, Any]:
        template = {
            "metadata": {"labels": {"app": "c", **labels}},
            "spec": {"serviceAccountName": "c", "containers": []},
        }
        return item("Deployment", "c", {"template": template})

    old = [*MESH, deployment()]
    new = [*MESH, deployment(**{"sidecar.istio.io/inject": "false"})]
    found = [c for c in changes(new, old) if c.workload.name == "c"]
    assert {c.change for c in found} == {Change.OPENED}
    assert any("anyone" in c.caller for c in found)


def test_what_is_gained_is_told_exactly() -> None:
    old = [*without("b-callers"), allow("b", "a", methods=["GET"], paths=["/x", "/x/*"])]
    new = [*without("b-callers"), allow("b", "a", methods=["GET", "PUT"], paths=["/x", "/x/*"])]
    [change] = changes(new, old)
    assert change.change is Change.WIDENED
    assert [str(box) for box in change.gained] == ["path /x and below, PUT"]
    assert change.lost == ()


def test_a_tcp_port_loses_http_rules() -> None:
    old = [DENY_ALL, STRICT, *service("a"), *service("b", protocol="tcp"), allow("b", "a")]
    new = [*old[:-1], allow("b", "a", methods=["GET"])]
    [change] = changes(new, old)
    # An ALLOW with an HTTP field lets nothing in on a TCP port.
    assert any("port 8080" in str(box) for box in change.lost)


def test_the_table_of_callers() -> None:
    objects = MeshObjects(MESH)
    workload = next(w for w in objects.workloads if w.name == "b")
    [(callers, requests)] = allowed_callers(Guard(workload, objects), objects.identities)
    assert callers == "apps/a"
    assert [str(box) for box in requests] == ["any request"]
