"""Ways in by the Gateway API, which the rules about Istio's own Gateways and routes do not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.stack import Stack

_GATEWAY_API = "https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/"
_GATEWAY = "Gateway.gateway.networking.k8s.io"
_ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")
_LISTENERS = (_GATEWAY, "ListenerSet", "XListenerSet")
_NOTHING: Mapping[str, Any] = {}
_PLAIN = ("HTTP", "TCP", "UDP")


@stack_policy(
    "way-in-is-judged",
    title="Ways in are those that are judged",
    severity=Severity.HIGH,
    text="No Gateway of the Gateway API lets clients in, and no HTTPRoute, GRPCRoute, TLSRoute, "
    "TCPRoute or UDPRoute leads to a Service. Istio serves them, and the rules about tokens, "
    "exposed paths, timeouts and limits read Istio's own Gateways and VirtualServices only: a way "
    "in of the other kind is not weak, it is unseen. Waypoints let nobody in.",
    remedy="Use Gateway and VirtualService, or set this policy to advisory and review such routes.",
    url=_GATEWAY_API,
)
def way_in_judged(stack: Stack, _: Config) -> Iterator[Finding]:
    """Names each Gateway, and each parent of each route."""
    for item in stack.of(*_LISTENERS):
        if not _is_waypoint(item):
            name = spec_of(item).get("gatewayClassName") or "its parent's class"
            message = f"a way in of {name} that no rule about gateways judges"
            yield Finding(item, "spec.listeners", message)
    for item in stack.of(*_ROUTES):
        targets = ", ".join(dict.fromkeys(_targets(item))) or "nothing"
        for index, parent in enumerate(spec_of(item).get("parentRefs") or ()):
            kind = parent.get("kind") or "Gateway"
            where = f"{kind} {parent.get('namespace') or namespace_of(item)}/{parent.get('name')}"
            message = f"leads from {where} to {targets}, and no rule about routes judges it"
            yield Finding(item, f"spec.parentRefs[{index}]", message)


def _is_waypoint(item: Object) -> bool:
    """Whether a Gateway is one of the mesh's own, which takes mutual TLS of the mesh alone."""
    listeners = spec_of(item).get("listeners") or ()
    return bool(listeners) and all(each.get("protocol") == "HBONE" for each in listeners)


def _targets(route: Object) -> Iterator[str]:
    for rule in spec_of(route).get("rules") or ():
        mirrors = [
            (f.get("requestMirror") or {}).get("backendRef") for f in rule.get("filters") or ()
        ]
        for backend in [*(rule.get("backendRefs") or ()), *filter(None, mirrors)]:
            namespace = backend.get("namespace") or namespace_of(route)
            yield f"{backend.get('kind') or 'Service'} {namespace}/{backend.get('name')}"


@stack_policy(
    "gateway-api-encrypted",
    title="Listeners of the Gateway API end TLS",
    severity=Severity.CRITICAL,
    text="A listener speaks HTTPS or TLS and ends it; one for HTTP has only routes that redirect "
    "to HTTPS. What is passed through is seen by no policy, and what is plain by everybody.",
    remedy="Set protocol HTTPS with tls.mode Terminate; redirect on the plain listener.",
    url=_GATEWAY_API,
)
def listeners_encrypted(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at each listener, and at the routes of plain ones."""
    for item in stack.of(*_LISTENERS):
        for index, listener in enumerate(spec_of(item).get("listeners") or ()):
            protocol, path = str(listener.get("protocol")), f"spec.listeners[{index}]"
            mode = (listener.get("tls") or {}).get("mode")
            if mode == "Passthrough":
                yield Finding(item, f"{path}.tls.mode", "Passthrough goes past all policies")
            if protocol in _PLAIN and not _only_redirects(stack, item, listener):
                yield Finding(item, f"{path}.protocol", f"{protocol} is served in plain text")


def _only_redirects(stack: Stack, gateway: Object, listener: Mapping[str, Any]) -> bool:
    """Whether a plain listener has routes, and all of them redirect to HTTPS."""
    attached = [
        route
        for route in stack.of(*_ROUTES)
        for parent in spec_of(route).get("parentRefs") or ()
        if parent.get("name") == name_of(gateway)
        and (parent.get("namespace") or namespace_of(route)) == namespace_of(gateway)
        and parent.get("sectionName") in (None, listener.get("name"))
        and parent.get("port") in (None, listener.get("port"))
    ]
    return bool(attached) and all(
        any(
            (each.get("requestRedirect") or {}).get("scheme") == "https"
            for each in rule.get("filters") or ()
        )
        for route in attached
        for rule in spec_of(route).get("rules") or [_NOTHING]
    )


@object_policy(
    "gateway-api-hosts-owned",
    *_LISTENERS,
    title="Listeners of the Gateway API take routes of named namespaces",
    severity=Severity.MEDIUM,
    text="A listener takes routes of its own namespace or of selected ones. With `from: All` a "
    "route of any namespace can take over a public host.",
    remedy="Set allowedRoutes.namespaces to Same or to a Selector.",
    url=_GATEWAY_API,
)
def hosts_owned(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at whose routes each listener takes."""
    for index, listener in enumerate(spec_of(item).get("listeners") or ()):
        allowed = (listener.get("allowedRoutes") or {}).get("namespaces") or {}
        if allowed.get("from") == "All":
            path = f"spec.listeners[{index}].allowedRoutes.namespaces.from"
            host = listener.get("hostname") or "every host"
            yield Finding(item, path, f"any namespace may claim {host}")
