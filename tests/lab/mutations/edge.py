"""Mistakes at the edge: paths, methods, TLS, headers, bodies, silent requests, compression."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from tests.lab.mutations.mutation import Mutation, Object, Objects, named, without
from tests.lab.mutations.policies import operation, operations, policy

_TLS_PORT = 443


def _no_normalisation(values: dict[str, Any]) -> None:
    values["meshConfig"]["pathNormalization"]["normalization"] = "NONE"


def _bare_prefix(objects: Objects) -> None:
    """`/api/v1/rag*` in the place of the path itself and all below it."""
    for name in ("gateway-token", "rag-engine-gateway"):
        operation(policy(objects, name), "/api/v1/rag")["paths"] += ["/api/v1/rag*"]
    for route in named(objects, "VirtualService", "rag-engine")["spec"]["http"]:
        for match in route["match"]:
            match["uri"] = {"prefix": "/api/v1/rag"}


def _internal_path_opened(objects: Objects) -> None:
    paths = operations(policy(objects, "gateway-internal-paths"))[0]["paths"]
    paths.remove("/metrics")
    paths.remove("/metrics/*")
    for name in ("gateway-require-token", "gateway-require-tenant"):
        for each in operations(policy(objects, name)):
            each["notPaths"] += ["/metrics", "/metrics/*"]
    operations(policy(objects, "gateway-public-ai-orchestrator"))[0]["paths"] += ["/metrics"]


def _any_method(objects: Objects) -> None:
    for name in ("gateway-token", "analytics-service-gateway"):
        del operation(policy(objects, name), "/api/v1/analytics")["methods"]
    for route in named(objects, "VirtualService", "analytics-service")["spec"]["http"]:
        for match in route["match"]:
            del match["method"]


def _any_method_at_gateway(objects: Objects) -> None:
    """The service's own policy still refuses."""
    own = copy.deepcopy(policy(objects, "analytics-service-gateway")["spec"])
    _any_method(objects)
    policy(objects, "analytics-service-gateway")["spec"] = own


def _method_forgotten(objects: Objects) -> None:
    spec = policy(objects, "gateway-token")["spec"]
    (rule,) = spec["rules"]
    every = operation(policy(objects, "gateway-token"), "/api/v1/retrieval")
    paths = ["/api/v1/retrieval", "/api/v1/retrieval/*"]
    every["paths"] = [one for one in every["paths"] if one not in paths]
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    rule["to"].append({"operation": {**every, "paths": paths, "methods": methods}})


def _server(objects: Objects, name: str) -> Object:
    servers = named(objects, "Gateway", "public")["spec"]["servers"]
    return next(one for one in servers if one["name"] == name)


def _old_tls(objects: Objects) -> None:
    tls = _server(objects, "https-api")["tls"]
    tls["minProtocolVersion"] = "TLSV1_0"
    tls["cipherSuites"] += ["ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA"]


def _no_newest_tls(objects: Objects) -> None:
    _server(objects, "https-ws")["tls"]["maxProtocolVersion"] = "TLSV1_2"


def _any_host(objects: Objects) -> None:
    _server(objects, "https-ws")["hosts"] = ["voiceassistant-dev/*"]


def _no_redirect(objects: Objects) -> None:
    _server(objects, "http-redirect")["tls"]["httpsRedirect"] = False


def patches(objects: Objects, name: str, apply_to: str, port: int | None = None) -> list[Object]:
    """What an EnvoyFilter of the edge patches in, for one port or for all."""
    return [
        one["patch"]["value"]
        for one in named(objects, "EnvoyFilter", name)["spec"]["configPatches"]
        if one["applyTo"] == apply_to
        and (port is None or one["match"]["listener"].get("portNumber") == port)
    ]


def routes(objects: Objects, name: str, starting: str) -> list[Object]:
    """What an EnvoyFilter patches into the routes whose names start so."""
    return [
        one["patch"]["value"]
        for one in named(objects, "EnvoyFilter", name)["spec"]["configPatches"]
        if one["applyTo"] == "HTTP_ROUTE" and _route(one).startswith(starting)
    ]


