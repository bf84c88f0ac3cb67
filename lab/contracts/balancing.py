"""Load balancing over several instances: who gets which request, and who is left out."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

from components.gateway_workload import GATEWAY
from lab.contracts.access import http_port, request
from lab.contracts.arrangements import applied, patched, pods, until_answered, until_known
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Judge, Recorded, Watch
from lab.contracts.contract import service as through
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import Reply, Request
from lab.infrastructure import JWKS
from lab.kubelet import NODES
from model.access import Catalogue
from model.service import HashOn, Outliers, Service
from model.values import seconds

DOCUMENT = "traffic.md"
NEAR, FAR = "near", "far"
"""In the names of second instances: whether they run in their caller's zone."""
_DRAWN = 200
_DEVIATIONS = 4.5
"""Standard deviations that chance is allowed: once in 150,000 runs it is more."""
_LEAST_SHARE = 0.25
"""Of the requests for each of two instances; they would get half each."""
_KEYS, _TIMES = 24, 3
_FASTER = 5
"""The times of outlier detection are a fifth of those declared, that nobody waits for minutes."""
_STEP = 0.3
"""Seconds between requests whose order matters."""
_SLACK = 2.0


def contracts(facts: Facts) -> Iterator[Contract]:
    """The families `balance` and `outlier`, and of `retry` what takes two instances."""
    catalogue = facts.catalogue
    yield from _sticky(facts, hashed(catalogue))
    yield from _elsewhere(facts, hashed(catalogue))
    yield from _ejected(facts, hashed(catalogue))
    yield from _same_for_all(facts, hashed(catalogue))
    yield from _spread(facts)
    yield from _busy(facts, simply(catalogue, "LEAST_REQUEST"))
    yield from _ejected_in_turn(facts, simply(catalogue, "ROUND_ROBIN"))
    yield from _near(facts, preferring(catalogue))
    yield from _unconnected(facts, writable(catalogue))


# Which services the promises are tried with


def hashed(catalogue: Catalogue) -> Service:
    """One with consistent hashing and no subsets, whose weights would come first."""
    return next(
        one
        for one in catalogue.services
        if isinstance(one.load_balancing, HashOn) and not one.subsets
    )


def simply(catalogue: Catalogue, balancing: str) -> Service:
    """One with that load balancing and no locality preference; the last, so as to be least used."""
    return [
        one
        for one in catalogue.services
        if one.load_balancing == balancing and not one.locality and one.exposed
    ][-1]


def writable(catalogue: Catalogue) -> Service:
    """One with one instance whose writes are repeated; of several the last."""
    return [
        one
        for one in catalogue.services
        if one.load_balancing == "ROUND_ROBIN"
        and one.retries
        and not (one.ai or one.subsets or one.locality)
        and any(route.access == "token" and not route.methods for route in one.routes)
    ][-1]


def preferring(catalogue: Catalogue) -> Service:
    """One with a locality preference."""
    return next(one for one in catalogue.services if one.locality)


def _doubled(catalogue: Catalogue) -> tuple[Service, ...]:
    return (
        hashed(catalogue),
        simply(catalogue, "ROUND_ROBIN"),
        simply(catalogue, "LEAST_REQUEST"),
        preferring(catalogue),
    )


def caller_of(catalogue: Catalogue, callee: Service) -> str:
    """A caller of one instance, where there is such a one."""
    several = {one.name for one in catalogue.services if one.subsets}
    several |= {one.name for one in _doubled(catalogue)}
    callers = catalogue.callers(callee)
    return next((name for name in callers if name not in several), callers[0])


# Two instances of each, in two zones


