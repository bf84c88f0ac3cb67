"""A real Envoy that enforces what a real istiod makes of policies, without pods around it.

istiod is asked over ADS for the inbound listener of each workload, as that workload's proxy would
ask. The filter chains it answers with (normalization, JWT, RBAC, the TLS that they accept) are put
as they are behind listeners on loopback addresses, one address for each workload; only certificates
are given inline and every request that gets through is answered 200 on the spot.
"""

from __future__ import annotations

import functools
import queue
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapStaticResources,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    Node,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.echo.v3 import Echo
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    TlsCertificate,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as ProtobufAny
from envoy_data_plane.google.protobuf import Struct

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
_HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
_TCP_PROXY = "envoy.filters.network.tcp_proxy"


@dataclass(frozen=True)
class Site:
    """Where a workload's listeners are."""

    app: str
    address: str


def inbound(
    xds: str, namespace: str, apps: Iterable[str], last: Iterable[int], within: float = 60
) -> dict[str, Listener]:
    """The inbound listener that istiod makes for a pod of each app.

    istiod answers from a snapshot that is older than the newest objects by its debounce time, so
    it is asked again until the listener has chains for the ports in `last`: those that the object
    created last asks for. What it had before that object is in the snapshot, too.

    Raises:
        TimeoutError: the ports do not come in time.
    """
    names, wanted, deadline = list(apps), set(last), time.monotonic() + within
    while missing := wanted - _ports(_asked(xds, namespace, names[:1])[names[0]]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"istiod made no chains for the ports {sorted(missing)}")
        time.sleep(0.2)
    return _asked(xds, namespace, names)


def _ports(listener: Listener) -> set[int | None]:
    return {
        _port(chain.filter_chain_match)
        for chain in listener.filter_chains
        if chain.filter_chain_match
    }


def _asked(xds: str, namespace: str, names: Sequence[str]) -> dict[str, Listener]:
    channel = grpc.insecure_channel(xds, options=[("grpc.max_receive_message_length", -1)])
    stream: Any = channel.stream_stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        request_serializer=bytes,
    )

    def ask(number: int) -> bytes:
        asked: queue.Queue[DiscoveryRequest | None] = queue.Queue()
        asked.put(_request(namespace, names[number], number))
        call = stream(iter(asked.get, None), timeout=60)
        answer: bytes = next(iter(call))
        asked.put(None)
        call.cancel()
        return answer

    with channel, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(len(names))))
    # Parsed here: the message classes are built on first use, which threads must not race for.
    return {name: _inbound(answer) for name, answer in zip(names, answers, strict=True)}


def _inbound(answer: bytes) -> Listener:
    listeners = (Listener.parse(each.value) for each in DiscoveryResponse.parse(answer).resources)
    return next(each for each in listeners if each.name == "virtualInbound")


def _request(namespace: str, app: str, number: int) -> DiscoveryRequest:
    metadata = {
        "LABELS": {"app": app},
        "NAMESPACE": namespace,
        "CONFIG_NAMESPACE": namespace,
        "INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_VERSION": "1.31.0",
        "CLUSTER_ID": "Kubernetes",
    }
    address = f"10.9.{number // 250}.{number % 250 + 1}"
    node = Node(
        id=f"sidecar~{address}~{app}.{namespace}~{namespace}.svc.cluster.local",
        cluster=app,
        metadata=Struct.from_dict(metadata),
    )
    return DiscoveryRequest(node=node, type_url=LISTENER)


def listeners(
    site: Site, made: Listener, ports: Iterable[int], tls: Mapping[str, str]
) -> list[Any]:
    """istiod's filter chains for the ports, behind listeners at the workload's address."""
    found = []
    for port in ports:
        chains = {
            chain.filter_chain_match.transport_protocol: chain
            for chain in reversed(made.filter_chains)
            if chain.filter_chain_match and _port(chain.filter_chain_match) == port
        }
        assert chains, f"istiod made no chain for port {port} of {site.app}"
        mutual = {"tls": True, "raw_buffer": True, "": "tls" not in chains}
        found.append(
            Listener(
                name=f"{site.app}-{port}",
                address=_address(site.address, port),
                listener_filters=[
                    ListenerFilter(
                        name="envoy.filters.listener.tls_inspector",
                        typed_config=_any("listener.tls_inspector.v3.TlsInspector", TlsInspector()),
                    )
                ],
                filter_chains=[
                    _chain(protocol, chain, tls)
                    for protocol, chain in chains.items()
                    if mutual.get(protocol)
                ],
            )
        )
    return found


