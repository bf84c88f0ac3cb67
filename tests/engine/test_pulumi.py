"""The program under the real engine, where its CLI is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from model.stack_file import ROOT

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the pulumi CLI is not on PATH"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project with stack files and state of its own: the engine writes into both."""
    directory = tmp_path / "project"
    directory.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith("Pulumi.") and entry.name != ".voicemesh":
            (directory / entry.name).symlink_to(entry)
    shutil.copy(ROOT / "Pulumi.yaml", directory)
    return directory


def pulumi(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of the CLI, with a file backend beside the project."""
    state = project.parent / "state"
    state.mkdir(exist_ok=True)
    return subprocess.run(
        ["pulumi", *arguments, "--non-interactive", "--cwd", str(project)],
        env={
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{state}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def stack_file(project: Path, **changes: object) -> None:
    content = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    content["config"] |= {f"voicemesh:{key}": value for key, value in changes.items()}
    (project / "Pulumi.dev.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_the_project_file_is_one_the_engine_reads(project: Path) -> None:
    stack_file(project)
    assert pulumi(project, "stack", "init", "dev").returncode == 0
    shown = pulumi(project, "config", "--stack", "dev", "--json")
    assert shown.returncode == 0, shown.stderr
    assert '"voicemesh:domain"' in shown.stdout


def test_bad_config_is_told_without_a_traceback(project: Path) -> None:
    stack_file(project, telemetry={"sampling": {"ai": 150}})
    assert pulumi(project, "stack", "init", "dev").returncode == 0
    ended = pulumi(project, "preview", "--stack", "dev")
    told = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "Pulumi.dev.yaml: voicemesh:telemetry.sampling.ai: 150 is above 100" in told
    assert "Traceback" not in told
