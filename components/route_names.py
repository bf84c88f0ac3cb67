"""Names of the HTTP routes in our VirtualServices: one place for those who make and who patch them.

istiod hands a route's name on to Envoy, where EnvoyFilters find it. A name is
`<service><path with dots>.<part>`, then `.<cohort>` where a service splits its traffic:
`identity-service.api.v1.users.read.canary-1`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from model.service import GrpcService, Route, Service, WebSocketRoute
from model.settings import Split
from model.values import SAFE_METHODS, Method

Part = Literal["stream", "read", "write"]
"""What kind of request of a route: asked as an event stream; a safe method; anything else."""


class Entry(NamedTuple):
    """One HTTP route that a catalogue route becomes."""

    part: Part
    methods: tuple[Method, ...]
    """Methods it matches; empty means all that earlier entries left."""


def entries(route: Route) -> tuple[Entry, ...]:
    """The HTTP routes that one catalogue route becomes, in the order they are matched.

    The last one also takes OPTIONS, so that CORS preflights find a route.
    """
    found: list[Entry] = []
    if route.streaming:
        found.append(Entry("stream", route.methods))
    safe = tuple(method for method in route.methods or SAFE_METHODS if method in SAFE_METHODS)
    unsafe = tuple(method for method in route.methods if method not in SAFE_METHODS)
    if safe:
        found.append(Entry("read", safe if unsafe or not route.methods else (*safe, "OPTIONS")))
    if not route.methods:
        found.append(Entry("write", ()))
    elif unsafe:
        found.append(Entry("write", tuple(dict.fromkeys((*unsafe, "OPTIONS")))))
    return tuple(found)


def api_route_name(service: Service, route: Route, part: Part) -> str:
    """Name of one entry of a route on the API host."""
    return f"{service.name}{route.path.replace('/', '.')}.{part}"


def websocket_route_name(service: Service, websocket: WebSocketRoute) -> str:
    """Name of a route on the WebSocket host."""
    return f"{service.name}{websocket.path.replace('/', '.')}.websocket"


def grpc_route_name(service: Service, grpc: GrpcService) -> str:
    """Name of a route on the gRPC host."""
    return f"{service.name}.{grpc.name}.grpc"


def split_names(base: str, split: Split | None) -> tuple[str, ...]:
    """All names that one route has when its service splits its traffic.

    First one for each cohort, numbered within its subset, then the weighted rest under the bare
    name.
    """
    if split is None:
        return (base,)
    names: list[str] = []
    for index, cohort in enumerate(split.cohorts):
        number = 1 + sum(earlier.subset == cohort.subset for earlier in split.cohorts[:index])
        names.append(f"{base}.{cohort.subset}-{number}")
    return (*names, base)


def api_route_names(service: Service, route: Route, split: Split | None = None) -> tuple[str, ...]:
    """Every HTTP route name of one catalogue route on the API host, cohorts included."""
    return tuple(
        name
        for entry in entries(route)
        for name in split_names(api_route_name(service, route, entry.part), split)
    )
