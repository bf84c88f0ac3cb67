"""States of the mesh in which contracts are tried: how they are reached, and left again."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lab import proxy_admin
from lab.control_plane import kubernetes
from lab.data_plane import DataPlane, pod_ready
from lab.errors import LabError
from lab.infrastructure import IMAGE
from lab.pod import recorded
from lab.waiting import NotYet, until

Record = Mapping[str, Any]
"""A pod as the kubelet has written it down: names, labels, address, process ids."""
READY_SECONDS = 120.0
"""Within this everything is ready again after whatever was done to it."""
KNOWN_SECONDS = 30.0
"""Within this proxies have heard of a change; mostly they have within one or two."""
DRAINED_SECONDS = 75.0
"""Within this proxies are done with listeners that were replaced, Istio's own 45 seconds included."""
PROXY = "istio-proxy"


# Deployments


@contextmanager
def scaled(data_plane: DataPlane, namespace: str, name: str, replicas: int) -> Iterator[None]:
    """A Deployment with another number of pods: all of them ready, and none too many."""
    before = _deployment(data_plane, namespace, name)["spec"]["replicas"]
    try:
        scale(data_plane, namespace, name, replicas)
        yield
    finally:
        scale(data_plane, namespace, name, before)


def scale(data_plane: DataPlane, namespace: str, name: str, replicas: int) -> None:
    """Give a Deployment that many pods, and wait until it has them and no others."""
    data_plane.lab.kubectl.run(
        "scale", "deployment", name, f"--namespace={namespace}", f"--replicas={replicas}"
    )
    settled(data_plane, namespace, name)


