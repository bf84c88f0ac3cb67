"""What is at the edge: gateways' pods, the services they route to, and by which paths."""

from __future__ import annotations

from policies.policy import namespace_of, spec_of
from policies.routing import public_routes, uri_of
from policies.stack import Stack
from policies.workloads import Workload


def gateway_workloads(stack: Stack) -> list[Workload]:
    """The pods that Gateway objects select."""
    found = {
        id(workload): workload
        for gateway in stack.of("Gateway")
        for workload in stack.selected(spec_of(gateway).get("selector") or {}, None)
    }
    return list(found.values())


def exposed_paths(stack: Stack) -> dict[tuple[str, str], set[str]]:
    """Paths by service, without trailing slash: those that some gateway's route matches."""
    found: dict[tuple[str, str], set[str]] = {}
    for route in public_routes(stack):
        paths = {uri_of(match)[1].rstrip("/") for match in route.matches}
        for _, destination in route.destinations():
            host = str(destination.get("host", ""))
            service = stack.service_of(host, namespace_of(route.virtual_service))
            if service is not None:
                found.setdefault(service, set()).update(paths)
    return found
