"""Metrics: what Prometheus gets of a proxy, and the labels that istiod asks Istio's proxies for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from components.gateway_workload import GATEWAY, GATEWAY_LABELS
from components.request_fields import MODEL_HEADER, TOKENS_HEADER
from lab import proxy_admin, pushed
from lab.contracts.contract import CLIENT, PLAIN, Call, Contract, Expect, Inspection
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.exchange import Reply, Request
from mesh import parts
from model.service import Service

DOCUMENT = "telemetry.md"
_MERGED = 15020

_OK = Expect((200,))
_APPLICATION = "istio_echo_"
"""How the echo server's own metrics begin."""
_UNTIL_NEEDED = frozenset({"envoy_cluster_ratelimit_error"})
"""Counters that Envoy makes when they count for the first time."""
_LIMITED = "envoy_cluster_ratelimit_over_limit"
_SECONDS_IDLE = "1800s"
Labels = Mapping[str, Mapping[str, str]]
"""For each metric its further labels, as expressions."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `metric`."""
    yield _looked_at(
        "metric.labels",
        "The labels of the table are on the metrics of the table and on no others: no tenant on a"
        " histogram, no user unless it is asked for.",
        lambda data_plane: _labels(facts, data_plane),
    )
    yield _looked_at(
        "metric.one-side",
        "A label is put on at one side of a request, the service's or the gateway's, never at its"
        " caller's.",
        lambda data_plane: _one_side(facts, data_plane),
    )
    yield _looked_at(
        "metric.gateway-tenant",
        "At the gateway the tenant comes from the verified token, so that no one outside can make"
        " up series.",
        lambda data_plane: _gateway_tenant(facts, data_plane),
    )
    yield _looked_at(
        "metric.tokens",
        "`istio_ai_tokens_total` counts `x-token-count` of the answers at each AI service's own"
        " proxy.",
        lambda data_plane: _tokens(facts, data_plane),
    )
    yield _looked_at(
        "metric.dropped",
        "A series that nothing touched for 30 minutes is dropped by the proxy.",
        lambda data_plane: _dropped(facts, data_plane),
    )
    yield _scraped(facts)
    yield _published(facts)


def _looked_at(name: str, sentence: str, inspection: Inspection) -> Contract:
    return Contract(name, sentence, DOCUMENT, (), pushed=inspection)


# Pushed to proxies of Istio's own build


def _labels(facts: Facts, data_plane: DataPlane) -> str | None:
    headers = facts.settings.authentication
    chosen = facts.settings.telemetry.metrics
    who = {}
    if chosen.tenant:
        who["tenant_id"] = _of_request(headers.tenant.header)
    if chosen.user:
        who["user_id"] = _of_request(headers.user.header)
    model = {"ai_model": _of_answer(MODEL_HEADER)} if chosen.model else {}
    for one in facts.catalogue.services:
        wanted: dict[str, dict[str, str]] = {"requests_total": who}
        if one.ai:
            wanted = {
                "requests_total": {**who, **model},
                "request_duration_milliseconds": model,
                "ai_tokens_total": {**who, **model},
            }
        found = [labelled(config) for config in _of_service(facts, data_plane, one, "INBOUND")]
        if wrong := differs(one.name, found, wanted):
            return wrong
    return None


def differs(name: str, found: Sequence[Labels], wanted: Labels) -> str | None:
    """What is wrong with the labels that a proxy is told to put on; every filter must have them."""
    wanted = {metric: labels for metric, labels in wanted.items() if labels}
    if not found:
        return f"{name}: istiod pushes no filter istio.stats"
    for labels in found:
        if labels != wanted:
            return f"{name}: labels are {json.dumps(labels)}, must be {json.dumps(wanted)}"
    return None


def labelled(config: pushed.Config) -> dict[str, dict[str, str]]:
    """The further labels of each metric in a configuration of istio.stats."""
    return {one["name"]: dict(one["dimensions"]) for one in config.get("metrics", ())}


def _one_side(facts: Facts, data_plane: DataPlane) -> str | None:
    for one in facts.catalogue.services:
        for config in _of_service(facts, data_plane, one, "OUTBOUND"):
            if labels := labelled(config):
                return f"{one.name} labels what it asks of others: {json.dumps(labels)}"
    return None


def _gateway_tenant(facts: Facts, data_plane: DataPlane) -> str | None:
    names, chosen = facts.settings.authentication, facts.settings.telemetry.metrics
    who = {}
    if chosen.tenant:
        who["tenant_id"] = _of_token(names.tenant.claim)
    if chosen.user:
        who["user_id"] = _of_token(names.user.claim)
    found = pushed.listeners(
        data_plane, "router", facts.settings.namespaces.mesh, GATEWAY_LABELS
    )  # fmt: skip
    labels = [labelled(config) for config in pushed.stats(found, "OUTBOUND")]
    return differs("the gateway", labels, {"requests_total": who})


def _tokens(facts: Facts, data_plane: DataPlane) -> str | None:
    counter = [
        {"name": "ai_tokens_total", "value": f"int({_of_answer(TOKENS_HEADER)})"}
    ]  # fmt: skip
    for one in facts.catalogue.services:
        for config in _of_service(facts, data_plane, one, "INBOUND"):
            # COUNTER is the default, and left out.
            found = [
                {key: value for key, value in metric.items() if key != "type"}
                for metric in config.get("definitions", ())
            ]
            if found != (counter if one.ai else []):
                return f"{one.name} is told to count {json.dumps(found) if found else 'nothing'}"
    return None