def _port(match: FilterChainMatch) -> int | None:
    return match.destination_port


def _chain(protocol: str, chain: FilterChain, tls: Mapping[str, str]) -> FilterChain:
    secured = chain.transport_socket is not None
    return FilterChain(
        name=protocol or "any",
        filter_chain_match=FilterChainMatch(transport_protocol="tls" if secured else "raw_buffer"),
        filters=[_answering(each) for each in chain.filters if not _istios_own(each.name)],
        transport_socket=_mutual_tls(tls) if secured else None,
    )


def _istios_own(name: str) -> bool:
    """Filters that only Istio's build of Envoy has; they count, none of them decides."""
    return name.startswith("istio.")


def _answering(filter_: Filter) -> Filter:
    """The filter as istiod made it; what would go to the application answers at once instead."""
    if filter_.name == _TCP_PROXY:
        return Filter(
            name="envoy.filters.network.echo",
            typed_config=_any("network.echo.v3.Echo", Echo()),
        )
    if filter_.name != _HTTP_MANAGER:
        return filter_
    assert filter_.typed_config is not None
    return Filter(
        name=filter_.name,
        typed_config=ProtobufAny(
            type_url=filter_.typed_config.type_url,
            value=_answering_manager(filter_.typed_config.value),
        ),
    )


@functools.lru_cache(maxsize=4096)
def _answering_manager(made: bytes) -> bytes:
    """The HTTP connection manager with a route that answers; chains of a workload share one."""
    manager = HttpConnectionManager.parse(made)
    manager.stat_prefix = "agreement"
    manager.route_config = RouteConfiguration(
        name="all",
        virtual_hosts=[
            VirtualHost(
                name="all",
                domains=["*"],
                routes=[
                    Route(
                        match=RouteMatch(prefix="/"),
                        direct_response=DirectResponseAction(status=200),
                    )
                ],
            )
        ],
    )
    manager.http_filters = [f for f in manager.http_filters if not _istios_own(f.name)]
    manager.access_log = []
    manager.tracing = None
    return bytes(manager)


def _mutual_tls(tls: Mapping[str, str]) -> TransportSocket:
    context = DownstreamTlsContext(
        require_client_certificate=True,
        common_tls_context=CommonTlsContext(
            tls_certificates=[
                TlsCertificate(
                    certificate_chain=DataSource(filename=tls["certificate"]),
                    private_key=DataSource(filename=tls["key"]),
                )
            ],
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(filename=tls["ca"])
            ),
        ),
    )
    return TransportSocket(
        name="envoy.transport_sockets.tls",
        typed_config=ProtobufAny(
            type_url="type.googleapis.com/"
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            value=bytes(context),
        ),
    )


def _any(name: str, message: Any) -> ProtobufAny:
    return ProtobufAny(
        type_url=f"type.googleapis.com/envoy.extensions.filters.{name}", value=bytes(message)
    )


def _address(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))


@contextmanager
def running(envoy: str, directory: Path, made: list[Listener], admin_port: int) -> Iterator[None]:
    """Envoy with the listeners; left when it has stopped.

    Raises:
        RuntimeError: Envoy ends or is not ready within 60 s; with the last lines of its log.
    """
    bootstrap = Bootstrap(
        node=Node(id="agreement", cluster="agreement"),
        admin=Admin(address=_address("127.0.0.1", admin_port)),
        static_resources=BootstrapStaticResources(listeners=made),
    )
    file, log = directory / "bootstrap.pb", directory / "envoy.log"
    file.write_bytes(bytes(bootstrap))
    command = [envoy, "--config-path", str(file), "--disable-hot-restart", "--concurrency", "1"]
    command += ["--log-level", "error"]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait(process, f"http://127.0.0.1:{admin_port}/ready", log)
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("Envoy is not ready:\n" + "\n".join(log.read_text().splitlines()[-15:]))
