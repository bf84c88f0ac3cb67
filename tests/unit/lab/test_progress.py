"""A long step shows that it is alive, on a terminal or in a log."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from lab.toolchain import progress


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=written, highlight=False))
    monkeypatch.setattr(progress, "EVERY", 0.05)
    return written


def test_log_gets_a_line_now_and_then(log: io.StringIO) -> None:
    with progress.step("building x") as step:
        step.detail = "7 packages compiled"
        time.sleep(0.12)
    lines = log.getvalue().splitlines()
    assert lines[0] == "→ building x"
    assert lines[1] == "  … building x (7 packages compiled) 0s"
    assert lines[-1] == "✓ building x 0s"


def test_failure_shows(log: io.StringIO) -> None:
    with pytest.raises(RuntimeError), progress.step("building x", quiet=True):
        raise RuntimeError
    assert log.getvalue() == "✗ building x 0s\n"


def test_quiet_step_is_quiet_while_it_is_short(log: io.StringIO) -> None:
    with progress.step("looking", quiet=True):
        pass
    assert log.getvalue() == ""


def test_elapsed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("lab.toolchain.progress.time.monotonic", lambda: now)
    step = progress.Step("x")
    now += 187
    assert step.elapsed == "3m07s"
