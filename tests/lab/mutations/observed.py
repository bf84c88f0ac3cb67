"""Mistakes in what the mesh writes down: audit, access log, traces."""

from __future__ import annotations

from typing import Any

from tests.lab.mutations.edge import routes, without_routes
from tests.lab.mutations.mutation import Mutation, Object, Objects, named
from tests.lab.mutations.policies import operation, policy


def _not_audited(objects: Objects) -> None:
    operation(policy(objects, "gateway-audit"), "/api/v1/users")["methods"].remove("DELETE")


def _access_log(values: dict[str, Any]) -> dict[str, str]:
    providers = values["meshConfig"]["extensionProviders"]
    log = next(one for one in providers if one["name"] == "access-log")
    labels: dict[str, str] = log["envoyFileAccessLog"]["logFormat"]["labels"]
    return labels


def _name_of_host(values: dict[str, Any]) -> None:
    _access_log(values)["server_name"] = "%REQ(:authority)%"


def _failure_forgotten(values: dict[str, Any]) -> None:
    del _access_log(values)["upstream_failure"]


def _query_logged(values: dict[str, Any]) -> None:
    _access_log(values)["path"] = "%REQ(:path)%"


def _sampled(values: list[Object], numerator: int) -> None:
    for value in values:
        value["tracing"]["random_sampling"]["numerator"] = numerator


def _fewer_of_ai(objects: Objects) -> None:
    _sampled(routes(objects, "trace-sampling", "model-router.api."), 500)


def _fewer_of_websocket(objects: Objects) -> None:
    _sampled(routes(objects, "trace-sampling", "conversation-service.api."), 1000)


def _all_of_default(objects: Objects) -> None:
    (tracing,) = named(objects, "Telemetry", "mesh-default")["spec"]["tracing"]
    tracing["randomSamplingPercentage"] = 100


def _spans_forgotten(objects: Objects) -> None:
    (tracing,) = named(objects, "Telemetry", "conversation-service")["spec"]["tracing"]
    tracing["disableSpanReporting"] = True


def _clients_traces_joined(objects: Objects) -> None:
    for patch in named(objects, "EnvoyFilter", "trace-sampling")["spec"]["configPatches"]:
        if patch["applyTo"] == "NETWORK_FILTER":
            config = patch["patch"]["value"]["typed_config"]
            for extension in config["early_header_mutation_extensions"]:
                extension["typed_config"]["mutations"] = [
                    one
                    for one in extension["typed_config"]["mutations"]
                    if one["remove"] != "traceparent"
                ]


MUTATIONS = (
    Mutation(
        "audit.forgotten",
        "the gateway's audit lacks DELETE on users",
        ("audit.recorded", "audit.who"),
        _not_audited,
    ),
    Mutation(
        "log.name-of-host",
        "the access log takes the host that is asked for, for the name in the TLS handshake",
        ("log.fields",),
        control_plane=_name_of_host,
    ),
    Mutation(
        "log.failure-forgotten",
        "the access log does not say why TLS failed",
        ("log.upstream-failure",),
        control_plane=_failure_forgotten,
    ),
    Mutation(
        "log.query",
        "the access log has the path with its query",
        ("log.credentials",),
        control_plane=_query_logged,
    ),
    Mutation(
        "trace.fewer-of-ai",
        "a tenth of the requests to AI services is traced that should be",
        ("trace.share.ai",),
        _fewer_of_ai,
    ),
    Mutation(
        "trace.fewer-of-websocket",
        "services with WebSockets are traced like all others",
        ("trace.share.websocket",),
        _fewer_of_websocket,
    ),
    Mutation(
        "trace.writes-forgotten",
        "a service's writes are traced like all others' requests",
        ("trace.share.websocket",),
        without_routes("trace-sampling", "conversation-service.api.v1.messages.write"),
    ),
    Mutation(
        "trace.websocket-forgotten",
        "a WebSocket is traced like all others' requests",
        ("trace.share.websocket",),
        without_routes("trace-sampling", "voice-engine.ws."),
        may_fail=("request-id.returned",),
    ),
    Mutation(
        "trace.grpc-forgotten",
        "an AI service's gRPC calls are traced like all others' requests",
        ("trace.share.ai",),
        without_routes("trace-sampling", "ai-orchestrator.ai.v1.Orchestrator."),
    ),
    Mutation(
        "trace.all-of-default",
        "everything is traced that no other share is said for",
        ("trace.share.default", "trace.inside.knowledge-service", "trace.clients"),
        _all_of_default,
    ),
    Mutation(
        "trace.spans-forgotten",
        "a service's proxies report no spans",
        (
            *("trace.whole", "trace.context", "trace.inside.conversation-service"),
            *("trace.tags", "trace.tags-left-out", "log.fields"),
        ),
        _spans_forgotten,
        apart_from=("trace.all-of-default",),
    ),
    Mutation(
        "trace.clients-joined",
        "the gateway joins traces that clients began",
        ("trace.clients",),
        _clients_traces_joined,
    ),
)
