"""One container of a pod: its runs, its probes, and how it stands."""

from __future__ import annotations

import datetime
import enum
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lab.environment import command, environment
from lab.images import Image
from lab.probes import Probe
from lab.sandbox import Launch, Mount, Process, Sandbox, start
from lab.volumes import Volumes

Object = Mapping[str, Any]

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 60.0
"""Seconds between the end of a container and its next start: the first, doubled up to the last."""
_LEAST_GRACE = 2.0


class Phase(enum.Enum):
    """Where a container is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


class Container:
    """A container and the processes that were its runs."""

    def __init__(
        self,
        pod: Object,
        spec: Object,
        image: Image,
        sandbox: Sandbox,
        volumes: Volumes,
        directory: Path,
        shared: tuple[Mount, ...],
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.restarts = 0
        self.process: Process | None = None
        self.phase = Phase.WAITING
        self.reason = "ContainerCreating"
        self.exit_code = 0
        self._pod = pod
        self._image = image
        self._sandbox = sandbox
        self._volumes = volumes
        self._directory = directory / self.name
        self.log = directory / f"{self.name}.log"
        self._shared = shared
        self._backoff = FIRST_BACKOFF
        self._next_start = 0.0
        self._startup: Probe | None = None
        self._readiness: Probe | None = None
        self._liveness: Probe | None = None
        self._last: dict[str, Any] = {}

    def start(self) -> None:
        """Start a run."""
        variables = dict(self._image.environment) | environment(self._pod, self.spec, self._volumes)
        security = {
            **(self._pod["spec"].get("securityContext") or {}),
            **(self.spec.get("securityContext") or {}),
        }
        user = security.get("runAsUser", self._image.user)
        added = (security.get("capabilities") or {}).get("add") or []
        words = command(self._image.entrypoint, self.spec, variables)
        words[0] = self._image.elsewhere.get(words[0], words[0])
        launch = Launch(
            command=words,
            environment=variables,
            mounts=self._mounts(),
            user=user,
            group=security.get("runAsGroup", user),
            keep_capabilities=user == 0 and "NET_ADMIN" in added,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            directory=self.spec.get("workingDir") or "/",
        )
        self.process = start(self._sandbox, launch, self._directory, self.log)
        self.phase, self.reason = Phase.RUNNING, ""
        self._startup = self._probe_of("startupProbe")
        self._readiness = self._probe_of("readinessProbe")
        self._liveness = self._probe_of("livenessProbe")

    def _probe_of(self, kind: str) -> Probe | None:
        if kind not in self.spec or self.process is None:
            return None
        address, ports = self._pod["status"]["podIP"], self.spec.get("ports") or ()
        return Probe(self.spec[kind], address, ports, self.process.enter)

    def _mounts(self) -> tuple[Mount, ...]:
        image = [Mount(source, target) for target, source in self._image.files.items()]
        volumes = []
        for mount in self.spec.get("volumeMounts") or ():
            source = self._volumes.path(mount["name"]) / mount.get("subPath", "")
            scratch = any(
                volume["name"] == mount["name"] and "emptyDir" in volume
                for volume in self._pod["spec"].get("volumes") or ()
            )
            read_only = bool(mount.get("readOnly")) or not scratch
            volumes.append(Mount(source, mount["mountPath"], read_only))
        return (*self._shared, *image, *volumes)

    def run_to_completion(self, seconds: float) -> int:
        """Start the container, wait for its end and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it still ran after `seconds`.
        """
        self.start()
        assert self.process is not None
        self._ended(self.process.popen.wait(seconds))
        return self.exit_code

    def execute(self, words: list[str], seconds: float) -> None:
        """Run a lifecycle hook inside the container.

        Raises:
            OSError: the hook failed.
        """
        assert self.process is not None
        result = subprocess.run(
            [*self.process.enter(), *words], capture_output=True, timeout=seconds, check=False
        )
        if result.returncode:
            raise OSError(f"hook {' '.join(words)} failed: {result.stderr.decode()[-200:]}")

    def tick(self, policy: str = "Always") -> bool:
        """Look after the container. True where something changed that a status shows.

        Args:
            policy: the pod's restartPolicy; a sidecar has one of its own.
        """
        if self.phase is Phase.RUNNING:
            assert self.process is not None
            code = self.process.popen.poll()
            if code is not None:
                self._ended(code)
                return True
            return self._probe()
        again = starts_again(self.spec.get("restartPolicy", policy), self.exit_code)
        if again and time.monotonic() >= self._next_start:
            self.restarts += 1
            self.start()
            return True
        return False

    def _probe(self) -> bool:
        if self._startup and not self._startup.succeeded:
            changed = self._startup.tick(hurry=True)
            if self._startup.failed:
                self.kill()
            return changed
        changed = bool(self._readiness and self._readiness.tick(hurry=True))
        if self._liveness:
            self._liveness.tick()
            if self._liveness.failed:
                self.kill()
        return changed

    def _ended(self, code: int) -> None:
        assert self.process is not None
        ran = time.time() - self.process.started
        self._backoff = FIRST_BACKOFF if ran > 60 else min(self._backoff * 2, LONGEST_BACKOFF)
        self._next_start = time.monotonic() + self._backoff
        self.exit_code = code if code >= 0 else 128 - code
        self.phase = Phase.TERMINATED
        self.reason = "Completed" if self.exit_code == 0 else "Error"
        self._last = self._terminated()

    @property
    def started(self) -> bool:
        """True once the container runs and its startup probe, if it has one, has succeeded."""
        return self.phase is Phase.RUNNING and (not self._startup or self._startup.succeeded)

    @property
    def ready(self) -> bool:
        """True while the container runs and its probes succeed."""
        return self.started and (not self._readiness or self._readiness.succeeded)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process:
            self.process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        if self.process:
            self.process.signal(signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """True while no process of the container runs."""
        return self.process is None or self.process.popen.poll() is not None

    def status(self) -> dict[str, Any]:
        """The container's status as the API server has it."""
        return {
            "name": self.name,
            "image": self.spec.get("image", ""),
            "imageID": "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self._state(),
            "lastState": {"terminated": self._last} if self._last and self.restarts else {},
        }

    def _state(self) -> dict[str, Any]:
        if self.phase is Phase.RUNNING and self.process:
            return {"running": {"startedAt": timestamp(self.process.started)}}
        if self.phase is Phase.TERMINATED:
            return {"terminated": self._last}
        return {"waiting": {"reason": self.reason}}

    def _terminated(self) -> dict[str, Any]:
        assert self.process is not None
        return {
            "exitCode": self.exit_code,
            "reason": self.reason,
            "startedAt": timestamp(self.process.started),
            "finishedAt": timestamp(time.time()),
        }


def starts_again(policy: str, exit_code: int) -> bool:
    """Whether a container that ended with that code is started again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def timestamp(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Ending(Protocol):
    """What can be asked to end, and made to."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    @property
    def ended(self) -> bool:
        """True once it has."""


def end(groups: Sequence[Sequence[Ending]], grace: float) -> None:
    """End groups of containers one after the other, all of them within the grace period.

    What has not ended by then is killed. A later group has two seconds at least, as with
    Kubernetes, unless there is no grace period.
    """
    deadline = time.monotonic() + grace
    for group in groups:
        for container in group:
            container.terminate()
        least = time.monotonic() + (_LEAST_GRACE if grace else 0.0)
        while not all(container.ended for container in group):
            if time.monotonic() >= max(deadline, least):
                break
            time.sleep(0.1)
        for container in group:
            if not container.ended:
                container.kill()
