"""Labs of the tests: beside a user's own, never in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.data_plane import DataPlane
from lab.directory import DEFAULT
from lab.lab import Lab

PROGRAM = Path(sys.executable).parent / "voicemesh"
MESH_CONFIG = {"accessLogFile": "/dev/stdout", "enableAutoMtls": True}


@contextmanager
def throw_away_lab(name: str, keep: bool) -> Iterator[Lab]:
    """A lab that is not started yet; at the end it is stopped and forgotten, unless it is kept."""
    if keep:
        yield Lab(DEFAULT.parent / "test-labs" / name)
        return
    path = Path(tempfile.mkdtemp(prefix=f"voicemesh-{name}-"))
    lab = Lab(path)
    try:
        yield lab
    finally:
        lab.stop()
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab with nothing deployed to it; tests may break it, and mend it by `start`."""
    with throw_away_lab("control-plane", request.config.getoption("--keep-lab")) as lab:
        lab.start(MESH_CONFIG)
        yield lab


STACK = "dev"
_START_SECONDS = 600.0
"""For a command that builds nothing, on a busy machine."""


def bring_up(lab: Lab) -> DataPlane:
    """A lab with stack dev deployed to it and all pods ready, started by the command for it."""
    begin = [str(PROGRAM), "lab", "start", f"--stack={STACK}", f"--directory={lab.directory.path}"]
    ended = subprocess.run(
        begin, env=without_pulumi(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        check=False, timeout=_START_SECONDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    data_plane = DataPlane.of_stack(lab, STACK)
    pods = data_plane.wait_until_ready(0)
    assert f"{pods} pods" in ended.stdout.splitlines()[-1]
    return data_plane


def without_pulumi() -> dict[str, str]:
    """The environment as it would be on a machine without the engine."""
    path = [d for d in os.environ["PATH"].split(os.pathsep) if not shutil.which("pulumi", path=d)]
    return {**os.environ, "PATH": os.pathsep.join(path)}


@pytest.fixture(scope="session")
def mesh(request: pytest.FixtureRequest) -> Iterator[DataPlane]:
    """A lab with stack dev deployed to it, all pods ready; tests leave it so."""
    with throw_away_lab("mesh", request.config.getoption("--keep-lab")) as lab:
        yield bring_up(lab)
