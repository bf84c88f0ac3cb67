"""A part of the cache appears whole or not at all, and is made once."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from lab.toolchain import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_root_follows_xdg(tmp_path: Path) -> None:
    assert cache.root() == tmp_path / "voicemesh" / "toolchain"


def test_root_is_below_home_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache" / "voicemesh" / "toolchain"


def test_key_changes_with_each_ingredient_and_their_borders() -> None:
    keys = {cache.key("x", "ab", "c"), cache.key("x", "a", "bc"), cache.key("x", b"abc")}
    assert len(keys) == 3
    assert all(key.startswith("x-") for key in keys)


def test_part_is_made_once() -> None:
    calls = []

    def make(directory: Path) -> None:
        calls.append(directory)
        (directory / "file").write_text("made")

    first, second = cache.ensure("part", make), cache.ensure("part", make)
    assert first == second
    assert (first / "file").read_text() == "made"
    assert len(calls) == 1


def test_failed_part_leaves_nothing_and_is_tried_again() -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        cache.ensure("part", fail)
    assert [path.name for path in cache.root().iterdir()] == ["part.lock"]
    assert cache.ensure("part", lambda directory: None).is_dir()


def test_leftovers_of_a_killed_run_are_removed() -> None:
    left = cache.root() / ".part.killed"
    left.mkdir(parents=True)
    cache.ensure("part", lambda directory: None)
    assert not left.exists()


def _slowly(directory: Path) -> None:
    with (directory.parent / "calls").open("a") as calls:
        calls.write("x")
    time.sleep(0.3)


def test_two_runs_at_a_time_make_it_once() -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=cache.ensure, args=("part", _slowly)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(10)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert (cache.root() / "calls").read_text() == "x"
