"""What the contract about replaced listeners takes for right and for wrong."""

from __future__ import annotations

import pytest

from lab.contracts.listeners import cut_after
from lab.exchange import Reply


def open_until(second: float, **more: object) -> Reply:
    arrivals = tuple(step / 4 for step in range(1, int(second * 4) + 1))
    return Reply(error="ConnectionClosedError: cut", arrivals=arrivals, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (open_until(6), ""),
        (open_until(5.75), ""),
        (open_until(12), ""),
        (open_until(12.5), "still answered after 12.5 s"),
        (open_until(5), "cut off after 5.0 s, not after 6 s"),
        (Reply(error="ConnectError: refused"), "cut off after 0.0 s"),
        (open_until(8, status=101), "still answered after 8.0 s"),
    ],
)
def test_open_connections_end_with_the_drain(reply: Reply, wrong: str) -> None:
    said = cut_after(6, 12)([open_until(7), reply])
    assert (said is None) if not wrong else (said is not None and wrong in said)
