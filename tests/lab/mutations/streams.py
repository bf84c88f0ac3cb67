"""Mistakes in streams: buffers, limits of time and size, compression, gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.edge.bodies import BUFFER
from tests.lab.mutations.edge import patches, routes, without_routes
from tests.lab.mutations.mutation import Mutation, Objects, named

_VOICE, _VOICE_SOCKET = "voice-engine.api.", "voice-engine.ws."
_CALLS = "ai-orchestrator.ai.v1.Orchestrator.grpc"


def _buffered(name: str, limit: int) -> Callable[[Objects], None]:
    """The body filter is on for a route that streams."""

    def change(objects: Objects) -> None:
        named(objects, "EnvoyFilter", "edge-body-limit")["spec"]["configPatches"].append(
            {
                "applyTo": "HTTP_ROUTE",
                "match": {
                    "context": "GATEWAY",
                    "routeConfiguration": {"vhost": {"route": {"name": name}}},
                },
                "patch": {
                    "operation": "MERGE",
                    "value": {
                        "typed_per_filter_config": {
                            BUFFER: {
                                "@type": "type.googleapis.com/"
                                "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
                                "buffer": {"max_request_bytes": limit},
                            }
                        }
                    },
                },
            }
        )

    return change


def _events_compressed(objects: Objects) -> None:
    """Event streams are among the types that are compressed, and a streaming route is not spared."""
    without_routes("edge-compression", "voice-engine.")(objects)
    for value in patches(objects, "edge-compression", "HTTP_FILTER"):
        common = value["typed_config"]["response_direction_config"]["common_config"]
        common["content_type"] = [
            *("text/plain", "text/html", "application/json", "application/x-ndjson"),
            "text/event-stream",
        ]


def _endless_inside(objects: Objects) -> None:
    for route in named(objects, "VirtualService", "voice-engine-mesh")["spec"]["http"]:
        route["timeout"] = "3600s"


def _larger_answers(objects: Objects) -> None:
    for value in patches(objects, "edge-compression", "HTTP_FILTER"):
        common = value["typed_config"]["response_direction_config"]["common_config"]
        common["min_content_length"] *= 2


def _cut(objects: Objects) -> None:
    """A streamed answer has the service's timeout."""
    for value in routes(objects, "edge-stream-timeouts", "voice-engine.api.v1.voice.stream"):
        value["route"]["max_stream_duration"]["max_stream_duration"] = "10s"


def _begins_late(objects: Objects) -> None:
    for value in routes(objects, "edge-stream-timeouts", "voice-engine.api.v1.voice.write"):
        value["route"].pop("retry_policy", None)


def _endless(starting: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for value in routes(objects, "edge-stream-timeouts", starting):
            value["route"].pop("max_stream_duration", None)

    return change


def _calls_silent(objects: Objects) -> None:
    named(objects, "EnvoyFilter", "edge-stream-timeouts")["spec"]["configPatches"].append(
        {
            "applyTo": "HTTP_ROUTE",
            "match": {
                "context": "GATEWAY",
                "routeConfiguration": {"vhost": {"route": {"name": _CALLS}}},
            },
            "patch": {"operation": "MERGE", "value": {"route": {"idle_timeout": "0s"}}},
        }
    )


def _deadline_dropped(where: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for route in named(objects, "VirtualService", where)["spec"]["http"]:
            route["headers"] = {"request": {"remove": ["grpc-timeout"]}}

    return change


def _trailers_dropped(objects: Objects) -> None:
    for value in patches(objects, "edge-response-headers", "HTTP_FILTER", 443):
        mutations: dict[str, Any] = value["typed_config"]["mutations"]
        mutations["response_trailers_mutations"] = [{"remove": "x-told"}]


MUTATIONS = (
    Mutation(
        "stream.buffered",
        "what clients send to a streaming route is collected before it is handed on",
        ("stream.requests",),
        _buffered("voice-engine.api.v1.voice.write", 2**30),
    ),
    Mutation(
        "stream.limited",
        "the body limit holds for a streaming route",
        ("stream.requests", "stream.unlimited"),
        _buffered("voice-engine.api.v1.voice.write", 65_536),
    ),
    Mutation(
        "stream.events-compressed",
        "event streams are compressed",
        ("stream.answers", "compression.events", "compression.streams"),
        _events_compressed,
    ),
    Mutation(
        "stream.cut",
        "a streamed answer has the timeout of the service",
        ("stream.not-cut", "stream.longest", "stream.routes"),
        _cut,
    ),
    Mutation(
        "stream.begins-late",
        "a write on a streaming route may be left without an answer for as long as a stream lasts",
        ("timeout.streaming-route", "retry.shares"),
        _begins_late,
        # Without a longest duration the timeout of the route is back.
        apart_from=("stream.endless-upload",),
    ),
    Mutation(
        "stream.endless-upload",
        "nothing ends a request on a streaming route whose client goes on sending",
        ("stream.longest", "stream.routes"),
        _endless(_VOICE),
    ),
    Mutation(
        "stream.endless-socket",
        "nothing ends a WebSocket that is in use",
        ("stream.longest", "stream.routes"),
        _endless(_VOICE_SOCKET),
    ),
    Mutation(
        "stream.endless-inside",
        "what services ask of a service that streams may take an hour",
        ("stream.inside", "timeout.service", "timeout.routes.inside"),
        _endless_inside,
    ),
    Mutation(
        "stream.may-not-be-silent",
        "a streaming route has the idle limit of unary ones",
        (
            *("idle.streams", "stream.silent", "stream.longest", "stream.routes"),
            # Nothing says how soon an answer begins that nobody asked to be streamed.
            "retry.shares",
        ),
        without_routes("edge-stream-timeouts", _VOICE),
    ),
    Mutation(
        "compression.larger",
        "answers are compressed from twice the size up",
        ("compression.length",),
        _larger_answers,
    ),
    Mutation(
        "grpc.buffered",
        "the body limit holds for gRPC calls of a service",
        ("stream.requests", "stream.unlimited", "grpc.kinds"),
        _buffered(_CALLS, 65_536),
    ),
    Mutation(
        "grpc.may-be-silent",
        "gRPC calls of a service may be silent for ever",
        ("grpc.silent",),
        _calls_silent,
    ),
    Mutation(
        "grpc.deadline-dropped",
        "the gateway keeps a client's deadline to itself",
        ("grpc.deadline",),
        _deadline_dropped("ai-orchestrator-grpc"),
    ),
    Mutation(
        "grpc.deadline-dropped-inside",
        "a caller's proxy keeps its deadline to itself",
        ("grpc.deadline",),
        _deadline_dropped("ai-orchestrator-mesh"),
    ),
    Mutation(
        "grpc.trailers-dropped",
        "the gateway drops trailers of services",
        ("grpc.status",),
        _trailers_dropped,
    ),
)
