"""API server and istiod of a lab of its own, and policies put into it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from lightkube import Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from lab.control_plane.istio import PLAIN_XDS_PORT
from lab.lab import Lab

MESH_CONFIG = {"pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"}}
SETTLED = 30.0
"""Seconds within which istiod has seen every object."""

_RESOURCES = {
    "AuthorizationPolicy": ("security.istio.io", "v1", "authorizationpolicies"),
    "RequestAuthentication": ("security.istio.io", "v1", "requestauthentications"),
    "PeerAuthentication": ("security.istio.io", "v1", "peerauthentications"),
    "Sidecar": ("networking.istio.io", "v1", "sidecars"),
}


@dataclass(frozen=True)
class PolicyControlPlane:
    """Where policies go, and where proxies ask."""

    client: Client
    istiod: Path
    """Unix socket of istiod's debug interface."""
    xds: str

    def make(self, namespace: str) -> None:
        """Creates the namespace."""
        self.client.create(Namespace(metadata=ObjectMeta(name=namespace)))

    def apply(self, namespace: str, objects: Iterable[Mapping[str, Any]]) -> None:
        """Creates the objects, through istiod's webhook, and waits until istiod has them all.

        What istiod has it puts into configuration a moment later; see `proxy.inbound`.

        Raises:
            lightkube.ApiError: an object is refused.
            TimeoutError: istiod does not know all of them in time.
        """
        objects = list(objects)
        kinds = {
            kind: create_namespaced_resource(group, version, kind, plural)
            for kind, (group, version, plural) in _RESOURCES.items()
        }
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda o: self.client.create(kinds[o["kind"]](o)), objects))
        wanted = {(o["kind"], o["metadata"]["name"]) for o in objects}
        deadline = time.monotonic() + SETTLED
        while missing := wanted - self._known(namespace):
            if time.monotonic() > deadline:
                raise TimeoutError(f"istiod does not know {len(missing)} objects: {min(missing)}")
            time.sleep(0.5)

    def _known(self, namespace: str) -> set[tuple[str, str]]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.istiod)), timeout=30) as http:
            found = http.get("http://istiod/debug/configz").raise_for_status().json()
        return {
            (item["kind"], item["metadata"]["name"])
            for item in found
            if item["metadata"].get("namespace") == namespace
        }


@contextmanager
def policy_control_plane(directory: Path) -> Iterator[PolicyControlPlane]:
    """A lab without data plane, stopped and gone afterwards."""
    lab = Lab(directory)
    try:
        lab.start(MESH_CONFIG)
        ports = lab.exposure.expose("agreement", {"xds": f"127.0.0.1:{PLAIN_XDS_PORT}"})
        yield PolicyControlPlane(
            client=Client(config=KubeConfig.from_file(str(lab.kubeconfig))),
            istiod=lab.directory.socket("istiod"),
            xds=f"127.0.0.1:{ports['xds']}",
        )
    finally:
        lab.stop()
