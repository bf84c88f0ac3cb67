"""How containers of the lab end, and which its kubelet starts again: as with a real one."""

from __future__ import annotations

import time

import pytest

from lab.container import end, starts_again


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


class Asked:
    """A container that ends when asked to, or only when killed; what was done to it, and when."""

    def __init__(self, done: list[str], name: str, obeys: bool) -> None:
        self._done, self._name, self._obeys = done, name, obeys
        self.ended = False

    def terminate(self) -> None:
        self._done.append(f"{self._name} asked")
        self.ended = self._obeys

    def kill(self) -> None:
        self._done.append(f"{self._name} killed")
        self.ended = True


@pytest.mark.parametrize(
    ("app", "sidecar", "done"),
    [
        (True, True, ["app asked", "proxy asked"]),
        (False, True, ["app asked", "app killed", "proxy asked"]),
        (True, False, ["app asked", "proxy asked", "proxy killed"]),
    ],
)
def test_sidecars_end_after_the_application(app: bool, sidecar: bool, done: list[str]) -> None:
    told: list[str] = []
    end([[Asked(told, "app", app)], [Asked(told, "proxy", sidecar)]], grace=0.3)
    assert told == done


def test_without_a_grace_period_nobody_is_waited_for() -> None:
    told: list[str] = []
    before = time.monotonic()
    end([[Asked(told, "app", False)], [Asked(told, "proxy", False)]], grace=0)
    assert told == ["app asked", "app killed", "proxy asked", "proxy killed"]
    assert time.monotonic() - before < 1
