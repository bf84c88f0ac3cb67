"""Mistakes about who may call whom: mutual TLS, callers, egress."""

from __future__ import annotations

from typing import Any

from model.catalogue import catalogue
from tests.lab.mutations.mutation import Mutation, Object, Objects, named, of_kind

_APPS = "voiceassistant-dev"
_EXPOSED = tuple(one.name for one in catalogue().services if one.exposed)
_ACCOUNTS = f"cluster.local/ns/{_APPS}/sa/"


def _permissive(objects: Objects) -> Objects:
    made = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "voice-engine", "namespace": _APPS},
        "spec": {
            "selector": {"matchLabels": {"app": "voice-engine"}},
            "mtls": {"mode": "PERMISSIVE"},
        },
    }
    return [*objects, made]


def _any_authority(objects: Objects) -> Objects:
    name = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    trusting = {"trust_chain_verification": "ACCEPT_UNTRUSTED"}
    context = {"combined_validation_context": {"default_validation_context": trusting}}
    patch = {
        "applyTo": "FILTER_CHAIN",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {"filterChain": {"transportProtocol": "tls"}},
        },
        "patch": {
            "operation": "MERGE",
            "value": {
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {"@type": name, "common_tls_context": context},
                }
            },
        },
    }
    made = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "debug-certificates", "namespace": _APPS},
        "spec": {
            "workloadSelector": {"labels": {"app": "multimodal-engine"}},
            "configPatches": [patch],
        },
    }
    return [*objects, made]


def _alias(values: dict[str, Any]) -> None:
    values["meshConfig"]["trustDomainAliases"] = ["foreign.example"]


def _simple_east_west(objects: Objects) -> None:
    server = named(objects, "Gateway", "east-west")["spec"]["servers"][0]
    server["tls"] = {"mode": "SIMPLE", "credentialName": "voiceassistant-tls-cert"}


def _left_to_auto(objects: Objects) -> None:
    del named(objects, "DestinationRule", "knowledge-service")["spec"]["trafficPolicy"]["tls"]


def _callers(objects: Objects, service: str) -> Object:
    rule: Object = named(objects, "AuthorizationPolicy", f"{service}-callers")["spec"]["rules"][0]
    return rule


def _any_over_grpc(objects: Objects) -> None:
    spec = named(objects, "AuthorizationPolicy", "knowledge-service-callers")["spec"]
    spec["rules"].append({"to": [{"operation": {"ports": ["9000"]}}]})


def _any_of_namespace(objects: Objects) -> None:
    for one in of_kind(objects, "AuthorizationPolicy"):
        if one["metadata"]["name"].endswith("-callers"):
            one["spec"]["rules"][0]["from"] = [{"source": {"namespaces": [_APPS]}}]


def _caller_added(objects: Objects) -> None:
    principals = _callers(objects, "model-adapter")["from"][0]["source"]["principals"]
    principals.append(f"{_ACCOUNTS}agent-engine")


def _caller_removed(objects: Objects) -> None:
    principals = _callers(objects, "identity-service")["from"][0]["source"]["principals"]
    principals.remove(f"{_ACCOUNTS}vector-store-adapter")


def _any_port(objects: Objects) -> None:
    del _callers(objects, "identity-service")["to"]


def _anything_for_gateway(objects: Objects) -> None:
    """Its own policies still refuse what no service declares."""
    for name in _EXPOSED:
        for rule in named(objects, "AuthorizationPolicy", f"{name}-gateway")["spec"]["rules"]:
            rule["to"].append({"operation": {"paths": ["*"]}})


def _any_method_for_gateway(objects: Objects) -> None:
    """The gateway's own policy still refuses."""
    spec = named(objects, "AuthorizationPolicy", "ai-orchestrator-gateway")["spec"]
    for to in spec["rules"][0]["to"]:
        if "/api/v1/ai" in to["operation"]["paths"]:
            del to["operation"]["methods"]


def _any_path_for_gateway(objects: Objects) -> None:
    policy = named(objects, "AuthorizationPolicy", "multimodal-engine-gateway")
    del policy["spec"]["rules"][0]["to"][0]["operation"]["paths"]


def _sidecar(objects: Objects, service: str) -> Object:
    spec: Object = named(objects, "Sidecar", service)["spec"]
    return spec


def _callee_forgotten(objects: Objects) -> None:
    hosts = _sidecar(objects, "agent-engine")["egress"][0]["hosts"]
    hosts.remove(f"./knowledge-service.{_APPS}.svc.cluster.local")


