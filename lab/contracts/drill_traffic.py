"""Traffic of a drill: streams of calls, and how many of them may fail while something is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from lab.contracts.chance import allowed, unlikely
from lab.contracts.contract import (
    Arrangement,
    Call,
    Contract,
    Expect,
    Incident,
    Judge,
    Tolerance,
    both,
)
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
LOST = Expect((504,))
"""A request that a pod took with it, and nothing says so: a limit of time ends the wait for it."""
BROKEN = Expect((0,))
BROKEN_CALL = Expect((200,), grpc="UNAVAILABLE")
"""No connection, or one that broke; a gRPC client says of both that the server is unavailable."""


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
    """Which calls of some streams may fail: of those sent in a span of time a share.

    Where chance decides which, the calls of all these streams are counted together: of the few of
    one stream chance may take nearly all.
    """

    begins: float
    ends: float
    share: float = 1.0
    of: str = ""
    """Streams whose name has this in it; all where empty."""
    under_way: float = 0.0
    """Seconds that a call takes, where only calls under way at one moment may fail."""
    to: tuple[Expect, ...] = (UNAVAILABLE, UNAVAILABLE_CALL)
    """What a call may come to in the place of its answer."""
    surely: float = 0.0
    """Seconds from `begins` in which it is away for certain, so that the share must have failed."""

    def include(self, stream: Stream, call: Call) -> bool:
        """Whether a call of a stream may be one of them."""
        return self.of in stream.what and self.begins <= call.after <= self.ends

    def most(self, calls: int, each_second: float) -> int:
        """How many of so many calls may fail, where it is chance that gives a share to it."""
        if self.under_way:
            return min(calls, ceil(each_second * self.under_way) + 1)
        return min(calls, ceil(calls * self.share + allowed(calls, self.share)))

    def least(self, calls: Sequence[Call]) -> int:
        """How many of these calls must fail."""
        sent = sum(call.after <= self.begins + self.surely for call in calls)
        return max(floor(sent * self.share - allowed(sent, self.share)), 0) if self.surely else 0


def drill(
    name: str,
    sentence: str,
    streams: Sequence[Stream],
    incident: Incident,
    *errors: Errors,
    arrangement: Arrangement | None = None,
    judge: Callable[[Sequence[Call]], Judge] | None = None,
) -> Contract:
    """Traffic with an incident; of the errors the first that a call is of counts."""
    groups: dict[tuple[str, Errors | None], list[Call]] = {}
    rates: dict[str, float] = {}
    for stream in streams:
        for call in stream.calls:
            may = next((one for one in errors if one.include(stream, call)), None)
            what = f"calls {may.of}".rstrip() if may and may.share < 1 else stream.what
            rates[what] = stream.each_second
            groups.setdefault((what, may), []).append(call)
    calls: list[Call] = []
    tolerated, judges = [], []
    for (what, may), group in groups.items():
        places = range(len(calls), len(calls) + len(group))
        calls += group
        if may is None:
            tolerated.append(Tolerance(what, places, 0))
            continue
        most, least = may.most(len(group), rates[what]), may.least(group)
        tolerated.append(Tolerance(f"{what} while it was away", places, most, may.to, least))
        if may.share < 1:
            judges.append(shared(group, places, may.share))
    # Calls that are under way at one moment may by chance all be at another pod.
    if errors and not any(one.under_way for one in errors):
        judges.append(noticed(calls))
    if judge:
        judges.append(judge(calls))
    return Contract(
        f"drill.{name}", sentence, _DOCUMENT, tuple(calls), both(*judges) if judges else None,
        pause=_RECOVERED,
        incident=incident, tolerated=tuple(tolerated), arrangement=arrangement,
    )  # fmt: skip


def shared(calls: Sequence[Call], places: range, share: float) -> Judge:
    """Of the calls sent between the first and the last that failed, about a share failed, too.

    Args:
        calls: those that may fail.
        places: where they are among all.
        share: how likely it is for each, as long as it is away.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        answered = zip(calls, replies[places.start : places.stop], strict=True)
        failed = [
            bool(call.expect.unmet(reply))
            for call, reply in sorted(answered, key=lambda one: one[0].after)
        ]
        if True not in failed:
            return f"none of {len(failed)} calls met what was killed"
        first, last = failed.index(True), len(failed) - failed[::-1].index(True) - 1
        between = failed[first + 1 : last]
        wrong = unlikely(sum(between), len(between), share)
        return f"while it was away there failed {wrong}" if wrong else None

    return judge


def of_version(calls: Sequence[Call], app: str, version: str, share: float) -> Judge:
    """A version answered its share of an app's requests, those counted that failed in its place.

    One error of another kind could else stand for all that a killed pod should have cost.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        asked = [
            (call, reply)
            for call, reply in zip(calls, replies, strict=True)
            # Of gRPC calls nobody says which version answered.
            if call.expect.served_by == app
        ]
        its = sum(
            bool(call.expect.unmet(reply)) or reply.echoed("ServiceVersion") == version
            for call, reply in asked
        )
        wrong = unlikely(its, len(asked), share)
        return f"{version} of {app} answered, or failed to, {wrong}" if wrong else None

    return judge


def noticed(calls: Sequence[Call]) -> Judge:
    """At least one call failed: else nothing was killed, and the drill said nothing."""

    def judge(replies: Sequence[Reply]) -> str | None:
        if any(call.expect.unmet(reply) for call, reply in zip(calls, replies, strict=True)):
            return None
        return "no call noticed that something was killed"

    return judge
