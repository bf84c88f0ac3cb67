"""One pod, from its binding to its end: what a kubelet does for it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from lightkube import ApiError, Client
from lightkube.resources.core_v1 import Pod as CorePod
from lightkube.types import PatchType

from lab import images, network
from lab.container import Container, Phase, end, timestamp
from lab.sandbox import Mount, Sandbox
from lab.volumes import NotYetError, Volumes

Object = dict[str, Any]

TICK = 0.25
"""Seconds between two looks at a pod that is not ready yet."""
IDLE_TICK = 1.0
"""Seconds between two looks at a pod that is ready."""
_INIT_SECONDS = 120.0
ROUTED = "lab.voicemesh.io/routed-networks"
"""Pod annotation: networks, separated by commas, whose addresses the pod may use as its own."""


@dataclass(frozen=True)
class PodHost:
    """What all pods of this machine share."""

    client: Client
    address: str
    """The node's own address."""
    directory: Path
    """Where pods have a directory each."""
    images: Mapping[str, images.Image]
    addresses: network.Addresses
    hosts: Callable[[str], Path]
    """The hosts file of a namespace."""
    say: Callable[[str], None]
    interface_number: Callable[[], int]


class Pod(threading.Thread):
    """Runs one pod until it is deleted."""

    def __init__(self, host: PodHost, pod: Mapping[str, Any]) -> None:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        super().__init__(name=name, daemon=True)
        self.reference = name
        self._host = host
        self._pod: Object = dict(pod)
        self._deleted = threading.Event()
        self._grace = 30.0
        self._directory = host.directory / name.replace("/", "_")
        self._containers: list[Container] = []
        self._inits: list[Container] = []
        self._sandbox: Sandbox | None = None
        self._reported: Object = {}
        self._message = ""
        self._started_at = timestamp(time.time())

    def delete(self, grace: float | None) -> None:
        """End the pod; the API object goes when its processes are gone."""
        self._grace = 30.0 if grace is None else grace
        self._deleted.set()

    def run(self) -> None:
        """The pod's life; errors are reported in its status and tried again."""
        try:
            if self._prepared() and self._initialised() and self._start_all():
                self._look_after()
        except Exception as error:
            self._host.say(f"{self.reference}: {type(error).__name__}: {error}")
            self._message = str(error)
            self._report()
            self._deleted.wait()
        finally:
            self._end()

    def _prepared(self) -> bool:
        """Sandbox, network and volumes; False where the pod was deleted meanwhile."""
        address = self._host.addresses.take()
        self._pod["status"] = {
            **self._pod.get("status", {}),
            "podIP": address,
            "hostIP": self._host.address,
        }
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        self._directory.chmod(0o755)
        self._sandbox = Sandbox(spec.get("hostname") or metadata["name"])
        routed = (metadata.get("annotations") or {}).get(ROUTED, "")
        network.attach(
            self._sandbox.pid,
            address,
            self._host.interface_number(),
            tuple(found for found in routed.split(",") if found),
        )
        sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
        self._sandbox.sysctl({entry["name"]: entry["value"] for entry in sysctls})
        volumes = Volumes(self._host.client, self._pod, self._directory / "volumes")
        self._volumes = volumes
        if not self._retry(volumes.make):
            return False
        shared = (
            Mount(self._host.hosts(metadata["namespace"]), "/etc/hosts"),
            Mount(self._host.directory / "resolv.conf", "/etc/resolv.conf"),
        )

        def container(spec: Object) -> Container:
            image = images.find(self._host.images, spec["image"])
            return Container(
                self._pod, spec, image, self._sandbox_now, volumes, self._directory, shared
            )

        self._inits = [container(found) for found in spec.get("initContainers") or ()]
        self._containers = [container(found) for found in spec["containers"]]
        self._record()
        return True

    @property
    def _sandbox_now(self) -> Sandbox:
        assert self._sandbox is not None
        return self._sandbox

    def _initialised(self) -> bool:
        """Init containers one after the other; those that stay (native sidecars) once started."""
        for container in self._inits:
            if container.spec.get("restartPolicy") == "Always":
                if not self._start(container):
                    return False
            else:
                while container.run_to_completion(_INIT_SECONDS):
                    self._message = f"init container {container.name} exit {container.exit_code}"
                    self._host.say(f"{self.reference}: {self._message}, see {container.log}")
                    self._report()
                    if self._deleted.wait(5):
                        return False
            self._report()
        return True

    def _start_all(self) -> bool:
        return all(self._start(container) for container in self._containers)

    def _start(self, container: Container) -> bool:
        if not self._retry(container.start):
            return False
        hook = (container.spec.get("lifecycle") or {}).get("postStart", {}).get("exec")
        if hook:
            container.execute(hook["command"], _INIT_SECONDS)
        elif container in self._inits:
            while not container.started:
                container.tick()
                if self._deleted.wait(TICK):
                    return False
        return True

    def _retry(self, action: Callable[[], object]) -> bool:
        """Do it again until nothing that it needs is missing; False if the pod is deleted."""
        while not self._deleted.is_set():
            try:
                action()
            except NotYetError as missing:
                if self._message != str(missing):
                    self._message = str(missing)
                    self._report()
            except (ApiError, httpx2.HTTPError) as error:
                self._message = f"API server: {error}"
            else:
                self._message = ""
                return True
            self._deleted.wait(0.5)
        return False

    def _look_after(self) -> None:
        running = self._long_running()
        self._report()
        self._record()
        next_renewal = time.monotonic() + 60
        while not self._deleted.is_set():
            policy = self._pod["spec"].get("restartPolicy", "Always")
            changed = [container.tick(policy) for container in running]
            if any(changed):
                self._report()
                self._record()
            if time.monotonic() > next_renewal:
                next_renewal = time.monotonic() + 60
                self._retry(self._volumes.renew)
            self._deleted.wait(IDLE_TICK if self._ready else TICK)

    def _sidecars(self) -> list[Container]:
        return [c for c in self._inits if c.spec.get("restartPolicy") == "Always"]

    def _long_running(self) -> list[Container]:
        return [*self._sidecars(), *self._containers]

    @property
    def _ready(self) -> bool:
        running = self._long_running()
        return bool(running) and all(container.ready for container in running)

    def _end(self) -> None:
        # Sidecars last, so that the application can finish through them.
        end((self._containers, self._sidecars()), self._grace)
        if self._sandbox:
            self._sandbox.close()
        if address := self._pod.get("status", {}).get("podIP"):
            self._host.addresses.give_back(address)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._remove_object()

    def _remove_object(self) -> None:
        metadata = self._pod["metadata"]
        for _ in range(20):
            try:
                found = self._host.client.get(
                    CorePod, metadata["name"], namespace=metadata["namespace"]
                )
                if found.metadata and found.metadata.uid == metadata["uid"]:
                    self._host.client.delete(
                        CorePod, metadata["name"], namespace=metadata["namespace"], grace_period=0
                    )
            except ApiError as error:
                if error.status.code == 404:
                    return
            except httpx2.HTTPError:
                time.sleep(0.5)
            else:
                return

    def _report(self) -> None:
        """Patch the pod's status where it differs from what was reported last."""
        status = self.status()
        if status == self._reported:
            return
        metadata = self._pod["metadata"]
        try:
            self._host.client.patch(
                CorePod.Status,
                metadata["name"],
                {"status": status},
                namespace=metadata["namespace"],
                patch_type=PatchType.MERGE,
            )
            self._reported = status
        except (ApiError, httpx2.HTTPError) as error:
            # The next change, or the next look, reports again.
            self._host.say(f"{self.reference}: status not reported: {error}")

    def status(self) -> Object:
        """The pod's status as the API server has it."""
        address = self._pod["status"].get("podIP")
        initialised = bool(self._containers) and all(
            container.started or container.reason == "Completed" for container in self._inits
        )
        done = bool(self._containers) and all(
            container.phase is Phase.TERMINATED and not container.exit_code
            for container in self._containers
        )
        running = initialised and any(c.process for c in self._containers)
        ends = self._pod["spec"].get("restartPolicy", "Always") != "Always"
        phase = "Succeeded" if done and ends else "Running" if running else "Pending"
        conditions = [
            ("PodScheduled", True),
            ("Initialized", initialised),
            ("ContainersReady", self._ready),
            ("Ready", self._ready),
        ]
        return {
            "phase": phase,
            "message": self._message or None,
            "podIP": address,
            "podIPs": [{"ip": address}] if address else [],
            "hostIP": self._host.address,
            "hostIPs": [{"ip": self._host.address}],
            "startTime": self._started_at,
            "conditions": [self._condition(kind, holds) for kind, holds in conditions],
            "initContainerStatuses": [container.status() for container in self._inits],
            "containerStatuses": [container.status() for container in self._containers],
        }

    def _condition(self, kind: str, holds: bool) -> Object:
        value = str(holds)
        for old in self._reported.get("conditions", ()):
            if (old["type"], old["status"]) == (kind, value):
                return dict(old)
        return {"type": kind, "status": value, "lastTransitionTime": timestamp(time.time())}

    def _record(self) -> None:
        """Write down what `voicemesh lab` needs to enter the pod."""
        metadata = self._pod["metadata"]
        record = {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "labels": metadata.get("labels") or {},
            "address": self._pod["status"]["podIP"],
            "pid": self._sandbox_now.pid,
            "containers": {
                container.name: {
                    "pid": container.process.pid if container.process else None,
                    "log": str(container.log),
                }
                for container in self._long_running()
            },
        }
        written = self._directory / ".pod.json"
        written.write_text(json.dumps(record, indent=2))
        written.rename(self._directory / "pod.json")


def recorded(directory: Path) -> Iterable[Object]:
    """The records of all pods below a kubelet's directory."""
    for path in sorted(directory.glob("*/pod.json")):
        try:
            yield json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue
