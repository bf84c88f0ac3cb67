"""What the proxies were told of routes: how long each may take, what is repeated, who gets how much.

Real requests try some services, for timeouts are long and shares need many draws; here each route
of each service is looked at, in the configuration that the proxies of the lab are carrying out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from functools import partial
from typing import Any

from components.gateway_workload import GATEWAY
from components.route_names import (
    Part,
    api_route_name,
    entries,
    grpc_route_name,
    split_names,
    websocket_route_name,
)
from lab import proxy_admin
from lab.contracts.contract import Contract
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from model.service import Port, Service
from model.values import seconds

DOCUMENT = "traffic.md"
_PATH = "/config_dump?resource=dynamic_route_configs"
_AT_A_TIME = 2
_UNSEEN = frozenset({"connect-failure", "refused-stream", "reset-before-request"})
"""Failures of which Envoy knows that the service has not seen the request."""
Routes = Mapping[str, Mapping[str, Any]]
"""A proxy's routes by name, each as Envoy's JSON."""


@dataclass(frozen=True)
class Declared:
    """One route as the catalogue and the environment declare it."""

    name: str
    service: Service
    part: Part
    timeout: Decimal
    """Seconds until the answer is complete; of a stream, how long it may last."""
    lasting: Decimal | None = None
    """Seconds after which an exchange of a streaming route or a WebSocket is ended all the same."""
    begun: Decimal | None = None
    """Seconds within which an answer begins that nobody asked to be streamed."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """Of the families `timeout`, `retry` and `canary` what is told of every route."""
    told = Told(facts)
    yield Contract(
        "stream.routes",
        "A WebSocket lasts no longer than the catalogue's timeout for it, a request on a streaming"
        " route no longer than the route's `stream_timeout`: an hour if the catalogue says nothing"
        " else.",
        "edge.md",
        (),
        pushed=told.each(at_gateway, endless),
    )
    for name, sentence, declared, compare in (
        ("timeout.routes", _TIMEOUT, at_gateway, slow),
        ("timeout.routes.inside", _TIMEOUT, between_services, slow),
        (
            "retry.shares",
            "Each try of a safe request gets an equal share of the timeout, so that all tries"
            " together fit into it; a write has no limit for each try, but on streaming routes one for"
            " the beginning of its answer.",
            everywhere,
            shares,
        ),
        (
            "retry.failures",
            "A write is repeated as often as declared when no connection could be opened or the"
            " service refused to take it, and after no other failure.",
            everywhere,
            writes,
        ),
    ):
        yield Contract(name, sentence, DOCUMENT, (), pushed=told.each(declared, compare))
    for name in facts.settings.traffic:
        yield Contract(
            f"canary.{name}.routes",
            "Traffic is divided by the weights of the environment.",
            DOCUMENT,
            (),
            pushed=partial(_weights, facts, told, name),
        )


_TIMEOUT = (
    "Every route, at the gateway and between services, has the timeout of its service, or where it"
    " streams that of the stream."
)
Places = Callable[[Facts], Iterator[tuple[str, list["Declared"]]]]
"""Says which app's proxies must have which routes."""


class Told:
    """The routes of every proxy, asked for once; contracts of one run share them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._lock = threading.Lock()
        self._found: dict[str, list[Routes]] = {}

    def of(self, data_plane: DataPlane) -> Mapping[str, Sequence[Routes]]:
        """For each app the routes of each of its proxies."""
        with self._lock:
            if not self._found:
                apps = (GATEWAY, *self._facts.catalogue.names)
                with ThreadPoolExecutor(_AT_A_TIME) as pool:
                    found = pool.map(
                        lambda app: [
                            routes(answer) for answer in proxy_admin.answers(data_plane, app, _PATH)
                        ],
                        apps,
                    )
                    self._found = dict(zip(apps, found, strict=True))
            return self._found

    def each(
        self, places: Places, compare: Callable[[Declared, Mapping[str, Any]], str | None]
    ) -> Callable[[DataPlane], str | None]:
        """Compares each declared route with what every proxy that needs it was told."""

        def inspect(data_plane: DataPlane) -> str | None:
            return compared(places(self._facts), self.of(data_plane), compare)

        return inspect


def routes(answer: str) -> Routes:
    """The routes in what a proxy's admin interface says of its configuration."""
    return {
        route["name"]: route
        for config in json.loads(answer).get("configs", ())
        for host in config["route_config"].get("virtual_hosts", ())
        for route in host.get("routes", ())
        if route.get("name")
    }


def compared(
    places: Iterable[tuple[str, list[Declared]]],
    told: Mapping[str, Sequence[Routes]],
    compare: Callable[[Declared, Mapping[str, Any]], str | None],
) -> str | None:
    """What is wrong with the routes of any proxy; each must have every route it is there for."""
    wrong: list[str] = []
    for app, declared in places:
        if not told.get(app) or not declared:
            return f"no proxy of {app} says what it was told"
        for number, found in enumerate(told[app]):
            for one in declared:
                if one.name not in found:
                    wrong.append(f"{app} {number} has no route {one.name}")
                elif said := compare(one, found[one.name]):
                    wrong.append(f"{app} {number}, {one.name}: {said}")
    return "; ".join(wrong[:5]) or None


def everywhere(facts: Facts) -> Iterator[tuple[str, list[Declared]]]:
    """The gateway and every service that calls others, with the routes that each needs."""
    yield from at_gateway(facts)
    yield from between_services(facts)


