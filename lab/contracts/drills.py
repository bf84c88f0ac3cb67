"""Drills: parts of the mesh are killed while traffic flows, and every error is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from components import redis
from components.gateway_workload import GATEWAY
from components.rate_limit_workload import NAME as LIMITER
from lab import proxy_admin
from lab.contracts import access
from lab.contracts.arrangements import (
    PROXY,
    all_ready,
    applied,
    kill,
    kill_pod,
    pods,
    scaled,
    settled,
    without_istiod,
)
from lab.contracts.contract import (
    BALANCED,
    CLIENT,
    DENIED,
    Arrangement,
    Call,
    Contract,
    Expect,
    Incident,
)
from lab.contracts.contract import service as through
from lab.contracts.drill_traffic import (
    BROKEN,
    BROKEN_CALL,
    LASTS,
    LOST,
    UNAVAILABLE,
    UNAVAILABLE_CALL,
    Errors,
    Stream,
    drill,
    of_version,
)
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.exchange import Request
from lab.waiting import NotYet, until
from model.service import Service

DOCUMENT = "outages.md"
_BEGINS = 2.0
"""Seconds of traffic before something is killed."""
_RESTARTED, _BALANCED = 8.0, 3.0
"""Seconds from a kill until what was killed serves again, and until no new connection is sent to
it; the document says where they come from."""
_UNDER_WAY = 1.5
"""Seconds that an answer may take on a busy machine: who asked so long before a kill may meet it."""
_SLOW = 1.0
"""Seconds that a slow request takes."""
_USERS = 20
_BROKEN = (BROKEN, BROKEN_CALL)


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `drill`."""
    split, weights = next((n, s.weights) for n, s in facts.settings.traffic.items())
    smallest = min(weights, key=lambda subset: weights[subset])
    one = next(found for found in facts.catalogue.services if found.name == split)
    version = next(subset.version for subset in one.subsets if subset.name == smallest)
    streams = [*_streams(facts, one), _websockets(facts, "WebSockets", BALANCED, 4)]
    yield drill(
        "istiod",
        "While istiod is down, traffic goes on as before: no request fails and no connection"
        " breaks.",
        streams,
        Incident(without_istiod, _BEGINS, LASTS - 2),
    )
    yield from _changes(facts)
    for name, killed in (("redis", _redis_killed), ("limiter", _limiter_killed)):
        yield drill(
            name,
            "When Redis or the rate-limit service is killed, routes in `closedOnFailure` answer 503"
            " for at most eight seconds, and nothing else fails.",
            streams,
            Incident(killed, _BEGINS),
            Errors(_BEGINS, _BEGINS + _RESTARTED, of="logins"),
        )
    yield drill(
        "subset",
        "When the only pod of a subset is killed, the subset's share of the requests is answered"
        " with 503 for at most eight seconds, or with 504 where the pod had the request already; all"
        " others are not affected.",
        [*streams, _many_reads(facts, one, 30, _BEGINS + 3)],
        Incident(_pod_killed(split, version), _BEGINS),
        Errors(
            *(_BEGINS - _UNDER_WAY, _BEGINS + _RESTARTED, weights[smallest] / 100),
            to=(UNAVAILABLE, UNAVAILABLE_CALL, LOST),
        ),
        judge=lambda calls: of_version(calls, split, version, weights[smallest] / 100),
    )
    yield drill(
        "pod",
        "When one of several pods of a subset is killed, no safe request fails, and only those"
        " writes fail that were on their way to it.",
        list(_slow(facts, one, version)),
        Incident(_pod_killed(split, version), _BEGINS),
        Errors(_BEGINS - _SLOW - 0.5, _BEGINS + 1, of="writes", under_way=_SLOW),
        arrangement=_two_pods(split, version),
    )
    yield drill(
        "gateway",
        "When one of two gateways is killed, connections through the other one stay, and new"
        " connections fail for at most three seconds, about half of them.",
        [*_streams(facts, one), *_at_gateways(facts), _many_reads(facts, one, 60, _BEGINS + 2)],
        Incident(_gateway_killed(0), _BEGINS),
        Errors(0, _BEGINS, of="through the killed", to=_BROKEN, surely=_BEGINS),
        Errors(_BEGINS - _UNDER_WAY, _BEGINS + _BALANCED, 0.5, of="at the gateway", to=_BROKEN),
    )
    yield _back(facts)


