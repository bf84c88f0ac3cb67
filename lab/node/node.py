"""The node's namespaces: made, entered, taken down.

Nothing in them touches the host's network. As root they are plain namespaces; without root they
hang below a user namespace of the caller. What runs is found by looking at the processes, not by
remembering process ids: a run that was killed half-way leaves nothing unknown.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from lab.directory import LabDirectory
from lab.errors import LabError

LAB = "VOICEMESH_LAB"
"""Environment variable of every process of a lab: its directory."""

_INIT = ["-m", "lab.node.init"]
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Node:
    """The node of the lab in `directory`."""

    directory: LabDirectory

    def init(self) -> psutil.Process | None:
        """Process 1 of the node, or None if the node does not run."""
        for process in self.processes():
            try:
                command = process.cmdline()
                if command[1:4] == [*_INIT, str(self.directory.path)] and _inner_pid(process) == 1:
                    return process
            except (psutil.Error, OSError):
                continue
        return None

    def processes(self) -> Iterator[psutil.Process]:
        """Every process that belongs to the lab, inside the node or holding its door."""
        marker = str(self.directory.path)
        for process in psutil.process_iter():
            try:
                if process.environ().get(LAB) == marker and _alive(process):
                    yield process
            except (psutil.Error, OSError):
                continue

    def start(self) -> bool:
        """Make the namespaces unless they exist; True if they were made."""
        if self.init() is not None:
            return False
        self.stop()  # what an interrupted run may have left
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as answer, self._log("node") as log:
            try:
                subprocess.Popen(
                    [
                        *("unshare", *_user_namespace(), "--net", "--mount", "--pid", "--fork"),
                        *("--kill-child", "--mount-proc", "--", sys.executable, *_INIT),
                        *(str(self.directory.path), str(writing)),
                    ],
                    cwd=_ROOT,
                    env=self.environment({}),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[writing],
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            ready, _, _ = select.select([answer], [], [], 15)
            said = answer.read(4000).decode() if ready else "no answer within 15 s"
        if said != "ready":
            self.stop()
            raise LabError(
                f"the lab's node could not be made: {said or self._tail()}\n"
                "It needs root, or user namespaces (unshare --user) and /dev/net bridges in them."
            )
        return True

    def entered(self, command: Sequence[str], cwd: Path | None = None) -> list[str]:
        """`command` as it must be called on the host to run inside the node, in `cwd`."""
        init = self.init()
        if init is None:
            raise LabError("the lab does not run; start it with: voicemesh lab start")
        user = ["--user", "--preserve-credentials"] if os.geteuid() != 0 else []
        # Entering a mount namespace loses the working directory.
        moved = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd or _ROOT), *command]
        target = ["nsenter", "--target", str(init.pid), *user, "--net", "--mount", "--pid"]
        return [*target, "--", *moved]

    def run(self, *command: str, timeout: float = 30) -> str:
        """Standard output of a command inside the node. Raises LabError if it fails."""
        try:
            done = subprocess.run(
                self.entered(command),
                env=self.environment({}),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(command)}: still running after {timeout:g} s") from None
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What a process of the lab sees of the caller's environment: next to nothing."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        base = {"PATH": path, "HOME": str(self.directory.path), LAB: str(self.directory.path)}
        return base | {"LANG": "C.UTF-8"} | dict(extra)

    def stop(self) -> int:
        """End the node and all in it; the number of processes that ended.

        With process 1 the kernel ends the rest; a second look ends what never got so far.
        """
        doomed = list(self.processes())
        if (init := self.init()) is not None:
            _kill(init)
            psutil.wait_procs(doomed, timeout=5)
        try:
            Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.1), retry=retry_if_result(bool))(
                self._killed
            )
        except RetryError as error:
            left = error.last_attempt.result()
            raise LabError(f"these processes of the lab would not end: {left}") from None
        return len(doomed)

    def _killed(self) -> list[psutil.Process]:
        """Kill what is there; what was there. A process being started may have forked meanwhile."""
        left = list(self.processes())
        for process in left:
            _kill(process)
        return left

    def _log(self, part: str) -> BinaryIO:
        self.directory.create()
        return self.directory.log(part).open("ab")

    def _tail(self) -> str:
        return "\n".join(self.directory.log("node").read_text().splitlines()[-5:])


def _user_namespace() -> list[str]:
    """Flags for callers without root; with subordinate ids where the system gives us some."""
    if os.geteuid() == 0:
        return []
    flags = ["--user", "--map-root-user"]
    given = Path("/etc/subuid")
    name = psutil.Process().username()
    if shutil.which("newuidmap") and given.exists() and f"{name}:" in given.read_text():
        flags.append("--map-auto")
    return flags


def _inner_pid(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def _alive(process: psutil.Process) -> bool:
    return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()  # compares the start time first: never a reused id
