"""One revision's way in: gateways, the routes of each host, the workloads behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from semantics.authorization import Guard
from semantics.examples import ANYTHING, Unreadable, taken
from semantics.identity import Object, name_of, namespace_of
from semantics.objects import MeshObjects, Workload
from semantics.routes import Arrival, Route, Router, Sample, routes
from semantics.servers import Server, host_within, servers


@dataclass(frozen=True)
class Ingress:
    """One revision's gateways and routes."""

    objects: MeshObjects

    @cached_property
    def servers(self) -> list[Server]:
        """The servers that clients outside the mesh can use."""
        return [s for s in servers(self.objects) if not s.mutual]

    @cached_property
    def routes(self) -> list[Route]:
        """All routes of all hosts."""
        return routes(self.objects)

    @cached_property
    def domains(self) -> Sequence[tuple[Server, Mapping[str, Sequence[Route]]]]:
        """For each server the routes by the host, or the wildcard, that they answer there."""
        found = []
        for server in self.servers:
            by_domain: dict[str, list[Route]] = {}
            for route in self.routes:
                if (route.protocol == "http") is server.http and route.served_at(server):
                    for host in route.hosts:
                        for domain in server.domains(host, route.home):
                            by_domain.setdefault(domain, []).append(route)
            found.append((server, by_domain))
        return found

    @cached_property
    def hosts(self) -> frozenset[str]:
        """Every host that something answers for; `*.example` where no other name is known."""
        found: set[str] = set()
        for _, by_domain in self.domains:
            for domain, answering in by_domain.items():
                found.add(domain)
                named = (m.get("authority") for route in answering for m in route.matches)
                for match in filter(None, named):
                    try:
                        found.update(h for h in taken(match) if host_within(h, domain))
                    except Unreadable:  # told among what could not be judged
                        continue
        return frozenset(found)

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
    """A host, or a wildcard that stands for all hosts within it that nothing names."""

    @property
    def name(self) -> str:
        """A host to ask for."""
        return self.host.replace("*", ANYTHING)

    @cached_property
    def answering(self) -> Sequence[tuple[Server, Sequence[Route]]]:
        """The servers that answer for the host, each with the routes of the closest match.

        Envoy does not look further where the closest one has no route for a request. Source:
        https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto
        """
        found = []
        for server, by_domain in self.revision.domains:
            within = [domain for domain in by_domain if host_within(self.name, domain)]
            if within:
                found.append((server, by_domain[max(within, key=_closeness)]))
        return found

    @cached_property
    def servers(self) -> list[Server]:
        """The servers that answer for the host."""
        return [server for server, _ in self.answering]

    @cached_property
    def routes(self) -> list[Route]:
        """The HTTP routes of the host."""
        return [r for server, found in self.answering if server.http for r in found]

    @cached_property
    def streams(self) -> list[tuple[Server, Route]]:
        """The TCP and TLS routes of the host: without paths, methods or tokens."""
        return [(s, route) for s, found in self.answering if not s.http for route in found]

    @cached_property
    def _routers(self) -> list[tuple[Server, Router]]:
        return [(s, Router(found)) for s, found in self.answering if s.http]

    def ways(self, sample: Sample, method: str) -> Iterator[tuple[Server, Route]]:
        """The servers of the host, each with the route that takes the request there."""
        for server, router in self._routers:
            route = router.route(Arrival(server, self.name, method, sample))
            if route is not None:
                yield server, route

    def guards(self, sample: Sample, method: str) -> Iterator[Guard]:
        """The guards that a request meets on its way."""
        for server, route in self.ways(sample, method):
            yield self.revision.guard(server.workload)
            for namespace, service, _, _ in route.destinations():
                for workload in self.revision.behind(namespace, service):
                    yield self.revision.guard(workload)


def _closeness(domain: str) -> tuple[bool, int]:
    """An exact host before a wildcard, a long wildcard before a short one."""
    return "*" not in domain, len(domain)
