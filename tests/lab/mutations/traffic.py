"""Mistakes in routes, timeouts, retries, weights and cohorts."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tests.lab.mutations.mutation import Mutation, Object, Objects, named, of_kind
from tests.lab.mutations.policies import operation, policy

_DOMAIN = "dev.voiceassistant.com"
_API, _GRPC = f"api.{_DOMAIN}", f"grpc.{_DOMAIN}"


def _routes(objects: Objects, name: str, suffix: str = "") -> list[Object]:
    """A VirtualService's routes, those whose name ends so."""
    found = named(objects, "VirtualService", name)["spec"]["http"]
    return [one for one in found if one["name"].endswith(suffix)]


def _rewritten(objects: Objects) -> None:
    for one in of_kind(objects, "VirtualService"):
        if one["spec"]["hosts"] != [_API]:
            continue
        for route in one["spec"]["http"]:
            path = next(uri["uri"]["exact"] for uri in route["match"] if "exact" in uri["uri"])
            for match in route["match"]:
                if "prefix" in match["uri"]:
                    match["uri"]["prefix"] = path
            route["rewrite"] = {"uri": f"{path}/v2"}


def _wrong_port(objects: Objects) -> None:
    for route in _routes(objects, "rag-engine"):
        route["route"][0]["destination"]["port"]["number"] = 8003


def _bare_domain(objects: Objects) -> None:
    for server in named(objects, "Gateway", "public")["spec"]["servers"]:
        if server["name"] == "https-api":
            server["hosts"].append(f"voiceassistant-dev/{_DOMAIN}")
    named(objects, "VirtualService", "identity-service")["spec"]["hosts"].append(_DOMAIN)
    operation(policy(objects, "gateway-token"), "/api/v1/users")["hosts"].append(_DOMAIN)


def _misspelt(objects: Objects) -> None:
    for route in _routes(objects, "conversation-service-grpc"):
        for match in route["match"]:
            match["uri"]["prefix"] = "/conversation.v1.Conversations/"


def _another_method(objects: Objects) -> None:
    """A gRPC service that nobody declared is reached through another's route."""
    path = "/proto.EchoTestService/"
    for name in ("gateway-token", "identity-service-gateway"):
        operation(policy(objects, name), "/identity.v1.Identity/*")["paths"].append(f"{path}*")
    for route in _routes(objects, "identity-service-grpc"):
        for match in copy.deepcopy(route["match"]):
            match["uri"]["prefix"] = path
            route["match"].append(match)


def _socket_on_api(objects: Objects) -> None:
    operation(policy(objects, "gateway-token"), "/ws/voice")["hosts"].append(_API)
    named(objects, "VirtualService", "voice-engine-ws")["spec"]["hosts"].append(_API)


def _longer(objects: Objects) -> None:
    for route in _routes(objects, "notification-service-mesh", ".write"):
        route["timeout"] = "30s"


def _fewer_tries(objects: Objects) -> None:
    for route in _routes(objects, "knowledge-service-mesh", ".read"):
        route["retries"]["attempts"] = 1