def at_gateway(facts: Facts) -> Iterator[tuple[str, list[Declared]]]:
    """The gateway, with its routes."""
    yield GATEWAY, list(of_clients(facts))


def between_services(facts: Facts) -> Iterator[tuple[str, list[Declared]]]:
    """Every service that calls others, with the routes to those."""
    inside: dict[str, list[Declared]] = {}
    for one in facts.catalogue.services:
        for caller in facts.catalogue.callers(one):
            inside.setdefault(caller, []).extend(in_mesh(one))
    yield from inside.items()


# As declared: under the names of those routes that no cohort takes


def of_clients(facts: Facts) -> Iterator[Declared]:
    """Every route of the gateway, but for those of cohorts."""
    for one in facts.catalogue.services:
        limit = seconds(one.timeout)
        for route in one.routes:
            longest = seconds(route.stream_timeout) if route.streaming else None
            for entry in entries(route):
                yield Declared(
                    api_route_name(one, route, entry.part),
                    one,
                    entry.part,
                    longest if longest and entry.part == "stream" else limit,
                    lasting=longest,
                    begun=limit if longest and entry.part != "stream" else None,
                )
        for socket in one.websockets:
            longest = seconds(socket.timeout)
            yield Declared(
                websocket_route_name(one, socket), one, "stream", longest, lasting=longest
            )
        for grpc in one.grpc:
            yield Declared(grpc_route_name(one, grpc), one, "write", limit)


def in_mesh(one: Service) -> Iterator[Declared]:
    """The routes by which other services call one."""
    for port in one.ports:
        for part in _parts(port):
            name = f"{one.name}.mesh.{port.name}.{part}"
            yield Declared(name, one, part, seconds(one.timeout))


def _parts(port: Port) -> tuple[Part, ...]:
    if port.metrics:
        return ()
    return ("write",) if port.protocol == "grpc" else ("read", "write")


# As told


def slow(declared: Declared, found: Mapping[str, Any]) -> str | None:
    """What is wrong with how long a route's requests may take."""
    told = found.get("route", {}).get("timeout")
    if _seconds(told) != declared.timeout:
        return f"timeout is {told}, {float(declared.timeout):g} s is declared"
    return None


def endless(declared: Declared, found: Mapping[str, Any]) -> str | None:
    """What is wrong with how long an exchange may last."""
    told = found.get("route", {}).get("max_stream_duration", {}).get("max_stream_duration")
    if _seconds(told) != (declared.lasting or 0):
        return f"an exchange may last {told}, {float(declared.lasting or 0):g} s is declared"
    return None


def shares(declared: Declared, found: Mapping[str, Any]) -> str | None:
    """What is wrong with how often a read is tried, and how long each try of anything may take."""
    policy = found.get("route", {}).get("retry_policy", {})
    tries, each = policy.get("num_retries", 0), _seconds(policy.get("per_try_timeout"))
    if declared.part == "read" and tries != declared.service.retries:
        return f"{tries} repetitions, declared are {declared.service.retries}"
    whole = declared.timeout / (declared.service.retries + 1)
    if declared.part == "read" and declared.service.retries:
        wanted = whole.quantize(Decimal("0.001"), rounding=ROUND_DOWN)
    else:
        # Where an exchange may last long, the time for a try is that for its beginning.
        wanted = declared.begun or Decimal(0)
    if each != wanted:
        return f"each try has {float(each):g} s, {float(wanted):g} s is its share"
    return None


def writes(declared: Declared, found: Mapping[str, Any]) -> str | None:
    """What is wrong with when anything but a read is repeated."""
    if declared.part == "read":
        return None
    policy = found.get("route", {}).get("retry_policy", {})
    tries = policy.get("num_retries", 0)
    reasons = frozenset(str(policy.get("retry_on", "")).split(",")) - {""}
    never = declared.service.ai or declared.part == "stream"
    wanted = 0 if never else declared.service.retries
    if tries != wanted:
        return f"{tries} repetitions of a write, {wanted} are declared"
    if wanted and reasons != _UNSEEN:
        return f"a write is repeated on {','.join(sorted(reasons))}"
    return None


def _seconds(told: str | None) -> Decimal:
    """A duration as Envoy writes it; none is no limit, as 0 s is."""
    return Decimal((told or "0s").removesuffix("s"))


# Weights


def _weights(facts: Facts, told: Told, name: str, data_plane: DataPlane) -> str | None:
    split = facts.settings.traffic[name]
    subsets = {subset: weight for subset, weight in split.weights.items() if weight}
    looked_at = 0
    for app, declared in everywhere(facts):
        for found in told.of(data_plane)[app]:
            for route in (one for one in declared if one.service.name == name):
                *cohorts, rest = split_names(route.name, split)
                for each, wanted in (
                    *zip(cohorts, ({one.subset: 100} for one in split.cohorts), strict=True),
                    (rest, subsets),
                ):
                    looked_at += 1
                    if (got := divided(found.get(each, {}))) != wanted:
                        return f"{app}, {each}: traffic is divided {got}, not {wanted}"
    return None if looked_at else f"no proxy has a route to {name}"


def divided(route: Mapping[str, Any]) -> dict[str, int]:
    """The share of each subset that a route leads to, in percent; nothing of a route without any."""
    action = route.get("route", {})
    if "cluster" in action:
        return {_subset(action["cluster"]): 100}
    clusters = action.get("weighted_clusters", {}).get("clusters", ())
    return {_subset(one["name"]): one["weight"] for one in clusters if one.get("weight")}


def _subset(cluster: str) -> str:
    return cluster.split("|")[2]