def _back(facts: Facts) -> Contract:
    # The other one: a container that ends again soon is started again later each time.
    asked = replace(facts.api("/api/v1/notification/1", *facts.bearer()), address="gateway:1:443")
    call = Call(CLIENT, asked, Expect((200,)))
    return drill(
        "gateway.back",
        "A killed gateway serves again within eight seconds, without anyone's help.",
        [Stream("requests at the killed one", lambda _: call, 4)],
        Incident(_gateway_killed(1), _BEGINS),
        Errors(_BEGINS - _UNDER_WAY, _BEGINS + _RESTARTED, to=_BROKEN),
    )


# Traffic


def _streams(facts: Facts, one: Service) -> Iterator[Stream]:
    """Through whichever gateway is ready, and between services."""
    path = next(route.path for route in one.routes if route.access == "token")
    login = facts.settings.rate_limits.closed_on_failure[0]
    users = [facts.bearer(sub=f"user-{n}", user_id=f"user-{n}") for n in range(_USERS)]
    answered = Expect((200,), served_by=one.name)

    def outside(request: Request, expect: Expect = answered) -> Call:
        port = request.address.rpartition(":")[2]
        return Call(CLIENT, replace(request, address=f"{BALANCED}:{port}"), expect)

    def inside(method: str) -> Callable[[int], Call]:
        caller = through(facts.catalogue.callers(one)[0])
        request = replace(access.request(facts, one, "service", "/drill"), method=method)
        return lambda _: Call(caller, request, answered)

    yield Stream("reads at the gateway", lambda n: outside(facts.api(path, *users[n % _USERS])), 5)
    yield Stream(
        "writes at the gateway",
        lambda n: outside(facts.api(path, *users[n % _USERS], method="POST")),
        4,
    )
    yield Stream(
        "logins at the gateway",
        # Each of a client of its own: the limit of logins is low.
        lambda n: outside(
            facts.api(login, ("x-forwarded-for", facts.client(100 + n)), method="POST")
        ),
        3,
    )
    if one.grpc:
        method = f"/{one.grpc[0].name}/Get"
        # The echo server has no such service, and says so itself.
        unknown = Expect((200,), grpc="UNIMPLEMENTED")
        yield Stream(
            "gRPC calls at the gateway",
            lambda n: outside(facts.grpc(method, *users[n % _USERS]), unknown),
            3,
        )
    yield Stream("reads between services", inside("GET"), 4)
    yield Stream("writes between services", inside("POST"), 3)


def _many_reads(facts: Facts, one: Service, each_second: float, ends: float) -> Stream:
    """So many at the time of the kill that some meet what was killed, however soon it is back."""
    path = next(route.path for route in one.routes if route.access == "token")
    claim = facts.settings.authentication.tenant.claim
    tokens = [facts.bearer(**{claim: f"drill-{n}"}) for n in range(_USERS)]

    def call(n: int) -> Call:
        source = ("x-forwarded-for", facts.many_clients(n))
        asked = facts.api(path, *tokens[n % _USERS], source)
        expect = Expect((200,), served_by=one.name)
        return Call(CLIENT, replace(asked, address=f"{BALANCED}:443"), expect)

    return Stream("more reads at the gateway", call, each_second, _BEGINS - 0.25, ends)


def _websockets(facts: Facts, what: str, address: str, many: int) -> Stream:
    """Connections that begin before the incident and say something only at the end."""
    path = next(
        socket.path
        for one in facts.catalogue.services
        for socket in one.websockets
        if one.name not in facts.settings.traffic
    )
    request = facts.websocket(path, *facts.bearer(), pauses=LASTS - _BEGINS, timeout=30.0)
    call = Call(CLIENT, replace(request, address=f"{address}:443"), Expect((101,)))
    return Stream(what, lambda _: call, many / (_BEGINS / 2), ends=_BEGINS / 2)


def _slow(facts: Facts, one: Service, version: str) -> Iterator[Stream]:
    """Requests that are under way when a pod dies, all to one version."""
    path = next(route.path for route in one.routes if route.access == "token")
    subset = next(subset.name for subset in one.subsets if subset.version == version)
    cohort = next(
        found
        for found in facts.settings.traffic[one.name].cohorts
        if found.subset == subset and found.header
    )
    assert cohort.header is not None
    mark = (cohort.header, cohort.value)
    answered = Expect((200,), served_by=one.name, version=version)

    def outside(method: str) -> Callable[[int], Call]:
        def call(n: int) -> Call:
            user = facts.bearer(sub=f"user-{n}", user_id=f"user-{n}")
            asked = facts.api(f"{path}?delay={_SLOW:g}s", *user, mark, method=method, timeout=20.0)
            return Call(CLIENT, replace(asked, address=f"{BALANCED}:443"), answered)

        return call

    def inside(method: str) -> Callable[[int], Call]:
        caller = through(facts.catalogue.callers(one)[0])
        asked = access.request(facts, one, "service", f"/drill?delay={_SLOW:g}s")
        request = replace(asked, method=method).with_headers(mark)
        return lambda _: Call(caller, request, answered)

    for where, made in (("", outside), (" between services", inside)):
        for what, method in (("reads", "GET"), ("writes", "POST")):
            yield Stream(f"slow {what}{where}", made(method), 7, ends=_BEGINS + 5)


