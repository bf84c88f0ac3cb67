"""The user's cache of finished parts: each one appears whole or not at all, and is made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.toolchain.errors import ToolchainError
from lab.toolchain.progress import step


def root() -> Path:
    """`$XDG_CACHE_HOME/voicemesh/toolchain`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "voicemesh" / "toolchain"


def key(name: str, *ingredients: str | bytes) -> str:
    """The directory name of a part: its name and a digest of everything it is made from."""
    digest = hashlib.sha256()
    for ingredient in ingredients:
        data = ingredient.encode() if isinstance(ingredient, str) else ingredient
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"{name}-{digest.hexdigest()[:16]}"


def ensure(part: str, make: Callable[[Path], None]) -> Path:
    """The directory of `part`, filled by `make(directory)` unless it is in the cache already.

    `make` works in a temporary directory beside the final one, which is renamed when it is
    complete: an interrupted run leaves no half part. Two runs at a time make it once.
    """
    final = root() / part
    if final.is_dir():
        return final
    try:
        root().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(f"the cache {root()} can't be written: {error}") from error
    with _locked(root() / f"{part}.lock", part):
        if final.is_dir():
            return final
        for abandoned in root().glob(f".{part}.*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        building = Path(tempfile.mkdtemp(prefix=f".{part}.", dir=root()))
        try:
            make(building)
            building.chmod(0o755)
            building.rename(final)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return final


@contextmanager
def _locked(path: Path, part: str) -> Iterator[None]:
    try:
        handle = path.open("w")
    except OSError as error:
        raise ToolchainError(f"the cache {path.parent} can't be written: {error}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another run that makes {part}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
