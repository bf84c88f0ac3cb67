"""One run of the program for each stack, shared by the tests."""

from __future__ import annotations

import os
from functools import cache

import pytest

# An Output that ends up in a text is then an error in the test, not a strange text.
os.environ["PULUMI_ERROR_OUTPUT_STRING"] = "1"

from model.stack_file import stacks
from tests.engine import recorded

run = cache(recorded.run)


@pytest.fixture(scope="module", params=stacks())
def stack(request: pytest.FixtureRequest) -> str:
    """Each stack of the project."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def program(stack: str) -> recorded.Run:
    """What the program registers for it."""
    return run(stack)