def _route(patch: Object) -> str:
    name: str = patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
    return name


def without_routes(name: str, starting: str) -> Callable[[Objects], None]:
    """A mistake: routes that an EnvoyFilter does not patch."""

    def change(objects: Objects) -> None:
        spec = named(objects, "EnvoyFilter", name)["spec"]
        spec["configPatches"] = [
            one
            for one in spec["configPatches"]
            if one["applyTo"] != "HTTP_ROUTE" or not _route(one).startswith(starting)
        ]

    return change


def managers(objects: Objects) -> list[Object]:
    """Settings of the connection managers of the TLS port."""
    found = patches(objects, "edge-response-headers", "NETWORK_FILTER", _TLS_PORT)
    return [one["typed_config"] for one in found]


def _mutations(objects: Objects) -> Iterator[list[Object]]:
    for value in patches(objects, "edge-response-headers", "HTTP_FILTER", _TLS_PORT):
        yield value["typed_config"]["mutations"]["response_mutations"]


def _without_header(header: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for added in _mutations(objects):
            added[:] = [
                one
                for one in added
                if one.get("append", {}).get("header", {}).get("key") != header
                and one.get("remove") != header
            ]
        for manager in managers(objects):
            for mapper in manager["local_reply_config"]["mappers"]:
                mapper["headers_to_add"] = [
                    one for one in mapper["headers_to_add"] if one["header"]["key"] != header
                ]

    return change


def _service_first(objects: Objects) -> None:
    for added in _mutations(objects):
        for one in added:
            if "append" in one:
                one["append"]["append_action"] = "ADD_IF_ABSENT"


def _underscores_dropped(objects: Objects) -> None:
    for manager in managers(objects):
        manager["common_http_protocol_options"] = {"headers_with_underscores_action": "DROP_HEADER"}


def _id_not_returned(objects: Objects) -> None:
    for manager in managers(objects):
        del manager["always_set_request_id_in_response"]


def _id_kept(objects: Objects) -> None:
    for manager in managers(objects):
        manager["preserve_external_request_id"] = True


def _larger_body(objects: Objects) -> None:
    for value in routes(objects, "edge-body-limit", "notification-service."):
        limit = value["typed_per_filter_config"]["voicemesh.body-limit"]["buffer"]
        limit["max_request_bytes"] *= 2


def _bodies_first(objects: Objects) -> None:
    for one in named(objects, "EnvoyFilter", "edge-body-limit")["spec"]["configPatches"]:
        if one["applyTo"] == "HTTP_FILTER":
            one["patch"]["operation"] = "INSERT_FIRST"
            one["match"]["listener"]["filterChain"]["filter"].pop("subFilter", None)


def _no_upload(objects: Objects) -> None:
    usual = routes(objects, "edge-body-limit", "notification-service.")[0]
    for value in routes(objects, "edge-body-limit", "knowledge-service.api.v1.documents."):
        value.update(usual)


def _may_be_silent(objects: Objects) -> None:
    endless = {"route": {"idle_timeout": "0s"}}
    for name in ("write.canary-1", "write.canary-2", "write"):
        route = {"name": f"identity-service.api.v1.users.{name}"}
        named(objects, "EnvoyFilter", "edge-stream-timeouts")["spec"]["configPatches"].append(
            {
                "applyTo": "HTTP_ROUTE",
                "match": {
                    "context": "GATEWAY",
                    "routeConfiguration": {"vhost": {"route": route}},
                },
                "patch": {"operation": "MERGE", "value": endless},
            }
        )


def _not_compressed(objects: Objects) -> Objects:
    return without(objects, named(objects, "EnvoyFilter", "edge-compression"))


MUTATIONS = (
    Mutation(
        "path.not-normalised",
        "paths are judged as they were sent (pathNormalization NONE)",
        ("path.normalised", "path.no-token", "path.restricted", "path.internal"),
        control_plane=_no_normalisation,
    ),
    Mutation(
        "path.bare-prefix",
        "a route matches its path as a bare prefix",
        ("path.resembling",),
        _bare_prefix,
    ),
    Mutation(
        "path.internal-opened",
        "the path of metrics is opened at the gateway",
        ("path.internal",),
        _internal_path_opened,
    ),
    Mutation(
        "method.any",
        "a route that serves GET alone takes every method",
        ("method.unserved",),
        _any_method,
    ),
    Mutation(
        "method.at-service-alone",
        "the gateway leaves it to a service to refuse methods",
        ("method.unserved",),
        _any_method_at_gateway,
        apart_from=("access.gateway-anywhere",),
    ),
    Mutation(
        "method.one-forgotten",
        "the gateway lists the methods of a route that serves all, and forgets one",
        ("method.every",),
        _method_forgotten,
    ),
    Mutation(
        "tls.old",
        "the API host takes TLS 1.0 from old clients",
        ("tls.versions",),
        _old_tls,
    ),
    Mutation(
        "tls.not-newest",
        "the WebSocket host does not speak TLS 1.3",
        ("tls.versions", "log.fields"),
        _no_newest_tls,
    ),
    Mutation(
        "tls.any-host",
        "the certificate is shown to clients that ask for any name",
        ("tls.hosts",),
        _any_host,
    ),
    Mutation(
        "tls.no-redirect",
        "plain HTTP is not redirected",
        (
            *("tls.redirect", "header.security", "header.hsts"),
            *("address.denied", "address.forged"),
        ),
        _no_redirect,
    ),
    Mutation(
        "header.security-missing",
        "one of the security headers is forgotten",
        ("header.security", "header.overruled", "flood.answer"),
        _without_header("referrer-policy"),
    ),
    Mutation(
        "header.hsts-missing",
        "Strict-Transport-Security is forgotten",
        ("header.hsts", "header.overruled", "flood.answer"),
        _without_header("strict-transport-security"),
    ),
    Mutation(
        "header.service-first",
        "security headers are added only where the service sets none",
        ("header.overruled",),
        _service_first,
    ),
    Mutation(
        "header.product-kept",
        "the header x-powered-by of services is handed on",
        ("header.products",),
        _without_header("x-powered-by"),
    ),
    Mutation(
        "header.underscores-dropped",
        "headers with an underscore are dropped in the place of being refused",
        (
            *("header.underscore", "header.security", "header.hsts", "header.products"),
            "request-id.none",
        ),
        _underscores_dropped,
    ),
    Mutation(
        "request-id.not-returned",
        "answers do not carry the request's id",
        ("request-id.returned", "request-id.replaced"),
        _id_not_returned,
    ),
    Mutation(
        "request-id.kept",
        "the gateway keeps the id that a client sends",
        ("request-id.replaced",),
        _id_kept,
    ),
    Mutation(
        "body.larger",
        "one service's routes take twice the size",
        ("body.limit",),
        _larger_body,
    ),
    Mutation(
        "body.before-tokens",
        "bodies are collected before tokens are looked at",
        ("body.unknown",),
        _bodies_first,
    ),
    Mutation(
        "body.no-upload",
        "the upload route has the usual limit",
        ("body.upload",),
        _no_upload,
    ),
    Mutation(
        "idle.never",
        "writes to one service may be silent for ever",
        ("idle.service-silent", "idle.client-silent"),
        _may_be_silent,
    ),
    Mutation(
        "idle.streams-forgotten",
        "a WebSocket has the timeout of unary requests",
        ("idle.streams", "stream.silent", "stream.longest", "stream.routes"),
        without_routes("edge-stream-timeouts", "voice-engine.ws."),
    ),
    Mutation(
        "compression.removed",
        "the compressor is removed",
        ("compression.text", "compression.length"),
        _not_compressed,
    ),
    Mutation(
        "compression.of-streams",
        "the compressor is left on for one streaming route",
        ("compression.streams",),
        without_routes("edge-compression", "agent-engine."),
    ),
)