def _timeout(name: str, timeout: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for route in _routes(objects, name):
            route["timeout"] = timeout

    return change


def _on_reset(objects: Objects) -> None:
    """Writes are repeated when the connection breaks, be it after the service has seen them."""
    for name in ("retrieval-service", "retrieval-service-mesh"):
        for route in _routes(objects, name, ".write"):
            route["retries"]["retryOn"] += ",reset"


def _writes_never_repeated(objects: Objects) -> None:
    for name in ("notification-service", "notification-service-mesh"):
        for route in _routes(objects, name, ".write"):
            route["retries"] = {"attempts": 0}


def _on(host: str, name: str, path: str) -> Callable[[Objects], None]:
    """The routes of a service are served on another public host as well."""

    def change(objects: Objects) -> None:
        named(objects, "VirtualService", name)["spec"]["hosts"].append(host)
        operation(policy(objects, "gateway-token"), path)["hosts"].append(host)

    return change


def _writes_repeated(name: str, suffix: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for route in _routes(objects, name, suffix):
            route["retries"] = {"attempts": 2, "retryOn": "gateway-error,connect-failure"}

    return change


def _halved(service: str, *names: str) -> Callable[[Objects], None]:
    """The canary gets half of its share on these routes."""

    def change(objects: Objects) -> None:
        for name in names:
            (route,) = _routes(objects, service, name)
            first, canary = route["route"]
            canary["weight"] //= 2
            first["weight"] = 100 - canary["weight"]

    return change


def _halved_on_one(objects: Objects) -> None:
    for route in _routes(objects, "conversation-service-ws", ".websocket"):
        _, canary = route["route"]
        canary["weight"] //= 2
        route["route"][0]["weight"] = 100 - canary["weight"]


def _cookie_alone(objects: Objects) -> None:
    """The cookie is found only where it is the one cookie."""
    for route in _routes(objects, "identity-service", ".canary-2"):
        for match in route["match"]:
            match["headers"]["cookie"] = {"exact": "cohort=beta"}


def _cookies_like_it(objects: Objects) -> None:
    """A cookie is the cohort's whatever stands around it."""
    for name in ("identity-service", "identity-service-mesh"):
        for route in _routes(objects, name, ".canary-2"):
            for match in route["match"]:
                match["headers"]["cookie"] = {"regex": ".*cohort=beta.*"}


def _headers_like_it(objects: Objects) -> None:
    for route in _routes(objects, "conversation-service-mesh", ".canary-1"):
        for match in route["match"]:
            match["headers"]["x-cohort"] = {"prefix": "beta"}


def _calls_forgotten(objects: Objects) -> None:
    """A cohort's cookie is not looked at in gRPC calls."""
    spec = named(objects, "VirtualService", "identity-service-grpc")["spec"]
    spec["http"] = [one for one in spec["http"] if not one["name"].endswith(".canary-2")]


def _header_forgotten_inside(objects: Objects) -> None:
    spec = named(objects, "VirtualService", "conversation-service-mesh")["spec"]
    spec["http"] = [one for one in spec["http"] if not one["name"].endswith(".canary-1")]


MUTATIONS = (
    Mutation(
        "route.rewritten",
        "paths are rewritten on their way to the services",
        (
            *("route.identity-service", "route.conversation-service", "route.knowledge-service"),
            *("route.ai-orchestrator", "route.model-router", "route.agent-engine"),
            *("route.rag-engine", "route.retrieval-service", "route.voice-engine"),
            *("route.multimodal-engine", "route.analytics-service", "route.notification-service"),
            "path.normalised",
        ),
        _rewritten,
    ),
    Mutation(
        "route.wrong-port",
        "a service's routes name a port that it does not have",
        (
            *(
                "route.rag-engine",
                "tenant.claims",
                "tenant.list",
                "path.normalised",
                "method.every",
            ),
            *("body.limit", "retry.ai", "outage.open.*", "limit.headers", "log.fields", "log.ai"),
            *("trace.share.ai", "trace.tags-of-ai"),
        ),
        _wrong_port,
    ),
    Mutation(
        "route.bare-domain",
        "the API is served on the bare domain as well",
        ("route.unknown",),
        _bare_domain,
    ),
    Mutation(
        "route.grpc-misspelt",
        "the name of a gRPC service is misspelt in its route",
        (
            *("route.grpc", "tenant.claims-grpc", "cohort.conversation-service"),
            *("trace.share.websocket", "limit.headers.upgrades"),
        ),
        _misspelt,
        # What meets no route is traced by chance.
        may_fail=("trace.whole",),
    ),
    Mutation(
        "route.grpc-undeclared",
        "another gRPC service is let through on the port of a declared one",
        ("route.grpc-unknown",),
        _another_method,
    ),
    Mutation(
        "route.websocket-on-api",
        "a WebSocket is served on the API host as well",
        ("route.websocket", "route.hosts"),
        _socket_on_api,
    ),
    Mutation(
        "route.api-on-grpc",
        "a service's API is served on the gRPC host as well",
        ("route.hosts",),
        _on(_GRPC, "retrieval-service", "/api/v1/retrieval"),
    ),
    Mutation(
        "timeout.one-service",
        "the timeout of a service is shorter at the gateway than declared",
        ("timeout.routes",),
        _timeout("rag-engine", "45s"),
    ),
    Mutation(
        "timeout.inside",
        "the timeout of a service is doubled between services",
        ("timeout.routes.inside",),
        _timeout("knowledge-service-mesh", "120s"),
    ),
    Mutation(
        "timeout.tripled",
        "the timeout of writes to a service is tripled",
        ("timeout.service", "timeout.routes.inside"),
        _longer,
    ),
    Mutation(
        "retry.fewer",
        "reads of a service are repeated once less",
        ("retry.safe", "retry.shares"),
        _fewer_tries,
    ),
    Mutation(
        "retry.writes",
        "writes to a service are repeated when it answers with an error",
        ("retry.other", "retry.failures"),
        _writes_repeated("retrieval-service-mesh", ".http.write"),
    ),
    Mutation(
        "retry.paid-writes",
        "writes to an AI service are repeated when it answers with an error",
        ("retry.ai", "retry.failures"),
        _writes_repeated("model-adapter-mesh", ".http.write"),
    ),
    Mutation(
        "retry.clients-paid-writes",
        "clients' writes to an AI service are repeated when it answers with an error",
        ("retry.ai", "retry.failures"),
        _writes_repeated("model-router", ".write"),
    ),
    Mutation(
        "retry.writes-on-reset",
        "writes are repeated when the connection breaks, be it after the service has seen them",
        ("retry.failures",),
        _on_reset,
    ),
    Mutation(
        "retry.writes-never",
        "writes are not repeated though no connection could be opened",
        ("retry.failures", "retry.unconnected"),
        _writes_never_repeated,
    ),
    *(
        mutation
        for service, paths in (
            ("identity", ("auth", "users")),
            ("conversation", ("conversations", "messages")),
        )
        for name in (f"{service}-service",)
        for mutation in (
            Mutation(
                f"canary.{service}-moved",
                f"the canary of {name} gets half its share of the clients' reads",
                (f"canary.{name}", f"canary.{name}.routes"),
                _halved(name, *(f"{path}.read" for path in paths)),
            ),
            Mutation(
                f"canary.{service}-writes-moved",
                f"the canary of {name} gets half its share of the clients' writes",
                (f"canary.{name}.writes", f"canary.{name}.routes"),
                _halved(name, *(f"{path}.write" for path in paths)),
            ),
            Mutation(
                f"canary.{service}-moved-inside",
                f"the canary of {name} gets half its share of what other services ask",
                (f"canary.{name}.inside", f"canary.{name}.routes"),
                _halved(f"{name}-mesh", "mesh.http.read", "mesh.http.write"),
            ),
        )
    ),
    Mutation(
        "cohort.cookie-alone",
        "a cohort's cookie is found only where it is the one cookie",
        ("cohort.identity-service",),
        _cookie_alone,
    ),
    Mutation(
        "cohort.header-forgotten",
        "a cohort's header is not looked at inside the mesh",
        ("cohort.conversation-service", "canary.conversation-service.routes"),
        _header_forgotten_inside,
    ),
    Mutation(
        "cohort.calls-forgotten",
        "a cohort's cookie is not looked at in gRPC calls of clients",
        ("cohort.identity-service", "canary.identity-service.routes", "trace.share.default"),
        _calls_forgotten,
    ),
    Mutation(
        "cohort.cookies-like-it",
        "a cookie is the cohort's whatever stands around it",
        ("cohort.identity-service.others",),
        _cookies_like_it,
        apart_from=("cohort.cookie-alone",),
    ),
    Mutation(
        "cohort.headers-like-it",
        "a header is the cohort's that only begins like it",
        ("cohort.conversation-service.others",),
        _headers_like_it,
    ),
    Mutation(
        "canary.sockets-moved",
        "the canary gets half its share of a service's WebSockets",
        ("canary.conversation-service.routes",),
        _halved_on_one,
    ),
)