@contextlib.contextmanager
def two_instances(data_plane: DataPlane) -> Iterator[None]:
    """A second instance of each service, in the other zone; failing ones return sooner.

    Outlier detection has the declared detectors and its times divided by five: the DestinationRule
    that is deployed is patched, so what is not declared in it is not there either.
    """
    services = _doubled(data_plane.catalogue)
    failing = services[:2]
    nodes = _nodes(data_plane)
    copies = [_copy(data_plane, nodes, one) for one in services]
    with contextlib.ExitStack() as stack:
        stack.enter_context(applied(data_plane, copies))
        for one in failing:
            stack.enter_context(_sooner(data_plane, one))
        for one in services:
            until_known(data_plane, caller_of(data_plane.catalogue, one), one.name)
        until_known(data_plane, GATEWAY, hashed(data_plane.catalogue).name)
        yield
    for one in services:
        until_known(data_plane, caller_of(data_plane.catalogue, one), one.name)


def _nodes(data_plane: DataPlane) -> dict[str, str]:
    """Apps and the Node that the first pod of each runs on."""
    pods = data_plane.lab.kubectl.get("pods", f"--namespace={data_plane.settings.namespaces.apps}")
    return {
        pod["metadata"]["labels"].get("app", ""): pod["spec"]["nodeName"] for pod in pods["items"]
    }


def _copy(data_plane: DataPlane, nodes: Mapping[str, str], one: Service) -> dict[str, Any]:
    """A Deployment like the service's own, in the other zone."""
    namespace = data_plane.settings.namespaces.apps
    own = data_plane.lab.kubectl.get(
        "deployments", f"--namespace={namespace}", f"--selector=app={one.name}"
    )
    original = own["items"][0]
    node = next(name for name in NODES if name != nodes[one.name])
    which = NEAR if node == nodes[caller_of(data_plane.catalogue, one)] else FAR
    template = original["spec"]["template"]
    labels = {**template["metadata"]["labels"], "instance": which}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{one.name}-{which}", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {**template["metadata"], "labels": labels},
                "spec": {
                    **template["spec"],
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 2,
                },
            },
        },
    }  # fmt: skip


@contextlib.contextmanager
def _sooner(data_plane: DataPlane, one: Service) -> Iterator[None]:
    namespace = data_plane.settings.namespaces.apps
    rule = data_plane.lab.kubectl.get("destinationrule", one.name, f"--namespace={namespace}")
    declared = rule["spec"].get("trafficPolicy", {}).get("outlierDetection")
    if not declared:
        yield
        return
    times = {name: float(seconds(declared[name])) for name in _ENVOYS if name in declared}
    sooner = {name: time / _FASTER for name, time in times.items()}
    changes = {
        "spec": {
            "trafficPolicy": {
                "outlierDetection": {name: f"{time:g}s" for name, time in sooner.items()}
            }
        }
    }
    caller, port = caller_of(data_plane.catalogue, one), http_port(one).number
    path = (
        f"/config_dump?resource=dynamic_active_clusters&name_regex=outbound.{port}..{one.name}\\..*"
    )

    def has(wanted: Mapping[str, float]) -> None:
        lines = [f'"{_ENVOYS[name]}": "{time:g}s"' for name, time in wanted.items()]
        until_answered(
            data_plane, caller, path,
            lambda answer: all(line in answer for line in lines),
            f"{caller}'s proxy has the outlier detection of {one.name}",
        )  # fmt: skip

    with patched(data_plane, "destinationrule", namespace, one.name, changes):
        has(sooner)
        yield
    has(times)


_ENVOYS = {"interval": "interval", "baseEjectionTime": "base_ejection_time"}
"""The times of outlier detection, as a DestinationRule names them and as Envoy does."""


# The contracts


def _inside(facts: Facts, callee: Service, path: str, *headers: tuple[str, str]) -> Request:
    asked = request(facts, callee, "service", path)
    return asked.with_headers(*headers)


