"""Outages: what happens to limits while Redis or the rate-limit service is away, and afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from components import redis
from components.edge.headers import security_headers
from components.gateway_workload import GATEWAY
from components.rate_limit_workload import NAME as SERVICE
from components.rate_limit_workload import redis_timeout
from lab.contracts.arrangements import pods, scaled, stopped, until_known
from lab.contracts.contract import CLIENT, Arrangement, Call, Contract, Expect, Judge
from lab.contracts.facts import Facts
from lab.contracts.floods import COUNTED, asked, refilled
from lab.contracts.limits import of_one_tenant, shared
from lab.contracts.routing import rights
from lab.contracts.ways_in import others
from lab.data_plane import DataPlane
from lab.exchange import Reply
from model.values import seconds

DOCUMENT = "edge.md"
_UNCOUNTED = tuple((name, None) for name in COUNTED)
_CONNECTED_AGAIN = 8.0
"""Seconds within which the rate-limit service has found Redis, and gateways the service, again."""
_BUSY = 1.25
"""Seconds more than the timeout that a request may take on a busy machine."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `outage`."""
    for name, away, hanging, back in (
        ("redis", _without_redis, _hanging_redis, _redis_back),
        ("service", _without_service, _hanging_service, _service_back),
    ):
        yield from _away(facts, name, away)
        yield _flood(facts, name, away)
        yield _hangs(facts, name, hanging)
        yield Contract(
            f"outage.back.{name}",
            "Limits hold again, without anyone's help, when both are back.",
            DOCUMENT,
            of_one_tenant(facts, "/api/v1/notification/1", f"back-{name}"),
            shared(facts.settings.rate_limits.per_tenant.requests, slice(None)),
            pause=_CONNECTED_AGAIN,
            arrangement=back,
        )


def _away(facts: Facts, name: str, away: Arrangement) -> Iterator[Contract]:
    secure = tuple(security_headers(facts.settings.edge, encrypted=True).items())
    yield Contract(
        f"outage.closed.{name}",
        "A route in `closedOnFailure` answers 503 while its limits can't be asked for.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(path, *facts.bearer(), method=method),
                Expect((503,), headers=secure),
            )
            for path in facts.settings.rate_limits.closed_on_failure
            for method in ("GET", "POST")
        ),
        arrangement=away,
    )
    yield Contract(
        f"outage.open.{name}",
        "Every other route lets requests through, without `x-ratelimit-` headers.",
        DOCUMENT,
        tuple(_open(facts)),
        arrangement=away,
    )


def _open(facts: Facts) -> Iterator[Call]:
    """A request to every limited route that is not closed, of all three kinds."""
    for one, route in facts.catalogue.exposures:
        closed = route.path in facts.settings.rate_limits.closed_on_failure
        if route.access == "token" and not closed:
            method = (route.methods or ("GET",))[0]
            yield Call(
                CLIENT,
                facts.api(route.path, *rights(facts, route, method), method=method),
                Expect((200,), served_by=one.name, headers=_UNCOUNTED),
            )
    for way in others(facts):
        yield Call(CLIENT, way.ask(*facts.bearer()), replace(way.served, headers=_UNCOUNTED))


def _flood(facts: Facts, name: str, away: Arrangement) -> Contract:
    allowance = facts.settings.rate_limits.per_address
    client = facts.flooding(8 if away is _without_redis else 9)
    return Contract(
        f"outage.flood.{name}",
        "The flood limit goes on working; it needs neither.",
        DOCUMENT,
        tuple(
            Call(CLIENT, asked(facts, client), Expect((401, 429)))
            for _ in range(allowance.requests * 3 // 2)
        ),
        refilled(allowance, slice(None)),
        arrangement=away,
    )


def _hangs(facts: Facts, name: str, hanging: Arrangement) -> Contract:
    limits = facts.settings.rate_limits
    closed, soon = limits.closed_on_failure[0], float(seconds(limits.timeout)) + _BUSY
    return Contract(
        f"outage.hang.{name}",
        "A question that is not answered within `rateLimits.timeout` counts as failed, so an outage"
        " that hangs costs each request that much.",
        DOCUMENT,
        tuple(
            call
            for _ in range(4)
            for call in (
                Call(
                    CLIENT,
                    facts.api("/api/v1/notification/1", *facts.bearer()),
                    Expect((200,), headers=_UNCOUNTED, within=soon),
                ),
                Call(
                    CLIENT,
                    facts.api(closed, *facts.bearer(), method="POST"),
                    Expect((503,), within=soon),
                ),
            )
        ),
        waited(redis_timeout(limits) / 1000),
        at_once=False,
        arrangement=hanging,
    )


def waited(patience: float) -> Judge:
    """Each request did wait, as long as the service does for Redis: else nothing hung."""

    def judge(replies: Sequence[Reply]) -> str | None:
        quick = [reply.seconds for reply in replies if reply.seconds < patience * 0.9]
        return f"answered after {quick} s, so nothing hung" if quick else None

    return judge


@contextmanager
def _without_redis(data_plane: DataPlane) -> Iterator[None]:
    with scaled(data_plane, data_plane.settings.namespaces.infra, redis.NAME, 0):
        yield


@contextmanager
def _without_service(data_plane: DataPlane) -> Iterator[None]:
    with scaled(data_plane, data_plane.settings.namespaces.apps, SERVICE, 0):
        yield


@contextmanager
def _hanging_redis(data_plane: DataPlane) -> Iterator[None]:
    with stopped(data_plane, pods(data_plane, app=redis.NAME)[0], redis.CONTAINER):
        yield


@contextmanager
def _hanging_service(data_plane: DataPlane) -> Iterator[None]:
    # A gateway that has not heard of the new instance yet would not wait for it.
    until_known(data_plane, GATEWAY, SERVICE)
    with stopped(data_plane, pods(data_plane, app=SERVICE)[0], SERVICE):
        yield


@contextmanager
def _redis_back(data_plane: DataPlane) -> Iterator[None]:
    with _without_redis(data_plane):
        pass
    yield


@contextmanager
def _service_back(data_plane: DataPlane) -> Iterator[None]:
    with _without_service(data_plane):
        pass
    yield
