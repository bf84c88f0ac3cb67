"""The pack under the real engine, where its CLI is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engine import test_pulumi as program
from tests.policies.engine import PACK

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the pulumi CLI is not on PATH"),
]

project = program.project


def test_the_cli_runs_the_pack(project: Path) -> None:
    program.stack_file(project)
    assert program.pulumi(project, "stack", "init", "dev").returncode == 0
    ended = program.pulumi(project, "preview", "--stack", "dev", "--policy-pack", str(PACK))
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "Policies:" in told
    assert "voicemesh" in told.partition("Policies:")[2]
