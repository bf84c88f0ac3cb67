"""Limits on what one request may cost: time, tries, faults left in, origins of browsers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.origins import foreign_origin
from policies.patches import fields, patches
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Setting,
    Severity,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.routing import every_route, http_routes, seconds, traffic_policies
from policies.stack import Stack

_VIRTUAL_SERVICE = "https://istio.io/latest/docs/reference/config/networking/virtual-service/"
_DESTINATION_RULE = "https://istio.io/latest/docs/reference/config/networking/destination-rule/"
_IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}
_NEVER_HANDLED = {"connect-failure", "refused-stream", "reset-before-request"}


@stack_policy(
    "route-timeout",
    title="Every route has a timeout within bounds",
    severity=Severity.MEDIUM,
    text="Each route that forwards has a timeout, above zero and not above the bound. Istio's "
    "default is none: a hanging service holds its callers' connections for ever.",
    remedy="Set timeout on the route.",
    url=_VIRTUAL_SERVICE + "#HTTPRoute",
    settings={
        "maximum": Setting("number", 3600, "Longest timeout, in seconds.", minimum=1, maximum=86400)
    },
)
def timeout(stack: Stack, config: Config) -> Iterator[Finding]:
    """Looks at each route that forwards."""
    for route in every_route(stack):
        if not route.forwards:
            continue
        limit = seconds(route.route.get("timeout"))
        path = f"{route.path}.timeout"
        if not limit:
            yield Finding(route.virtual_service, path, f"route {route.named} has no timeout")
        elif limit > config["maximum"]:
            message = f"route {route.named} may take {limit}s, above {config['maximum']}s"
            yield Finding(route.virtual_service, path, message)


@stack_policy(
    "retries-fit-timeout",
    title="Retries fit into the timeout",
    severity=Severity.MEDIUM,
    text="All tries together take no longer than the route's timeout, and there are not too many "
    "of them. Tries beyond the timeout never run; many tries turn one slow service into an "
    "overload of it.",
    remedy="Lower attempts or perTryTimeout.",
    url=_VIRTUAL_SERVICE + "#HTTPRetry",
    settings={
        "maximum": Setting("number", 5, "Most retries of one request.", minimum=0, maximum=10)
    },
)
def retries_fit(stack: Stack, config: Config) -> Iterator[Finding]:
    """Multiplies tries and time."""
    for route in every_route(stack):
        retries = route.route.get("retries") or {}
        attempts = int(retries.get("attempts") or 0)
        path = f"{route.path}.retries"
        if attempts > config["maximum"]:
            message = f"{attempts} retries on route {route.named}, above {config['maximum']}"
            yield Finding(route.virtual_service, path, message)
        each, limit = seconds(retries.get("perTryTimeout")), seconds(route.route.get("timeout"))
        if attempts and each and limit and each * (attempts + 1) > limit:
            message = f"{attempts + 1} tries of {each}s do not fit into {limit}s on {route.named}"
            yield Finding(route.virtual_service, f"{path}.perTryTimeout", message)


@stack_policy(
    "retries-idempotent",
    title="Requests that change something are not repeated",
    severity=Severity.HIGH,
    text="A route that takes POST or PATCH is retried only after failures of which it is certain "
    "that the service saw nothing (connect-failure, refused-stream, reset-before-request). Istio's "
    "defaults repeat more; an AI call that is repeated is paid for twice.",
    remedy="Set retries.attempts to 0, or retryOn to those three.",
    url=_VIRTUAL_SERVICE + "#HTTPRetry",
)
def retries_idempotent(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at routes that take methods which are not idempotent."""
    for route in every_route(stack):
        if not route.forwards or (route.methods is not None and route.methods <= _IDEMPOTENT):
            continue
        retries: Mapping[str, Any] | None = route.route.get("retries")
        path = f"{route.path}.retries"
        if retries is None:
            yield Finding(
                route.virtual_service,
                path,
                f"route {route.named} leaves retries to Istio's defaults",
            )
        elif int(retries.get("attempts") or 0) and (bad := _repeats(retries)):
            message = f"route {route.named} repeats requests after {', '.join(sorted(bad))}"
            yield Finding(route.virtual_service, f"{path}.retryOn", message)


def _repeats(retries: Mapping[str, Any]) -> set[str]:
    conditions = {c.strip() for c in str(retries.get("retryOn") or "").split(",") if c.strip()}
    return (conditions or {"Istio's default failures"}) - _NEVER_HANDLED