def _redis_known(objects: Objects) -> None:
    hosts = _sidecar(objects, "analytics-service")["egress"][0]["hosts"]
    hosts.append("*/ratelimit-redis.voiceassistant-infra.svc.cluster.local")


def _allow_any(objects: Objects) -> None:
    _sidecar(objects, "indexing-service")["outboundTrafficPolicy"]["mode"] = "ALLOW_ANY"


def _host_forgotten(objects: Objects) -> None:
    _sidecar(objects, "model-adapter")["egress"][0]["hosts"].remove("./api.openai.com")


MUTATIONS = (
    Mutation(
        "mtls.permissive",
        "a service takes plain text as well (PERMISSIVE)",
        (
            *("mtls.plaintext", "access.voice-engine", "access.strangers.voice-engine"),
            *("access.gateway.voice-engine", "jwt.audience", "jwt.inside", "jwt.past-gateway"),
        ),
        _permissive,
    ),
    Mutation(
        "mtls.any-authority",
        "a filter left from debugging lets a service take certificates of any authority",
        ("mtls.foreign-certificate", "mtls.foreign-domain"),
        _any_authority,
    ),
    Mutation(
        "mtls.alias",
        "a foreign trust domain is made an alias of the mesh's own",
        ("mtls.foreign-domain",),
        control_plane=_alias,
    ),
    Mutation(
        "mtls.east-west-simple",
        "the east-west entry does TLS without a client certificate",
        ("mtls.east-west",),
        _simple_east_west,
    ),
    Mutation(
        "mtls.left-to-auto",
        "a service's DestinationRule leaves mutual TLS to auto mTLS",
        ("mtls.lost-proxy", "log.upstream-failure"),
        _left_to_auto,
    ),
    Mutation(
        "access.any-of-namespace",
        "callers are allowed by namespace in the place of their accounts",
        (
            *("access.strangers.*", "access.identity-service", "access.conversation-service"),
            *(
                "access.knowledge-service",
                "access.ai-orchestrator",
                "access.model-router",
                "access.agent-engine",
            ),
            *("access.rag-engine", "access.retrieval-service", "access.model-adapter"),
            *("access.voice-engine", "access.multimodal-engine", "access.indexing-service"),
            *("access.vector-store-adapter", "access.analytics-service"),
            "access.notification-service",
        ),
        _any_of_namespace,
    ),
    Mutation(
        "access.any-over-grpc",
        "everybody may call a service's gRPC port",
        (
            *("access.knowledge-service", "access.strangers.knowledge-service"),
            "access.gateway.knowledge-service",
        ),
        _any_over_grpc,
    ),
    Mutation(
        "access.caller-added",
        "a service that is no caller is allowed to call model-adapter",
        ("access.model-adapter",),
        _caller_added,
    ),
    Mutation(
        "access.caller-removed",
        "a caller of identity-service is forgotten",
        ("access.identity-service", "tenant.made-up-inside", "role.inside", "trace.tags"),
        _caller_removed,
    ),
    Mutation(
        "access.any-port",
        "callers of identity-service are allowed on every port",
        ("access.metrics",),
        _any_port,
    ),
    Mutation(
        "access.any-path",
        "the gateway is allowed on every path of a service",
        ("access.strangers.multimodal-engine", "access.gateway.multimodal-engine"),
        _any_path_for_gateway,
    ),
    Mutation(
        "access.gateway-anywhere",
        "services let the gateway do anything that comes with a token",
        (
            "access.gateway.*",
            *(f"access.strangers.{name}" for name in _EXPOSED),
        ),
        _anything_for_gateway,
    ),
    Mutation(
        "access.any-method",
        "the gateway is allowed every method on a service's route that serves POST alone",
        ("access.gateway.ai-orchestrator",),
        _any_method_for_gateway,
    ),
    Mutation(
        "access.callee-forgotten",
        "a service's Sidecar lacks one of the services that it calls",
        ("access.knowledge-service", "tenant.inside"),
        _callee_forgotten,
    ),
    Mutation(
        "access.redis-known",
        "a service's proxy knows the way to Redis",
        ("access.redis",),
        _redis_known,
    ),
    Mutation(
        "egress.allow-any",
        "one service's proxy lets everything out (ALLOW_ANY)",
        ("egress.undeclared", "egress.declared", "access.conversation-service", "access.redis"),
        _allow_any,
    ),
    Mutation(
        "egress.host-forgotten",
        "a declared host is missing from the service's Sidecar",
        ("egress.declared",),
        _host_forgotten,
    ),
)
