"""Labs of the tests: beside a user's own, never in its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import render
from apply.kubectl import Kubectl
from apply.server_side import Deployment
from lab.data_plane import DataPlane
from lab.directory import DEFAULT
from lab.lab import Lab
from lab.stack import start

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
_READY_SECONDS = 240.0


def bring_up(lab: Lab) -> DataPlane:
    """Start a lab with its data plane and wait until everything is ready."""
    start(lab, STACK)
    data_plane = DataPlane.of_stack(lab, STACK)
    data_plane.wait_until_ready(_READY_SECONDS)
    return data_plane


@pytest.fixture(scope="session")
def mesh(request: pytest.FixtureRequest) -> Iterator[DataPlane]:
    """A lab with stack dev deployed to it, all pods ready; tests leave it so."""
    with throw_away_lab("mesh", request.config.getoption("--keep-lab")) as lab:
        data_plane = bring_up(lab)
        Deployment(
            stack=STACK,
            declared=render.declared(STACK, data_plane.catalogue),
            expand=lambda items: list(render.expanded(items)),
            kubectl=Kubectl(lab.kubeconfig),
        ).up(lambda _what, _done: None)
        data_plane.wait_until_ready(_READY_SECONDS)
        yield data_plane