def _of_service(
    facts: Facts, data_plane: DataPlane, one: Service, direction: str
) -> list[pushed.Config]:
    found = pushed.listeners(
        data_plane, "sidecar", facts.settings.namespaces.apps, {"app": one.name}
    )
    return list(pushed.stats(found, "INBOUND" if direction == "INBOUND" else "OUTBOUND"))


def _of_request(header: str) -> str:
    return f"request.headers['{header}']"


def _of_answer(header: str) -> str:
    return f"response.headers['{header}']"


def _of_token(claim: str) -> str:
    return f"metadata.filter_metadata['envoy.filters.http.jwt_authn']['payload']['{claim}']"


def _dropped(facts: Facts, data_plane: DataPlane) -> str | None:
    """What the proxies were started with: half an hour is too long to wait for."""
    for app in (*facts.catalogue.names, GATEWAY):
        for answer in proxy_admin.answers(data_plane, app, "/config_dump?mask=bootstrap"):
            for part in json.loads(answer)["configs"]:
                told = part.get("bootstrap", {}).get("stats_eviction_interval")
                if told != _SECONDS_IDLE:
                    return f"{app} drops series after {told}, must be {_SECONDS_IDLE}"
    return None


# Served to Prometheus


def _scraped(facts: Facts) -> Contract:
    """By a pod without identity, as Prometheus is one."""
    names = [one.name for one in facts.catalogue.services if any(p.metrics for p in one.ports)]

    def judge(replies: Sequence[Reply]) -> str | None:
        for name, reply in zip((*names, GATEWAY), replies, strict=True):
            if wrong := unmerged(reply.body, application=name != GATEWAY):
                return f"{name}: {wrong}"
        return None

    return Contract(
        "metric.scraped",
        "Port 15020 of each proxy gives its metrics and its application's at one address, in clear"
        " text.",
        DOCUMENT,
        tuple(Call(PLAIN, _scrape(f"pod:{name}"), _OK) for name in (*names, GATEWAY)),
        judge=judge,
    )


def unmerged(body: str, *, application: bool) -> str | None:
    """What is missing of the metrics that a proxy serves; None where nothing is."""
    found = names_in(body)
    if not any(name.startswith("envoy_") for name in found):
        return "no metrics of the proxy"
    if application and not any(name.startswith(_APPLICATION) for name in found):
        return "no metrics of the application"
    return None


def _published(facts: Facts) -> Contract:
    """After requests beyond a limit, each gateway and a service with circuit breakers is scraped."""
    login = next(route for _, route in facts.catalogue.exposures if route.login)
    method = (login.methods or ("GET",))[0]
    allowance = facts.settings.rate_limits.login
    source = ("x-forwarded-for", facts.client(77))
    traffic = tuple(
        Call(CLIENT, facts.api(login.path, source, method=method), Expect((200, 429)))
        for _ in range(allowance.requests + 2)
    )
    gateways = ("gateway:0", "gateway:1")
    places = (*gateways, f"pod:{facts.catalogue.services[0].name}")
    wanted = alerted(facts) - _UNTIL_NEEDED

    def judge(replies: Sequence[Reply]) -> str | None:
        served = set().union(*(names_in(reply.body) for reply in replies[-len(places) :]))
        missing = [
            name for name in sorted(wanted) if not any(re.fullmatch(name, one) for one in served)
        ]
        if missing:
            return f"alerts ask for {', '.join(missing)}, which no proxy gives"
        # A statistic that was published once stays; it must count.
        before, after = (
            sum(counted(reply.body, _LIMITED) for reply in found)
            for found in (replies[: len(gateways)], replies[-len(places) :])
        )
        return None if after > before else f"{_LIMITED} does not count what limits refuse"

    return Contract(
        "metric.alerted",
        "The statistics that alerts need are published: circuit breakers, overflow, ejections, rate"
        " limits, and the expiry of the gateway's certificate.",
        DOCUMENT,
        (
            *(Call(PLAIN, _scrape(place), _OK) for place in gateways),
            *traffic,
            *(Call(PLAIN, _scrape(place), _OK) for place in places),
        ),
        judge=judge,
        at_once=False,
        clear_of_minute=5.0,
    )


def alerted(facts: Facts) -> set[str]:
    """Names of Envoy's statistics in the expressions of all alerts."""
    found: set[str] = set()
    for part in parts(facts.stack, facts.settings, facts.catalogue):
        for one in part.objects() if part.name == "monitoring" else ():
            if isinstance(one, Mapping) and one.get("kind") == "PrometheusRule":
                for group in one["spec"]["groups"]:
                    for rule in group["rules"]:
                        found |= statistics(rule["expr"])
    return found


def statistics(expression: str) -> set[str]:
    """Names of Envoy's statistics in an expression, as regular expressions.

    Alternatives like `a_(b|c)_d` are each there, for each of them is needed.
    """
    found = set()
    for text in re.findall(r"envoy_[a-z0-9_.*()|]*[a-z0-9_)]", expression):
        before, *rest = re.split(r"\(([a-z_|]+)\)", text)
        if rest:
            middle, after = rest[0], "".join(rest[1:])
            found |= {f"{before}{each}{after}" for each in middle.split("|")}
        else:
            found.add(text)
    return found


def names_in(body: str) -> set[str]:
    """Names of the metrics in what a scrape gave."""
    return set(re.findall(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)[ {]", body, re.MULTILINE))


def counted(body: str, name: str) -> float:
    """The sum of a metric's series in what a scrape gave."""
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)", body, re.MULTILINE)))


def _scrape(place: str) -> Request:
    request = Request(f"{place}:{_MERGED}", place.split(":")[-1], path="/stats/prometheus")
    return replace(request, timeout=30.0)
