"""Mistakes about tokens, tenants, roles, addresses and user agents."""

from __future__ import annotations

import copy

from tests.lab.mutations.mutation import Mutation, Object, Objects, named, of_kind, without
from tests.lab.mutations.policies import opened, operations, policy


def _route_made_public(objects: Objects) -> None:
    opened(objects, "/api/v1/notification", "notification-service")


def _not_verified(objects: Objects) -> Objects:
    route = {"name": "ai-orchestrator.api.v1.ai.write"}
    kind = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig"
    off = {"envoy.filters.http.jwt_authn": {"@type": kind, "disabled": True}}
    patch = {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": route}}},
        "patch": {"operation": "MERGE", "value": {"typed_per_filter_config": off}},
    }
    made = copy.deepcopy(named(objects, "EnvoyFilter", "edge-body-limit"))
    made["metadata"]["name"] = "tokens-off"
    made["spec"]["configPatches"] = [patch]
    return [*objects, made]


def _rules(objects: Objects) -> list[list[Object]]:
    """The lists of issuers, at the gateway and at the services."""
    return [one["spec"]["jwtRules"] for one in of_kind(objects, "RequestAuthentication")]


def _issuer_added(objects: Objects) -> None:
    for rules in _rules(objects):
        rules.append({**copy.deepcopy(rules[0]), "issuer": "https://evil.example"})


def _issuer_added_inside(objects: Objects) -> None:
    rules = named(objects, "RequestAuthentication", "service-tokens")["spec"]["jwtRules"]
    rules.append({**copy.deepcopy(rules[0]), "issuer": "https://evil.example"})


def _no_token_from_gateway(objects: Objects) -> None:
    for rule in policy(objects, "agent-engine-gateway")["spec"]["rules"]:
        del rule["from"][0]["source"]["requestPrincipals"]


def _keys_shared(objects: Objects) -> None:
    for rules in _rules(objects):
        rules.append({**copy.deepcopy(rules[0]), "jwksUri": rules[1]["jwksUri"]})


def _any_audience(objects: Objects) -> None:
    for rules in _rules(objects):
        del rules[0]["audiences"]


def _subject_not_asked(objects: Objects) -> None:
    """Policies look at the issuer's claim in the place of issuer and subject."""
    claim = "request.auth.claims[iss]"
    for name in ("gateway-token", "identity-service-gateway"):
        for rule in policy(objects, name)["spec"]["rules"]:
            source = rule["from"][0]["source"]
            issuers = [one.removesuffix("/*") for one in source.pop("requestPrincipals")]
            if not source:
                del rule["from"]
            rule["when"] = [{"key": claim, "values": issuers}]
    (rule,) = policy(objects, "gateway-require-token")["spec"]["rules"]
    del rule["from"]
    rule["when"] = [{"key": claim, "notValues": ["*"]}]


def _issuer_forgotten(objects: Objects) -> None:
    (rule,) = policy(objects, "gateway-token")["spec"]["rules"]
    rule["from"][0]["source"]["requestPrincipals"].pop()


def _public_forgotten(objects: Objects) -> None:
    paths = operations(policy(objects, "gateway-public-ai-orchestrator"))[0]["paths"]
    paths.remove("/ready")


def _any_origin(objects: Objects) -> None:
    for route in named(objects, "VirtualService", "identity-service")["spec"]["http"]:
        route["corsPolicy"]["allowOrigins"] = [{"regex": ".*"}]


def _preflight_forgotten(objects: Objects) -> None:
    paths = operations(policy(objects, "gateway-preflight"))[0]["paths"]
    paths.remove("/api/v1/voice")
    paths.remove("/api/v1/voice/*")


def _preflight_forwarded(objects: Objects) -> None:
    for route in named(objects, "VirtualService", "rag-engine")["spec"]["http"]:
        route["corsPolicy"]["unmatchedPreflights"] = "FORWARD"


def _without_credentials(objects: Objects) -> None:
    for route in named(objects, "VirtualService", "agent-engine")["spec"]["http"]:
        route["corsPolicy"]["allowCredentials"] = False