def _sticky(facts: Facts, one: Service) -> Iterator[Contract]:
    assert isinstance(one.load_balancing, HashOn)
    header, caller = one.load_balancing.header, through(caller_of(facts.catalogue, one))
    keys = [f"key-{index % _KEYS}" for index in range(_KEYS * _TIMES)]
    yield Contract(
        "balance.hash",
        "With consistent hashing, requests with the same header value reach the same instance.",
        DOCUMENT,
        tuple(
            Call(
                caller,
                _inside(facts, one, f"/contract?{index}", (header, key)),
                Expect((200,), served_by=one.name),
            )
            for index, key in enumerate(keys)
        ),
        sticky(keys),
        arrangement=two_instances,
    )


def sticky(keys: Sequence[str]) -> Judge:
    """Replies with the same key came from the same instance, and those of all keys from several."""

    def judge(replies: Sequence[Reply]) -> str | None:
        met: dict[str, set[str]] = {}
        for key, reply in zip(keys, replies, strict=True):
            met.setdefault(key, set()).add(reply.served_by)
        loose = {key: sorted(instances) for key, instances in met.items() if len(instances) > 1}
        if loose:
            key, instances = next(iter(loose.items()))
            return f"{len(loose)} of {len(met)} keys are not sticky: {key} met {instances}"
        if len(set().union(*met.values())) < 2:
            return f"all {len(met)} keys met the same instance"
        return None

    return judge


def _same_for_all(facts: Facts, one: Service) -> Iterator[Contract]:
    """Through both gateways by turns, each of which hashes for itself."""
    assert isinstance(one.load_balancing, HashOn)
    header = one.load_balancing.header
    path = next(route.path for route in one.routes if route.access == "token")
    keys = [f"key-{index % _KEYS}" for index in range(_KEYS * 2)]
    yield Contract(
        "balance.hash-gateways",
        "Through whichever gateway they come, clients' requests with the same header value reach"
        " the same instance.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                replace(
                    facts.api(f"{path}/{index}", *facts.bearer(), (header, key)),
                    address=f"gateway:{index // _KEYS}:443",
                ),
                Expect((200,), served_by=one.name),
            )
            for index, key in enumerate(keys)
        ),
        sticky(keys),
        arrangement=two_instances,
    )


