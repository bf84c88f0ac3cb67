"""Limits of the machine that a lab needs raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.toolchain.system import WATCHES, allow_watches


@pytest.mark.parametrize(("found", "left"), [(128, WATCHES), (8192, 8192)])
def test_a_low_limit_is_raised_and_a_high_one_left(tmp_path: Path, found: int, left: int) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text(f"{found}\n")
    allow_watches(limit)
    assert int(limit.read_text()) == left


def test_a_limit_that_can_not_be_raised_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    allow_watches(limit)
    assert "max_user_instances is 128" in capsys.readouterr().err
