"""The Gateway objects: which hosts the ingress gateway serves, on which ports, with which TLS.

Source: https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from components.component import ComponentArgs, MeshComponent
from components.gateway_workload import EAST_WEST_PORT, GATEWAY_SELECTOR, HTTP_PORT, HTTPS_PORT
from components.istio.gateway import Gateway as GatewayObject
from components.istio.gateway import GatewaySpec, Port, Server, ServerTLSSettings
from components.objects import Manifest, labelled
from components.wire import ObjectMeta
from model.settings import Namespaces, Tls

PUBLIC, EAST_WEST = "public", "east-west"
"""Names of the two Gateway objects."""
_HOST_PORTS = ("api", "ws", "grpc")


class GatewayArgs(ComponentArgs):
    """Arguments of `Gateways`."""

    namespaces: Namespaces
    public_hosts: tuple[str, str, str]
    """Hosts for HTTP, WebSocket and gRPC, in this order."""
    tls: Tls
    east_west: bool


class Gateways(MeshComponent[GatewayArgs]):
    """The public entry, and the one for workloads that have a certificate of the mesh."""

    token = "voicemesh:istio:Gateways"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: GatewayArgs) -> tuple[Manifest, ...]:
        """One Gateway, or two where the east-west entry is on."""
        gateways = [_public(args)]
        if args.east_west:
            gateways.append(_east_west(args))
        return labelled(args.stack, "gateway", gateways)


def bound(namespaces: Namespaces, *, east_west: bool) -> list[str]:
    """The gateways that a public VirtualService binds to."""
    names = (PUBLIC, EAST_WEST) if east_west else (PUBLIC,)
    return [f"{namespaces.mesh}/{name}" for name in names]


def _public(args: GatewayArgs) -> Manifest:
    """Plain HTTP, only to be redirected, then one HTTPS server for each host.

    A server for each host gives each its own route configuration, so that limits meant for one
    can't reach another's.
    """
    redirect = Server(
        name="http-redirect",
        port=Port(number=HTTP_PORT, name="http-redirect", protocol="HTTP"),
        hosts=_hosts(args),
        tls=ServerTLSSettings(https_redirect=True),
    )
    secure = [
        Server(
            name=f"https-{name}",
            port=Port(number=HTTPS_PORT, name=f"https-{name}", protocol="HTTPS"),
            hosts=[f"{args.namespaces.apps}/{host}"],
            tls=ServerTLSSettings(
                mode="SIMPLE",
                credential_name=args.tls.credential_name,
                min_protocol_version=args.tls.min_version,
                max_protocol_version=args.tls.max_version,
                cipher_suites=list(args.tls.cipher_suites),
            ),
        )
        for name, host in zip(_HOST_PORTS, args.public_hosts, strict=True)
    ]
    return _gateway(args, PUBLIC, [redirect, *secure])


def _east_west(args: GatewayArgs) -> Manifest:
    return _gateway(
        args,
        EAST_WEST,
        [
            Server(
                name="east-west",
                port=Port(number=EAST_WEST_PORT, name="https-east-west", protocol="HTTPS"),
                hosts=_hosts(args),
                tls=ServerTLSSettings(mode="ISTIO_MUTUAL"),
            )
        ],
    )


def _hosts(args: GatewayArgs) -> list[str]:
    """The public hosts; only VirtualServices of the apps namespace may claim them."""
    return [f"{args.namespaces.apps}/{host}" for host in args.public_hosts]


def _gateway(args: GatewayArgs, name: str, servers: list[Server]) -> Manifest:
    return GatewayObject(
        metadata=ObjectMeta(name=name, namespace=args.namespaces.mesh),
        spec=GatewaySpec(selector=GATEWAY_SELECTOR, servers=servers),
    ).manifest()
