"""What clients outside the mesh reach through the gateways, and what they must bring for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from semantics import witnesses
from semantics.authorization import Guard
from semantics.conditions import Dimension
from semantics.describe import listed
from semantics.gateway_change import GatewayChange
from semantics.ingress import HostIngress, Ingress
from semantics.objects import MeshObjects
from semantics.regions import TOKEN, Space, space_of
from semantics.request import Request
from semantics.requirements import UNROUTED, Level, Requirement, requirement
from semantics.routes import Sample
from semantics.witnesses import paths_of


@dataclass(frozen=True)
class Exposed:
    """One class of requests from outside: host, path, methods, and the service it reaches."""

    host: str
    path: str
    methods: tuple[str, ...]
    service: str
    requirement: Requirement


@dataclass(frozen=True)
class ExposureChange:
    """What outside clients need for a class of requests, before and after."""

    host: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    """Empty for connections without HTTP."""
    service: str
    before: Requirement
    after: Requirement
    instead_of: str = ""
    """The service that answered before, where as much is asked as then, of one not reached then."""

    @property
    def opens(self) -> bool:
        """Whether less is asked than before, or a service is newly reached, and not refused."""
        return bool(self.instead_of) or self.after.level > max(self.before.level, Level.REFUSED)


WITNESSES = witnesses.METHODS
METHODS = Dimension("method")
PATH = Dimension("path")
LOAD_BALANCER = "10.255.255.254"
"""Who sends the packets that a gateway gets."""
_Answer = tuple[Requirement, tuple[str, ...]]
"""What is asked, and the services (`namespace/name`) that answer."""


@dataclass(frozen=True)
class _Row:
    """One class of requests in both revisions."""

    path: str
    methods: tuple[str, ...]
    old: _Answer
    new: _Answer


def compare(old: MeshObjects, new: MeshObjects) -> list[ExposureChange]:
    """Every class of outside requests for which more, less or something else is asked now.

    And every service that is newly reached where another one answered.
    """
    revisions = (Ingress(old), Ingress(new))
    reached = _Reached(revisions)
    found: dict[_Difference, dict[tuple[str, ...], list[str]]] = {}
    for host in sorted(revisions[0].hosts | revisions[1].hosts):
        for row in _host_rows(revisions, host, everything=False):
            (before, was), (after, becomes) = row.old, row.new
            instead_of = ""
            if (before.level, before.text) == (after.level, after.text):
                if was == becomes or not reached.newly(becomes, after.level):
                    continue
                instead_of = _names(was)
            difference = (host, _names(becomes or was), before, after, instead_of)
            found.setdefault(difference, {}).setdefault(row.methods, []).append(row.path)
    changes = [
        ExposureChange(host, paths, methods, service, before, after, instead_of)
        for (host, service, before, after, instead_of), by_methods in found.items()
        for paths, methods in _transposed(by_methods)
    ]
    return sorted(
        changes,
        key=lambda c: (not c.opens, -c.after.level, c.host, c.paths, c.methods),
    )


_Difference = tuple[str, str, Requirement, Requirement, str]


@dataclass(frozen=True)
class _Reached:
    """How far clients got in the old revision, looked up where it matters only."""

    revisions: tuple[Ingress, Ingress]

    def newly(self, services: Iterable[str], level: Level) -> bool:
        """Whether one of the services asked for more before, at all of its paths."""
        if level <= Level.REFUSED:
            return False
        return any(self._before.get(each, Level.UNROUTED) < level for each in services)

    @cached_property
    def _before(self) -> Mapping[str, Level]:
        old, _ = self.revisions
        found: dict[str, Level] = {}
        for host in old.hosts:
            for row in _host_rows((old, old), host, everything=True):
                requirement, services = row.old
                for service in services:
                    found[service] = max(found.get(service, Level.UNROUTED), requirement.level)
        return found


def _names(services: Sequence[str]) -> str:
    return listed([each.rpartition("/")[2] for each in services])


def _transposed(
    by_methods: Mapping[tuple[str, ...], Sequence[str]],
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Paths and methods with each set of paths once, all of its methods together."""
    by_paths: dict[tuple[str, ...], list[str]] = {}
    for methods, paths in by_methods.items():
        by_paths.setdefault(tuple(dict.fromkeys(paths)), []).extend(methods)
    for paths, all_methods in by_paths.items():
        yield paths, tuple(all_methods)


def table(objects: MeshObjects) -> list[Exposed]:
    """Everything that outside clients may address, and what it asks of them."""
    revision = Ingress(objects)
    return [
        Exposed(host, row.path, row.methods, _names(row.new[1]), row.new[0])
        for host in sorted(revision.hosts)
        for row in _host_rows((revision, revision), host, everything=True)
    ]


def unjudged(*revisions: MeshObjects) -> list[str]:
    """VirtualServices with routes for which no request could be made, and why."""
    found = {
        f"VirtualService {route.virtual_service} ({why})"
        for objects in revisions
        for route in Ingress(objects).routes
        for why in route.unjudged()
    }
    return sorted(found)


