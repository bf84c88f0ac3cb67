"""Mistakes in what spans, metrics and logs tell."""

from __future__ import annotations

from typing import Any

from tests.lab.mutations.edge import routes
from tests.lab.mutations.mutation import Mutation, Object, Objects, named
from tests.lab.mutations.policies import policy


def _telemetry(objects: Objects, name: str) -> Object:
    spec: Object = named(objects, "Telemetry", name)["spec"]
    return spec


def _tags(objects: Objects, name: str) -> dict[str, Any]:
    (tracing,) = _telemetry(objects, name)["tracing"]
    tags: dict[str, Any] = tracing["customTags"]
    return tags


def _tags_not_repeated(objects: Objects) -> None:
    tags = _tags(objects, "conversation-service")
    del tags["tenant_id"]


def _no_tokens_on_gateway(objects: Objects) -> None:
    for value in routes(objects, "trace-sampling", "model-router.api."):
        value["tracing"]["custom_tags"] = [
            tag for tag in value["tracing"]["custom_tags"] if tag["tag"] != "token_count"
        ]


def _no_model_on_writes(objects: Objects) -> None:
    for value in routes(objects, "trace-sampling", "rag-engine.api.v1.rag.write"):
        value["tracing"]["custom_tags"] = []


def _own_tags_at_gateway(objects: Objects) -> None:
    own = {name: _tags(objects, "mesh-default")[name] for name in ("environment", "cluster")}
    _telemetry(objects, "istio-ingressgateway")["tracing"] = [{"customTags": own}]


def _tag_without_header(objects: Objects) -> None:
    _tags(objects, "ai-orchestrator")["session_id"]["header"]["defaultValue"] = "none"


def _inside_less(objects: Objects) -> None:
    (tracing,) = _telemetry(objects, "ai-orchestrator")["tracing"]
    tracing["randomSamplingPercentage"] = 5


def _inside_half(objects: Objects) -> None:
    (tracing,) = _telemetry(objects, "conversation-service")["tracing"]
    tracing["randomSamplingPercentage"] = 50


def _overrides(objects: Objects, name: str) -> list[Object]:
    (metrics,) = _telemetry(objects, name)["metrics"]
    found: list[Object] = metrics["overrides"]
    return found


def _tenant_on_histogram(objects: Objects) -> None:
    (count,) = _overrides(objects, "mesh-default")
    count["match"]["metric"] = "ALL_METRICS"


def _on_both_sides(objects: Objects) -> None:
    for one in _overrides(objects, "model-router"):
        if one["match"].get("metric") == "REQUEST_COUNT":
            one["match"]["mode"] = "CLIENT_AND_SERVER"


def _tenant_of_header(objects: Objects) -> None:
    (count,) = _overrides(objects, "istio-ingressgateway")
    count["tagOverrides"]["tenant_id"]["value"] = "request.headers['x-tenant-id']"


def _tokens_not_counted(objects: Objects) -> Objects:
    tokens = named(objects, "EnvoyFilter", "model-router-tokens")
    return [one for one in objects if one is not tokens]


def _series_kept(objects: Objects) -> None:
    template = named(objects, "Deployment", "notification-service-v1")["spec"]["template"]
    del template["metadata"]["annotations"]["sidecar.istio.io/statsEvictionInterval"]


def _not_merged(objects: Objects) -> None:
    for version in ("v1", "canary"):
        template = named(objects, "Deployment", f"identity-service-{version}")["spec"]["template"]
        template["metadata"]["annotations"]["prometheus.istio.io/merge-metrics"] = "false"


def _unpublished(objects: Objects) -> None:
    for patch in named(objects, "EnvoyFilter", "edge-global-rate-limit")["spec"]["configPatches"]:
        config = patch["patch"]["value"].get("typed_config", {})
        if config.get("@type", "").endswith("ratelimit.v3.RateLimit"):
            config["stat_prefix"] = "edge"


def _log(values: dict[str, Any], name: str) -> dict[str, str]:
    providers = values["meshConfig"]["extensionProviders"]
    log = next(one for one in providers if one["name"] == name)
    labels: dict[str, str] = log["envoyFileAccessLog"]["logFormat"]["labels"]
    return labels