def _elsewhere(facts: Facts, one: Service) -> Iterator[Contract]:
    """Through the gateway, whose outlier detection no other contract here makes use of."""
    assert isinstance(one.load_balancing, HashOn)
    # Each call fails once at both instances; once more in a row, and the gateway takes them out.
    failures = (one.outliers.consecutive_5xx or _KEYS) - 1
    path = next(route.path for route in one.routes if route.access == "token")
    if not one.retries:
        return
    yield Contract(
        "retry.elsewhere",
        "A request is repeated at another instance where there is one, also with consistent"
        " hashing; of two instances Envoy draws the same one again in one case of 32.",
        DOCUMENT,
        tuple(
            Call(
                CLIENT,
                facts.api(
                    f"{path}/contract?codes=503",
                    *facts.bearer(),
                    (one.load_balancing.header, f"another-{index}"),
                ),
                Expect((503,), served_by=one.name),
            )
            for index in range(failures)
        ),
        at_once=False,
        watch=tried_at(2, failures // 2),
        arrangement=two_instances,
    )


def tried_at(instances: int, but: int) -> Watch:
    """All but so many requests reached so many instances, as their own proxies say.

    Envoy draws an instance for a repetition six times at most (Istio's hostSelectionRetryMaxAttempts
    is 5) and takes the last, been there or not. The first draw of a hash is always the same, each
    other one is either of two: chance does that to two requests of two once in 1000 runs.
    """

    def watch(_: Sequence[Reply], recorded: Recorded) -> str | None:
        tried = [
            [
                str(line["proxy"])
                for line in lines
                if str(line.get("upstream_cluster", "")).startswith("inbound|")
            ]
            for lines in recorded.lines
        ]
        few = [one for one in tried if len(set(one)) < instances]
        if len(few) > but:
            return f"{len(few)} requests were tried at fewer than {instances} instances: {few[0]}"
        return None

    return watch


def _spread(facts: Facts) -> Iterator[Contract]:
    for balancing in ("ROUND_ROBIN", "LEAST_REQUEST"):
        one = simply(facts.catalogue, balancing)
        call = Call(
            through(caller_of(facts.catalogue, one)),
            _inside(facts, one, "/contract"),
            Expect((200,), served_by=one.name),
        )
        yield Contract(
            f"balance.{balancing.lower().replace('_', '-')}",
            "With ROUND_ROBIN and LEAST_REQUEST, every instance of a service gets requests.",
            DOCUMENT,
            (call,) * 80,
            evenly(2),
            arrangement=two_instances,
        )


_QUICK = 240
_APART = 0.015
"""Seconds between requests of which each is answered before the next, mostly."""


def _busy(facts: Facts, one: Service) -> Iterator[Contract]:
    """One instance is occupied with a request that lasts; the others come one after the other."""
    caller = through(caller_of(facts.catalogue, one))
    lasting = _QUICK * _APART + 2
    slow = replace(
        _inside(facts, one, f"/contract?delay={lasting:g}s"), method="POST", timeout=lasting + 15
    )
    quick = Call(caller, _inside(facts, one, "/contract"), Expect((200,), served_by=one.name))
    yield Contract(
        "balance.busy",
        "With LEAST_REQUEST, of two instances the one with fewer requests under way is preferred:"
        " it gets three quarters of those that come one by one while the other is busy.",
        DOCUMENT,
        (
            Call(caller, slow, Expect((200,), served_by=one.name)),
            *(replace(quick, after=0.3 + index * _APART) for index in range(_QUICK)),
        ),
        spared,
        arrangement=two_instances,
    )


def spared(replies: Sequence[Reply]) -> str | None:
    """The instance that answered the first request got a quarter of the others at most.

    Envoy draws two instances, be they the same, and takes the one with fewer requests: the busy one
    is taken where it was drawn twice. Chance allows some more.
    """
    first, rest = replies[0].served_by, replies[1:]
    got, number = sum(reply.served_by == first for reply in rest), len(rest)
    most = number / 4 + _DEVIATIONS * sqrt(number * 3 / 16)
    if not number or got > most:
        return f"the busy instance got {got} of {number} requests; chance allows {most:.0f}"
    return None


def evenly(instances: int) -> Judge:
    """So many instances answered, none far less often than the others."""

    def judge(replies: Sequence[Reply]) -> str | None:
        counts = Counter(reply.served_by for reply in replies)
        least = len(replies) / instances * 2 * _LEAST_SHARE
        if len(counts) != instances or min(counts.values()) < least:
            return f"{instances} instances share {len(replies)} requests like this: {dict(counts)}"
        return None

    return judge


def _near(facts: Facts, one: Service) -> Iterator[Contract]:
    assert one.locality
    if len(facts.settings.zones) < 2:
        return
    call = Call(
        through(caller_of(facts.catalogue, one)),
        _inside(facts, one, "/contract"),
        Expect((200,), served_by=one.name),
    )
    yield Contract(
        "balance.locality",
        "With a locality preference, the declared share of the requests stays in the caller's"
        " zone.",
        DOCUMENT,
        (call,) * _DRAWN,
        stayed(one.name, one.locality.own_zone_percent / 100),
        arrangement=two_instances,
    )


def stayed(name: str, share: float) -> Judge:
    """Within what chance allows, that share of the requests met the instance in their zone.

    Of two instances one says by its name where it is, so the other is not there.
    """

    def judge(replies: Sequence[Reply]) -> str | None:
        total = len(replies)
        near, far = (
            sum(reply.served_by.startswith(f"{name}-{which}-") for reply in replies)
            for which in (NEAR, FAR)
        )
        if not near + far:
            return "the second instance got no request, so all stayed or all went"
        stayed = near or total - far
        allowed = _DEVIATIONS * sqrt(total * share * (1 - share))
        if abs(stayed - total * share) > allowed:
            return (
                f"{stayed} of {total} requests stayed in the caller's zone;"
                f" chance allows {total * share:.0f} ± {allowed:.0f}"
            )
        return None

    return judge


_OUTLIER = (
    "An instance that fails as often in a row as declared is taken out of load balancing for the"
    " declared time, and comes back."
)


def _ejected(facts: Facts, one: Service) -> Iterator[Contract]:
    """One instance of a service with hashing: the header chooses which one fails."""
    many = one.outliers.consecutive_5xx
    assert isinstance(one.load_balancing, HashOn)
    if not many:
        return
    caller = through(caller_of(facts.catalogue, one))
    key = (one.load_balancing.header, "the-failing-one")
    asked = _inside(facts, one, "/contract", key)
    good = Call(caller, asked, Expect((200,), served_by=one.name))
    bad = Call(
        caller,
        replace(asked, method="POST", path="/contract?codes=500"),
        Expect((500,), served_by=one.name),
    )
    # Once less than declared, twice over: an answer in between begins the count anew.
    first = (good, *(bad,) * (many - 1)) * 2 + (good,) + (bad,) * many
    calls = [replace(call, after=index * _STEP) for index, call in enumerate(first)]
    out, interval = _soon(one.outliers)
    ejected = calls[-1].after
    gone = [replace(good, after=ejected + out * part) for part in (0.15, 0.4, 0.7)]
    # It is let in at the end of an interval.
    back = replace(good, after=ejected + out + interval + _SLACK)
    yield Contract(
        "outlier.5xx",
        _OUTLIER,
        DOCUMENT,
        (*calls, *gone, back),
        left_out(before=len(calls), during=len(gone)),
        patient=True,
        arrangement=two_instances,
    )


def _soon(outliers: Outliers) -> tuple[float, float]:
    """How long an instance is out, and how often it is looked at, in the arranged mesh."""
    times = (outliers.base_ejection, outliers.interval)
    out, interval = (float(seconds(time)) / _FASTER for time in times)
    return out, interval


def left_out(before: int, during: int) -> Judge:
    """One instance answered first, another while it was out, and the same one afterwards."""

    def judge(replies: Sequence[Reply]) -> str | None:
        names = [reply.served_by for reply in replies]
        chosen, instead, after = names[:before], names[before : before + during], names[-1]
        if len(set(chosen)) > 1:
            return f"before it had failed often enough, {chosen[0]} was left out: {chosen}"
        if chosen[0] in instead:
            return f"{chosen[0]} failed as often as declared and was asked again: {instead}"
        if after != chosen[0]:
            return f"{chosen[0]} did not come back, {after} answered"
        return None

    return judge


def _ejected_in_turn(facts: Facts, one: Service) -> Iterator[Contract]:
    """Both instances of a service fail: one is taken out, and the other must stay."""
    many = one.outliers.consecutive_gateway
    if not many or one.outliers.max_ejection_percent > 50:
        return
    caller = through(caller_of(facts.catalogue, one))
    asked = _inside(facts, one, "/contract")
    good = Call(caller, asked, Expect((200,), served_by=one.name))
    bad = Call(
        caller,
        replace(asked, method="POST", path="/contract?codes=503"),
        Expect((503,), served_by=one.name),
    )
    # In turn, so once less than declared for each, and nobody is out yet.
    few = (bad,) * (2 * (many - 1)) + (good,) * _ROUND
    first = few + (bad,) * (2 * many)
    calls = [replace(call, after=index * _STEP) for index, call in enumerate(first)]
    out, interval = _soon(one.outliers)
    ejected = calls[-1].after
    gone = [replace(good, after=ejected + out * 0.1 * (1 + part)) for part in range(_ROUND)]
    back = [
        replace(good, after=ejected + out + interval + _SLACK + part * _STEP)
        for part in range(_ROUND)
    ]
    yield Contract(
        "outlier.gateway",
        _OUTLIER,
        DOCUMENT,
        (*calls, *gone, *back),
        one_left(len(few), len(calls)),
        patient=True,
        arrangement=two_instances,
    )


_ROUND = 6
"""Requests that surely meet both of two instances that take turns."""


def one_left(few: int, before: int) -> Judge:
    """Two answered until one was out, one alone while it was, two afterwards."""

    def judge(replies: Sequence[Reply]) -> str | None:
        names = [reply.served_by for reply in replies]
        parts = (names[few - _ROUND : few], names[before : before + _ROUND], names[-_ROUND:])
        first, during, after = (len(set(part)) for part in parts)
        if first != 2:
            return f"before they had failed often enough, {first} of 2 instances answered"
        if during != 1:
            return f"both failed as often as declared, and {during} answered, not 1"
        if after != 2:
            return f"the instance that was out did not come back: {parts[2]}"
        return None

    return judge


# An address where nobody listens


@contextlib.contextmanager
def unconnectable(data_plane: DataPlane) -> Iterator[None]:
    """A second instance of a service, at which every connection is refused.

    It is an address of a pod that serves something else, in an EndpointSlice of its own, as the
    instance of a node would be whose pod has just gone.
    """
    one = writable(data_plane.catalogue)
    port, namespace = http_port(one), data_plane.settings.namespaces.apps
    address = str(pods(data_plane, app=JWKS)[0]["address"])
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{one.name}-unconnectable",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": one.name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": port.name, "port": port.number, "protocol": "TCP"}],
    }
    with applied(data_plane, [piece]):
        for app in (GATEWAY, caller_of(data_plane.catalogue, one)):
            until_answered(
                data_plane, app, "/clusters",
                lambda answer: f"::{address}:{port.number}::health_flags::healthy" in answer,
                f"{app} knows an instance of {one.name} at {address}",
            )  # fmt: skip
        yield
    for app in (GATEWAY, caller_of(data_plane.catalogue, one)):
        until_known(data_plane, app, one.name)


