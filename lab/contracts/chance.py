"""What chance is allowed where a share of many calls is counted."""

from __future__ import annotations

from math import sqrt

DEVIATIONS = 4.5
"""Standard deviations: of 150,000 counts one is further off by chance alone."""


def allowed(total: int, share: float) -> float:
    """How far a count may be from `total * share`, where each of `total` is counted by chance."""
    return DEVIATIONS * sqrt(total * share * (1 - share))


def unlikely(count: int, total: int, share: float) -> str | None:
    """What is wrong with a count; None where chance explains it."""
    bound = allowed(total, share)
    if abs(count - total * share) <= bound:
        return None
    return f"{count} of {total}, must be {total * share:.0f} ± {bound:.0f}"