@object_policy(
    "no-faults-left",
    "VirtualService",
    title="No faults are injected",
    severity=Severity.HIGH,
    text="No route delays or aborts requests on purpose. Faults are for experiments, which end.",
    remedy="Delete the fault.",
    url=_VIRTUAL_SERVICE + "#HTTPFaultInjection",
)
def no_faults(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for fault injection."""
    for route in http_routes(item):
        if route.route.get("fault"):
            yield Finding(item, f"{route.path}.fault", f"route {route.named} injects faults")


@stack_policy(
    "route-sets-no-claim",
    title="No route writes a verified header",
    severity=Severity.HIGH,
    text="No route and no EnvoyFilter sets or adds a request header that a RequestAuthentication "
    "fills from a verified claim. Services take it for what the token says.",
    remedy="Use another header.",
    url=_VIRTUAL_SERVICE + "#Headers",
)
def sets_no_claim(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares headers of routes and destinations with those of outputClaimToHeaders."""
    claims = {
        str(output.get("header", "")).lower()
        for item in stack.of("RequestAuthentication")
        for rule in spec_of(item).get("jwtRules") or ()
        for output in rule.get("outputClaimToHeaders") or ()
    }
    for route in every_route(stack) if claims else ():
        places = [
            (route.path, route.route.get("headers")),
            *(
                (f"{route.path}.route[{index}]", entry.get("headers"))
                for index, entry in enumerate(route.route.get("route") or ())
            ),
        ]
        for path, headers in places:
            request = (headers or {}).get("request") or {}
            for how in ("set", "add"):
                for name in request.get(how) or ():
                    if str(name).lower() in claims:
                        where = f"{path}.headers.request.{how}"
                        yield Finding(route.virtual_service, where, f"{name} comes from a token")
    for item in stack.of("EnvoyFilter") if claims else ():
        for path, _applies_to, _match, patch in patches(item):
            for where, field, header in fields(f"{path}.patch.value", patch["value"]):
                name = header.get("key") if field == "header" and isinstance(header, dict) else None
                if str(name).lower() in claims:
                    yield Finding(item, where, f"{name} comes from a token")


@object_policy(
    "cors-origins",
    "VirtualService",
    title="Browsers of named origins only",
    severity=Severity.HIGH,
    text="CORS lists origins. One that a foreign page's origin matches too (a prefix that somebody's "
    "host can begin with, a regular expression that is not tied to a domain, `null`) lets that page "
    "use the API, together with credentials as whoever is signed in.",
    remedy="List the platform's own origins as exact matches.",
    url=_VIRTUAL_SERVICE + "#CorsPolicy",
)
def cors_origins(item: Object, _: Config) -> Iterator[Finding]:
    """Tries origins of foreign pages against each CORS policy."""
    for route in http_routes(item):
        cors = route.route.get("corsPolicy") or {}
        for origin in [*(cors.get("allowOrigins") or ()), *(cors.get("allowOrigin") or ())]:
            if (foreign := foreign_origin(origin)) is not None:
                message = f"route {route.named} lets pages of other origins call it: {foreign}"
                yield Finding(item, f"{route.path}.corsPolicy.allowOrigins", message)
                break


@object_policy(
    "destination-bounded",
    "DestinationRule",
    title="Callers are limited and bad instances are taken out",
    severity=Severity.MEDIUM,
    text="A DestinationRule for a Service limits connections or requests and ejects instances "
    "that fail, not all of them at once. Locality preferences work only with outlier detection.",
    remedy="Set trafficPolicy.connectionPool and outlierDetection; keep maxEjectionPercent below "
    "100.",
    url=_DESTINATION_RULE + "#OutlierDetection",
    enforcement=Enforcement.ADVISORY,
    reason="a DestinationRule may exist for TLS or subsets alone",
)
def destination_bounded(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the top level, which holds where nothing more specific does."""
    top = dict(traffic_policies(item)).get("spec.trafficPolicy", {})
    if not top.get("connectionPool"):
        yield Finding(item, "spec.trafficPolicy.connectionPool", "nothing limits callers")
    outliers = top.get("outlierDetection") or {}
    detectors = [
        outliers.get(name)
        for name in (
            "consecutive5xxErrors",
            "consecutiveGatewayErrors",
            "consecutiveLocalOriginFailures",
        )
    ]
    path = "spec.trafficPolicy.outlierDetection"
    if not outliers or (all(d is not None for d in detectors[:2]) and not any(detectors)):
        yield Finding(item, path, "no failing instance is taken out")
    elif int(outliers.get("maxEjectionPercent") or 0) >= 100:
        yield Finding(item, f"{path}.maxEjectionPercent", "all instances may be taken out at once")
