"""Second instances of some services, in another zone: where load balancing and retries are tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from components.gateway_workload import GATEWAY
from lab.contracts.access import http_port, request
from lab.contracts.arrangements import applied, patched, until_answered, until_known
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import Request
from lab.kubelet import NODES
from model.access import Catalogue
from model.service import HashOn, Service
from model.values import seconds

NEAR, FAR = "near", "far"
"""In the names of second instances: whether they run in their caller's zone."""
FASTER = 5
"""The times of outlier detection are a fifth of those declared, that nobody waits for minutes."""


# Which services the promises are tried with


def hashed(catalogue: Catalogue) -> Service:
    """One with consistent hashing and no subsets, whose weights would come first."""
    return next(
        one
        for one in catalogue.services
        if isinstance(one.load_balancing, HashOn) and not one.subsets
    )


def simply(catalogue: Catalogue, balancing: str) -> Service:
    """One with that load balancing and no locality preference; the last, so as to be least used."""
    return [
        one
        for one in catalogue.services
        if one.load_balancing == balancing and not one.locality and one.exposed
    ][-1]


def writable(catalogue: Catalogue) -> Service:
    """One with one instance whose writes are repeated; of several the last."""
    return [
        one
        for one in catalogue.services
        if one.load_balancing == "ROUND_ROBIN"
        and one.retries
        and not (one.ai or one.subsets or one.locality)
        and any(route.access == "token" and not route.methods for route in one.routes)
    ][-1]


def preferring(catalogue: Catalogue) -> Service:
    """One with a locality preference."""
    return next(one for one in catalogue.services if one.locality)


def _doubled(catalogue: Catalogue) -> tuple[Service, ...]:
    return (
        hashed(catalogue),
        simply(catalogue, "ROUND_ROBIN"),
        simply(catalogue, "LEAST_REQUEST"),
        preferring(catalogue),
    )


def caller_of(catalogue: Catalogue, callee: Service) -> str:
    """A caller of one instance, where there is such a one."""
    several = {one.name for one in catalogue.services if one.subsets}
    several |= {one.name for one in _doubled(catalogue)}
    callers = catalogue.callers(callee)
    return next((name for name in callers if name not in several), callers[0])


# Two instances of each, in two zones


@contextlib.contextmanager
def two_instances(data_plane: DataPlane) -> Iterator[None]:
    """A second instance of each service, in the other zone; failing ones return sooner.

    Outlier detection has the declared detectors and its times divided by five: the DestinationRule
    that is deployed is patched, so what is not declared in it is not there either.
    """
    services = _doubled(data_plane.catalogue)
    failing = services[:2]
    nodes = _nodes(data_plane)
    copies = [_copy(data_plane, nodes, one) for one in services]
    with contextlib.ExitStack() as stack:
        stack.enter_context(applied(data_plane, copies))
        for one in failing:
            stack.enter_context(_sooner(data_plane, one))
        for one in services:
            until_known(data_plane, caller_of(data_plane.catalogue, one), one.name)
        until_known(data_plane, GATEWAY, hashed(data_plane.catalogue).name)
        yield
    for one in services:
        until_known(data_plane, caller_of(data_plane.catalogue, one), one.name)


def _nodes(data_plane: DataPlane) -> dict[str, str]:
    """Apps and the Node that the first pod of each runs on."""
    pods = data_plane.lab.kubectl.get("pods", f"--namespace={data_plane.settings.namespaces.apps}")
    return {
        pod["metadata"]["labels"].get("app", ""): pod["spec"]["nodeName"] for pod in pods["items"]
    }


def _copy(data_plane: DataPlane, nodes: Mapping[str, str], one: Service) -> dict[str, Any]:
    """A Deployment like the service's own, in the other zone."""
    namespace = data_plane.settings.namespaces.apps
    own = data_plane.lab.kubectl.get(
        "deployments", f"--namespace={namespace}", f"--selector=app={one.name}"
    )
    original = own["items"][0]
    node = next(name for name in NODES if name != nodes[one.name])
    which = NEAR if node == nodes[caller_of(data_plane.catalogue, one)] else FAR
    template = original["spec"]["template"]
    labels = {**template["metadata"]["labels"], "instance": which}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{one.name}-{which}", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {**template["metadata"], "labels": labels},
                "spec": {
                    **template["spec"],
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 2,
                },
            },
        },
    }  # fmt: skip


@contextlib.contextmanager
def _sooner(data_plane: DataPlane, one: Service) -> Iterator[None]:
    namespace = data_plane.settings.namespaces.apps
    rule = data_plane.lab.kubectl.get("destinationrule", one.name, f"--namespace={namespace}")
    declared = rule["spec"].get("trafficPolicy", {}).get("outlierDetection")
    if not declared:
        yield
        return
    times = {name: float(seconds(declared[name])) for name in _ENVOYS if name in declared}
    sooner = {name: time / FASTER for name, time in times.items()}
    changes = {
        "spec": {
            "trafficPolicy": {
                "outlierDetection": {name: f"{time:g}s" for name, time in sooner.items()}
            }
        }
    }
    caller, port = caller_of(data_plane.catalogue, one), http_port(one).number
    path = (
        f"/config_dump?resource=dynamic_active_clusters&name_regex=outbound.{port}..{one.name}\\..*"
    )

    def has(wanted: Mapping[str, float]) -> None:
        lines = [f'"{_ENVOYS[name]}": "{time:g}s"' for name, time in wanted.items()]
        until_answered(
            data_plane, caller, path,
            lambda answer: all(line in answer for line in lines),
            f"{caller}'s proxy has the outlier detection of {one.name}",
        )  # fmt: skip

    with patched(data_plane, "destinationrule", namespace, one.name, changes):
        has(sooner)
        yield
    has(times)


_ENVOYS = {"interval": "interval", "baseEjectionTime": "base_ejection_time"}
"""The times of outlier detection, as a DestinationRule names them and as Envoy does."""


# Calls of them


def inside(facts: Facts, callee: Service, path: str, *headers: tuple[str, str]) -> Request:
    """A service's call of another."""
    asked = request(facts, callee, "service", path)
    return asked.with_headers(*headers)