def _own_log_list(objects: Objects) -> None:
    own = [{"providers": [{"name": "access-log"}]}]
    _telemetry(objects, "conversation-service")["accessLogging"] = own


def _model_of_request(values: dict[str, Any]) -> None:
    labels = _log(values, "access-log")
    labels["ai_model"] = labels["ai_model"].replace("%RESP", "%REQ")


def _address_of_connection(values: dict[str, Any]) -> None:
    _log(values, "access-log")["client_address"] = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"


def _subject_forgotten(values: dict[str, Any]) -> None:
    del _log(values, "audit-log")["token_subject"]


def _reads_audited(objects: Objects) -> None:
    for rule in policy(objects, "gateway-audit")["spec"]["rules"]:
        for to in rule["to"]:
            to["operation"]["methods"].append("GET")


MUTATIONS = (
    Mutation(
        "audit.subject-forgotten",
        "the audit log has no subject of the token",
        ("audit.fields",),
        control_plane=_subject_forgotten,
    ),
    Mutation(
        "audit.reads",
        "reading is audited, too",
        ("audit.nothing-else",),
        _reads_audited,
    ),
    Mutation(
        "log.model-of-request",
        "the access log looks for the model in the request",
        ("log.ai",),
        control_plane=_model_of_request,
    ),
    Mutation(
        "log.address-of-connection",
        "the access log takes the last proxy's address for the client's",
        ("log.client-address",),
        control_plane=_address_of_connection,
    ),
    Mutation(
        "log.own-list",
        "a service's Telemetry lists log providers itself",
        ("log.errors-only",),
        _own_log_list,
    ),
    Mutation(
        "trace.inside-less",
        "an AI service's own requests are traced like few others",
        ("trace.inside.ai-orchestrator",),
        _inside_less,
    ),
    Mutation(
        "trace.inside-half",
        "half of a WebSocket service's own requests are traced",
        ("trace.inside.conversation-service",),
        _inside_half,
    ),
    Mutation(
        "spans.not-repeated",
        "a service with a share of its own lacks a tag that all have",
        ("trace.tags", "trace.tags-at-gateway"),
        _tags_not_repeated,
    ),
    Mutation(
        "spans.no-tokens",
        "the gateway's spans of an AI service lack the tokens",
        ("trace.tags-of-ai",),
        _no_tokens_on_gateway,
    ),
    Mutation(
        "spans.no-model-on-writes",
        "the gateway's spans of an AI service's writes lack model and tokens",
        ("trace.tags-of-ai",),
        _no_model_on_writes,
    ),
    Mutation(
        "spans.own-at-gateway",
        "the gateway has a list of tags of its own, and lacks those of requests",
        ("trace.tags-at-gateway", "trace.tags-of-ai"),
        _own_tags_at_gateway,
    ),
    Mutation(
        "spans.made-up",
        "a tag has a value where there is no header",
        ("trace.tags-left-out",),
        _tag_without_header,
    ),
    Mutation(
        "metric.histogram",
        "tenants are on every metric",
        ("metric.labels",),
        _tenant_on_histogram,
    ),
    Mutation(
        "metric.both-sides",
        "a service labels also what it asks of others",
        ("metric.one-side",),
        _on_both_sides,
    ),
    Mutation(
        "metric.tenant-of-header",
        "the gateway takes the tenant from a client's header",
        ("metric.gateway-tenant",),
        _tenant_of_header,
    ),
    Mutation(
        "metric.no-tokens",
        "an AI service's tokens are not counted",
        ("metric.tokens",),
        _tokens_not_counted,
    ),
    Mutation(
        "metric.kept",
        "a service's proxy keeps series for ever",
        ("metric.dropped",),
        _series_kept,
    ),
    Mutation(
        "metric.not-merged",
        "port 15020 has the proxy's metrics alone",
        ("metric.scraped",),
        _not_merged,
    ),
    Mutation(
        "metric.unpublished",
        "the limits' statistics have names that nothing publishes",
        ("metric.alerted",),
        _unpublished,
    ),
)
