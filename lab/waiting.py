"""Waiting with an end: until something holds, or an error that says what was seen last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from lab.errors import LabError

T = TypeVar("T")


class NotYet(Exception):
    """Raised by a check that may succeed later; the message is the state it saw."""


def until(
    what: str,
    check: Callable[[], T],
    *,
    within: float,
    every: float = 0.15,
    detail: Callable[[], str] = lambda: "",
) -> T:
    """The first result of `check` that comes without `NotYet`.

    Args:
        what: what is waited for, as it reads in the error.
        check: raises NotYet with the state it saw; any other exception ends the wait.
        within: seconds until LabError is raised, with the state seen last.
        every: seconds between two checks.
        detail: more to say in the error, the end of a log.
    """
    try:
        return Retrying(
            stop=stop_after_delay(within),
            wait=wait_fixed(every),
            retry=retry_if_exception_type(NotYet),
        )(check)
    except RetryError as error:
        seen = error.last_attempt.exception()
        raise LabError(
            f"{what}: not so after {within:g} s; last seen: {seen}\n{detail()}".rstrip()
        ) from None
