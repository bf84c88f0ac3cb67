"""What chance is allowed: a share of many is told from another one, and none from itself."""

from __future__ import annotations

import pytest

from lab.contracts.chance import allowed, unlikely


@pytest.mark.parametrize(
    ("count", "total", "share", "wrong"),
    [
        (50, 100, 0.5, None),
        (72, 100, 0.5, None),
        (73, 100, 0.5, "73 of 100, must be 50 ± 22"),
        (27, 100, 0.5, "27 of 100, must be 50 ± 22"),
        (100, 100, 1.0, None),
        (99, 100, 1.0, "99 of 100, must be 100 ± 0"),
        (1, 100, 0.0, "1 of 100, must be 0 ± 0"),
    ],
)
def test_counts(count: int, total: int, share: float, wrong: str | None) -> None:
    assert unlikely(count, total, share) == wrong


def test_what_is_certain_is_allowed_no_chance() -> None:
    assert allowed(400, 1.0) == allowed(400, 0.0) == 0.0
    assert allowed(400, 0.5) == pytest.approx(45.0)
