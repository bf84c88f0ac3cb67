"""What the proxies were told of routes: how long each may take, what is repeated, who gets how much.

Real requests try some services, for timeouts are long and shares need many draws; here each route
of each service is looked at, in the configuration that the proxies of the lab are carrying out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
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
    for name, sentence, compare in (
        (
            "timeout.routes",
            "Every route, at the gateway and between services, has the timeout of its service, or"
            " where it streams that of the stream.",
            slow,
        ),
        (
            "retry.shares",
            "Each try of a safe request gets an equal share of the timeout, so that all tries"
            " together fit into it; a write has no limit for each try.",
            shares,
        ),
        (
            "retry.failures",
            "A write is repeated as often as declared when no connection could be opened or the"
            " service refused to take it, and after no other failure.",
            writes,
        ),
    ):
        yield Contract(name, sentence, DOCUMENT, (), pushed=told.each(compare))
    if facts.settings.traffic:
        yield Contract(
            "canary.routes",
            "Traffic is divided by the weights of the environment.",
            DOCUMENT,
            (),
            pushed=lambda data_plane: _weights(facts, told.of(data_plane)),
        )


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
        self, compare: Callable[[Declared, Mapping[str, Any]], str | None]
    ) -> Callable[[DataPlane], str | None]:
        """Compares each declared route with what every proxy that needs it was told."""

        def inspect(data_plane: DataPlane) -> str | None:
            return compared(self._facts, self.of(data_plane), compare)

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
    facts: Facts,
    told: Mapping[str, Sequence[Routes]],
    compare: Callable[[Declared, Mapping[str, Any]], str | None],
) -> str | None:
    """What is wrong with the routes of any proxy; each must have every route it is there for."""
    wrong: list[str] = []
    for app, declared in _for_each_app(facts):
        if not told.get(app):
            return f"no proxy of {app} says what it was told"
        for number, found in enumerate(told[app]):
            for one in declared:
                if one.name not in found:
                    wrong.append(f"{app} {number} has no route {one.name}")
                elif said := compare(one, found[one.name]):
                    wrong.append(f"{app} {number}, {one.name}: {said}")
    return "; ".join(wrong[:5]) or None


def _for_each_app(facts: Facts) -> Iterator[tuple[str, list[Declared]]]:
    yield GATEWAY, list(at_gateway(facts))
    inside: dict[str, list[Declared]] = {}
    for one in facts.catalogue.services:
        for caller in facts.catalogue.callers(one):
            inside.setdefault(caller, []).extend(in_mesh(one))
    yield from inside.items()


# As declared: under the names of those routes that no cohort takes


def at_gateway(facts: Facts) -> Iterator[Declared]:
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
    action = found.get("route", {})
    policy = action.get("retry_policy", {})
    first = policy.get("per_try_timeout") if declared.begun and declared.part == "write" else None
    for what, must, told in (
        ("timeout", declared.timeout, action.get("timeout")),
        (
            "longest duration",
            declared.lasting,
            action.get("max_stream_duration", {}).get("max_stream_duration"),
        ),
        ("time to begin", declared.begun if declared.part == "write" else None, first),
    ):
        if _seconds(told) != (must or 0):
            return f"{what} is {told}, {float(must or 0):g} s is declared"
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


def _weights(facts: Facts, told: Mapping[str, Sequence[Routes]]) -> str | None:
    for name, split in facts.settings.traffic.items():
        one = next(one for one in facts.catalogue.services if one.name == name)
        for app, declared in _for_each_app(facts):
            for found in told.get(app) or ({},):
                for route in declared:
                    if route.service.name != name:
                        continue
                    *cohorts, rest = split_names(route.name, split)
                    wanted = dict(split.weights)
                    for each, subsets in (
                        *zip(cohorts, ({c.subset: 100} for c in split.cohorts), strict=True),
                        (rest, {subset: weight for subset, weight in wanted.items() if weight}),
                    ):
                        got = divided(found.get(each, {}))
                        if got != subsets:
                            return f"{app}, {each}: {one.name} is divided {got}, not {subsets}"
    return None


def divided(route: Mapping[str, Any]) -> dict[str, int]:
    """The share of each subset that a route leads to, in percent; nothing of a route without any."""
    action = route.get("route", {})
    if "cluster" in action:
        return {_subset(action["cluster"]): 100}
    clusters = action.get("weighted_clusters", {}).get("clusters", ())
    return {_subset(one["name"]): one["weight"] for one in clusters if one.get("weight")}


def _subset(cluster: str) -> str:
    return cluster.split("|")[2]
