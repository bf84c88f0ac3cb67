"""Which containers the lab's kubelet starts again: as a real one does."""

from __future__ import annotations

import pytest

from lab.container import starts_again


@pytest.mark.parametrize(
    ("policy", "exit_code", "again"),
    [
        ("Always", 0, True),
        ("Always", 137, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 137, False),
    ],
)
def test_restart_policy(policy: str, exit_code: int, again: bool) -> None:
    assert starts_again(policy, exit_code) == again
