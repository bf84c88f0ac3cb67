"""Retries where there is a choice: at another instance, and of what no instance has seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from components.gateway_workload import GATEWAY
from lab.contracts.access import http_port
from lab.contracts.arrangements import applied, pods, until_answered, until_known
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Recorded, Watch
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.contracts.two_instances import caller_of, hashed, inside, two_instances, writable
from lab.data_plane import DataPlane
from lab.exchange import Reply
from lab.infrastructure import JWKS
from model.service import HashOn, Service

DOCUMENT = "traffic.md"
_TRIED, _BETWEEN = 6, 6
"""Requests that fail, and those after each that do not, so many that they meet both instances."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """Of the family `retry` what takes two instances."""
    yield from _elsewhere(facts, hashed(facts.catalogue))
    yield from _unconnected(facts, writable(facts.catalogue))


def _elsewhere(facts: Facts, one: Service) -> Iterator[Contract]:
    """Through the gateway, whose outlier detection no other contract here makes use of."""
    assert isinstance(one.load_balancing, HashOn)
    path = next(route.path for route in one.routes if route.access == "token")
    if not one.retries:
        return
    header = one.load_balancing.header
    bearer = facts.bearer(**{facts.settings.authentication.tenant.claim: "tenant-retried"})

    def ask(key: str, query: str, code: int) -> Call:
        asked = facts.api(f"{path}/contract{query}", *bearer, (header, key))
        return Call(CLIENT, asked, Expect((code,), served_by=one.name))

    failing = {
        index * (_BETWEEN + 1): ask(f"another-{index}", "?codes=503", 503)
        for index in range(_TRIED)
    }
    yield Contract(
        "retry.elsewhere",
        "A request is repeated at another instance where there is one, also with consistent"
        " hashing; of two instances Envoy draws the same one again in one case of 32.",
        DOCUMENT,
        # What is answered in between lets neither instance fail so often in a row that it is taken
        # out: then a repetition at the same instance would have nowhere to go but to the other.
        tuple(
            failing.get(place) or ask(f"good-{place}", "", 200)
            for place in range(_TRIED * (_BETWEEN + 1))
        ),
        at_once=False,
        watch=tried_at(2, tuple(failing), _TRIED // 2),
        arrangement=two_instances,
    )


def tried_at(instances: int, calls: Sequence[int], but: int) -> Watch:
    """All but so many of these calls reached so many instances, as their own proxies say.

    Envoy draws an instance for a repetition six times at most (Istio's hostSelectionRetryMaxAttempts
    is 5) and takes the last, been there or not. The first draw of a hash is always the same, each
    other one is either of two: chance does that to four requests of six once in 70,000 runs.
    """

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        tried = [
            [
                str(line["proxy"])
                for line in recorded.lines[index]
                if str(line.get("upstream_cluster", "")).startswith("inbound|")
            ]
            for index in calls
        ]
        few = [one for one in tried if len(set(one)) < instances]
        if len(few) > but:
            return f"{len(few)} requests were tried at fewer than {instances} instances: {few[0]}"
        return None

    return watch


@contextlib.contextmanager
def unconnectable(data_plane: DataPlane) -> Iterator[None]:
    """A second instance of a service, at which every connection is refused.

    It is an address of a pod that serves something else, in an EndpointSlice of its own, as the
    instance of a node would be whose pod has just gone.
    """
    one = writable(data_plane.catalogue)
    port, namespace = http_port(one), data_plane.settings.namespaces.apps
    address = str(pods(data_plane, app=JWKS)[0]["address"])
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{one.name}-unconnectable",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": one.name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": port.name, "port": port.number, "protocol": "TCP"}],
    }
    with applied(data_plane, [piece]):
        for app in (GATEWAY, caller_of(data_plane.catalogue, one)):
            until_answered(
                data_plane, app, "/clusters",
                lambda answer: f"::{address}:{port.number}::health_flags::healthy" in answer,
                f"{app} knows an instance of {one.name} at {address}",
            )  # fmt: skip
        yield
    for app in (GATEWAY, caller_of(data_plane.catalogue, one)):
        until_known(data_plane, app, one.name)


_TURNS = 4


def _unconnected(facts: Facts, one: Service) -> Iterator[Contract]:
    caller = through(caller_of(facts.catalogue, one))
    path = next(r.path for r in one.routes if r.access == "token" and not r.methods)
    served = Expect((200,), served_by=one.name)
    writes = ("POST", "PUT", "PATCH", "DELETE")
    yield Contract(
        "retry.unconnected",
        "A write is repeated as often as declared when no connection could be opened or the service"
        " refused to take it, and after no other failure.",
        DOCUMENT,
        tuple(
            call
            for index in range(_TURNS)
            for call in (
                Call(
                    CLIENT,
                    facts.api(f"{path}/1", *facts.bearer(), method=writes[index % len(writes)]),
                    served,
                ),
                Call(
                    caller,
                    replace(inside(facts, one, "/contract"), method=writes[index % len(writes)]),
                    served,
                ),
            )
        ),
        repeated,
        at_once=False,
        watch=once,
        arrangement=unconnectable,
    )


def repeated(replies: Sequence[Reply]) -> str | None:
    """Some requests of both callers met the instance that refuses them, and reached the other."""
    for number, who in enumerate(("clients", "services")):
        attempts = [one for reply in replies[number::2] for one in reply.seen(_ATTEMPTS)]
        if not any(one.isdigit() and int(one) > 1 for one in attempts):
            return f"no write of {who} was repeated, attempts were {attempts}"
    return None


_ATTEMPTS = "x-envoy-attempt-count"


def once(_: Sequence[Reply], recorded: Recorded) -> str | None:
    """The service saw each request once."""
    for lines in recorded.lines:
        seen = sum(str(line.get("upstream_cluster", "")).startswith("inbound|") for line in lines)
        if seen != 1:
            return f"the service saw a request {seen} times"
    return None
