"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-lab",
        action="store_true",
        help="run lab tests in .voicemesh/test-labs, and leave what they started running",
    )
