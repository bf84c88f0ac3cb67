"""What istiod pushes to a proxy of Istio's own build: asked for as such a proxy would ask.

The lab's proxies are upstream Envoy, and the lab keeps from them the one filter that they don't
have (see `lab.infrastructure.without_istio_stats`). A proxy that names its version gets it.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import grpc

from lab.control_plane import kubernetes
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.waiting import NotYet

Config = Mapping[str, Any]
_VERSION = "1.31.1"
_ADDRESS = "192.0.2.77"
"""Of no pod (RFC 5737)."""
_STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
_SECONDS = 20.0


def listeners(
    data_plane: DataPlane,
    role: Literal["sidecar", "router"],
    namespace: str,
    labels: Mapping[str, str],
) -> list[Config]:
    """The listeners of a proxy with these labels, as Envoy's JSON.

    Raises:
        LabError: istiod does not answer.
    """
    name = f"{labels['app']}-asked-for"
    directory = data_plane.lab.directory
    channel = grpc.insecure_channel(
        f"unix:{directory.socket('istiod-xds')}", options=[("grpc.max_receive_message_length", -1)]
    )
    with channel:
        stream: Any = channel.stream_stream(_STREAM, request_serializer=bytes)
        asked: queue.Queue[object] = queue.Queue()
        asked.put(_request(data_plane, f"{role}~{_ADDRESS}~{name}", namespace, labels))
        call = stream(iter(asked.get, None), timeout=_SECONDS)
        try:
            next(iter(call))
            # istiod writes configuration of connected proxies as JSON, its own messages included.
            told = kubernetes.ready(
                f"http://istiod/debug/config_dump?proxyID={name}.{namespace}",
                directory.socket("istiod-monitoring"),
            )
        except (grpc.RpcError, NotYet) as error:
            raise LabError(f"istiod does not say what it pushes to {name}: {error}") from None
        finally:
            asked.put(None)
            call.cancel()
    return [
        one["activeState"]["listener"]
        for part in json.loads(told)["configs"]
        for one in part.get("dynamicListeners", ())
    ]


def _request(
    data_plane: DataPlane, identity: str, namespace: str, labels: Mapping[str, str]
) -> object:
    # Imported late: building the message classes takes a second.
    from envoy_data_plane.envoy.config.core.v3 import Node
    from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest
    from envoy_data_plane.google.protobuf import Struct

    metadata = {
        "LABELS": dict(labels),
        "NAMESPACE": namespace,
        "ISTIO_VERSION": _VERSION,
        "CLUSTER_ID": data_plane.settings.control_plane.cluster,
    }
    node = Node(
        id=f"{identity}.{namespace}~{namespace}.svc.cluster.local",
        metadata=Struct.from_dict(metadata),
    )
    return DiscoveryRequest(node=node, type_url=_LISTENER)


def stats(found: list[Config], direction: Literal["INBOUND", "OUTBOUND"]) -> Iterator[Config]:
    """The configuration of each filter `istio.stats` for HTTP, in listeners of that direction."""
    for listener in found:
        if listener.get("trafficDirection") != direction:
            continue
        chains = [*listener.get("filterChains", ()), listener.get("defaultFilterChain") or {}]
        for network in (one for chain in chains for one in chain.get("filters", ())):
            for http in network.get("typedConfig", {}).get("httpFilters", ()):
                if http["name"] == "istio.stats":
                    yield http["typedConfig"]
