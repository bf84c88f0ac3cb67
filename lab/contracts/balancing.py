"""Load balancing over several instances: who gets which request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.contracts.chance import allowed, unlikely
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.contracts.two_instances import (
    FAR,
    NEAR,
    caller_of,
    hashed,
    inside,
    preferring,
    simply,
    two_instances,
)
from lab.exchange import Reply
from model.service import HashOn, Service

DOCUMENT = "traffic.md"
_DRAWN = 200
_LEAST_SHARE = 0.25
"""Of the requests for each of two instances; they would get half each."""
_KEYS, _TIMES = 24, 3


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `balance`."""
    catalogue = facts.catalogue
    yield from _sticky(facts, hashed(catalogue))
    yield from _same_for_all(facts, hashed(catalogue))
    yield from _spread(facts)
    yield from _busy(facts, simply(catalogue, "LEAST_REQUEST"))
    yield from _near(facts, preferring(catalogue))


def _sticky(facts: Facts, one: Service) -> Iterator[Contract]:
    assert isinstance(one.load_balancing, HashOn)
    header, caller = one.load_balancing.header, through(caller_of(facts.catalogue, one))
    keys = [f"key-{index % _KEYS}" for index in range(_KEYS * _TIMES)]
    yield Contract(
        "balance.hash",
        "With consistent hashing, requests with the same header value reach the same instance.",
        DOCUMENT,
        tuple(
            Call(
                caller,
                inside(facts, one, f"/contract?{index}", (header, key)),
                Expect((200,), served_by=one.name),
            )
            for index, key in enumerate(keys)
        ),
        sticky(keys),
        arrangement=two_instances,
    )


def sticky(keys: Sequence[str]) -> Judge:
    """Replies with the same key came from the same instance, and those of all keys from several."""

    def judge(replies: Sequence[Reply]) -> str | None:
        met: dict[str, set[str]] = {}
        for key, reply in zip(keys, replies, strict=True):
            met.setdefault(key, set()).add(reply.served_by)
        loose = {key: sorted(instances) for key, instances in met.items() if len(instances) > 1}
        if loose:
            key, instances = next(iter(loose.items()))
            return f"{len(loose)} of {len(met)} keys are not sticky: {key} met {instances}"
        if len(set().union(*met.values())) < 2:
            return f"all {len(met)} keys met the same instance"
        return None

    return judge


def _same_for_all(facts: Facts, one: Service) -> Iterator[Contract]:
    """Through both gateways by turns, each of which hashes for itself."""
    assert isinstance(one.load_balancing, HashOn)
    header = one.load_balancing.header
    path = next(route.path for route in one.routes if route.access == "token")
    keys = [f"key-{index % _KEYS}" for index in range(_KEYS * 2)]
    yield Contract(
        "balance.hash-gateways",
        "Through whichever gateway they come, clients' requests with the same header value reach"
        " the same instance.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                replace(
                    facts.api(f"{path}/{index}", *facts.bearer(), (header, key)),
                    address=f"gateway:{index // _KEYS}:443",
                ),
                Expect((200,), served_by=one.name),
            )
            for index, key in enumerate(keys)
        ),
        sticky(keys),
        arrangement=two_instances,
    )


def _spread(facts: Facts) -> Iterator[Contract]:
    for balancing in ("ROUND_ROBIN", "LEAST_REQUEST"):
        one = simply(facts.catalogue, balancing)
        call = Call(
            through(caller_of(facts.catalogue, one)),
            inside(facts, one, "/contract"),
            Expect((200,), served_by=one.name),
        )
        yield Contract(
            f"balance.{balancing.lower().replace('_', '-')}",
            "With ROUND_ROBIN and LEAST_REQUEST, every instance of a service gets requests.",
            DOCUMENT,
            (call,) * 80,
            evenly(2),
            arrangement=two_instances,
        )


_QUICK = 240
_APART = 0.015
"""Seconds between requests of which each is answered before the next, mostly."""


def _busy(facts: Facts, one: Service) -> Iterator[Contract]:
    """One instance is occupied with a request that lasts; the others come one after the other."""
    caller = through(caller_of(facts.catalogue, one))
    lasting = _QUICK * _APART + 2
    slow = replace(
        inside(facts, one, f"/contract?delay={lasting:g}s"), method="POST", timeout=lasting + 15
    )
    quick = Call(caller, inside(facts, one, "/contract"), Expect((200,), served_by=one.name))
    yield Contract(
        "balance.busy",
        "With LEAST_REQUEST, of two instances the one with fewer requests under way is preferred:"
        " it gets three quarters of those that come one by one while the other is busy.",
        DOCUMENT,
        (
            Call(caller, slow, Expect((200,), served_by=one.name)),
            *(replace(quick, after=0.3 + index * _APART) for index in range(_QUICK)),
        ),
        spared,
        arrangement=two_instances,
    )


def spared(replies: Sequence[Reply]) -> str | None:
    """The instance that answered the first request got a quarter of the others at most.

    Envoy draws two instances, be they the same, and takes the one with fewer requests: the busy one
    is taken where it was drawn twice. Chance allows some more.
    """
    first, rest = replies[0].served_by, replies[1:]
    got, number = sum(reply.served_by == first for reply in rest), len(rest)
    most = number / 4 + allowed(number, 1 / 4)
    if not number or got > most:
        return f"the busy instance got {got} of {number} requests; chance allows {most:.0f}"
    return None


def evenly(instances: int) -> Judge:
    """So many instances answered, none far less often than the others."""

    def judge(replies: Sequence[Reply]) -> str | None:
        counts = Counter(reply.served_by for reply in replies)
        least = len(replies) / instances * 2 * _LEAST_SHARE
        if len(counts) != instances or min(counts.values()) < least:
            return f"{instances} instances share {len(replies)} requests like this: {dict(counts)}"
        return None

    return judge


def _near(facts: Facts, one: Service) -> Iterator[Contract]:
    assert one.locality
    if len(facts.settings.zones) < 2:
        return
    call = Call(
        through(caller_of(facts.catalogue, one)),
        inside(facts, one, "/contract"),
        Expect((200,), served_by=one.name),
    )
    yield Contract(
        "balance.locality",
        "With a locality preference, the declared share of the requests stays in the caller's"
        " zone.",
        DOCUMENT,
        (call,) * _DRAWN,
        stayed(one.name, one.locality.own_zone_percent / 100),
        arrangement=two_instances,
    )


def stayed(name: str, share: float) -> Judge:
    """Within what chance allows, that share of the requests met the instance in their zone.

    Of two instances one says by its name where it is, so the other is not there.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        total = len(replies)
        near, far = (
            sum(reply.served_by.startswith(f"{name}-{which}-") for reply in replies)
            for which in (NEAR, FAR)
        )
        if not near + far:
            return "the second instance got no request, so all stayed or all went"
        stayed = near or total - far
        wrong = unlikely(stayed, total, share)
        return wrong and f"requests that stayed in the caller's zone: {wrong}"

    return judge
