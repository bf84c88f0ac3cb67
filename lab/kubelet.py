"""The lab's kubelet and scheduler: `python -m lab.kubelet --kubeconfig FILE …`, inside the node.

It knows Pods, Services and EndpointSlices, nothing of routes or policies. Two Node objects stand
for the one node, in two zones, so that locality can be seen; pods of one owner go to them in turn.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.core_v1 import (
    Node,
    NodeAddress,
    NodeCondition,
    NodeStatus,
    NodeSystemInfo,
    ObjectReference,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Namespace, PodBinding, Service
from lightkube.resources.core_v1 import Node as CoreNode
from lightkube.resources.core_v1 import Pod as CorePod
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.types import PatchType

from lab import images, network
from lab.names import HostsFiles
from lab.node.init import HOSTS
from lab.pod import Pod, PodHost
from lab.service_proxy import ServiceProxy, unpublished

Object = Mapping[str, Any]

NODES = {"lab-a": "a", "lab-b": "b"}
"""Node objects by name, with their zones; the region is `lab`."""
_VERSION = "v1.37.2"
_HEARTBEAT = 10.0
_log = logging.getLogger("kubelet")


class Kubelet:
    """Runs all pods of the lab."""

    def __init__(self, client: Client, host: PodHost, names: HostsFiles) -> None:
        self._client = client
        self._host = host
        self._pods: dict[str, Pod] = {}
        self._bound: dict[str, int] = {}
        self._services: dict[str, Object] = {}
        self._slices: dict[str, Object] = {}
        self._proxy = ServiceProxy()
        self._names = names
        self._network_lock = threading.Lock()
        self._boot = str(uuid.uuid4())

    def run(self) -> None:
        """Run until killed."""
        self._disown()
        self._heartbeat()
        watches: list[tuple[Any, Callable[[dict[str, Object]], None]]] = [
            (Service, self._services_changed),
            (EndpointSlice, self._slices_changed),
            (CorePod, self._pods_changed),
        ]
        for kind, changed in watches:
            threading.Thread(target=self._watch, args=(kind, changed), daemon=True).start()
        while True:
            time.sleep(_HEARTBEAT)
            try:
                self._heartbeat()
            except (ApiError, httpx2.HTTPError) as error:
                _log.warning("no heartbeat: %s", error)

    def _disown(self) -> None:
        """Say of pods that an earlier kubelet called ready that they are not: they ended with it.

        Afterwards the Node objects carry this kubelet's boot id, so that others can wait for it.
        """
        conditions = [{"type": kind, "status": "False"} for kind in ("ContainersReady", "Ready")]
        for pod in self._client.list(CorePod, namespace="*"):
            metadata = pod.metadata
            assert metadata
            assert metadata.name
            if pod.spec is None or pod.spec.nodeName not in NODES:
                continue
            try:
                self._client.patch(
                    CorePod.Status,
                    metadata.name,
                    {"status": {"conditions": conditions}},
                    namespace=metadata.namespace,
                    patch_type=PatchType.STRATEGIC,
                )
            except ApiError as error:
                if error.status.code != 404:
                    raise

    def _watch(self, kind: Any, changed: Callable[[dict[str, Object]], None]) -> None:
        """Call `changed` with all objects of a kind after every change, for ever."""
        while True:
            try:
                self._watch_once(kind, changed)
            except (ApiError, httpx2.HTTPError) as error:
                _log.warning("watch of %s: %s; listing again", kind.__name__, error)
                time.sleep(0.5)
            except Exception:
                _log.exception("watch of %s", kind.__name__)
                time.sleep(0.5)

    def _watch_once(self, kind: Any, changed: Callable[[dict[str, Object]], None]) -> None:
        listed = self._client.list(kind, namespace="*")
        known = {found.metadata.uid: found.to_dict() for found in listed}
        changed(known)
        version = listed.resourceVersion
        for event, found in self._client.watch(kind, namespace="*", resource_version=version):
            if event == "DELETED":
                known.pop(found.metadata.uid, None)
            else:
                known[found.metadata.uid] = found.to_dict()
            changed(known)

    def _services_changed(self, known: dict[str, Object]) -> None:
        with self._network_lock:
            self._services = dict(known)
            self._names.update(self._services.values(), self._slices.values())
            self._proxy.update(self._services.values(), self._slices.values())
        for service, address in unpublished(known.values()):
            self._publish(service["metadata"], address)

    def _publish(self, metadata: Object, address: str) -> None:
        """Say where a load balancer is: clients, Helm and the Pulumi engine wait for it."""
        try:
            self._client.patch(
                Service.Status,
                metadata["name"],
                {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}},
                namespace=metadata["namespace"],
                patch_type=PatchType.MERGE,
            )
        except ApiError as error:
            if error.status.code != 404:
                raise

    def _slices_changed(self, known: dict[str, Object]) -> None:
        with self._network_lock:
            self._slices = dict(known)
            self._names.update(self._services.values(), self._slices.values())
            self._proxy.update(self._services.values(), self._slices.values())

    def _pods_changed(self, known: dict[str, Object]) -> None:
        for uid, pod in known.items():
            metadata, spec = pod["metadata"], pod["spec"]
            running = self._pods.get(uid)
            if metadata.get("deletionTimestamp"):
                if running:
                    running.delete(metadata.get("deletionGracePeriodSeconds"))
                elif spec.get("nodeName") in NODES:
                    self._forget(pod)
            elif not spec.get("nodeName"):
                self._bind(pod)
            elif spec["nodeName"] in NODES and running is None:
                self._pods[uid] = Pod(self._host, pod)
                self._pods[uid].start()
        for uid in [uid for uid in self._pods if uid not in known]:
            self._pods.pop(uid).delete(0)

    def _bind(self, pod: Object) -> None:
        metadata = pod["metadata"]
        owner = next(
            (found["uid"] for found in metadata.get("ownerReferences") or ()), metadata["uid"]
        )
        wanted = (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/hostname")
        turn = self._bound.get(owner, 0)
        node = wanted if wanted in NODES else list(NODES)[turn % len(NODES)]
        try:
            self._client.create(
                PodBinding(
                    metadata=ObjectMeta(name=metadata["name"]),
                    target=ObjectReference(apiVersion="v1", kind="Node", name=node),
                ),
                metadata["name"],
                namespace=metadata["namespace"],
            )
        except msgspec.ValidationError:
            # Bound: the server answers with a Status, which lightkube tries to read as a Binding.
            self._bound[owner] = turn + 1
        except ApiError as error:
            if error.status.code not in (404, 409):
                raise

    def _forget(self, pod: Object) -> None:
        """Remove a pod that an earlier kubelet left behind and nothing runs any more."""
        metadata = pod["metadata"]
        try:
            self._client.delete(
                CorePod, metadata["name"], namespace=metadata["namespace"], grace_period=0
            )
        except ApiError as error:
            if error.status.code != 404:
                raise

    def _heartbeat(self) -> None:
        """Keep the Node objects, their Ready conditions and their leases."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            self._client.create(Namespace(metadata=ObjectMeta(name="kube-node-lease")))
        except ApiError as error:
            if error.status.code != 409:
                raise
        for name, zone in NODES.items():
            labels = {
                "kubernetes.io/hostname": name,
                "topology.kubernetes.io/region": "lab",
                "topology.kubernetes.io/zone": zone,
            }
            node = CoreNode(
                apiVersion="v1", kind="Node", metadata=ObjectMeta(name=name, labels=labels)
            )
            self._client.apply(node, field_manager="lab-kubelet", force=True)
            self._client.patch(
                CoreNode.Status,
                name,
                Node(status=self._status(now)).to_dict(),
                patch_type=PatchType.STRATEGIC,
            )
            lease = Lease(
                apiVersion="coordination.k8s.io/v1",
                kind="Lease",
                metadata=ObjectMeta(name=name, namespace="kube-node-lease"),
                spec=LeaseSpec(
                    holderIdentity=name,
                    leaseDurationSeconds=40,
                    renewTime=now.replace("Z", ".000000Z"),  # type: ignore[arg-type]
                ),
            )
            self._client.apply(lease, field_manager="lab-kubelet", force=True)

    def _status(self, now: str) -> NodeStatus:
        return NodeStatus(
            addresses=[NodeAddress(type="InternalIP", address=self._host.address)],
            capacity={"cpu": "64", "memory": "256Gi", "pods": "250"},
            allocatable={"cpu": "64", "memory": "256Gi", "pods": "250"},
            conditions=[
                NodeCondition(
                    type="Ready",
                    status="True",
                    reason="LabKubelet",
                    lastHeartbeatTime=now,  # type: ignore[arg-type]
                )
            ],
            nodeInfo=NodeSystemInfo(
                architecture="amd64", bootID=self._boot, containerRuntimeVersion="lab://1",
                kernelVersion="", kubeProxyVersion=_VERSION, kubeletVersion=_VERSION,
                machineID="", operatingSystem="linux", osImage="lab", systemUUID="",
            ),
        )  # fmt: skip


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="where pods are kept")
    parser.add_argument("--address", required=True, help="the node's address")
    parser.add_argument("--host", action="append", default=[], help="NAME=ADDRESS, a name outside")
    for name in images.Binaries.__dataclass_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    binaries = images.Binaries(
        **{name: getattr(given, name) for name in images.Binaries.__dataclass_fields__}
    )
    directory: Path = given.directory.absolute()
    # Pods end with their kubelet; what an earlier one recorded must not be taken for running.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "resolv.conf").write_text("# names are in /etc/hosts\noptions attempts:1\n")
    outside = "".join(
        f"{address} {name}\n" for name, _, address in (item.partition("=") for item in given.host)
    )
    names = HostsFiles(directory / "hosts", HOSTS + outside)
    client = Client(KubeConfig.from_file(str(given.kubeconfig)).get(), lazy=False)
    network.prepare_node()
    host = PodHost(
        client=client,
        address=given.address,
        directory=directory,
        images=images.table(binaries),
        addresses=network.Addresses(network.POD_NETWORK),
        hosts=names.of,
        say=_log.info,
        interface_number=itertools.count(1).__next__,
    )
    kubelet = Kubelet(client, host, names)
    kubelet.run()


if __name__ == "__main__":
    main()
