"""One lab: a node and the control plane in it. Start, stop, status, and how to reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from components.objects import Manifest
from lab.control_plane import istio, kubeconfig, kubernetes
from lab.control_plane.certificates import IDENTITIES, Certificates
from lab.directory import DEFAULT, LabDirectory
from lab.errors import LabError
from lab.kubectl import Kubectl
from lab.node.exposure import Exposure
from lab.node.node import Node
from lab.node.parts import PART, Part, Parts
from lab.toolchain import binaries, system
from lab.toolchain.charts import charts
from lab.toolchain.crds import istio_crds, prometheus_operator_crds
from lab.toolchain.progress import step
from lab.waiting import NotYet, until

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "istiod")
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "pilot-discovery", "kubectl")
_NODE = "node"
_API = "api"
_FORWARDER = "forwarder"
_WATCHED = {
    "etcd": kubernetes.ETCD_PORT,
    "controller-manager": kubernetes.CONTROLLER_MANAGER_PORT,
    "istiod": istio.HTTP_PORT,
    "istiod-monitoring": istio.MONITORING_PORT,
    "istiod-xds": istio.PLAIN_XDS_PORT,
}
"""Ports of the node that the host reaches over Unix sockets, which only the lab's owner can open."""


@dataclass(frozen=True)
class PartStatus:
    """What is known of one part."""

    part: str
    state: str
    """`running` or `stopped`."""
    pid: int | None = None
    since: float | None = None
    """Seconds since the epoch."""
    memory: int | None = None
    """Bytes, those of all its descendants included: of the kubelet all pods'. What several processes
    share is divided among them."""