def _at_gateways(facts: Facts) -> Iterator[Stream]:
    """WebSockets at the gateway that is killed and at the other."""
    yield _websockets(facts, "WebSockets through the killed one", "gateway:0", 3)
    yield _websockets(facts, "WebSockets through the other", "gateway:1", 3)


# What happens


@contextmanager
def _redis_killed(data_plane: DataPlane) -> Iterator[None]:
    kill(data_plane, pods(data_plane, app=redis.NAME)[0], redis.CONTAINER)
    yield
    all_ready(data_plane)


@contextmanager
def _limiter_killed(data_plane: DataPlane) -> Iterator[None]:
    kill(data_plane, pods(data_plane, app=LIMITER)[0], LIMITER)
    yield
    all_ready(data_plane)


def _gateway_killed(number: int) -> Arrangement:
    @contextmanager
    def killed(data_plane: DataPlane) -> Iterator[None]:
        gateways = pods(data_plane, app=GATEWAY)
        kill(data_plane, gateways[number % len(gateways)], PROXY)
        yield
        all_ready(data_plane)

    return killed


def _pod_killed(app: str, version: str) -> Arrangement:
    @contextmanager
    def killed(data_plane: DataPlane) -> Iterator[None]:
        kill_pod(data_plane, pods(data_plane, app=app, version=version)[0])
        yield
        settled(data_plane, data_plane.settings.namespaces.apps, f"{app}-{version}")

    return killed


def _two_pods(app: str, version: str) -> Arrangement:
    def arrangement(data_plane: DataPlane) -> Any:
        return scaled(data_plane, data_plane.settings.namespaces.apps, f"{app}-{version}", 2)

    return arrangement


# Changes while istiod is down and afterwards


def _changes(facts: Facts) -> Iterator[Contract]:
    """Policies that refuse everything to a service: one is sent meanwhile, another afterwards."""
    meanwhile, afterwards = facts.catalogue.services[-2:]

    def call(one: Service, expect: Expect) -> Call:
        caller = through(facts.catalogue.callers(one)[0])
        return Call(caller, access.request(facts, one, "service"), expect)

    yield Contract(
        "drill.istiod.back",
        "While istiod is down, no Istio object can be changed; when it is back, proxies get new"
        " policies again, without anyone's help.",
        DOCUMENT,
        (
            *[call(meanwhile, Expect((200,), served_by=meanwhile.name))] * 16,
            # Old connections, some for each earlier caller, carry one more answer each.
            *[call(afterwards, Expect((200, 403)))] * 12,
            *[call(afterwards, DENIED)] * 4,
        ),
        at_once=False,
        arrangement=_changed(meanwhile.name, afterwards.name),
    )


def _changed(meanwhile: str, afterwards: str) -> Arrangement:
    @contextmanager
    def changed(data_plane: DataPlane) -> Iterator[None]:
        with ExitStack() as states:
            with without_istiod(data_plane), suppress(LabError):
                states.enter_context(applied(data_plane, [_refusal(data_plane, meanwhile)]))
            states.enter_context(_in_force(data_plane, afterwards))
            yield

    return changed


def _refusal(data_plane: DataPlane, app: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"drill-{app}", "namespace": data_plane.settings.namespaces.apps},
        "spec": {"selector": {"matchLabels": {"app": app}}, "action": "DENY", "rules": [{}]},
    }


@contextmanager
def _in_force(data_plane: DataPlane, app: str) -> Iterator[None]:
    policy = _refusal(data_plane, app)
    named = f"policy[{policy['metadata']['name']}]"

    def check(wanted: bool) -> None:
        for dump in proxy_admin.answers(data_plane, app, "/config_dump"):
            if (named in dump) != wanted:
                raise NotYet(f"{named} is {'not ' if wanted else ''}there")

    with applied(data_plane, [policy]):
        with suppress(LabError):  # one that never gets there is for the calls to tell
            until(f"policy of {app}", partial(check, True), within=20, every=0.5)
        yield
    until(f"policy of {app} gone", partial(check, False), within=20, every=0.5)
