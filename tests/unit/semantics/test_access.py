"""Pairs that open and close between two revisions, from their policies alone."""

from __future__ import annotations

from typing import Any

import pytest

from model.invalid import InvalidInput
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
    assert told([*MESH, careless]) == ["any identity of the mesh but a → c: opened"]


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


def test_a_deny_that_names_a_caller_is_told_when_it_goes_also_where_all_others_may_call() -> None:
    open_to_all = [*MESH, policy({}, name="open", app="c")]
    deny = policy(
        source(principals=[f"cluster.local/ns/{APPS}/sa/a"]), name="not-a", action="DENY", app="c"
    )
    assert told(open_to_all, [*open_to_all, deny]) == ["a → c: opened"]
    assert told([*open_to_all, deny], open_to_all) == ["a → c: closed"]


def test_asking_an_authorizer_lets_in_less_than_not_asking() -> None:
    asked = [*MESH, policy({}, name="ask", action="CUSTOM", app="b", provider={"name": "opa"})]
    assert told(MESH, asked) == ["a → b: widened"]
    assert told(asked, MESH) == ["a → b: narrowed"]


@pytest.mark.parametrize(
    ("principals", "caller"),
    [
        (["cluster.local/ns/elsewhere/*"], "any other identity in elsewhere"),
        (["cluster.local/ns/elsewhere/sa/*"], "any other identity in elsewhere"),
        (["*/sa/reader"], "any identity like */reader"),
        (["*-reader"], "any identity like */*-reader"),
        (["cluster.local/*"], "any identity of the mesh"),
        (["c*"], "any identity of the mesh"),
    ],
)
def test_whom_a_pattern_names(principals: list[str], caller: str) -> None:
    new = [*MESH, policy(source(principals=principals), name="x", app="c")]
    assert told(new) == [f"{caller} → c: opened"]


def test_a_pattern_that_leaves_the_trust_domain_open_names_more() -> None:
    own = policy(source(principals=[f"cluster.local/ns/{APPS}/sa/a"]), name="x", app="c")
    any_domain = policy(source(principals=[f"*/ns/{APPS}/sa/a"]), name="x", app="c")
    found = told([*MESH, any_domain], [*MESH, own])
    assert found == ["a of any other trust domain → c: opened"]


def test_a_workload_that_only_its_policy_tells_of_is_told_when_the_policy_goes() -> None:
    allowed = allow("elsewhere", "a")
    assert told(MESH, [*MESH, allowed]) == ["a → elsewhere: closed"]
    open_mesh = [o for o in MESH if o is not DENY_ALL]
    found = told(open_mesh, [*open_mesh, allowed])
    assert found == ["any identity of the mesh → elsewhere: opened"]


def _tokens_of(app: str, **rule: Any) -> list[dict[str, Any]]:
    jwt = {"issuer": "https://issuer", "jwksUri": "https://issuer/keys", **rule}
    spec = {"selector": {"matchLabels": {"app": app}}, "jwtRules": [jwt]}
    return [
        item("RequestAuthentication", "tokens", spec),
        policy(source(requestPrincipals=["https://issuer/*"]), name="tokens", app=app),
    ]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"fromHeaders": [{"name": "X-Jwt"}]}, "in header x-jwt"),
        ({"fromParams": ["access_token"]}, "in parameter access_token"),
        ({"fromCookies": ["session"]}, "in cookie session"),
    ],
)
def test_where_a_token_is_read_is_told(place: dict[str, Any], text: str) -> None:
    (change,) = [
        c
        for c in changes([*MESH, *_tokens_of("c", **place)], [*MESH, *_tokens_of("c")])
        if c.workload.name == "c"
    ]
    assert change.change is Change.CHANGED
    assert [text in str(box) for box in change.gained] == [True]
    assert [" in " in str(box) for box in change.lost] == [False]


def test_kinds_of_other_groups_are_other_kinds() -> None:
    other = {
        **item("Gateway", "edge", {"gatewayClassName": "istio", "listeners": []}),
        "apiVersion": "gateway.networking.k8s.io/v1",
    }
    knative = {**service("c")[0], "apiVersion": "serving.knative.dev/v1"}
    assert told([*MESH, other, knative]) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            item("PeerAuthentication", "x", {"mtls": {"mode": "strict"}}),
            "PeerAuthentication apps/x: spec.mtls.mode is 'strict'",
        ),
        (
            item(
                "PeerAuthentication", "x",
                {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"http": {}}},
            ),
            "PeerAuthentication apps/x: spec.portLevelMtls has the key 'http'",
        ),
        (
            {**item("ConfigMap", "istio", {}, ROOT), "data": {"mesh": "a: [unclosed"}},
            "ConfigMap istio-system/istio: data.mesh must be a YAML mapping",
        ),
        (
            {**item("ConfigMap", "istio", {}, ROOT), "data": {"mesh": "just text"}},
            "ConfigMap istio-system/istio: data.mesh must be a YAML mapping",
        ),
    ],
)  # fmt: skip
def test_what_istio_would_not_take_is_told_with_its_place(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        changes([*MESH, wrong])
    assert said in str(refused.value)
