"""Connections between a service's proxy and its application, which closes idle ones by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.access import headers, http_port
from lab.contracts.contract import Call, Contract, Judge
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.contracts.stream_requests import (
    SERVED,
    calling,
    short_lived,
    streaming,
    streaming_routes,
)
from lab.exchange import Reply, Request
from lab.streams import CONNECTION
from model.service import Route, Service
from model.values import seconds

_LONGEST = 20
"""Seconds of the longest `keep_alive` that the contract waits for."""
_TIMES, _STEP = 8, 0.15
"""Requests one after the other, so many that some share a connection, and the seconds between them."""
_AT_ONCE, _PIECES, _PAUSE = 24, 4, 0.25
"""Requests that hold a connection each, so many that they would take every one that was kept, also
those that other contracts left behind; pieces of each one's body, and the seconds between them."""
_STILL = 0.8
"""Part of `keep_alive` after which the application would not have closed the connection."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `application`."""
    one, route = _streaming(facts)
    keep_alive = float(seconds(one.keep_alive))
    if keep_alive > _LONGEST:
        return
    asked = Request(
        f"service:{one.name}:{http_port(one).number}",
        authority=one.name,
        method="POST",
        path=f"{route.path}/1",
        headers=(*headers(facts), ("transfer-encoding", "chunked")),
        messages=("a",),
    )
    holding = replace(asked, messages=("a",) * _PIECES, pauses=_PAUSE)
    caller = through(facts.catalogue.callers(one)[0])
    later = (_TIMES - 1) * _STEP + keep_alive * _STILL
    yield Contract(
        "application.idle",
        "The proxy of a service closes an idle connection to its application after half of the"
        " application's `keep_alive`, and so before the application does: no request is lost on a"
        " connection that is just being closed.",
        "traffic.md",
        (
            *(Call(caller, asked, SERVED, after=index * _STEP) for index in range(_TIMES)),
            *(Call(caller, holding, SERVED, after=later) for _ in range(_AT_ONCE)),
        ),
        closed_between(_TIMES),
        patient=True,
        arrangement=streaming,
    )


def _streaming(facts: Facts) -> tuple[Service, Route]:
    """A service that tells of its connections and that the contracts about streams leave alone."""
    busy = {short_lived(facts.catalogue).name, calling(facts.catalogue).name}
    return next(
        (one, route)
        for one, route in streaming_routes(facts.catalogue)
        if one.name not in busy and not route.methods and facts.catalogue.callers(one)
    )


def closed_between(first: int) -> Judge:
    """The `first` requests shared connections, and no later one came over one of those."""

    def judge(replies: Sequence[Reply]) -> str | None:
        found = [reply.echoed(CONNECTION) or "" for reply in replies]
        before, after = found[:first], found[first:]
        if "" in found:
            return f"the application did not say over which connection it was asked: {found}"
        if len(set(before)) == len(before):
            return f"each request had a connection of its own: {before}"
        if kept := sorted(set(before) & set(after)):
            return f"connections were kept: {', '.join(kept)}"
        return None

    return judge
