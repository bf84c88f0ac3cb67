"""Who may call whom: every ordered pair of services, the gateway, strangers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from components.gateway_workload import GATEWAY
from lab.contracts.contract import (
    DENIED,
    PLAIN,
    REFUSED,
    Call,
    Caller,
    Contract,
    Expect,
)
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.exchange import Request
from model.service import Port, Service

DOCUMENT = "security.md"
ECHO = "/proto.EchoTestService/Echo"
"""A gRPC method that the echo server has."""
UNKNOWN = "/proto.EchoTestService/None"
"""One that it does not have."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ECHO_BODY = "\n\x05hello"


REACHED = Expect((200,), headers=(("grpc-status", "12"),))
"""UNIMPLEMENTED, as the echo server says it of a method that it does not have."""
UNKNOWN_HOST = Expect((0, 502))
"""The caller's own proxy knows no such host: it says so on a port on which it knows others, and
closes the connection on any other."""
REFUSED_GRPC = Expect((200,), headers=(("grpc-status", "7"),))
"""PERMISSION_DENIED, as a proxy says it over gRPC."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `access`: for each service a contract over all callers."""
    for one in facts.catalogue.services:
        yield Contract(
            f"access.{one.name}",
            "A service is reached only by the services named as its `callers` in the catalogue,"
            " and by the gateway on its declared routes.",
            DOCUMENT,
            tuple(_pairs(facts, one)),
        )
        yield Contract(
            f"access.strangers.{one.name}",
            "A workload that runs under any other service account is refused by every service.",
            DOCUMENT,
            tuple(_strangers(facts, one)),
        )
        if one.exposed:
            yield Contract(
                f"access.gateway.{one.name}",
                "The gateway is served by a service on that service's declared routes, with the"
                " methods and on the ports they name, and on nothing else.",
                DOCUMENT,
                tuple(_of_gateway(facts, one)),
            )
    yield Contract(
        "access.metrics",
        "Nothing reaches a metrics port but the service accounts in `authorization.metricsReaders`.",
        DOCUMENT,
        tuple(
            Call(Caller("identity", account(facts, caller)), target, DENIED)
            for one in facts.catalogue.services
            for port in one.ports
            if port.metrics
            for target in [Request(f"pod:{one.name}:{port.number}", one.name, path="/metrics")]
            for caller in (*facts.catalogue.callers(one), one.name)
        ),
    )


def _pairs(facts: Facts, callee: Service) -> Iterator[Call]:
    """Through the caller's own proxy, and past it with the caller's identity; itself too."""
    for caller in facts.catalogue.services:
        allowed = facts.catalogue.may_call(caller.name, callee.name)
        served = Expect((200,), served_by=callee.name)
        identity = Caller("identity", account(facts, caller.name))
        yield Call(
            through(caller.name),
            request(facts, callee, "service"),
            served if allowed else UNKNOWN_HOST,
        )
        yield Call(
            identity,
            request(facts, callee, "pod"),
            served if allowed else DENIED,
        )
        if port := grpc_port(callee):
            called = grpc(facts, callee, port)
            yield Call(
                through(caller.name),
                called,
                Expect((200,), served_by=callee.name, grpc="OK")
                if allowed
                else Expect((200, 0), grpc="UNAVAILABLE|PERMISSION_DENIED|UNIMPLEMENTED"),
            )
            yield Call(
                identity,
                raw_grpc(facts, callee, port),
                REACHED if allowed else REFUSED_GRPC,
            )
        for name, port in _shared_ports(callee):
            # The echo server takes it for a plain request and says what it saw.
            yield Call(
                identity,
                raw_grpc(facts, callee, port, f"/{name}/Get"),
                served if allowed else REFUSED_GRPC,
            )


def _of_gateway(facts: Facts, callee: Service) -> Iterator[Call]:
    """The gateway's identity, with a token that may everything, on what every service declares."""
    claim = facts.settings.authentication.role.claim
    rights = {
        (route.path, method): rule.roles[-1]
        for _, route in facts.catalogue.exposures
        for rule in route.restricted
        for method in rule.methods or route.methods or _METHODS
    }
    caller, port = gateway(facts), http_port(callee)
    for one, route in facts.catalogue.exposures:
        for method in _METHODS:
            serves = one is callee and (not route.methods or method in route.methods)
            if one is not callee and method != (route.methods or ("GET",))[0]:
                continue  # one will do
            role = rights.get((route.path, method), "user")
            for declared in [port for port in callee.ports if not port.metrics]:
                if declared.protocol == "grpc" and method != "POST":
                    continue
                asked = Request(
                    f"pod:{callee.name}:{declared.number}", facts.settings.api_host,
                    method=method, path=f"{route.path}/1", http2=declared.protocol == "grpc",
                    headers=facts.bearer(**{claim: role}), timeout=15.0,
                )  # fmt: skip
                here = serves and declared.name == route.port
                # An answer to HEAD does not say who gave it.
                served = Expect((200,), served_by=callee.name if method != "HEAD" else "")
                yield Call(caller, asked, served if here else DENIED)
    for one in facts.catalogue.services:
        for socket in one.websockets:
            asked = Request(
                f"pod:{callee.name}:{port.number}", facts.settings.ws_host,
                path=f"{socket.path}/1", headers=facts.bearer(), timeout=15.0,
            )  # fmt: skip
            yield Call(
                caller, asked, Expect((200,), served_by=callee.name) if one is callee else DENIED
            )
        for called in one.grpc:
            for declared in [port for port in callee.ports if not port.metrics]:
                own = one is callee and declared.name == called.port
                answered = (
                    REACHED
                    if declared.protocol == "grpc"
                    else Expect((200,), served_by=callee.name)
                )
                yield Call(
                    caller,
                    raw_grpc(facts, callee, declared, f"/{called.name}/Get"),
                    answered if own else REFUSED_GRPC,
                )