_TURNS = 4


def _unconnected(facts: Facts, one: Service) -> Iterator[Contract]:
    caller = through(caller_of(facts.catalogue, one))
    path = next(r.path for r in one.routes if r.access == "token" and not r.methods)
    served = Expect((200,), served_by=one.name)
    writes = ("POST", "PUT", "PATCH", "DELETE")
    yield Contract(
        "retry.unconnected",
        "A write is repeated as often as declared when no connection could be opened or the service"
        " refused to take it, and after no other failure.",
        DOCUMENT,
        tuple(
            call
            for index in range(_TURNS)
            for call in (
                Call(
                    CLIENT,
                    facts.api(f"{path}/1", *facts.bearer(), method=writes[index % len(writes)]),
                    served,
                ),
                Call(
                    caller,
                    replace(_inside(facts, one, "/contract"), method=writes[index % len(writes)]),
                    served,
                ),
            )
        ),
        repeated,
        at_once=False,
        watch=once,
        arrangement=unconnectable,
    )


def repeated(replies: Sequence[Reply]) -> str | None:
    """Some requests of both callers met the instance that refuses them, and reached the other."""
    for number, who in enumerate(("clients", "services")):
        attempts = [one for reply in replies[number::2] for one in reply.seen(_ATTEMPTS)]
        if not any(one.isdigit() and int(one) > 1 for one in attempts):
            return f"no write of {who} was repeated, attempts were {attempts}"
    return None


_ATTEMPTS = "x-envoy-attempt-count"


def once(_: Sequence[Reply], recorded: Recorded) -> str | None:
    """The service saw each request once."""
    for lines in recorded.lines:
        seen = sum(str(line.get("upstream_cluster", "")).startswith("inbound|") for line in lines)
        if seen != 1:
            return f"the service saw a request {seen} times"
    return None
