"""Files in, rows of (policy, object, path) out, in the manner of Istio's own analyzer tests.

`testdata/weak/<subject>.yaml` breaks every policy of one module of rules; only the rows of that
module are listed. `testdata/sound.yaml` is a mesh in which every policy holds.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from manifests import read
from policies.catalogue import POLICIES, SUBJECTS, policies_of
from policies.policy import Policy
from policies.run import check
from policies.stack import Stack

TESTDATA = Path(__file__).parent / "testdata"
Row = tuple[str, str, str]

EXPECTED: dict[str, list[Row]] = {
    "mtls": [
        ("mtls-strict", "PeerAuthentication shop/permissive", "spec.mtls.mode"),
        ("mtls-strict", "PeerAuthentication shop/port", "spec.portLevelMtls.8080.mode"),
        ("mtls-strict-root", "PeerAuthentication istio-system/default", ""),
        ("mtls-one-policy", "PeerAuthentication shop/again", "spec.selector"),
        ("mtls-auto", "Release istio-system/istiod", "spec.values.meshConfig.enableAutoMtls"),
        ("mtls-strict", "PeerAuthentication cart/unknown", "spec.mtls.mode"),
        ("mtls-strict", "PeerAuthentication cart/unknown", "spec.portLevelMtls.8080.mode"),
    ],
    "client_tls": [
        (
            "client-tls-on",
            "DestinationRule shop/port",
            "spec.trafficPolicy.portLevelSettings[0].tls.mode",
        ),
        ("client-tls-on", "DestinationRule shop/subset", "spec.subsets[0].trafficPolicy.tls.mode"),
        (
            "client-tls-on",
            "DestinationRule shop/subset-port",
            "spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.mode",
        ),
        ("client-tls-on", "DestinationRule shop/top", "spec.trafficPolicy.tls.mode"),
        (
            "client-tls-verifies",
            "DestinationRule shop/foreign",
            "spec.trafficPolicy.tls.insecureSkipVerify",
        ),
        (
            "client-tls-verifies",
            "DestinationRule shop/unverified",
            "spec.trafficPolicy.tls.caCertificates",
        ),
        ("client-tls-mutual", "DestinationRule shop/foreign", "spec.trafficPolicy.tls.mode"),
        (
            "client-tls-on",
            "DestinationRule shop/no-mode",
            "spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.mode",
        ),
        ("client-tls-on", "DestinationRule shop/no-mode", "spec.subsets[0].trafficPolicy.tls.mode"),
        (
            "client-tls-on",
            "DestinationRule shop/no-mode",
            "spec.trafficPolicy.portLevelSettings[0].tls.mode",
        ),
        ("client-tls-on", "DestinationRule shop/no-mode", "spec.trafficPolicy.tls.mode"),
        ("client-tls-on", "DestinationRule shop/unknown-mode", "spec.trafficPolicy.tls.mode"),
    ],
    "deny_by_default": [
        ("deny-by-default", "AuthorizationPolicy istio-system/deny-all", "spec"),
        ("workload-authorized", "Release istio-system/istio-ingressgateway", ""),
        ("workload-authorized", "Service shop/orders", ""),
        (
            "authorization-enforced",
            "AuthorizationPolicy istio-system/tried",
            "metadata.annotations[istio.io/dry-run]",
        ),
        (
            "gateway-demands-token",
            "AuthorizationPolicy istio-system/one-host",
            "spec.rules[0].from[0].source",
        ),
        (
            "gateway-demands-token",
            "AuthorizationPolicy istio-system/with-holes",
            "spec.rules[0].from[0].source",
        ),
        ("gateway-hides-internals", "Release istio-system/istio-ingressgateway", ""),
        (
            "authorization-enforced",
            "AuthorizationPolicy istio-system/tried-too",
            "metadata.annotations[istio.io/dry-run]",
        ),
        ("authorization-enforced", "AuthorizationPolicy shop/unknown-action", "spec.action"),
    ],
    "allow": [
        (
            "allow-names-callers",
            "AuthorizationPolicy shop/by-exception",
            "spec.rules[0].from[0].source",
        ),
        ("allow-names-callers", "AuthorizationPolicy shop/by-header", "spec.rules[0]"),
        ("allow-names-callers", "AuthorizationPolicy shop/by-path", "spec.rules[0]"),
        ("allow-names-callers", "AuthorizationPolicy shop/everybody", "spec.rules[0]"),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-namespace",
            "spec.rules[0].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-namespace",
            "spec.rules[1].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-namespace",
            "spec.rules[2].from[0].source",
        ),
        (
            "allow-names-issuers",
            "AuthorizationPolicy shop/any-issuer",
            "spec.rules[0].from[0].source",
        ),
        ("allow-positive", "AuthorizationPolicy shop/by-exception", "spec.rules[0].from[0].source"),
        ("header-is-no-identity", "AuthorizationPolicy shop/by-header", "spec.rules[0]"),
        ("allow-not-undone", "AuthorizationPolicy shop/broad", "spec.rules[0].from[0].source"),
        ("public-declared", "AuthorizationPolicy shop/broad", "spec.rules[0].from[0].source"),
        (
            "public-has-reason",
            "AuthorizationPolicy shop/no-reason",
            "metadata.annotations[voicemesh.io/reason]",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[0].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[1].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[2].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[3].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[4].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[5].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[6].from[0].source",
        ),
        (
            "allow-names-accounts",
            "AuthorizationPolicy shop/by-pattern",
            "spec.rules[7].from[0].source",
        ),
        ("allow-names-accounts", "AuthorizationPolicy shop/by-pattern", "spec.rules[8]"),
        (
            "allow-names-callers",
            "AuthorizationPolicy shop/by-nothing",
            "spec.rules[0].from[0].source",
        ),
        ("allow-names-callers", "AuthorizationPolicy shop/by-nothing", "spec.rules[1]"),
        ("allow-names-callers", "AuthorizationPolicy shop/by-nothing", "spec.rules[2]"),
        ("allow-names-callers", "AuthorizationPolicy shop/by-nothing", "spec.rules[3]"),
        (
            "allow-names-callers",
            "AuthorizationPolicy shop/by-nothing",
            "spec.rules[4].from[0].source",
        ),
        (
            "allow-names-issuers",
            "AuthorizationPolicy shop/by-issuer-pattern",
            "spec.rules[0].from[0].source",
        ),
        ("allow-names-issuers", "AuthorizationPolicy shop/by-issuer-pattern", "spec.rules[1]"),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-by-account",
            "spec.rules[0].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[0].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[1].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[2].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[3].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[4].from[0].source",
        ),
        (
            "allow-not-undone",
            "AuthorizationPolicy shop/broad-in-disguise",
            "spec.rules[5].from[0].source",
        ),
        (
            "public-declared",
            "AuthorizationPolicy shop/broad-by-account",
            "spec.rules[0].from[0].source",
        ),
        ("public-declared", "AuthorizationPolicy shop/by-pattern", "spec.rules[0].from[0].source"),
        ("public-declared", "AuthorizationPolicy shop/by-pattern", "spec.rules[1].from[0].source"),
        ("public-declared", "AuthorizationPolicy shop/by-pattern", "spec.rules[6].from[0].source"),
    ],
    "forwarding": [
        (
            "route-port-speaks-http",
            "VirtualService shop/orders",
            "spec.http[0].route[0].destination.port",
        ),
        (
            "route-port-speaks-http",
            "VirtualService shop/orders",
            "spec.http[0].route[1].destination.port",
        ),
        ("mirror-inside", "VirtualService shop/orders", "spec.http[0].mirror"),
        ("mirror-inside", "VirtualService shop/orders", "spec.http[1].mirrors[1].destination"),
        ("mirror-inside", "VirtualService shop/orders", "spec.http[1].mirrors[2].destination"),
    ],
    "issuers": [
        (
            "issuer-fetch-restricted",
            "Release istio-system/istiod",
            "spec.values.env.BLOCKED_CIDRS_IN_JWKS_URIS",
        ),
        (
            "issuer-keys-safe",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[0].jwksUri",
        ),
        (
            "issuer-keys-safe",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[1].jwksUri",
        ),
        ("issuer-keys-safe", "RequestAuthentication shop/written-down", "spec.jwtRules[0].jwks"),
        (
            "token-audience",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[0].audiences",
        ),
        (
            "token-not-in-address",
            "RequestAuthentication shop/written-down",
            "spec.jwtRules[0].fromParams",
        ),
    ],
    "tokens": [
        (
            "identity-needs-mtls",
            "AuthorizationPolicy shop/by-certificate",
            "spec.rules[0].from[0].source",
        ),
        (
            "claims-need-issuer",
            "AuthorizationPolicy istio-system/unlisted-issuer",
            "spec.rules[0].from[0].source",
        ),
        (
            "claims-need-issuer",
            "AuthorizationPolicy shop/no-authentication",
            "spec.rules[0].from[0].source",
        ),
        ("token-demanded", "RequestAuthentication shop/written-down", "spec.jwtRules"),
        (
            "claim-headers-guarded",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[1].outputClaimToHeaders",
        ),
        (
            "claim-headers-guarded",
            "RequestAuthentication shop/written-down",
            "spec.jwtRules[0].outputClaimToHeaders",
        ),
        (
            "claim-headers-guarded",
            "VirtualService shop/cart",
            "spec.http[0].headers.request.remove",
        ),
        (
            "token-forwarded",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[0].forwardOriginalToken",
        ),
        (
            "token-forwarded",
            "RequestAuthentication istio-system/gateway",
            "spec.jwtRules[1].forwardOriginalToken",
        ),
        (
            "claim-headers-guarded",
            "RequestAuthentication billing/bills",
            "spec.jwtRules[0].outputClaimToHeaders",
        ),
        ("token-demanded", "RequestAuthentication billing/bills", "spec.jwtRules"),
    ],
    "claims": [
        (
            "declared-claims-demanded",
            "Service shop/orders",
            "metadata.annotations[voicemesh.io/requires-claims]",
        ),
        ("claims-checked-twice", "AuthorizationPolicy istio-system/gateway-role", "spec.rules"),
        ("claims-checked-twice", "AuthorizationPolicy shop/orders-tenant", "spec.rules"),
        (
            "admin-from-known-addresses",
            "AuthorizationPolicy istio-system/gateway-role",
            "spec.rules",
        ),
        ("mesh-entry-demands-identity", "Gateway istio-system/mesh", "spec.servers[0].tls"),
        (
            "admin-from-known-addresses",
            "AuthorizationPolicy istio-system/gateway-cart",
            "spec.rules",
        ),
        ("claims-checked-twice", "AuthorizationPolicy istio-system/gateway-cart", "spec.rules"),
        ("claims-checked-twice", "AuthorizationPolicy shop/cart-role", "spec.rules"),
        (
            "declared-claims-demanded",
            "Service shop/cart",
            "metadata.annotations[voicemesh.io/requires-claims]",
        ),
        ("mesh-entry-demands-identity", "Gateway istio-system/mesh-too", "spec.servers[0].tls"),
    ],
    "references": [
        ("selector-selects", "AuthorizationPolicy shop/selects-nothing", "spec.selector"),
        ("selector-selects", "Gateway shop/public", "spec.selector"),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[0].from[0].source",
        ),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[1].from[0].source",
        ),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[2].from[0].source",
        ),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[3].from[0].source",
        ),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[4].from[0].source",
        ),
        (
            "caller-exists",
            "AuthorizationPolicy shop/no-such-caller",
            "spec.rules[5].from[0].source",
        ),
        ("methods-known", "AuthorizationPolicy shop/no-such-operation", "spec.rules[0]"),
        ("policy-port-exists", "AuthorizationPolicy shop/no-such-operation", "spec.rules[0]"),
        ("host-exists", "DestinationRule shop/order", "spec.host"),
        ("host-exists", "Sidecar shop/orders", "spec.egress[0].hosts[0]"),
        ("host-exists", "VirtualService shop/orders", "spec.http[0].route[0].destination.host"),
        ("host-exists", "VirtualService shop/orders", "spec.http[2].mirror.host"),
        (
            "route-port-exists",
            "VirtualService shop/orders",
            "spec.http[1].route[0].destination.port",
        ),
        (
            "route-port-exists",
            "VirtualService shop/orders",
            "spec.http[2].route[0].destination.port",
        ),
        ("subset-exists", "VirtualService shop/orders", "spec.http[2].route[0].destination.subset"),
        ("route-gateway-exists", "VirtualService shop/orders", "spec.gateways"),
        ("route-gateway-exists", "VirtualService shop/orders", "spec.hosts[0]"),
    ],
    "routes": [
        ("delegate-exists", "VirtualService shop/part", "spec.http[1].match"),
        ("delegate-exists", "VirtualService shop/part", "spec.http[2].delegate"),
        ("delegate-exists", "VirtualService shop/root", "spec.http[0].delegate"),
        ("delegate-exists", "VirtualService shop/root", "spec.http[1].delegate"),
        ("route-hosts-distinct", "VirtualService shop/mesh-b", "spec.hosts"),
        ("route-hosts-distinct", "VirtualService shop/public-b", "spec.http[0].match"),
        ("route-reachable", "VirtualService shop/mesh-b", "spec.http[1]"),
        ("route-weights", "VirtualService shop/mesh-a", "spec.http[0].route"),
        ("route-destinations-distinct", "VirtualService shop/mesh-a", "spec.http[0].route"),
        ("route-hosts-exact", "VirtualService shop/wildcard", "spec.hosts[0]"),
        ("host-qualified", "DestinationRule shop/short", "spec.host"),
        ("host-qualified", "VirtualService shop/mesh-a", "spec.http[0].route[0].destination.host"),
        ("host-qualified", "VirtualService shop/mesh-a", "spec.http[0].route[1].destination.host"),
        ("route-is-allowed", "VirtualService shop/public-a", "spec.http[0].match"),
    ],
    "bounds": [
        (
            "route-sets-no-claim",
            "VirtualService shop/forging",
            "spec.http[0].headers.request.add",
        ),
        (
            "route-sets-no-claim",
            "VirtualService shop/forging",
            "spec.http[0].route[0].headers.request.set",
        ),
        ("route-timeout", "VirtualService shop/boundless", "spec.http[0].timeout"),
        ("route-timeout", "VirtualService shop/boundless", "spec.http[1].timeout"),
        ("retries-fit-timeout", "VirtualService shop/boundless", "spec.http[2].retries"),
        (
            "retries-fit-timeout",
            "VirtualService shop/boundless",
            "spec.http[2].retries.perTryTimeout",
        ),
        ("retries-idempotent", "VirtualService shop/boundless", "spec.http[3].retries.retryOn"),
        ("no-faults-left", "VirtualService shop/boundless", "spec.http[4].fault"),
        ("cors-origins", "VirtualService shop/boundless", "spec.http[4].corsPolicy.allowOrigins"),
        ("destination-bounded", "DestinationRule shop/orders", "spec.trafficPolicy.connectionPool"),
        (
            "destination-bounded",
            "DestinationRule shop/orders",
            "spec.trafficPolicy.outlierDetection",
        ),
    ],
    "destinations": [
        (
            "destination-is-the-service",
            "DestinationRule shop/away",
            "spec.trafficPolicy.tunnel",
        ),
        (
            "destination-is-the-service",
            "DestinationRule shop/away",
            "spec.trafficPolicy.tls.subjectAltNames",
        ),
        ("subset-selects", "DestinationRule shop/orders", "spec.subsets[1]"),
        ("subset-selects", "DestinationRule shop/orders", "spec.subsets[2].labels"),
        ("subset-selects", "DestinationRule shop/orders", "spec.subsets[3].labels"),
        ("destination-rules-distinct", "DestinationRule shop/orders-too", "spec.host"),
    ],
    "gateways": [
        ("gateway-encrypted", "Gateway istio-system/plain", "spec.servers[0].tls"),
        ("gateway-ends-tls", "Gateway istio-system/rival", "spec.servers[2].tls.mode"),
        ("gateway-tls-modern", "Gateway istio-system/plain", "spec.servers[1].tls.cipherSuites"),
        (
            "gateway-tls-modern",
            "Gateway istio-system/plain",
            "spec.servers[1].tls.minProtocolVersion",
        ),
        ("gateway-hosts-exact", "Gateway istio-system/plain", "spec.servers[0].hosts[0]"),
        ("gateway-hosts-owned", "Gateway istio-system/plain", "spec.servers[0].hosts[0]"),
        ("gateway-hosts-owned", "Gateway istio-system/rival", "spec.servers[0].hosts[0]"),
        ("gateway-distinct", "Gateway istio-system/rival", "spec.servers[0].hosts"),
        ("gateway-certificate", "Gateway istio-system/rival", "spec.servers[1].tls.credentialName"),
        ("gateway-certificate", "Gateway istio-system/rival", "spec.servers[3].tls.credentialName"),
        (
            "gateway-certificate-shared",
            "Gateway istio-system/rival",
            "spec.servers[0].tls.credentialName",
        ),
        ("gateway-port-served", "Gateway istio-system/rival", "spec.servers[1].port.number"),
        ("way-in-is-the-gateway", "Ingress shop/orders", ""),
        ("way-in-is-the-gateway", "Service shop/orders", "spec.type"),
        ("gateway-encrypted", "Gateway istio-system/modes", "spec.servers[3].tls"),
        ("gateway-encrypted", "Gateway istio-system/modes", "spec.servers[5].tls"),
        ("gateway-ends-tls", "Gateway istio-system/modes", "spec.servers[0].tls.mode"),
        ("gateway-ends-tls", "Gateway istio-system/modes", "spec.servers[1].tls.mode"),
        ("gateway-ends-tls", "Gateway istio-system/modes", "spec.servers[2].tls.mode"),
        ("gateway-ends-tls", "Gateway istio-system/modes", "spec.servers[3].tls.mode"),
    ],
    "gateway_api": [
        ("way-in-is-judged", "Gateway shop/side-door", "spec.listeners"),
        ("way-in-is-judged", "HTTPRoute shop/orders", "spec.parentRefs[0]"),
        ("way-in-is-judged", "HTTPRoute shop/orders", "spec.parentRefs[1]"),
        ("way-in-is-judged", "HTTPRoute shop/redirect", "spec.parentRefs[0]"),
        ("way-in-is-judged", "TCPRoute data/redis", "spec.parentRefs[0]"),
        ("gateway-api-encrypted", "Gateway shop/side-door", "spec.listeners[0].protocol"),
        ("gateway-api-encrypted", "Gateway shop/side-door", "spec.listeners[1].tls.mode"),
        (
            "gateway-api-hosts-owned",
            "Gateway shop/side-door",
            "spec.listeners[0].allowedRoutes.namespaces.from",
        ),
    ],
    "telemetry": [
        (
            "telemetry-on",
            "Telemetry shop/quiet",
            "spec.tracing[0].randomSamplingPercentage",
        ),
        (
            "telemetry-on",
            "Telemetry shop/quiet",
            "spec.accessLogging[0].filter.expression",
        ),
        ("telemetry-on", "Telemetry shop/quiet", "spec.accessLogging[0].match.mode"),
        ("telemetry-on", "Telemetry shop/quiet", "spec.accessLogging[1].disabled"),
        (
            "telemetry-provider-exists",
            "Telemetry shop/quiet",
            "spec.accessLogging[0].providers",
        ),
        ("telemetry-provider-exists", "Telemetry shop/quiet", "spec.tracing[0].providers"),
        ("telemetry-distinct", "Telemetry istio-system/again", "spec.selector"),
        ("telemetry-provider-exists", "Telemetry istio-system/again", "spec.tracing[0].providers"),
        ("telemetry-provider-exists", "Telemetry istio-system/mesh", "spec.metrics[0].providers"),
        ("telemetry-provider-exists", "AuthorizationPolicy shop/external", "spec.provider.name"),
        ("telemetry-provider-exists", "Telemetry istio-system/mesh", "spec.tracing[0].providers"),
        (
            "sampling-bounded",
            "Release istio-system/istiod",
            "spec.values.meshConfig.defaultConfig.tracing.sampling",
        ),
        (
            "sampling-bounded",
            "Telemetry istio-system/mesh",
            "spec.tracing[0].randomSamplingPercentage",
        ),
        (
            "metrics-bounded",
            "Telemetry istio-system/mesh",
            "spec.metrics[0].overrides[0].tagOverrides.user",
        ),
        ("telemetry-on", "Telemetry istio-system/again", "spec.tracing[0].disableSpanReporting"),
        (
            "no-credentials-recorded",
            "Release istio-system/istiod",
            "spec.values.meshConfig.extensionProviders[0].envoyFileAccessLog.logFormat.text",
        ),
        (
            "no-credentials-recorded",
            "Telemetry istio-system/mesh",
            "spec.tracing[0].customTags.who.header.name",
        ),
        (
            "access-log-configured",
            "Release istio-system/istiod",
            "spec.values.meshConfig.defaultProviders.accessLogging",
        ),
    ],
    "envoy_filters": [
        ("envoy-filter-anchored", "EnvoyFilter istio-system/lost", "spec.configPatches[0].match"),
        (
            "envoy-filter-anchored",
            "EnvoyFilter istio-system/lost",
            "spec.configPatches[0].match.proxy.proxyVersion",
        ),
        (
            "envoy-filter-anchored",
            "EnvoyFilter istio-system/lost",
            "spec.configPatches[1].patch.operation",
        ),
        (
            "envoy-filter-anchored",
            "EnvoyFilter istio-system/lost",
            "spec.configPatches[2].patch.operation",
        ),
        ("envoy-filter-anchored", "EnvoyFilter istio-system/lost", "spec.priority"),
        ("streams-not-buffered", "EnvoyFilter istio-system/body", "spec.configPatches[0].patch"),
        (
            "rate-limit-asks-service",
            "EnvoyFilter istio-system/limits",
            "spec.configPatches[0].patch.value.typed_config.rate_limit_service",
        ),
        (
            "local-limit-works",
            "EnvoyFilter istio-system/limits",
            "spec.configPatches[2].patch.value.typed_config.filter_enforced",
        ),
        (
            "local-limit-works",
            "EnvoyFilter istio-system/limits",
            "spec.configPatches[2].patch.value.typed_config.max_dynamic_descriptors",
        ),
    ],
    "guards": [
        (
            "envoy-filter-keeps-guards",
            "EnvoyFilter istio-system/weakening",
            "spec.configPatches[0].patch",
        ),
        (
            "envoy-filter-keeps-tls",
            "EnvoyFilter shop/plain",
            "spec.configPatches[0].patch.value.transport_socket",
        ),
        (
            "envoy-filter-opens-nothing",
            "EnvoyFilter istio-system/side-door",
            "spec.configPatches[0].patch",
        ),
        (
            "envoy-filter-keeps-requests",
            "EnvoyFilter istio-system/believing",
            "spec.configPatches[0].patch.value.typed_config.xff_num_trusted_hops",
        ),
        (
            "envoy-filter-keeps-others",
            "EnvoyFilter istio-system/unlimited",
            "spec.configPatches[0].patch",
        ),
        (
            "proxy-runs-known-code",
            "EnvoyFilter istio-system/limits",
            "spec.configPatches[0].patch.value.typed_config.@type",
        ),
    ],
    "injector": [
        ("injector-reaches", "Namespace shop", "metadata.labels"),
        ("injector-reaches", "ConfigMap istio-system/istio", "data.mesh.discoverySelectors"),
        ("namespace-injected", "Namespace billing", "metadata.labels[istio-injection]"),
        ("namespace-injected", "Namespace shop", "metadata.labels"),
        (
            "proxy-image-injected",
            "Deployment data/gateway",
            "spec.template.spec.containers[0].image",
        ),
        (
            "injector-injects",
            "MutatingWebhookConfiguration istio-sidecar-injector",
            "webhooks[0].failurePolicy",
        ),
        ("injector-injects", "Release istio-system/istiod", "spec.values.sidecarInjectorWebhook"),
    ],
    "injection": [
        (
            "traffic-not-excluded",
            "ProxyConfig shop/none",
            "spec.environmentVariables.ISTIO_META_INTERCEPTION_MODE",
        ),
        (
            "pod-keeps-redirection",
            "Pod shop/mighty",
            "spec.containers[0].securityContext.privileged",
        ),
        (
            "pod-keeps-redirection",
            "Pod shop/mighty",
            "spec.containers[1].securityContext.capabilities",
        ),
        (
            "pod-injected",
            "Deployment shop/orders",
            "spec.template.metadata.labels[sidecar.istio.io/inject]",
        ),
        ("pod-injected", "Deployment shop/orders", "spec.template.spec.hostNetwork"),
        (
            "traffic-not-excluded",
            "Deployment shop/orders",
            "spec.template.metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]",
        ),
        (
            "traffic-not-excluded",
            "Release istio-system/istiod",
            "spec.values.global.proxy.excludeOutboundPorts",
        ),
        (
            "pod-uid",
            "Deployment shop/orders",
            "spec.template.spec.containers[0].securityContext.runAsUser",
        ),
        ("port-named", "Service shop/orders", "spec.ports[0]"),
        (
            "pod-injected",
            "CronJob shop/nightly",
            "spec.jobTemplate.spec.template.metadata.labels[sidecar.istio.io/inject]",
        ),
        (
            "pod-injected",
            "CronJob shop/nightly",
            "spec.jobTemplate.spec.template.metadata.annotations[inject.istio.io/templates]",
        ),
        (
            "traffic-not-excluded",
            "CronJob shop/nightly",
            "spec.jobTemplate.spec.template.metadata.annotations[sidecar.istio.io/interceptionMode]",
        ),
        (
            "traffic-not-excluded",
            "Release istio-system/istiod",
            "spec.values.meshConfig.defaultConfig.interceptionMode",
        ),
        (
            "pod-uid",
            "CronJob shop/nightly",
            "spec.jobTemplate.spec.template.spec.initContainers[0].securityContext.runAsUser",
        ),
    ],
    "network_policies": [
        ("outside-guarded", "StatefulSet data/redis", ""),
        ("network-policy-narrow", "NetworkPolicy shop/open", "spec.ingress[0].from"),
        ("network-policy-narrow", "NetworkPolicy shop/open", "spec.ingress[1].from"),
    ],
    "secrets": [
        ("no-secret-in-clear", "ConfigMap shop/encoded", "data.file"),
        (
            "no-secret-in-clear",
            "Deployment shop/orders",
            "spec.template.spec.containers[0].env[0].value",
        ),
        (
            "no-secret-in-clear",
            "Deployment shop/orders",
            "spec.template.spec.initContainers[0].env[0].value",
        ),
        ("no-secret-in-clear", "ConfigMap shop/orders", "data.app.yaml"),
        (
            "no-secret-in-clear",
            "Release istio-system/istiod",
            "spec.values.global.registryPassword",
        ),
    ],
    "mesh_settings": [
        (
            "egress-registry-only",
            "HelmRelease istio-system/istiod",
            "spec.values.meshConfig.outboundTrafficPolicy.mode",
        ),
        ("egress-registry-only", "Sidecar shop/anything", "spec.outboundTrafficPolicy.mode"),
        (
            "paths-normalized",
            "HelmRelease istio-system/istiod",
            "spec.values.meshConfig.pathNormalization.normalization",
        ),
        (
            "client-address-declared",
            "AuthorizationPolicy istio-system/addresses",
            "spec.rules[0].from[0].source",
        ),
        (
            "client-address-real",
            "AuthorizationPolicy istio-system/addresses",
            "spec.rules[1].from[0].source",
        ),
        (
            "ingress-controller-off",
            "HelmRelease istio-system/istiod",
            "spec.values.meshConfig.ingressControllerMode",
        ),
        (
            "webhook-fails-closed",
            "HelmRelease istio-system/istiod",
            "spec.values.base.validationFailurePolicy",
        ),
        ("sidecar-scoped", "Sidecar shop/anything", "spec.egress[0].hosts[0]"),
        ("egress-host-exact", "ServiceEntry shop/anywhere", "spec.hosts[0]"),
        ("egress-host-exact", "ServiceEntry shop/anywhere", "spec.resolution"),
        ("egress-encrypted", "ServiceEntry shop/anywhere", "spec.ports[0].protocol"),
        ("egress-private", "ServiceEntry shop/anywhere", "spec.exportTo"),
        ("sidecar-captures", "Sidecar shop/past", "spec.ingress[0].captureMode"),
        ("sidecar-captures", "Sidecar shop/past", "spec.ingress[0].defaultEndpoint"),
        ("sidecar-captures", "Sidecar shop/past", "spec.ingress[1].port.protocol"),
        ("sidecar-captures", "Sidecar shop/past", "spec.ingress[1].tls"),
    ],
    "trust": [
        *(
            ("control-plane-own", "ConfigMap istio-system/istio", f"data.mesh.{path}")
            for path in (
                "defaultConfig.discoveryAddress",
                "ca.address",
                "configSources[1].address",
            )
        ),
        *(
            ("mesh-tls-strong", "ConfigMap istio-system/istio", f"data.mesh.{path}")
            for path in (
                "meshMTLS.minProtocolVersion",
                "meshMTLS.cipherSuites",
                "defaultTrafficPolicy.tls",
            )
        ),
        (
            "client-certificate-own",
            "ConfigMap istio-system/istio",
            "data.mesh.defaultConfig.gatewayTopology.forwardClientCertDetails",
        ),
        (
            "client-certificate-own",
            "Deployment istio-system/istiod",
            "spec.template.metadata.annotations[proxy.istio.io/config]",
        ),
        (
            "trust-domains-known",
            "ConfigMap istio-system/istio",
            "data.mesh.trustDomainAliases[2]",
        ),
        (
            "trust-domains-known",
            "ConfigMap istio-system/istio",
            "data.mesh.trustDomainAliases[3]",
        ),
        ("trust-domains-known", "ConfigMap istio-system/istio", "data.mesh.caCertificates[0]"),
        (
            "istiod-checks-callers",
            "Deployment istio-system/istiod",
            "spec.template.spec.containers[0].env[0]",
        ),
        (
            "istiod-checks-callers",
            "Release istio-system/istiod",
            "spec.values.pilot.env.PILOT_SKIP_VALIDATE_TRUST_DOMAIN",
        ),
    ],
    "registry": [
        ("service-leads-to-pods", "Endpoints shop/orders", ""),
        ("service-leads-to-pods", "EndpointSlice shop/orders-x", ""),
        ("service-leads-to-pods", "Service shop/elsewhere", "spec.externalName"),
        *(
            ("service-host-owned", "ServiceEntry other/hijack", f"spec.hosts[{index}]")
            for index in range(4)
        ),
        ("egress-host-distinct", "ServiceEntry shop/rival", "spec.hosts[0]"),
        ("egress-location-true", "ServiceEntry shop/inside", "spec.endpoints[0]"),
        ("egress-location-true", "ServiceEntry shop/rival", "spec.location"),
        (
            "member-declared",
            "ServiceEntry shop/inside",
            "metadata.annotations[voicemesh.io/runs-outside]",
        ),
        (
            "member-declared",
            "WorkloadEntry shop/joins",
            "metadata.annotations[voicemesh.io/runs-outside]",
        ),
        (
            "member-declared",
            "WorkloadGroup shop/anybody",
            "metadata.annotations[voicemesh.io/runs-outside]",
        ),
        ("member-encrypted", "ServiceEntry shop/inside", "spec.endpoints[0].serviceAccount"),
        ("member-encrypted", "WorkloadEntry shop/joins", "spec.labels"),
        ("member-encrypted", "WorkloadGroup shop/anybody", "spec.template.serviceAccount"),
    ],
}


def subject_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", SUBJECTS, ids=subject_of)
def test_weak_files_break_exactly_what_is_listed(module: ModuleType) -> None:
    name = subject_of(module)
    own = {p.id for p in policies_of(module)}
    violations = check(read([TESTDATA / "weak" / f"{name}.yaml"]))
    assert {(v.policy_id, v.object, v.path) for v in violations if v.policy_id in own} == set(
        EXPECTED[name]
    )


def test_the_sound_mesh_breaks_nothing() -> None:
    assert check(read([TESTDATA / "sound.yaml"])) == []


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.id)
def test_every_policy_is_broken_by_some_file(policy: Policy) -> None:
    assert any(policy.id == row[0] for rows in EXPECTED.values() for row in rows)


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.kinds], ids=lambda p: p.id)
def test_the_sound_mesh_has_what_object_policies_look_at(policy: Policy) -> None:
    stack = Stack(read([TESTDATA / "sound.yaml"]))
    assert any(stack.of(*policy.kinds))


def test_no_file_is_left_untested() -> None:
    files = {path.stem for path in (TESTDATA / "weak").iterdir()}
    assert files == set(EXPECTED) == {subject_of(module) for module in SUBJECTS}
