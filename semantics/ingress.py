"""One revision's way in: gateways, the routes of each host, the workloads behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from semantics.authorization import Guard
from semantics.objects import MeshObjects, Object, Workload, name_of, namespace_of
from semantics.routes import HttpRoute, Router, Server, host_within, http_routes, servers


@dataclass(frozen=True)
class Ingress:
    """One revision's gateways and routes."""

    objects: MeshObjects

    @cached_property
    def servers(self) -> list[Server]:
        """The servers that clients outside the mesh can use."""
        return [s for s in servers(self.objects) if not s.mutual]

    @cached_property
    def routes(self) -> list[HttpRoute]:
        """All HTTP routes of all hosts."""
        return http_routes(self.objects)

    @cached_property
    def _guards(self) -> dict[str, Guard]:
        return {}

    def guard(self, workload: Workload) -> Guard:
        """The guard of a workload, made once."""
        return self._guards.setdefault(str(workload), Guard(workload, self.objects))

    @cached_property
    def _workloads(self) -> Mapping[tuple[str, str], tuple[Workload, ...]]:
        found: dict[tuple[str, str], list[Workload]] = {}
        for service in self.objects.of("Service"):
            metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
            selector = spec.get("selector") or {}
            namespace = str(metadata.get("namespace") or "default")
            found[namespace, str(metadata.get("name"))] = [
                w
                for w in self.objects.workloads
                if selector
                and w.namespace == namespace
                and selector.items() <= dict(w.labels).items()
            ]
        return {key: tuple(value) for key, value in found.items()}

    def behind(self, namespace: str, service: str) -> tuple[Workload, ...]:
        """The workloads of a service; without a Service object, the one of that name."""
        known = self._workloads.get((namespace, service))
        if known is not None:
            return known
        return tuple(
            w for w in self.objects.workloads if w.namespace == namespace and w.name == service
        )

    @cached_property
    def _services(self) -> Mapping[tuple[str, str], Object]:
        return {(namespace_of(s), name_of(s)): s for s in self.objects.of("Service")}

    def target_port(self, namespace: str, service: str, port: int | None) -> int:
        """The pods' port behind a Service's port; its first one where none is named."""
        item = self._services.get((namespace, service))
        if item is not None:
            for each in (item.get("spec") or {}).get("ports") or ():
                target = each.get("targetPort", each.get("port"))
                if port in (None, each.get("port")) and isinstance(target, int):
                    return target
        return port or 0


@dataclass(frozen=True)
class HostIngress:
    """One revision's view of one host."""

    revision: Ingress
    host: str
    routes: tuple[HttpRoute, ...]

    @cached_property
    def _router(self) -> Router:
        return Router(self.routes)

    @cached_property
    def servers(self) -> list[Server]:
        """The servers that serve the host."""
        return [s for s in self.revision.servers if host_within(self.host, s.hosts)]

    def ways(self, path: str, method: str) -> Iterator[tuple[Server, HttpRoute]]:
        """The servers of the host, each with the route that takes the request there."""
        for server in self.servers:
            route = self._router.route(server.gateway, path, method)
            if route is not None:
                yield server, route

    def guards(self, path: str, method: str) -> Iterator[Guard]:
        """The guards that a request meets on its way."""
        for server, route in self.ways(path, method):
            yield self.revision.guard(server.workload)
            for namespace, service, _, _ in route.destinations():
                for workload in self.revision.behind(namespace, service):
                    yield self.revision.guard(workload)
