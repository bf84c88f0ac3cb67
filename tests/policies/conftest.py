"""The stacks that policies are tried on."""

from __future__ import annotations

import pytest

from tests.policies.mutants import Objects
from tests.policies.mutations import rendered


@pytest.fixture(scope="session")
def stacks() -> dict[str, Objects]:
    """Every stack, rendered once."""
    return rendered()