def _cors_first(objects: Objects) -> Objects:
    """A second filter of CORS before tokens are looked at: it writes on refusals too."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "GATEWAY",
            "listener": {
                "filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
            },
        },
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": "envoy.filters.http.cors", "typed_config": {"@type": kind}},
        },
    }
    made = copy.deepcopy(named(objects, "EnvoyFilter", "edge-body-limit"))
    made["metadata"]["name"] = "cors-first"
    made["spec"]["configPatches"] = [patch]
    return [*objects, made]


def _role_not_copied(objects: Objects) -> None:
    for rules in _rules(objects):
        for rule in rules:
            rule["outputClaimToHeaders"] = [
                one for one in rule["outputClaimToHeaders"] if one["claim"] != "role"
            ]


def _role_kept(objects: Objects) -> None:
    """Envoy drops the headers that it makes of claims, whatever the routes say."""
    _role_not_copied(objects)
    for route in named(objects, "VirtualService", "ai-orchestrator")["spec"]["http"]:
        route.pop("headers", None)


def _tenant_not_required(objects: Objects) -> Objects:
    return without(objects, policy(objects, "gateway-require-tenant"))


def _tenant_not_required_of_calls(objects: Objects) -> None:
    for rule in policy(objects, "gateway-require-tenant")["spec"]["rules"]:
        rule["to"][0]["operation"]["notHosts"] = ["grpc.*", "grpc.*:*"]


def _padded_taken(objects: Objects) -> None:
    """As if only an empty claim were none."""
    del policy(objects, "gateway-require-tenant")["spec"]["rules"][1]


def _blank_first_taken(objects: Objects) -> None:
    for value in (" *", "\t*"):
        when = policy(objects, "gateway-require-tenant")["spec"]["rules"][1]["when"]
        when[0]["values"].remove(value)


def _padded_taken_inside(objects: Objects) -> None:
    del policy(objects, "rag-engine-tenant")["spec"]["rules"][1]


def _tenant_not_copied(objects: Objects) -> None:
    for rules in _rules(objects):
        for rule in rules:
            rule["outputClaimToHeaders"] = [
                one for one in rule["outputClaimToHeaders"] if one["claim"] != "tenant_id"
            ]


def _tenant_not_required_inside(objects: Objects) -> Objects:
    return without(objects, policy(objects, "vector-store-adapter-tenant"))


def _role_added(objects: Objects) -> None:
    for name in ("gateway-roles", "identity-service-roles"):
        policy(objects, name)["spec"]["rules"][0]["when"][0]["notValues"].append("user")


def _role_added_to_another(objects: Objects) -> None:
    for name in ("gateway-roles", "model-router-roles"):
        for rule in policy(objects, name)["spec"]["rules"]:
            if "/api/v1/models" in rule["to"][0]["operation"]["paths"]:
                rule["when"][0]["notValues"].append("admin")


def _roles_asked_inside(objects: Objects) -> None:
    for rule in policy(objects, "analytics-service-roles")["spec"]["rules"]:
        del rule["from"]


def _roles_at_service_alone(objects: Objects) -> None:
    rules = policy(objects, "gateway-roles")["spec"]["rules"]
    rules[:] = [one for one in rules if "/api/v1/users" not in one["to"][0]["operation"]["paths"]]


def _roles_at_gateway_alone(objects: Objects) -> Objects:
    return without(objects, policy(objects, "model-router-roles"))


def _analytics_without_roles(objects: Objects) -> Objects:
    return without(objects, policy(objects, "analytics-service-roles"))


def _address_not_asked(objects: Objects) -> None:
    (rule,) = policy(objects, "gateway-admin-addresses")["spec"]["rules"]
    rule["to"] = [to for to in rule["to"] if "/api/v1/models" not in to["operation"]["paths"]]


def _denied_over_tls_only(objects: Objects) -> None:
    (rule,) = policy(objects, "gateway-denied-addresses")["spec"]["rules"]
    rule["to"] = [{"operation": {"ports": ["443"]}}]


def _first_address(objects: Objects) -> None:
    """The list is asked for the address that the client wrote, not for the proxy's entry."""
    (rule,) = policy(objects, "gateway-denied-addresses")["spec"]["rules"]
    del rule["from"]
    rule["when"] = [{"key": "request.headers[x-forwarded-for]", "values": ["203.0.113.*"]}]


def _agents_allowed(objects: Objects) -> Objects:
    return without(objects, named(objects, "EnvoyFilter", "edge-denied-user-agents"))


