"""Long-running processes of the node: started once, found again by later runs, ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from lab.directory import LabDirectory
from lab.errors import LabError
from lab.node.node import Node
from lab.waiting import NotYet, until

PART = "VOICEMESH_PART"
"""Environment variable of a part's processes: its name."""
_DIGEST = "VOICEMESH_PART_DIGEST"
_LOG_LIMIT = 20_000_000
"""Bytes of log after which the next start begins a new file and keeps one old one."""


@dataclass(frozen=True)
class Part:
    """One process of the lab: what runs, and with what."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    """Whatever else a running process depends on (a certificate's digest): when it changes, the
    part is started anew, as when its command or environment does."""

    @property
    def digest(self) -> str:
        """Changes with anything that needs a restart."""
        told = json.dumps([self.command, dict(self.environment), self.inputs], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Parts:
    """The parts of one lab's node."""

    node: Node

    @property
    def directory(self) -> LabDirectory:
        """The lab's directory."""
        return self.node.directory

    def find(self, part: Part) -> psutil.Process | None:
        """The running process of a part, if it runs as `part` says."""
        for process in self._of(part.name):
            try:
                if (
                    process.cmdline() == list(part.command)
                    and process.environ().get(_DIGEST) == part.digest
                ):
                    return process
            except psutil.Error:
                continue
        return None

    def start(self, part: Part, sockets: Mapping[str, socket.socket] | None = None) -> bool:
        """Start a part unless it runs; True if it was started.

        What is left of an older or broken instance is ended first. `sockets` are handed to the
        process, which finds their descriptors in VOICEMESH_SOCKETS (`NAME=FD,…`).
        """
        if self.find(part):
            return False
        self.stop(part.name)
        given = {name: one.fileno() for name, one in (sockets or {}).items()}
        environment = self.node.environment(
            dict(part.environment)
            | {PART: part.name, _DIGEST: part.digest}
            | {"VOICEMESH_SOCKETS": ",".join(f"{name}={fd}" for name, fd in given.items())}
        )
        door = self._launched(part.name, part.command, environment, list(given.values()))

        def entered() -> None:
            # The door is nsenter, then a shell; found again is only the program itself.
            if door.poll() is None and self.find(part) is None:
                raise NotYet("still on its way into the node")

        until(f"{part.name} in the node", entered, within=10, every=0.01)
        return True

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Kill a part that was given no sockets, and start the same again at the end.

        Raises LabError if it does not run.
        """
        # nsenter is outside of the node and only waits for the process inside.
        found = [one for one in self._of(name) if one.name() != "nsenter"]
        if not found:
            raise LabError(f"{name} does not run")
        command, environment = found[0].cmdline(), found[0].environ()
        self.stop(name)
        try:
            yield
        finally:
            self._launched(name, command, environment, [])

    def _launched(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
    ) -> subprocess.Popen[bytes]:
        with _opened(self.directory.log(name)) as log:
            return subprocess.Popen(
                self.node.entered(command, cwd=self.directory.work(name)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """End every process of a part. Raises LabError if one of them does not end."""

        def gone() -> None:
            doomed = list(self._of(name))
            for process in doomed:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(doomed, timeout=2)
            # Looked for again: one that was just being started may have forked meanwhile.
            if doomed:
                raise NotYet(str(doomed))

        until(f"processes of {name} ended", gone, within=10, every=0.01)

    def alive(self, name: str) -> bool:
        """True if any process of a part lives, one that is just being started included."""
        return any(True for _ in self._of(name))

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines of a part's log, indented, with where they are from."""
        path = self.directory.log(name)
        text = path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []
        shown = "\n".join(f"  {line[:400]}" for line in text) or "  (empty)"
        return f"end of {path}:\n{shown}"

    def _of(self, name: str) -> Iterator[psutil.Process]:
        for process in self.node.processes():
            try:
                if process.environ().get(PART) == name:
                    yield process
            except psutil.Error:
                continue


def _opened(log: Path) -> BinaryIO:
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    return log.open("ab")
