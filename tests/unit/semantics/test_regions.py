"""The grid of request classes says of each class what the evaluator says of its request."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantics.authorization import Guard
from semantics.mesh import Mesh
from semantics.objects import MeshObjects, Workload
from semantics.regions import ALLOW, OUTCOMES, TOKEN, Space, space_of, verdicts
from tests.unit.semantics.generated import generate
from tests.unit.semantics.mesh_objects import APPS, guard, item, operation, policy, source, when

IDENTITIES = (("apps", "caller"), ("apps", "caller-two"), ("apps-two", "caller"))


def _guard(seed: int, **workload: Any) -> Guard:
    case = generate(seed)
    rng = random.Random(seed)
    extra: list[Any] = []
    if rng.random() < 0.6:
        spec: dict[str, Any] = {"mtls": {"mode": rng.choice(("STRICT", "PERMISSIVE", "DISABLE"))}}
        if rng.random() < 0.4:
            spec["selector"] = {"matchLabels": {"app": "web"}}
            spec["portLevelMtls"] = {"19090": {"mode": rng.choice(("DISABLE", "PERMISSIVE"))}}
        extra.append(item("PeerAuthentication", "mtls", spec))
    if rng.random() < 0.3:
        extra.append(
            policy(
                {"when": [{"key": "request.headers[x-env]", "values": ["prod"]}]},
                action="CUSTOM",
                name="ask",
                provider={"name": rng.choice(("ext", "typo"))},
            )
        )
    mesh = Mesh(path_normalization="DECODE_AND_MERGE_SLASHES", authorizers=frozenset({"ext"}))
    target = Workload(APPS, "web", {"app": "web"}, ports={18080: True, 19090: seed % 3 > 0})
    return Guard(target, MeshObjects([*case.objects, *extra], mesh))


def _cells(space: Space, rng: random.Random, count: int) -> list[tuple[int, ...]]:
    every = 1
    for size in space.shape:
        every *= size
    if every <= count:
        return list(itertools.product(*(range(size) for size in space.shape)))
    return [tuple(rng.randrange(size) for size in space.shape) for _ in range(count)]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6))
def test_a_cell_is_what_the_evaluator_says_of_its_request(seed: int) -> None:
    one = _guard(seed)
    space = space_of([one], IDENTITIES)
    grid = verdicts(one, space)
    for cell in _cells(space, random.Random(seed), 60):
        request = space.request(cell)
        speaks_http = one.workload.ports.get(request.port, True)
        if not speaks_http:
            request = type(request)(**{**vars(request), "http": False})
        assert OUTCOMES[int(grid[cell])] is one.decide(request).outcome, request


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_members_of_a_class_are_decided_alike(seed: int, other: int) -> None:
    one, two = _guard(seed), _guard(other)
    space = space_of([one, two], IDENTITIES)
    rng = random.Random(seed)
    for each in (one, two):
        grid = verdicts(each, space)
        for cell in _cells(space, rng, 20):
            request = space.request(cell)
            changes = {
                axis.dimension.kind: rng.choice(axis.classes[index])
                for axis, index in zip(space.axes, cell, strict=True)
                if axis.dimension.kind not in ("header", "metadata")
            }
            request = type(request)(**{**vars(request), **changes})
            if not each.workload.ports.get(request.port, True):
                request = type(request)(**{**vars(request), "http": False})
            assert OUTCOMES[int(grid[cell])] is each.decide(request).outcome, request


def test_a_workload_without_proxy_is_open_in_every_cell() -> None:
    bare = Workload(APPS, "web", {"app": "web"}, proxied=False)
    one = guard(policy(source(principals=["*/sa/a"])), workload=bare)
    assert verdicts(one, space_of([one], ())).all()


@pytest.mark.parametrize("port", [18080, 19090])
def test_a_port_of_the_workload_is_on_the_grid(port: int) -> None:
    workload = Workload(APPS, "web", {"app": "web"}, ports={18080: True, 19090: True})
    one = guard(policy(operation(ports=["18080"])), workload=workload)
    space = space_of([one], ())
    assert any(port in members for axis in space.axes for members in axis.classes)


def _with_tokens(*policies: dict[str, Any], header: str) -> Guard:
    rule = {
        "issuer": "https://issuer",
        "outputClaimToHeaders": [{"header": header, "claim": "tenant"}],
    }
    return guard(item("RequestAuthentication", "jwt", {"jwtRules": [rule]}), *policies)


def _token_classes(one: Guard) -> int:
    axis = space_of([one], ()).axis(TOKEN)
    assert axis is not None
    return len(axis.classes)


def test_headers_of_claims_tell_tokens_apart_only_where_a_policy_reads_them() -> None:
    named = policy(when("request.auth.claims[tenant]", ["a", "b"]))
    reading = policy(when("request.headers[x-tenant]", ["a"]), name="reading")
    unread = _token_classes(_with_tokens(named, reading, header="x-other"))
    assert unread == _token_classes(_with_tokens(named, header="x-tenant"))
    assert _token_classes(_with_tokens(named, reading, header="x-tenant")) > unread


def test_a_token_with_no_value_that_is_refused_is_tried_however_many_there_are() -> None:
    claims = ("one", "two", "three")
    refused = [
        policy(
            when(f"request.auth.claims[{claim}]", [f"{claim}-{n}" for n in range(9)]),
            when(f"request.auth.claims[{claim}]", not_values=["*"]),
            action="DENY",
            name=claim,
        )
        for claim in claims
    ]
    one = _with_tokens(policy(source(requestPrincipals=["*"])), *refused, header="x-other")
    assert (verdicts(one, space_of([one], ())) == ALLOW).any()