def _agents_late(objects: Objects) -> None:
    for patch in named(objects, "EnvoyFilter", "edge-denied-user-agents")["spec"]["configPatches"]:
        patch["match"]["listener"]["filterChain"]["filter"]["subFilter"] = {
            "name": "envoy.filters.http.router"
        }
        patch["patch"]["operation"] = "INSERT_BEFORE"


def _audit_without_path(objects: Objects) -> None:
    rules = policy(objects, "gateway-audit")["spec"]["rules"]
    rules[:] = [
        one for one in rules if "/api/v1/documents" not in one["to"][0]["operation"]["paths"]
    ]


def _service_not_audited(objects: Objects) -> Objects:
    return without(objects, policy(objects, "knowledge-service-audit"))


MUTATIONS = (
    Mutation(
        "jwt.route-made-public",
        "a route that needs a token is made public",
        (
            *("jwt.none", "jwt.no-subject", "jwt.past-gateway", "jwt.preflight"),
            *("path.no-token", "cors.refusals", "body.unknown"),
            *("tenant.spoofed-without-token", "tenant.no-claim", "tenant.padded"),
        ),
        _route_made_public,
    ),
    Mutation(
        "jwt.not-verified",
        "a filter turns the verification of tokens off for one route",
        (
            *("jwt.expired", "jwt.not-yet-valid", "jwt.wrong-key", "jwt.other-issuers-key"),
            *("jwt.unlisted-issuer*", "jwt.unsigned*", "jwt.changed", "jwt.no-token-at-all"),
            *("jwt.unknown-key", "jwt.symmetric"),
            *("tenant.claims", "tenant.list", "route.ai-orchestrator", "path.normalised"),
            *("compression.streams", "cors.requests", "cors.refusals", "log.fields", "log.ai"),
            *("trace.share.ai", "trace.tags-of-ai", "retry.ai", "limit.headers"),
        ),
        _not_verified,
    ),
    Mutation(
        "jwt.issuer-added",
        "an issuer that is not listed is trusted with the first one's keys",
        ("jwt.unlisted-issuer", "jwt.inside"),
        _issuer_added,
    ),
    Mutation(
        "jwt.issuer-added-inside",
        "services trust an issuer that is not listed with the first one's keys",
        ("jwt.inside",),
        _issuer_added_inside,
    ),
    Mutation(
        "jwt.no-token-from-gateway",
        "a service leaves it to the gateway to ask for a token",
        ("jwt.past-gateway",),
        _no_token_from_gateway,
    ),
    Mutation(
        "jwt.keys-shared",
        "one issuer's keys are taken for another's tokens",
        ("jwt.other-issuers-key", "jwt.inside"),
        _keys_shared,
    ),
    Mutation(
        "jwt.any-audience",
        "tokens for any audience are accepted",
        ("jwt.audience",),
        _any_audience,
    ),
    Mutation(
        "jwt.issuer-forgotten",
        "the gateway's policy lacks the second issuer",
        ("jwt.issuers",),
        _issuer_forgotten,
    ),
    Mutation(
        "jwt.subject-not-asked",
        "policies ask for the issuer's claim alone, so that a token needs no subject",
        ("jwt.no-subject",),
        _subject_not_asked,
    ),
    Mutation(
        "jwt.public-forgotten",
        "a public path is missing from the gateway's policy",
        ("jwt.public", "route.ai-orchestrator", "tenant.spoofed-without-token", "trace.tags-of-ai"),
        _public_forgotten,
    ),
    Mutation(
        "jwt.any-origin",
        "one service's routes answer preflights of any origin",
        ("cors.refused", "cors.requests"),
        _any_origin,
    ),
    Mutation(
        "cors.preflight-forgotten",
        "the gateway's policy for preflights lacks a path",
        ("jwt.preflight", "cors.refused"),
        _preflight_forgotten,
        apart_from=("cors.first",),  # which answers preflights before the policy is asked
    ),
    Mutation(
        "cors.forwarded",
        "one service's routes hand on preflights of origins that are not allowed",
        ("cors.refused",),
        _preflight_forwarded,
    ),
    Mutation(
        "cors.without-credentials",
        "one service's routes allow browsers no credentials",
        ("jwt.preflight", "cors.requests"),
        _without_credentials,
    ),
    Mutation(
        "cors.first",
        "CORS comes before tokens and policies",
        ("cors.refusals", "flood.answer"),
        _cors_first,
    ),
    Mutation(
        "tenant.role-not-copied",
        "the role's header is no longer made from the token",
        (
            *("tenant.claims", "tenant.inside", "tenant.made-up-inside"),
            *("audit.recorded", "audit.fields", "audit.who"),
        ),
        _role_not_copied,
    ),
    Mutation(
        "tenant.role-kept",
        "the role's header is neither made from the token nor dropped on public routes",
        (
            *("tenant.claims", "tenant.inside", "tenant.spoofed-without-token"),
            *("tenant.made-up-inside", "audit.recorded", "audit.fields", "audit.who"),
        ),
        _role_kept,
    ),
    Mutation(
        "tenant.not-required",
        "the gateway takes tokens without a tenant",
        ("tenant.no-claim", "tenant.padded", "audit.recorded"),
        _tenant_not_required,
    ),
    Mutation(
        "tenant.not-required-of-calls",
        "the gateway takes tokens without a tenant on the gRPC host",
        ("tenant.no-claim", "tenant.padded"),
        _tenant_not_required_of_calls,
    ),
    Mutation(
        "tenant.padded",
        "the gateway takes tenants with blanks around their names",
        ("tenant.padded",),
        _padded_taken,
    ),
    Mutation(
        "tenant.blank-first",
        "the gateway takes tenants with a blank before their names",
        ("tenant.padded",),
        _blank_first_taken,
    ),
    Mutation(
        "tenant.padded-inside",
        "a tenant-isolated service takes tenants with blanks around their names",
        ("tenant.inside",),
        _padded_taken_inside,
    ),
    Mutation(
        "tenant.not-copied",
        "the tenant's header is no longer made from the token",
        (
            *("tenant.claims", "tenant.claims-grpc", "tenant.inside", "tenant.made-up-inside"),
            *("tenant.list", "audit.recorded", "audit.fields", "audit.who", "log.fields"),
            *("trace.tags-of-ai", "trace.tags-at-gateway"),
        ),
        _tenant_not_copied,
    ),
    Mutation(
        "tenant.not-required-inside",
        "a tenant-isolated service takes requests without a tenant",
        ("tenant.inside",),
        _tenant_not_required_inside,
    ),
    Mutation(
        "role.added",
        "users may delete users",
        ("role.restricted", "role.service", "path.restricted"),
        _role_added,
    ),
    Mutation(
        "role.added-to-another",
        "administrators may change models, which needs a super-admin",
        ("role.restricted", "role.service"),
        _role_added_to_another,
    ),
    Mutation(
        "role.asked-inside",
        "a service asks other services for a role",
        ("role.inside",),
        _roles_asked_inside,
    ),
    Mutation(
        "role.at-service-alone",
        "the gateway leaves it to the service who may delete users",
        ("role.restricted", "path.restricted"),
        _roles_at_service_alone,
    ),
    Mutation(
        "role.at-gateway-alone",
        "a service leaves it to the gateway who may change models",
        ("role.service",),
        _roles_at_gateway_alone,
    ),
    Mutation(
        "role.of-all-methods",
        "a service leaves it to the gateway who may do anything with it",
        ("role.service",),
        _analytics_without_roles,
    ),
    Mutation(
        "role.address-not-asked",
        "models may be changed from any address",
        ("role.address", "path.restricted"),
        _address_not_asked,
    ),
    Mutation(
        "address.denied-over-tls-only",
        "denied addresses are refused on the TLS port alone",
        ("address.denied",),
        _denied_over_tls_only,
    ),
    Mutation(
        "address.first-entry",
        "denied addresses are looked for in what the client wrote into X-Forwarded-For",
        ("address.forged", "log.client-address"),
        _first_address,
    ),
    Mutation(
        "audit.path-forgotten",
        "the gateway's audit lacks one path",
        ("audit.recorded",),
        _audit_without_path,
    ),
    Mutation(
        "audit.not-at-service",
        "a service records nothing",
        ("audit.recorded",),
        _service_not_audited,
    ),
    Mutation(
        "agent.allowed",
        "the filter of denied user agents is removed",
        ("agent.denied", "user-agent.denied", "audit.before-policies"),
        _agents_allowed,
    ),
    Mutation(
        "agent.late",
        "the filter of denied user agents stands behind authentication",
        ("user-agent.denied", "audit.before-policies"),
        _agents_late,
    ),
)