def _host_rows(
    revisions: tuple[Ingress, Ingress], host: str, *, everything: bool
) -> Iterator[_Row]:
    """One row for each path and class of methods of a host; only what may differ, or all."""
    sides = (HostIngress(revisions[0], host), HostIngress(revisions[1], host))
    yield from _streams(sides)
    methods = _all_methods(sides)
    samples = _samples(sides, methods)
    if not everything:
        at_gateway = GatewayChange.between(
            _at_gateway(sides[0]), _at_gateway(sides[1]), sides[0].name
        )
        samples = [
            sample
            for sample in samples
            if at_gateway.touches(sample.path)
            or any(_way(sides[0], sample, m) != _way(sides[1], sample, m) for m in methods)
        ]
    guards = {
        id(guard): guard
        for side in sides
        for sample in samples
        for method in methods
        for guard in side.guards(sample, method)
    }
    if not guards:
        return
    space = space_of(guards.values(), (), extra={METHODS: methods}, only=(METHODS, TOKEN))

    @cache
    def asked(sample: Sample, method: str) -> tuple[_Answer, _Answer]:
        old = _asked(sides[0], sample, method, space)
        alone = revisions[0] is revisions[1]
        return old, old if alone else _asked(sides[1], sample, method, space)

    for sample in samples:
        plain = Sample(sample.path)
        for alike in _methods(sides, sample, space):
            answers = asked(sample, alike[0])
            # What asks the same with and without headers is told once.
            if sample == plain or answers != asked(plain, alike[0]):
                yield _Row(str(sample), alike, *answers)


def _all_methods(sides: Iterable[HostIngress]) -> tuple[str, ...]:
    """Methods to try: the usual ones and those that routes name."""
    named = (m for side in sides for route in side.routes for m in route.methods())
    return tuple(dict.fromkeys([*WITNESSES, *named]))


def _samples(sides: Sequence[HostIngress], methods: Sequence[str]) -> list[Sample]:
    """Requests of every kind that routes tell apart, and at the paths that policies name."""
    found = {s for side in sides for route in side.routes for s in route.samples()}
    paths = {path for side in sides for path in _named_by_policies(side)}
    for path in paths - {sample.path for sample in found}:
        further = {Sample(path, s.headers, s.query) for s in found if path.startswith(s.path)}
        for sample in {Sample(path), *further}:
            if any(True for side in sides for m in methods for _ in side.ways(sample, m)):
                found.add(sample)
    return sorted(found, key=str)


def _at_gateway(side: HostIngress) -> list[tuple[Guard, tuple[object, ...]]]:
    return [
        (side.revision.guard(s.workload), (s.gateway, s.port, s.hosts, s.protocol, s.mode))
        for s in side.servers
    ]


def _named_by_policies(side: HostIngress) -> Iterator[str]:
    """Paths that the policies of the gateways and of the services behind them tell apart."""
    workloads = {str(s.workload): s.workload for s in side.servers}
    for route in side.routes:
        for namespace, service, _, _ in route.destinations():
            workloads |= {str(w): w for w in side.revision.behind(namespace, service)}
    for workload in workloads.values():
        for policy in side.revision.guard(workload).http_policies:
            for rule in policy.rules:
                for condition in rule.conditions():
                    if condition.dimension == PATH:
                        for value in condition.values:
                            yield from paths_of(value)


def _way(side: HostIngress, sample: Sample, method: str) -> list[object]:
    """What of a request's way decides on who gets through, the gateway's policies left out."""
    found: list[object] = []
    for server, route in side.ways(sample, method):
        destinations = tuple(
            (
                destination,
                side.revision.target_port(*destination[:3]),
                tuple(
                    side.revision.guard(w).fingerprint
                    for w in side.revision.behind(*destination[:2])
                ),
            )
            for destination in route.destinations()
            if destination[3] > 0
        )
        kept = {k: route.route.get(k) for k in ("rewrite", "redirect", "directResponse")}
        found.append((server.gateway, server.port, repr(kept), destinations))
    return found


def _methods(
    sides: Sequence[HostIngress], sample: Sample, space: Space
) -> Iterator[tuple[str, ...]]:
    """Methods that neither policies nor the routes of a sample tell apart."""
    axis = space.axis(METHODS)
    assert axis is not None
    for members in axis.classes:
        alike: dict[tuple[int, ...], list[str]] = {}
        for method in members:
            taken_by = (id(r) for side in sides for _, r in side.ways(sample, method))
            alike.setdefault(tuple(taken_by), []).append(method)
        yield from map(tuple, alike.values())


def _asked(side: HostIngress, sample: Sample, method: str, space: Space) -> _Answer:
    """What is asked for one request, and the services that answer it."""
    best: _Answer = (UNROUTED, ())
    for server, route in side.ways(sample, method):
        request = Request(
            source_ip=LOAD_BALANCER,
            port=server.port,
            host=side.name,
            method=method,
            path=sample.path,
            headers=dict(sample.headers),
        )
        answer = requirement(side.revision, server, route, request, space)
        if answer[0].level > best[0].level:
            best = answer
    return best


def _streams(sides: Sequence[HostIngress]) -> Iterator[_Row]:
    """One row for each port at which connections without HTTP are taken."""
    answers: list[dict[str, _Answer]] = []
    for side in sides:
        found: dict[str, _Answer] = {}
        for server, route in side.streams:
            label = f"{route.protocol.upper()} port {server.number}"
            request = Request(source_ip=LOAD_BALANCER, port=server.port, sni=side.name, http=False)
            answer = requirement(side.revision, server, route, request, None)
            if answer[0].level > found.get(label, (UNROUTED, ()))[0].level:
                found[label] = answer
        answers.append(found)
    for label in dict.fromkeys((*answers[0], *answers[1])):
        old, new = (found.get(label, (UNROUTED, ())) for found in answers)
        yield _Row(label, (), old, new)
