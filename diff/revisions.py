"""A stack's objects at another revision, rendered by that revision's own code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manifests import read

TIMEOUT = 300
"""Seconds that one rendering may take."""


class NotRendered(Exception):
    """The revision is unknown or its code could not render the stack; the message says why."""


class NoSuchStack(NotRendered):
    """The revision has no such stack: everything in it is new."""


@contextmanager
def checkout(repository: Path, revision: str) -> Iterator[Path]:
    """The files of a revision in a directory of their own, gone afterwards.

    A git worktree: the repository's own files are not touched, what is not committed stays out.

    Raises:
        NotRendered: git does not know the revision.
    """
    commit = resolve(repository, revision)
    with tempfile.TemporaryDirectory(prefix="voicemesh-diff-") as temporary:
        tree = Path(temporary) / "tree"
        _git(repository, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            yield tree
        finally:
            _git(repository, "worktree", "remove", "--force", str(tree))


def resolve(repository: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        NotRendered: git does not know it.
    """
    if revision.startswith("-"):
        raise NotRendered(f"--base {revision}: a revision does not begin with '-'")
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except NotRendered:
        raise NotRendered(
            f"--base {revision}: git knows no such commit in {repository}"
            " (a shallow clone? fetch it first)"
        ) from None


def rendered(tree: Path, stack: str) -> list[dict[str, Any]]:
    """The objects of a stack as the code in a directory renders them, in a process of its own.

    Raises:
        NoSuchStack: there is no file of the stack.
        NotRendered: rendering fails; with what it said.
    """
    if not (tree / f"Pulumi.{stack}.yaml").is_file():
        raise NoSuchStack(f"Pulumi.{stack}.yaml: no such file in {tree}")
    with tempfile.TemporaryDirectory(prefix="voicemesh-render-") as out:
        # The tree's own packages come first, whatever is installed in the environment.
        environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", "from cli.main import main; main()"]
        command += ["render", "--stack", stack, "--out", out]
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotRendered(f"rendering {stack} took more than {TIMEOUT} s") from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise NotRendered(
                f"rendering {stack} failed with exit code {done.returncode}: "
                + " / ".join(said[-5:])
            )
        return read([Path(out)])


def _git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise NotRendered("git is not on PATH") from None
    if done.returncode != 0:
        raise NotRendered(f"git {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout.strip()
