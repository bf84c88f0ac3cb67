"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadlines: these machines are shared, and a slow example is no wrong one. A build machine
# looks at the same examples every time; elsewhere each run looks at new ones.
settings.register_profile("voicemesh", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("voicemesh")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-lab",
        action="store_true",
        help="run lab tests in .voicemesh/test-labs, and leave what they started running",
    )
    parser.addoption(
        "--mutations-alone",
        action="store_true",
        help="try each mutation of tests/lab/mutations by itself against all contracts: hours",
    )