def settled(data_plane: DataPlane, namespace: str, name: str) -> None:
    """Wait until a Deployment has all its pods, all ready, and no old ones are left."""

    def check() -> None:
        deployment = _deployment(data_plane, namespace, name)
        wanted = deployment["spec"]["replicas"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        found = data_plane.lab.kubectl.get(
            "pods", f"--namespace={namespace}", f"--selector={labels}"
        )["items"]
        ready = [pod for pod in found if pod_ready(pod)]
        if not len(ready) == len(found) == wanted:
            raise NotYet(f"{len(ready)} of {len(found)} pods are ready, {wanted} must be")

    until(f"pods of {namespace}/{name}", check, within=READY_SECONDS, every=0.3)


def all_ready(data_plane: DataPlane) -> None:
    """Wait until every Deployment has all its pods ready."""
    data_plane.wait_until_ready(READY_SECONDS)


def _deployment(data_plane: DataPlane, namespace: str, name: str) -> dict[str, Any]:
    return data_plane.lab.kubectl.get("deployment", name, f"--namespace={namespace}")


# Pods and their processes


def pods(data_plane: DataPlane, **labels: str) -> list[Record]:
    """The running pods with these labels.

    Raises:
        LabError: there is none.
    """
    found: list[Record] = [
        record
        for record in recorded(data_plane.pods)
        if all(record["labels"].get(key) == value for key, value in labels.items())
    ]
    if not found:
        raise LabError(f"no pod with labels {labels} runs")
    return found


def send_signal(data_plane: DataPlane, pod: Record, container: str, number: int) -> None:
    """Send a signal to the first process of a pod's container."""
    data_plane.lab.node.run("kill", f"-{number}", str(pod["containers"][container]["pid"]))


def kill(data_plane: DataPlane, pod: Record, container: str) -> None:
    """End a container at once, all its processes; the kubelet starts it again."""
    send_signal(data_plane, pod, container, signal.SIGKILL)


def kill_pod(data_plane: DataPlane, pod: Record) -> None:
    """End a pod at once and for ever, without the time to finish that a deleted one has."""
    data_plane.lab.kubectl.run(
        *("delete", "pod", pod["name"], f"--namespace={pod['namespace']}"),
        *("--grace-period=0", "--force", "--wait=false"),
    )


@contextmanager
def stopped(data_plane: DataPlane, pod: Record, container: str) -> Iterator[None]:
    """A container whose first process runs no further, though its connections stay open."""
    send_signal(data_plane, pod, container, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(data_plane, pod, container, signal.SIGCONT)


# The control plane


@contextmanager
def without_istiod(data_plane: DataPlane) -> Iterator[None]:
    """istiod killed, and started again at the end; then every proxy is connected to it again."""
    try:
        with data_plane.lab.parts.without("istiod"):
            yield
    finally:
        istiod_ready(data_plane)


def istiod_ready(data_plane: DataPlane) -> None:
    """Wait until istiod serves and every proxy has what it wants of it."""
    directory = data_plane.lab.directory

    def check() -> None:
        kubernetes.ready("http://istiod/ready", directory.socket("istiod"))
        told = kubernetes.ready("http://istiod/debug/syncz", directory.socket("istiod-monitoring"))
        synced = {str(one["proxy"]).split(".")[0] for one in json.loads(told) if _synced(one)}
        missing = [
            str(record["name"])
            for record in recorded(data_plane.pods)
            if PROXY in record["containers"] and record["name"] not in synced
        ]
        if missing:
            raise NotYet(f"not yet connected: {', '.join(missing)}")

    until(
        "istiod and all proxies", check, within=READY_SECONDS, every=0.3,
        detail=lambda: data_plane.lab.parts.log_tail("istiod"),
    )  # fmt: skip


def _synced(proxy: Mapping[str, Any]) -> bool:
    return all(
        proxy.get(f"{kind}_sent") == proxy.get(f"{kind}_acked")
        for kind in ("cluster", "listener", "endpoint")
    )


# Objects, and what proxies make of them


@contextmanager
def applied(data_plane: DataPlane, objects: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Further objects in the cluster, their Deployments ready; afterwards gone, pods included."""
    kubectl = data_plane.lab.kubectl
    try:
        kubectl.apply(objects)
        all_ready(data_plane)
        yield
    finally:
        text = "\n".join(json.dumps(one) for one in objects)
        gone = ("--ignore-not-found=true", "--cascade=foreground", "--timeout=90s")
        kubectl.run("delete", "--filename=-", *gone, stdin=text, timeout=100)
        all_ready(data_plane)


@contextmanager
def patched(
    data_plane: DataPlane, kind: str, namespace: str, name: str, changes: Mapping[str, Any]
) -> Iterator[None]:
    """An object with other values at some paths (a merge patch); afterwards with the old ones.

    What the change means for pods is not waited for.
    """
    kubectl = data_plane.lab.kubectl
    before = _values(kubectl.get(kind, name, f"--namespace={namespace}"), changes)

    def patch(values: Mapping[str, Any]) -> None:
        kubectl.run(
            *("patch", kind, name, f"--namespace={namespace}", "--type=merge"),
            f"--patch={json.dumps(values)}",
        )

    try:
        patch(changes)
        yield
    finally:
        patch(before)


def _values(one: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What an object has where `changes` has something; None where it has nothing."""
    return {
        key: _values(one.get(key) or {}, value) if isinstance(value, Mapping) else one.get(key)
        for key, value in changes.items()
    }


def until_known(data_plane: DataPlane, caller: str, service: str) -> None:
    """Wait until a caller's proxies send requests to the pods that a service has now, and to no
    others."""

    def check() -> None:
        there = {
            record["address"] for record in recorded(data_plane.pods)
            if record["labels"].get("app") == service
        }  # fmt: skip
        for known in proxy_admin.endpoints(data_plane, caller, service):
            if known != there:
                raise NotYet(f"{caller} knows {sorted(known)}, there are {sorted(there)}")

    until(f"proxies know the instances of {service}", check, within=KNOWN_SECONDS, every=0.3)


def until_answered(
    data_plane: DataPlane,
    app: str,
    path: str,
    wanted: Callable[[str], bool],
    what: str,
    within: float = KNOWN_SECONDS,
) -> None:
    """Wait until the admin interfaces of an app's proxies answer a GET of `path` as wanted."""

    def check() -> None:
        answers = list(proxy_admin.answers(data_plane, app, path))
        if not all(wanted(answer) for answer in answers):
            raise NotYet(f"{app} has it otherwise")

    until(what, check, within=within, every=0.3)


def until_in_force(
    data_plane: DataPlane, app: str, wanted: Callable[[str], bool], what: str
) -> None:
    """Wait until an app's proxies have listeners as wanted, and no connection of those before.

    Args:
        wanted: says of a proxy's active listeners, as JSON, whether they are right.
    """

    def right(answer: str) -> bool:
        listeners = json.loads(answer).get("configs", ())
        active = [one["active_state"] for one in listeners if "active_state" in one]
        return not any("warming_state" in one for one in listeners) and wanted(json.dumps(active))

    until_answered(
        data_plane,
        app,
        "/config_dump?resource=dynamic_listeners",
        right,
        what,
    )
    until_drained(data_plane, app)


def until_drained(data_plane: DataPlane, app: str) -> None:
    """Wait until an app's proxies have cut what was left of listeners that were replaced.

    Else a contract would lose connections that began before it.
    """
    until_answered(
        data_plane,
        app,
        "/stats?filter=listener_manager.total_.*_draining",
        lambda answer: all(line.endswith(": 0") for line in answer.splitlines() if line),
        f"{app} has no connection of an earlier listener",
        within=DRAINED_SECONDS,
    )


# Programs in the place of others


@contextmanager
def instead(
    data_plane: DataPlane,
    namespace: str,
    names: Sequence[str],
    program: str,
    image: str = IMAGE,
) -> Iterator[None]:
    """Deployments whose pods run one of the lab's programs, with the arguments they have.

    Everything else stays: labels, account, ports, probes and what injection adds.
    """

    def all_settled() -> None:
        for name in names:
            settled(data_plane, namespace, name)

    try:
        with ExitStack() as patches:
            for name in names:
                before = _deployment(data_plane, namespace, name)["spec"]["template"]["spec"]
                other = [
                    {**one, "image": image, "args": [program, *(one.get("args") or ())]}
                    for one in before["containers"]
                ]
                changes = {"spec": {"template": {"spec": {"containers": other}}}}
                patches.enter_context(patched(data_plane, "deployment", namespace, name, changes))
            all_settled()
            yield
    finally:
        all_settled()
