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
    short_lived,
    streaming,
    streaming_route,
)
from lab.exchange import Reply, Request
from lab.streams import CONNECTION
from model.values import seconds

_LONGEST = 20
"""Seconds of the longest `keep_alive` that the contract waits for."""
_TIMES, _STEP = 8, 0.15
"""Requests one after the other, so many that a connection which is kept has some of them, and the
seconds between them."""
_STILL = 0.8
"""Part of `keep_alive` after which the application would not have closed the connection."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `application`."""
    one = short_lived(facts.catalogue)
    keep_alive = float(seconds(one.keep_alive))
    if keep_alive > _LONGEST:
        return
    request = Request(
        f"service:{one.name}:{http_port(one).number}",
        authority=one.name,
        path=f"{streaming_route(one).path}/1",
        headers=headers(facts),
    )
    asked = Call(through(facts.catalogue.callers(one)[0]), request, SERVED)
    later = (_TIMES - 1) * _STEP + keep_alive * _STILL
    yield Contract(
        "application.idle",
        "The proxy of a service closes an idle connection to its application after half of the"
        " application's `keep_alive`, and so before the application does: no request is lost on a"
        " connection that is just being closed.",
        "traffic.md",
        tuple(
            replace(asked, after=start + index * _STEP)
            for start in (0.0, later)
            for index in range(_TIMES)
        ),
        closed_between(_TIMES),
        patient=True,
        arrangement=streaming,
    )


def closed_between(first: int) -> Judge:
    """The `first` requests shared connections, and no later one came over one of those."""

    def judge(replies: Sequence[Reply]) -> str | None:
        found = [_connection(reply) for reply in replies]
        before, after = found[:first], found[first:]
        if "" in found:
            return f"the application did not say over which connection it was asked: {found}"
        if len(set(before)) == len(before):
            return f"each request had a connection of its own: {before}"
        if kept := sorted(set(before) & set(after)):
            return f"connections were kept: {', '.join(kept)}"
        return None

    return judge


def _connection(reply: Reply) -> str:
    return next(
        (
            line.partition("=")[2]
            for line in reply.body.splitlines()
            if line.startswith(f"{CONNECTION}=")
        ),
        "",
    )
