"""Labs of the tests: beside a user's own, never in its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.directory import DEFAULT
from lab.lab import Lab

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