def _shared_ports(callee: Service) -> Iterator[tuple[str, Port]]:
    """gRPC services on a port that serves plain requests too."""
    for one in callee.grpc:
        if (port := callee.port(one.port)).protocol != "grpc":
            yield one.name, port


def _strangers(facts: Facts, callee: Service) -> Iterator[Call]:
    yield Call(PLAIN, request(facts, callee, "service"), REFUSED)
    namespaces = facts.settings.namespaces
    trust_domain = facts.settings.control_plane.trust_domain
    strangers = (
        f"{namespaces.apps}/sa/default",
        f"{namespaces.apps}/sa/{callee.name}-other",
        f"{namespaces.infra}/sa/{facts.catalogue.callers(callee)[0]}",
        f"{namespaces.mesh}/sa/istiod",
    )
    for stranger in strangers:
        identity = Caller("identity", f"spiffe://{trust_domain}/ns/{stranger}")
        for instance in instances(callee):
            asked = replace(
                request(facts, callee, "pod"),
                address=f"pod:{instance}:{http_port(callee).number}",
            )
            yield Call(identity, asked, DENIED)
        if port := grpc_port(callee):
            yield Call(identity, raw_grpc(facts, callee, port), REFUSED_GRPC)
    # The gateway's identity on a path that is no declared route.
    yield Call(gateway(facts), request(facts, callee, "pod", "/internal"), DENIED)
    if port := grpc_port(callee):
        asked = raw_grpc(facts, callee, port, "/no.such.Service/Get")
        yield Call(gateway(facts), asked, REFUSED_GRPC)


def instances(one: Service) -> tuple[str, ...]:
    """A pod of each of a service's subsets, as addresses name it: `identity-service@canary`."""
    return tuple(f"{one.name}@{subset.version}" for subset in one.subsets) or (one.name,)


def gateway(facts: Facts) -> Caller:
    """The gateway's identity, past the gateway's own policies."""
    trust_domain, mesh = facts.settings.control_plane.trust_domain, facts.settings.namespaces.mesh
    return Caller("identity", f"spiffe://{trust_domain}/ns/{mesh}/sa/{GATEWAY}")


def account(facts: Facts, name: str) -> str:
    """The SPIFFE id of a service."""
    trust_domain = facts.settings.control_plane.trust_domain
    return f"spiffe://{trust_domain}/ns/{facts.settings.namespaces.apps}/sa/{name}"


def headers(facts: Facts) -> tuple[tuple[str, str], ...]:
    """What a service hands on with each call: the token of the request it is working on."""
    return facts.bearer()


def request(facts: Facts, callee: Service, by: str, path: str = "/contract") -> Request:
    """A call of a service's HTTP port, by the Service's name or straight to a pod."""
    port = http_port(callee)
    return Request(
        f"{by}:{callee.name}:{port.number}",
        f"{callee.name}:{port.number}",
        path=path,
        headers=headers(facts),
        timeout=15,
    )


def http_port(one: Service) -> Port:
    """The port that serves HTTP."""
    return next(port for port in one.ports if port.protocol != "grpc" and not port.metrics)


def grpc_port(one: Service) -> Port | None:
    """The port that serves gRPC alone."""
    return next((port for port in one.ports if port.protocol == "grpc"), None)


def raw_grpc(facts: Facts, callee: Service, port: Port, path: str = UNKNOWN) -> Request:
    """A gRPC request to an instance, past the caller's proxy."""
    return Request(
        f"pod:{callee.name}:{port.number}",
        callee.name,
        method="POST",
        path=path,
        headers=(*headers(facts), ("content-type", "application/grpc"), ("te", "trailers")),
        http2=True,
        timeout=15.0,
    )


def grpc(facts: Facts, callee: Service, port: Port) -> Request:
    """A call of the echo server's gRPC method."""
    return Request(
        f"service:{callee.name}:{port.number}",
        f"{callee.name}:{port.number}",
        path=ECHO,
        kind="grpc",
        body=_ECHO_BODY,
        headers=headers(facts),
        timeout=15,
    )
