"""Long steps that show they are alive: a spinner on a terminal, plain lines in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

EVERY = 20.0
"""Seconds between two lines of one step where there is no terminal."""

_console = Console(stderr=True, highlight=False)


class Step:
    """A step under way; `detail` is shown beside its title and may change at any time."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self._since = time.monotonic()

    @property
    def elapsed(self) -> str:
        """Time since the step began: `42s`, `3m07s`."""
        seconds = int(time.monotonic() - self._since)
        return f"{seconds}s" if seconds < 60 else f"{seconds // 60}m{seconds % 60:02}s"

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.title}{detail} {self.elapsed}"


@contextmanager
def step(title: str, *, quiet: bool = False) -> Iterator[Step]:
    """Show `title` on stderr until the block ends, then how long it took or that it failed.

    A quiet step shows nothing while it is short: it is heard of when it fails or takes `EVERY`.
    """
    current = Step(title)
    finished = threading.Event()
    terminal = _console.is_terminal

    def report() -> None:
        if quiet and finished.wait(EVERY):
            return
        if terminal:
            with _console.status(str(current)) as status:
                while not finished.wait(0.2):
                    status.update(str(current))
        else:
            while not finished.wait(EVERY):
                _console.print(f"  … {current}", soft_wrap=True)

    if not terminal and not quiet:
        _console.print(f"→ {title}", soft_wrap=True)
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    done = False
    try:
        yield current
        done = True
    finally:
        finished.set()
        reporter.join()
        if not (quiet and done):
            _console.print(f"{'✓' if done else '✗'} {title} {current.elapsed}", soft_wrap=True)
