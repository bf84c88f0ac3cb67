"""The safe contracts against a cluster that is not the lab: through its public address, reading.

Of safe contracts those calls are sent that only read, as a client outside without a token: no issuer
gives one to a test. What they try may be broken there, so no call may do harm where it is let through.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from components.gateway_workload import GATEWAY
from lab.client import perform
from lab.contracts.contract import Call, Contract
from lab.contracts.runner import Outcome, judged, sent
from lab.errors import LabError
from lab.exchange import Reply, Request

_REACHED_SECONDS = 10.0
_MOST_CALLS = 50
_AGENT = "voicemesh-verify"
_READING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110, safe methods)."""


def safe(contracts: Sequence[Contract]) -> list[Contract]:
    """What of the safe contracts a live cluster may be asked; those of which nothing is left are not
    among them."""
    few = [_few(contract) for contract in contracts if contract.safe]
    return [contract for contract in few if contract.calls]


def _few(contract: Contract) -> Contract:
    """The contract with the calls that only read, and so few of them that no flood limit minds,
    taken evenly from all; with none where all answers would have to be judged together."""
    calls = [found for call in contract.calls if (found := _reading(call))]
    every = max(-(-len(calls) // _MOST_CALLS), 1)
    few = tuple(calls[::every])
    return replace(contract, calls=() if contract.judge and len(few) < len(contract.calls) else few)


def _reading(call: Call) -> Call | None:
    """A call that can't write even where nobody refuses it; None where it could.

    A WebSocket is opened and closed again without a message. gRPC calls are POSTs, and only the
    service knows what one does.
    """
    request = call.request
    if request.kind == "websocket":
        return replace(call, request=replace(request, messages=()))
    plain = request.kind == "http" and not (request.body or request.body_size or request.messages)
    return call if plain and request.method in _READING else None


@dataclass(frozen=True)
class Gateway:
    """Where a live gateway is."""

    address: str
    """Name or IP."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Other ports than the public ones, as a port-forward has them, by the public one."""

    def at(self, port: int) -> str:
        """Where a public port is: `HOST:PORT`."""
        return f"{self.address}:{self.ports.get(port, port)}"


def run(
    contracts: Sequence[Contract],
    gateway: Gateway,
    began: Callable[[Contract], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Run contracts against a gateway."""
    for contract in contracts:
        began(contract)
        yield judged(contract, sent(contract, lambda calls: asyncio.run(_send(calls, gateway))))


def answering(gateway: Gateway, host: str, ca: str) -> None:
    """See that there is a gateway that serves `host` with a certificate that `ca` has signed.

    Raises:
        LabError: there is not, and every contract would fail for that alone.
    """
    where = gateway.at(443)
    name, _, port = where.rpartition(":")
    try:
        with (
            socket.create_connection((name, int(port)), timeout=_REACHED_SECONDS) as connection,
            ssl.create_default_context(cafile=ca or None).wrap_socket(
                connection, server_hostname=host
            ),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise LabError(
            f"{where} does not prove to be {host}: {error.verify_message}; is it the stack's"
            " gateway? The CA to trust is given by --ca"
        ) from None
    except ssl.SSLError as error:
        raise LabError(f"{where} does not speak TLS as {host}: {error.reason}") from None
    except OSError as error:
        raise LabError(f"{where} can't be reached: {error}") from None


def public_address(context: str, namespace: str) -> str:
    """The address of the gateway's Service in the cluster of a kubeconfig context.

    Raises:
        LabError: there is no such context, cluster, Service, or address.
    """
    from lightkube import ApiError, Client, KubeConfig
    from lightkube.core.exceptions import ConfigError
    from lightkube.resources.core_v1 import Service

    try:
        found = KubeConfig.from_env()
        if found is None or context not in found.contexts:
            known = ", ".join(sorted(found.contexts)) if found else ""
            raise LabError(f"no context {context!r} in the kubeconfig; it has {known or 'none'}")
        client = Client(found.get(context))
        service = client.get(Service, GATEWAY, namespace=namespace)
    except ConfigError as error:
        raise LabError(f"context {context}: {error}") from None
    except ApiError as error:
        raise LabError(f"context {context}: {error.status.message}") from None
    except httpx.TransportError as error:
        raise LabError(f"context {context}: the API server can't be reached: {error}") from None
    balancer = service.status.loadBalancer if service.status else None
    for entry in (balancer.ingress if balancer else None) or []:
        if address := entry.hostname or entry.ip:
            return address
    raise LabError(
        f"context {context}: Service {namespace}/{GATEWAY} has no public address yet; give one"
        " by --address"
    )


async def _send(calls: Sequence[Call], gateway: Gateway) -> list[Reply]:
    gate = asyncio.Semaphore(4)  # a live gateway has other clients

    async def one(request: Request) -> Reply:
        async with gate:
            return await perform(request)

    return list(await asyncio.gather(*(one(_placed(call.request, gateway)) for call in calls)))


def _placed(request: Request, gateway: Gateway) -> Request:
    port = int(request.address.rpartition(":")[2])
    # A client's own X-Forwarded-For is for the lab, where the test stands for the load balancer.
    headers = tuple(item for item in request.headers if item[0].lower() != "x-forwarded-for")
    if "user-agent" not in {name.lower() for name, _ in headers}:
        headers = (*headers, ("user-agent", _AGENT))
    return replace(request, address=gateway.at(port), headers=headers)


def authorities() -> str:
    """The file with the CAs that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    usual = Path("/etc/ssl/certs/ca-certificates.crt")
    return paths.cafile or (str(usual) if usual.exists() else "")
