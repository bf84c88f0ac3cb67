"""The data plane of a lab: the kubelet, and the servers that the stack expects around it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from lab.infrastructure import LABELS, UNDECLARED_HOST, Certificate, objects
from lab.lab import Lab
from lab.network import INTERNET
from lab.node.init import BRIDGE_ADDRESS
from lab.node.parts import Part
from lab.tokens import Issuers
from lab.toolchain import binaries
from lab.toolchain.go import source
from lab.waiting import NotYet, until
from model import stack_file
from model.access import Catalogue
from model.catalogue import catalogue
from model.settings import Settings

KUBELET = "kubelet"
PROGRAMS = ("pilot-agent", "envoy", "echo-server", "ratelimit", "redis-server")
OWN = ",".join(f"{name}={value}" for name, value in LABELS.items())
"""Selects the lab's own Deployments."""


class DataPlane:
    """The pods of a lab whose control plane runs."""

    def __init__(self, lab: Lab, stack: str, settings: Settings, catalogue: Catalogue) -> None:
        self.lab = lab
        self.stack = stack
        self.settings = settings
        self.catalogue = catalogue
        self.issuers = Issuers(lab.directory.path / "issuers")
        self.certificate = Certificate(lab.directory.path / "public-certificate")
        self.pods = lab.directory.pods

    @classmethod
    def of_stack(cls, lab: Lab, stack: str) -> DataPlane:
        """The data plane of a lab that a stack is deployed to.

        Raises:
            InvalidInput: the stack file is wrong.
        """
        services = catalogue()
        settings = stack_file.load(stack, services)
        return cls(lab, stack, settings, stack_file.adapted(services, settings))

    def resume(self) -> list[str]:
        """Start the kubelet if the cluster still has the lab's own pods; what was started.

        For a control plane whose istiod does not run yet: it fetches the issuers' keys as soon as
        it runs, and may remember a failure for long.
        """
        found = self.lab.kubectl.get("deployments", "--all-namespaces", f"--selector={OWN}")
        return self._start_kubelet() if found["items"] else []

    def start(self) -> list[str]:
        """Start the kubelet and the lab's own pods; what was started.

        Safe to call again: what runs is left alone.
        """
        self.issuers.ensure(self.settings.authentication.issuers)
        self.certificate.ensure((*self.settings.public_hosts, *self.outside_hosts))
        namespaces = self.settings.namespaces
        self.lab.kubectl.apply(
            [
                *(_namespace(name) for name in (namespaces.infra, namespaces.mesh)),
                *objects(self.settings, self.issuers, self.certificate),
            ]
        )
        return self._start_kubelet()

    def _start_kubelet(self) -> list[str]:
        before = self._boots()
        started = self.lab.parts.start(self._kubelet())

        def booted() -> None:
            if self._boots() == before:
                raise NotYet("it has not looked at its pods")

        if started:
            until("the kubelet", booted, within=60, detail=lambda: self.lab.parts.log_tail(KUBELET))
        until("the lab's own pods", self._check_own_ready, within=60, every=0.25)
        return [KUBELET] if started else []

    def _boots(self) -> set[str]:
        """The boot ids of the nodes, which a kubelet sets when no pod of an earlier one counts."""
        return {
            node.get("status", {}).get("nodeInfo", {}).get("bootID", "")
            for node in self.lab.kubectl.get("nodes")["items"]
        }

    def _check_own_ready(self) -> None:
        self._check_ready(f"--selector={OWN}")

    @property
    def outside_hosts(self) -> tuple[str, ...]:
        """Names of hosts outside the mesh that the lab answers for."""
        declared = {host for service in self.catalogue.services for host in service.egress}
        return (*sorted(declared), UNDECLARED_HOST)

    def _kubelet(self) -> Part:
        programs = binaries.ensure(PROGRAMS)
        bootstrap = (
            source("istio", "istio.io/istio") / "tools/packaging/common/envoy_bootstrap.json"
        )
        return Part(
            KUBELET,
            (
                *(sys.executable, "-m", "lab.kubelet"),
                *("--kubeconfig", str(self.lab.node_kubeconfig)),
                *("--directory", str(self.pods), "--address", BRIDGE_ADDRESS),
                *("--bootstrap", str(bootstrap)),
                *(f"--host={name}={INTERNET}" for name in self.outside_hosts),
                *(word for name in PROGRAMS for word in (f"--{name}", str(programs[name]))),
            ),
            inputs=self.lab.certificates.digest,
        )

    @property
    def deployable(self) -> bool:
        """Whether the lab can hold the stack: one that installs istiod needs a cluster without."""
        return self.settings.control_plane.mode == "external"

    def wait_until_ready(self, seconds: float) -> int:
        """Wait until every Deployment of the cluster has all its pods ready; how many those are.

        Raises:
            LabError: it did not within `seconds`; the message names what is missing.
        """
        return until("all pods ready", self._check_ready, within=seconds, every=0.5)

    def _check_ready(self, *selection: str) -> int:
        kubectl = self.lab.kubectl
        pods = kubectl.get("pods", "--all-namespaces")["items"]
        missing, count = [], 0
        for deployment in kubectl.get("deployments", "--all-namespaces", *selection)["items"]:
            ready, wanted = readiness(deployment, pods)
            count += ready
            if ready < wanted:
                metadata = deployment["metadata"]
                missing.append(f"{metadata['namespace']}/{metadata['name']} {ready}/{wanted}")
        if missing:
            raise NotYet(", ".join(missing))
        return count


def readiness(deployment: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many pods of a Deployment's newest version are ready, and how many should be.

    The pods themselves are asked, too: the Deployment's status is a moment behind them, and says
    of pods that ended with their kubelet that they are ready. Those of an older version may be among
    the ready ones, so that as many are taken off.
    """
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    updated = status.get("updatedReplicas", 0)
    older = max(status.get("replicas", 0) - updated, 0)
    selected = deployment["spec"]["selector"]["matchLabels"].items()
    ready = sum(
        pod["metadata"]["namespace"] == deployment["metadata"]["namespace"]
        and selected <= pod["metadata"].get("labels", {}).items()
        and pod_ready(pod)
        for pod in pods
    )
    newest = min(updated, status.get("readyReplicas", 0) - older, ready - older)
    return (max(newest, 0) if current else 0), wanted


def pod_ready(pod: Mapping[str, Any]) -> bool:
    """True for a pod that is ready and stays."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
