"""The workflows are linted, pinned and hold no more rights than they need."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.toolchain import binaries

WORKFLOWS = sorted((Path(__file__).parents[3] / ".github" / "workflows").glob("*.yml"))


def _read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _read(path)["jobs"].values() for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} == {"comment", "deploy", "drift", "pull-request"}


def test_zizmor_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    command: list[str | Path] = [
        zizmor,
        "--offline",
        "--persona",
        "pedantic",
        "--no-progress",
        *WORKFLOWS,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing() -> None:
    actionlint = binaries.ensure(["actionlint"])["actionlint"]
    done = subprocess.run(
        [actionlint, "-shellcheck=", "-pyflakes=", *WORKFLOWS],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_digest_with_their_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for each in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_allowed_that_a_job_does_not_ask_for(path: Path) -> None:
    content = _read(path)
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        granted = set(job["permissions"].items())
        assert granted <= {
            ("contents", "read"),
            ("actions", "read"),
            ("pull-requests", "write"),
        }, name
        assert job["timeout-minutes"] <= 45


def test_a_run_for_a_fork_sees_no_secret() -> None:
    content = _read(next(path for path in WORKFLOWS if path.stem == "pull-request"))
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    for job in content["jobs"].values():
        if "secrets." in str(job):
            assert job["if"] == own
        else:
            assert job["permissions"] == {"contents": "read"}


def test_the_job_that_writes_comments_runs_no_project_code() -> None:
    content = _read(next(path for path in WORKFLOWS if path.stem == "comment"))
    for name, job in content["jobs"].items():
        steps = job["steps"]
        checkouts = [s for s in steps if s.get("uses", "").startswith("actions/checkout@")]
        if job["permissions"].get("pull-requests") == "write":
            assert not checkouts, name
            assert all("run" not in step for step in steps), name
        for checkout in checkouts:
            assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_credentials_of_a_checkout_do_not_stay(path: Path) -> None:
    for step in _steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_prod_waits_for_staging_and_for_a_person() -> None:
    jobs = _read(next(path for path in WORKFLOWS if path.stem == "deploy"))["jobs"]
    assert jobs["prod"]["needs"] == "staging"
    assert jobs["prod"]["environment"] == "prod"
    for name, job in jobs.items():
        assert job["concurrency"] == {"group": f"stack-{name}", "cancel-in-progress": False}