class Lab:
    """The lab in `path`; nothing happens before `start`."""

    def __init__(self, path: Path = DEFAULT) -> None:
        self.directory = LabDirectory.at(path)
        self.node = Node(self.directory)
        self.parts = Parts(self.node)
        self.exposure = Exposure(self.parts)
        self.certificates = Certificates(self.directory.certificates)

    def start(
        self,
        mesh_config: Mapping[str, Any],
        istiod_values: Mapping[str, Any] | None = None,
        before_istiod: Callable[[], list[str]] = list,
    ) -> list[str]:
        """Bring node and control plane up; the names of the parts that had to be started.

        What runs as it should is left alone, what died or would now run differently is started
        anew; so it is safe to call after anything, a kill -9 of any part or of an earlier start
        included.

        Args:
            mesh_config: Istio's meshConfig, over the chart's own.
            istiod_values: further values of the istiod chart.
            before_istiod: called when the API server serves and istiod is about to be started;
                starts what istiod looks for at once, and says what it started.

        Raises:
            ToolchainError: a program is missing and can't be built.
            LabError: a part does not get ready in time.
        """
        system.ensure()
        system.allow_watches()
        programs = binaries.ensure(PROGRAMS)
        manifests = istio.rendered(charts(), mesh_config, istiod_values or {})
        with self.directory.locked():
            self.directory.create()
            started = [_NODE] if self.node.start() else []
            self.certificates.ensure()
            server = self._start_forwarder()
            started += self._start_kubernetes(programs, server)
            started += before_istiod()
            started += self._start_istiod(
                programs["pilot-discovery"], manifests, fresh=bool(started)
            )
        return started

    def stop(self, *, keep_data: bool = False) -> int:
        """End everything the lab started; the number of processes that were ended.

        Namespaces, devices and mounts go with the node. The cluster's data go too unless
        `keep_data`; logs stay.
        """
        if not self.directory.path.exists():
            return 0
        with self.directory.locked():
            ended = self.node.stop()
            if not keep_data:
                self.directory.discard_data()
        return ended

    def status(self) -> list[PartStatus]:
        """The node, the control plane and whatever other parts run."""
        init = self.node.init()
        owners: dict[str, list[psutil.Process]] = {}
        for process in self.node.processes():
            try:
                # nsenter is outside of the node and only waits for the process inside.
                if (name := process.environ().get(PART)) and process.name() != "nsenter":
                    owners.setdefault(name, []).append(process)
            except psutil.Error:
                continue
        names = [*CONTROL_PLANE, *sorted(owners.keys() - set(CONTROL_PLANE))]
        return [
            _status(_NODE, [init] if init else []),
            *(_status(name, owners.get(name, [])) for name in names),
        ]

    @staticmethod
    def complete(parts: list[PartStatus]) -> bool:
        """True if node and control plane are all there."""
        needed = {_NODE, *CONTROL_PLANE}
        return all(one.state == "running" for one in parts if one.part in needed)

    def running(self) -> bool:
        """True if node and control plane are all there now."""
        return self.complete(self.status())

    @property
    def kubeconfig(self) -> Path:
        """kubeconfig of a cluster admin, usable on the host. Raises LabError before `start`."""
        path = self.directory.kubeconfigs / "host.yaml"
        if not path.exists():
            raise LabError(
                f"no lab runs in {self.directory.path}; start it with: voicemesh lab start"
            )
        return path

    @property
    def node_kubeconfig(self) -> Path:
        """The same for processes inside the node."""
        return self.directory.kubeconfigs / "admin.yaml"

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as cluster admin, from the host."""
        return Kubectl(self.kubeconfig)

    def _start_forwarder(self) -> str:
        """Make the kubeconfigs, too; the API server's URL on the host."""
        ports = self.exposure.expose(
            _FORWARDER,
            {_API: f"127.0.0.1:{kubernetes.API_PORT}"},
            {self.directory.socket(name): f"127.0.0.1:{port}" for name, port in _WATCHED.items()},
        )
        for identity in IDENTITIES:
            kubeconfig.write(
                self.directory.kubeconfigs / f"{identity.file}.yaml",
                kubeconfig.text(self.certificates, identity.file, kubernetes.NODE_URL),
            )
        server = f"https://127.0.0.1:{ports[_API]}"
        kubeconfig.write(
            self.directory.kubeconfigs / "host.yaml",
            kubeconfig.text(self.certificates, "admin", server),
        )
        return server

    def _start_kubernetes(self, programs: Mapping[str, Path], server: str) -> list[str]:
        ca = self.certificates.certificate("ca")
        started = self._part(
            kubernetes.etcd(programs["etcd"], self.directory),
            lambda: kubernetes.ready("http://etcd/health", self.directory.socket("etcd")),
        )
        started += self._part(
            kubernetes.api_server(programs["kube-apiserver"], self.certificates),
            lambda: kubernetes.ready(f"{server}/readyz?verbose", ca=ca),
            within=90,
        )
        return started + self._part(
            kubernetes.controller_manager(
                programs["kube-controller-manager"],
                self.certificates,
                self.directory.kubeconfigs / "controller-manager.yaml",
            ),
            lambda: kubernetes.ready(
                "https://controller-manager/healthz", self.directory.socket("controller-manager")
            ),
        )

    def _start_istiod(self, program: Path, manifests: list[Manifest], *, fresh: bool) -> list[str]:
        part = istio.istiod(
            program,
            self.directory.kubeconfigs / "istiod.yaml",
            manifests,
            self.certificates.digest,
        )
        with step("installing CRDs, roles and webhooks", quiet=not fresh):
            namespace = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": istio.NAMESPACE},
            }
            self.kubectl.apply_files([istio_crds(), *prometheus_operator_crds()])
            self.kubectl.apply([namespace, *istio.objects(manifests)])
        started = self._part(
            part,
            lambda: kubernetes.ready("http://istiod/ready", self.directory.socket("istiod")),
        )
        for kind, names in istio.WEBHOOKS.items():
            for name in names:
                until(
                    "istiod's webhooks",
                    partial(self._webhook_complete, kind, name),
                    within=30,
                    detail=lambda: self.parts.log_tail("istiod"),
                )
        return started

    def _webhook_complete(self, kind: str, name: str) -> None:
        istio.complete(self.kubectl.get(kind, name))

    def _part(self, part: Part, check: Callable[[], object], within: float = 45) -> list[str]:
        """Start a part unless it runs and wait until `check` passes."""
        fresh = self.parts.start(part)

        def ready() -> None:
            try:
                check()
            except NotYet:
                if not self.parts.alive(part.name):
                    raise LabError(
                        f"{part.name} ended by itself\n{self.parts.log_tail(part.name)}"
                    ) from None
                raise

        def wait() -> None:
            until(
                f"{part.name} ready", ready, within=within,
                detail=lambda: self.parts.log_tail(part.name),
            )  # fmt: skip

        if not fresh:
            wait()
            return []
        with step(f"starting {part.name}"):
            wait()
        return [part.name]


def _status(name: str, processes: list[psutil.Process]) -> PartStatus:
    alive = []
    for process in processes:
        with suppress(psutil.Error):
            alive.append((process.create_time(), process.pid))
    if not alive:
        return PartStatus(name, "stopped")
    since, pid = min(alive)
    # The node itself is the parent of whatever lost its own.
    everyone = {} if name == _NODE else {one.pid: one for one in _descendants(processes)}
    memory = sum(_memory(one) for one in {**everyone, **{p.pid: p for p in processes}}.values())
    return PartStatus(name, "running", pid, since, memory)


def _descendants(processes: list[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with suppress(psutil.Error):
            yield from process.children(recursive=True)


def _memory(process: psutil.Process) -> int:
    """A process's share of the memory in bytes; 0 if it has just ended."""
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
