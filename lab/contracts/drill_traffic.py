"""Traffic of a drill: streams of calls, and how many of them may fail while something is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

from lab.contracts.contract import Arrangement, Call, Contract, Expect, Incident, Judge, Tolerance
from lab.exchange import Reply

LASTS = 13.0
"""Seconds of traffic."""
_DOCUMENT = "outages.md"
_AT_ONCE = 5.0
"""Seconds: half of what clients wait, and more than retries take, on a busy machine too."""
_RECOVERED = 3.0
"""Seconds until proxies have connected again to what the drill before killed."""
UNAVAILABLE = Expect((503,), within=_AT_ONCE)
UNAVAILABLE_CALL = Expect((200,), grpc="UNAVAILABLE", within=_AT_ONCE)
"""A 503 that comes at once, and what it is to a gRPC client."""
BROKEN = Expect((0,))
BROKEN_CALL = Expect((200,), grpc="UNAVAILABLE")
"""No connection, or one that broke; a gRPC client says of both that the server is unavailable."""
_DEVIATIONS = 4.5
"""Standard deviations that chance is allowed: once in 150,000 runs it is more."""


@dataclass(frozen=True)
class Stream:
    """Calls of one kind, evenly spread over the time."""

    what: str
    call: Callable[[int], Call]
    each_second: float
    starts: float = 0.0
    ends: float = LASTS

    @property
    def calls(self) -> Iterator[Call]:
        """The calls, each with the time at which it is sent."""
        for index in range(round(self.each_second * (self.ends - self.starts))):
            yield replace(self.call(index), after=self.starts + (index + 0.5) / self.each_second)


@dataclass(frozen=True)
class Errors:
    """Which calls of some streams may fail: of those sent in a span of time a share."""

    begins: float
    ends: float
    share: float = 1.0
    of: str = ""
    """Streams whose name has this in it; all where empty."""
    under_way: float = 0.0
    """Seconds that a call takes, where only calls under way at one moment may fail."""
    to: tuple[Expect, ...] = (UNAVAILABLE, UNAVAILABLE_CALL)
    """What a call may come to in the place of its answer."""

    def include(self, stream: Stream, call: Call) -> bool:
        """Whether a call of a stream may be one of them."""
        return self.of in stream.what and self.begins <= call.after <= self.ends

    def most(self, calls: int, each_second: float) -> int:
        """How many of so many calls may fail, where it is chance that gives a share to it."""
        if self.under_way:
            return min(calls, ceil(each_second * self.under_way) + 1)
        spread = _DEVIATIONS * sqrt(calls * self.share * (1 - self.share))
        return min(calls, ceil(calls * self.share + spread))


def drill(
    name: str,
    sentence: str,
    streams: Sequence[Stream],
    incident: Incident,
    *errors: Errors,
    arrangement: Arrangement | None = None,
) -> Contract:
    """Traffic with an incident; of the errors the first that a call is of counts."""
    calls: list[Call] = []
    tolerated = []
    for stream in streams:
        groups: dict[Errors | None, list[Call]] = {}
        for call in stream.calls:
            meant = next((one for one in errors if one.include(stream, call)), None)
            groups.setdefault(meant, []).append(call)
        for may, group in groups.items():
            places = range(len(calls), len(calls) + len(group))
            what = f"{stream.what} while it was away" if may else stream.what
            most = may.most(len(group), stream.each_second) if may else 0
            tolerated.append(Tolerance(what, places, most, may.to if may else ()))
            calls += group
    # Calls that are under way at one moment may by chance all be at another pod.
    certain = errors and not any(one.under_way for one in errors)
    return Contract(
        f"drill.{name}", sentence, _DOCUMENT, tuple(calls), noticed(calls) if certain else None,
        pause=_RECOVERED,
        incident=incident, tolerated=tuple(tolerated), arrangement=arrangement,
    )  # fmt: skip


def noticed(calls: Sequence[Call]) -> Judge:
    """At least one call failed: else nothing was killed, and the drill said nothing."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if any(call.expect.unmet(reply) for call, reply in zip(calls, replies, strict=True)):
            return None
        return "no call noticed that something was killed"

    return judge
