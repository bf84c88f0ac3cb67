"""What is made of the answers of streams: when their pieces came, and when they ended."""

from __future__ import annotations

from collections.abc import Sequence

from lab.contracts.contract import Judge
from lab.exchange import Reply
from lab.streams import PIECE

LATE = 1.5
"""Seconds that a busy machine may be late."""


def pieces(reply: Reply) -> list[float]:
    """Seconds at which the service got the pieces of a body."""
    return [
        float(line.partition("=")[2].split()[0])
        for line in reply.body.splitlines()
        if line.startswith(f"{PIECE}=")
    ]


def arrived_while_sending(number: int, pause: float, which: slice) -> Judge:
    """The service got each piece when it was sent, not all at the end."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies[which]:
            found = pieces(reply)
            if len(found) != number:
                return f"{number} pieces were sent, {len(found)} arrived"
            # Apart from each other as they were sent; what is late is less late than a pause.
            spread, sent = found[-1] - found[0], (number - 1) * pause
            if spread < sent * 0.7:
                return f"pieces sent over {sent:g} s arrived within {spread:.2f} s"
        return None

    return judge


def answered_in_turn(number: int, pause: float, first: int) -> Judge:
    """Each message was answered before the next one was sent."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies[first:]:
            # gRPC: before all, the service tells what it saw of the call.
            found = reply.arrivals[-number:]
            if len(reply.arrivals) < number:
                return f"{number} messages were sent, {len(found)} answers came"
            spread, sent = found[-1] - found[0], (number - 1) * pause
            if spread < sent * 0.7:
                return f"answers to messages sent over {sent:g} s came within {spread:.2f} s"
        return None

    return judge


def sent_in_turn(number: int, interval: float) -> Judge:
    """Each piece came when the service sent it: the first at once, the last at the end."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            found, whole = reply.arrivals, (number - 1) * interval
            if len(found) < number:
                return f"{number} pieces were sent apart, they came in {len(found)}"
            spread = found[-1] - found[0]
            if spread < whole * 0.8:
                return f"pieces sent over {whole:g} s came within {spread:.2f} s"
            if found[0] > whole * 0.6:
                return f"the first piece came after {found[0]:.2f} s"
        return None

    return judge


def whole(events: int) -> Judge:
    """Every event of each stream came, in order."""
    wanted = "".join(f"data: {index}\n\n" for index in range(events))

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            if reply.body != wanted:
                return f"{events} events were sent, {reply.body.count('data: ')} came"
        return None

    return judge


def of_size(sizes: Sequence[int]) -> Judge:
    """Each body, unpacked where it came as gzip, is as the service sent it."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for size, reply in zip(sizes, replies, strict=True):
            if reply.body != "a" * size:
                return f"of {size} bytes {len(reply.body)} came: {reply.body[:40]!r}"
        return None

    return judge


def ended_after(limits: Sequence[float]) -> Judge:
    """Each exchange was ended when its time was over, and passed data until then."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply, limit in zip(replies, limits, strict=True):
            if not limit - 0.3 <= reply.seconds <= limit + LATE * 2:
                return (
                    f"an exchange ended after {reply.seconds:.1f} s ({reply}), {limit:g} s is right"
                )
        return None

    return judge


def told_after(seconds: float) -> Judge:
    """The first answer came then; later ones are of clients that do not listen while they send."""

    def judge(replies: Sequence[Reply]) -> str | None:
        at = replies[0].arrivals[0]
        if not seconds - 0.3 <= at <= seconds + LATE:
            return f"the client was told after {at:.2f} s, {seconds:g} s is right"
        return None

    return judge
