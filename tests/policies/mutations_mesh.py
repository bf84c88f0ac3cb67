"""Weakenings of telemetry, EnvoyFilters, injection, meshConfig and egress."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.policies.mutants import (
    Object,
    Objects,
    apps,
    every,
    filter_of,
    made,
    matches,
    mesh_config,
    mutation,
    name,
    namespace,
    one,
    patches,
    pod_template,
    root,
    route,
    without,
)

TELEMETRY = "telemetry.istio.io/v1"


def _mesh_wide(o: Objects) -> Object:
    return one(o, "Telemetry", lambda t: not matches(t) and bool(t["spec"].get("tracing")))


def _mesh(title: str, policy: str, change: Callable[[Object], None]) -> None:
    """Registers a weakening of meshConfig."""
    mutation(title, policy)(lambda o: mesh_config(o, change))


def _set(path: str, value: Any) -> Callable[[Object], None]:
    *above, last = path.split(".")

    def change(config: Object) -> None:
        for key in above:
            config = config.setdefault(key, {})
        config[last] = value

    return change


def _drop(path: str) -> Callable[[Object], None]:
    *above, last = path.split(".")

    def change(config: Object) -> None:
        for key in above:
            config = config[key]
        del config[last]

    return change


# meshConfig

_mesh("proxies do not use mutual TLS", "mtls-auto", _set("enableAutoMtls", False))
_mesh(
    "any address may be called",
    "egress-registry-only",
    _set("outboundTrafficPolicy.mode", "ALLOW_ANY"),
)
_mesh("outbound policy left to the default", "egress-registry-only", _drop("outboundTrafficPolicy"))
_mesh(
    "paths as clients write them",
    "paths-normalized",
    _set("pathNormalization.normalization", "NONE"),
)
_mesh("path normalization left to the default", "paths-normalized", _drop("pathNormalization"))
_mesh(
    "Ingress objects make routes",
    "ingress-controller-off",
    _set("ingressControllerMode", "DEFAULT"),
)
_mesh(
    "everything traced, in meshConfig",
    "sampling-bounded",
    _set("defaultConfig.tracing.sampling", 100),
)
_mesh(
    "a default provider that does not exist",
    "telemetry-provider-exists",
    _set("defaultProviders.tracing", ["no-such-provider"]),
)


@mutation("the access log holds tokens", "no-credentials-recorded")
def _(o: Objects) -> None:
    def change(config: Object) -> None:
        for provider in config["extensionProviders"]:
            if log := provider.get("envoyFileAccessLog"):
                log["logFormat"]["labels"]["token"] = "%REQ(authorization)%"

    mesh_config(o, change)


@mutation("traces go to a host that does not exist", "host-exists")
def _(o: Objects) -> None:
    def change(config: Object) -> None:
        for provider in config["extensionProviders"]:
            if "opentelemetry" in provider:
                provider["opentelemetry"]["service"] = f"misspelt.{apps(o)}.svc.cluster.local"

    mesh_config(o, change)


@mutation("nobody says how many proxies are in front", "client-address-declared")
def _(o: Objects) -> None:
    mesh_config(o, lambda config: config["defaultConfig"].pop("gatewayTopology"))
    for item in every(o, "Deployment"):
        annotations = item["spec"]["template"]["metadata"].get("annotations") or {}
        annotations.pop("proxy.istio.io/config", None)


@mutation("ALLOW_ANY for one workload", "egress-registry-only")
def _(o: Objects) -> None:
    one(o, "Sidecar")["spec"]["outboundTrafficPolicy"] = {"mode": "ALLOW_ANY"}


# Helm values: all that the engine sees of the control plane

DECLARED = "prod declared"


def _values(o: Objects, chart: str) -> Object:
    """Values of the release of one of Istio's charts."""
    release = one(o, "Release", lambda r: r["spec"]["chart"] == chart)
    values: Object = release["spec"]["values"]
    return values


def _value(title: str, policy: str, chart: str, change: Callable[[Object], object]) -> None:
    """Registers a weakening of a release's values."""

    @mutation(f"{title}, in Helm values", policy, DECLARED)
    def _(o: Objects) -> None:
        change(_values(o, chart))


_value("no automatic mutual TLS", "mtls-auto", "istiod", _set("meshConfig.enableAutoMtls", False))
_value(
    "any address may be called",
    "egress-registry-only",
    "istiod",
    _set("meshConfig.outboundTrafficPolicy.mode", "ALLOW_ANY"),
)
_value("no meshConfig", "egress-registry-only", "istiod", _drop("meshConfig"))
_value(
    "paths as clients write them",
    "paths-normalized",
    "istiod",
    _set("meshConfig.pathNormalization.normalization", "BASE"),
)
_value(
    "a provider gone that Telemetry names",
    "telemetry-provider-exists",
    "istiod",
    _set("meshConfig.extensionProviders", []),
)
_value(
    "validation that lets everything pass",
    "webhook-fails-closed",
    "istiod",
    _set("base.validationFailurePolicy", "Ignore"),
)
_value("validation left to the default", "webhook-fails-closed", "base", _drop("base"))
_value(
    "ports around every proxy",
    "traffic-not-excluded",
    "istiod",
    _set("global.proxy.excludeInboundPorts", "8080"),
)
_value(
    "only some addresses through the proxies",
    "traffic-not-excluded",
    "istiod",
    _set("global.proxy.includeIPRanges", "10.0.0.0/8"),
)
_value("everything traced", "sampling-bounded", "istiod", _set("traceSampling", 100))
_value("keys from any address", "issuer-fetch-restricted", "istiod", _drop("env"))
_value("a password", "no-secret-in-clear", "istiod", _set("global.redisPassword", "hunter22"))
_value("other labels for the gateway", "selector-selects", "gateway", _set("labels.istio", "edge"))
_value(
    "another account for the gateway",
    "caller-exists",
    "gateway",
    _set("serviceAccount.name", "another-account"),
)
_value(
    "a port fewer on the gateway's Service",
    "gateway-port-served",
    "gateway",
    lambda values: values["service"]["ports"].pop(),
)


_mesh("a foreign trust domain", "trust-domains-known", _set("trustDomainAliases", ["evil.example"]))
_mesh(
    "another certificate authority",
    "trust-domains-known",
    _set("caCertificates", [{"spiffeBundleUrl": "https://evil.example/bundle"}]),
)
_value(
    "trust domains unchecked",
    "istiod-checks-callers",
    "istiod",
    _set("env.PILOT_SKIP_VALIDATE_TRUST_DOMAIN", "true"),
)


@mutation("proxies unauthenticated at istiod", "istiod-checks-callers")
def _(o: Objects) -> None:
    item = one(o, "Deployment", lambda d: name(d) == "istiod")
    container = item["spec"]["template"]["spec"]["containers"][0]
    container.setdefault("env", []).append({"name": "XDS_AUTH", "value": "false"})


_mesh(
    "another control plane",
    "control-plane-own",
    _set("defaultConfig.discoveryAddress", "istiod.evil.example:15012"),
)
_mesh(
    "configuration from elsewhere",
    "control-plane-own",
    _set("configSources", [{"address": "xds://evil.example:15010"}]),
)
_mesh("TLS 1.0 in the mesh", "mesh-tls-strong", _set("meshMTLS.minProtocolVersion", "TLSV1_0"))
_mesh(
    "no TLS where no rule is", "mesh-tls-strong", _set("defaultTrafficPolicy.tls.mode", "DISABLE")
)
_mesh(
    "certificates that clients write",
    "client-certificate-own",
    _set("defaultConfig.gatewayTopology.forwardClientCertDetails", "ALWAYS_FORWARD_ONLY"),
)
_mesh(
    "istiod blind for the applications",
    "injector-reaches",
    _set("discoverySelectors", [{"matchLabels": {"mesh": "other"}}]),
)
_mesh(
    "proxies told not to intercept",
    "traffic-not-excluded",
    _set("defaultConfig.proxyMetadata.ISTIO_META_INTERCEPTION_MODE", "NONE"),
)


@mutation("a revision that is not there", "injector-reaches")
def _(o: Objects) -> None:
    labels = one(o, "Namespace", lambda n: name(n) == apps(o))["metadata"]["labels"]
    del labels["istio-injection"]
    labels["istio.io/rev"] = "gone"


@mutation("the injector kept out of the applications", "injector-reaches")
def _(o: Objects) -> None:
    rule = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [apps(o)]}
    for webhook in one(o, "MutatingWebhookConfiguration")["webhooks"]:
        webhook.setdefault("namespaceSelector", {}).setdefault("matchExpressions", []).append(rule)


@mutation("an application that can undo the redirection", "pod-keeps-redirection")
def _(o: Objects) -> None:
    container = pod_template(o)["spec"]["containers"][0]
    context = container.setdefault("securityContext", {})
    context["capabilities"] = {"add": ["NET_ADMIN"]}


# Telemetry


def _filtered(title: str, **log: Any) -> None:
    @mutation(f"an access log of {title}", "telemetry-on")
    def _(o: Objects) -> None:
        for each in _mesh_wide(o)["spec"]["accessLogging"]:
            each.update(log)


_filtered("nothing", filter={"expression": "false"})
_filtered("answers that there are not", filter={"expression": "response.code > 599"})
_filtered("successes", filter={"expression": "response.code < 400 && response.code != 0"})
_filtered("one side", match={"mode": "CLIENT"})


@mutation("no request traced", "telemetry-on")
def _(o: Objects) -> None:
    for tracing in _mesh_wide(o)["spec"]["tracing"]:
        tracing["randomSamplingPercentage"] = 0


@mutation("100 percent sampling for the whole mesh", "sampling-bounded")
def _(o: Objects) -> None:
    for tracing in _mesh_wide(o)["spec"]["tracing"]:
        tracing["randomSamplingPercentage"] = 100


@mutation("a second Telemetry for the mesh", "telemetry-distinct")
def _(o: Objects) -> None:
    o.append(made("Telemetry", TELEMETRY, root(o), {"accessLogging": []}))


@mutation("a second Telemetry for a workload", "telemetry-distinct")
def _(o: Objects) -> None:
    item = copy.deepcopy(one(o, "Telemetry", lambda t: bool(matches(t))))
    item["metadata"]["name"] = "rival"
    o.append(item)


@mutation("a Telemetry with a provider that does not exist", "telemetry-provider-exists")
def _(o: Objects) -> None:
    _mesh_wide(o)["spec"]["tracing"][0]["providers"] = [{"name": "no-such-provider"}]


@mutation("a metric by user", "metrics-bounded")
def _(o: Objects) -> None:
    tag = {"user_id": {"operation": "UPSERT", "value": "request.headers['x-user-id']"}}
    _override(o)["tagOverrides"] = tag


@mutation("a metric by path", "metrics-bounded")
def _(o: Objects) -> None:
    tag = {"path": {"operation": "UPSERT", "value": "request.url_path"}}
    _override(o)["tagOverrides"] = tag


def _override(o: Objects) -> Object:
    item = one(o, "Telemetry", lambda t: bool(t["spec"].get("metrics")))
    override: Object = item["spec"]["metrics"][0]["overrides"][0]
    return override


@mutation("spans hold cookies", "no-credentials-recorded")
def _(o: Objects) -> None:
    tags = _mesh_wide(o)["spec"]["tracing"][0].setdefault("customTags", {})
    tags["session"] = {"header": {"name": "cookie"}}


@mutation("the access log switched off", "telemetry-on")
def _(o: Objects) -> None:
    _mesh_wide(o)["spec"]["accessLogging"] = [{"disabled": True}]


@mutation("traces switched off", "telemetry-on")
def _(o: Objects) -> None:
    _mesh_wide(o)["spec"]["tracing"] = [{"disableSpanReporting": True}]


@mutation("no access log anywhere", "access-log-configured")
def _(o: Objects) -> None:
    mesh_config(o, lambda config: config["defaultProviders"].pop("accessLogging"))
    for item in every(o, "Telemetry"):
        item["spec"].pop("accessLogging", None)


# EnvoyFilters


@mutation("a filter before the router without naming it", "envoy-filter-anchored")
def _(o: Objects) -> None:
    for entry in patches(o, "ratelimit.v3.RateLimit"):
        entry["match"]["listener"]["filterChain"]["filter"].pop("subFilter", None)


@mutation("an EnvoyFilter without priority", "envoy-filter-anchored")
def _(o: Objects) -> None:
    filter_of(o, "ratelimit.v3.RateLimit")["spec"].pop("priority", None)


@mutation("an EnvoyFilter for one proxy version", "envoy-filter-anchored")
def _(o: Objects) -> None:
    patches(o, "ratelimit.v3.RateLimit")[0]["match"]["proxy"] = {"proxyVersion": r"^1\.31.*"}


@mutation("token checks removed by an EnvoyFilter", "envoy-filter-keeps-guards")
def _(o: Objects) -> None:
    anchor = {
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": {"name": "envoy.filters.http.jwt_authn"},
    }
    entry = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": {"filterChain": {"filter": anchor}}},
        "patch": {"operation": "REMOVE"},
    }
    filter_of(o, "ratelimit.v3.RateLimit")["spec"]["configPatches"].append(entry)


@mutation("authorization off for a route by an EnvoyFilter", "envoy-filter-keeps-guards")
def _(o: Objects) -> None:
    value = {"typed_per_filter_config": {"envoy.filters.http.rbac": {"disabled": True}}}
    entry = {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": "GATEWAY"},
        "patch": {"operation": "MERGE", "value": value},
    }
    filter_of(o, "ratelimit.v3.RateLimit")["spec"]["configPatches"].append(entry)


def _patched(title: str, policy: str, applies_to: str, operation: str, value: Object) -> None:
    """Registers an EnvoyFilter of somebody, for all proxies."""

    @mutation(f"{title}, by an EnvoyFilter", policy)
    def _(o: Objects) -> None:
        chain = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
        entry = {
            "applyTo": applies_to,
            "match": {"listener": {"filterChain": chain}} if "FILTER" in applies_to else {},
            "patch": {"operation": operation, "value": value},
        }
        spec = {"priority": 10, "configPatches": [entry]}
        o.append(made("EnvoyFilter", "networking.istio.io/v1alpha3", root(o), spec))


_MANAGER = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager"
}
_RAW = {"transport_socket": {"name": "envoy.transport_sockets.raw_buffer"}}
_patched(
    "another connection manager",
    "envoy-filter-keeps-guards",
    "NETWORK_FILTER",
    "REPLACE",
    {"typed_config": _MANAGER},
)
_patched("every HTTP filter gone", "envoy-filter-keeps-guards", "HTTP_FILTER", "REMOVE", {})
_patched(
    "token checks off for a virtual host",
    "envoy-filter-keeps-guards",
    "VIRTUAL_HOST",
    "MERGE",
    {"typedPerFilterConfig": {"envoy.filters.http.jwt_authn": {"disabled": True}}},
)
_patched("callers in plain text", "envoy-filter-keeps-tls", "CLUSTER", "MERGE", _RAW)
_patched("listeners in plain text", "envoy-filter-keeps-tls", "FILTER_CHAIN", "MERGE", _RAW)
_patched(
    "a route to a service",
    "envoy-filter-opens-nothing",
    "HTTP_ROUTE",
    "INSERT_FIRST",
    {"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}},
)
_patched(
    "a cluster that leads elsewhere",
    "envoy-filter-opens-nothing",
    "CLUSTER",
    "MERGE",
    {"load_assignment": {"endpoints": []}},
)
_patched(
    "paths as clients write them",
    "envoy-filter-keeps-requests",
    "NETWORK_FILTER",
    "MERGE",
    {"typed_config": {**_MANAGER, "normalize_path": False}},
)
_patched(
    "Lua in every proxy",
    "proxy-runs-known-code",
    "HTTP_FILTER",
    "INSERT_FIRST",
    {"typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}},
)


@mutation("a limit removed by another EnvoyFilter", "envoy-filter-keeps-others")
def _(o: Objects) -> None:
    limit = patches(o, "ratelimit.v3.RateLimit")[0]
    anchor = copy.deepcopy(limit["match"])
    anchor["listener"]["filterChain"]["filter"]["subFilter"] = {
        "name": limit["patch"]["value"]["name"]
    }
    entry = {"applyTo": "HTTP_FILTER", "match": anchor, "patch": {"operation": "REMOVE"}}
    spec = {"priority": 20, "configPatches": [entry]}
    o.append(made("EnvoyFilter", "networking.istio.io/v1alpha3", root(o), spec))


@mutation("the body limit on every route", "streams-not-buffered")
def _(o: Objects) -> None:
    for entry in patches(o, "buffer.v3.Buffer"):
        entry["patch"]["value"].pop("disabled", None)


@mutation("the body limit on a WebSocket route", "streams-not-buffered")
def _(o: Objects) -> None:
    socket = route(o, lambda r: str(r.get("timeout")) == "3600s" and "name" in r)
    inserted = patches(o, "buffer.v3.Buffer")[0]["patch"]["value"]["name"]
    limit = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
        "buffer": {"max_request_bytes": 1024},
    }
    entry = {
        "applyTo": "HTTP_ROUTE",
        "match": {
            "context": "GATEWAY",
            "routeConfiguration": {"vhost": {"route": {"name": socket["name"]}}},
        },
        "patch": {"operation": "MERGE", "value": {"typed_per_filter_config": {inserted: limit}}},
    }
    filter_of(o, "buffer.v3.Buffer")["spec"]["configPatches"].append(entry)


def _asked(entry: Object) -> Object:
    service: Object = entry["patch"]["value"]["typed_config"]["rate_limit_service"]
    grpc: Object = service["grpc_service"]["envoy_grpc"]
    return grpc


@mutation("the rate-limit cluster is Redis", "rate-limit-asks-service")
def _(o: Objects) -> None:
    redis = one(o, "Service", lambda s: any(p["port"] == 6379 for p in s["spec"]["ports"]))
    cluster = f"outbound|6379||{name(redis)}.{namespace(redis)}.svc.cluster.local"
    for entry in patches(o, "ratelimit.v3.RateLimit"):
        _asked(entry)["cluster_name"] = cluster


@mutation("the rate-limit cluster is nothing", "rate-limit-asks-service")
def _(o: Objects) -> None:
    for entry in patches(o, "ratelimit.v3.RateLimit"):
        _asked(entry)["cluster_name"] = "rate_limit_cluster"


@mutation("a rate limit for no request", "rate-limit-asks-service")
def _(o: Objects) -> None:
    for entry in patches(o, "ratelimit.v3.RateLimit"):
        config = entry["patch"]["value"]["typed_config"]
        config["filter_enabled"] = {"default_value": {"numerator": 0}}


@mutation("a rate limit off for every route", "envoy-filter-keeps-others")
def _(o: Objects) -> None:
    limit = patches(o, "local_ratelimit.v3.LocalRateLimit")[0]["patch"]["value"]["name"]
    value = {"typed_per_filter_config": {limit: {"disabled": True}}}
    entry = {"applyTo": "VIRTUAL_HOST", "patch": {"operation": "MERGE", "value": value}}
    spec = {"priority": 20, "configPatches": [entry]}
    o.append(made("EnvoyFilter", "networking.istio.io/v1alpha3", root(o), spec))


@mutation("the local limit is not enforced", "local-limit-works")
def _(o: Objects) -> None:
    for entry in patches(o, "local_ratelimit.v3.LocalRateLimit"):
        entry["patch"]["value"]["typed_config"].pop("filter_enforced")


@mutation("the local limit forgets clients", "local-limit-works")
def _(o: Objects) -> None:
    for entry in patches(o, "local_ratelimit.v3.LocalRateLimit"):
        entry["patch"]["value"]["typed_config"].pop("max_dynamic_descriptors")


@mutation("a local limit that limits nothing", "local-limit-works")
def _(o: Objects) -> None:
    bucket = {"max_tokens": 10**9, "tokens_per_fill": 10**9, "fill_interval": "1s"}
    for entry in patches(o, "local_ratelimit.v3.LocalRateLimit"):
        for descriptor in entry["patch"]["value"]["typed_config"]["descriptors"]:
            descriptor["token_bucket"] = bucket


# Injection


@mutation("injection off for the applications' namespace", "namespace-injected")
def _(o: Objects) -> None:
    item = one(o, "Namespace", lambda n: name(n) == apps(o))
    item["metadata"]["labels"]["istio-injection"] = "disabled"


@mutation("two injection labels", "namespace-injected")
def _(o: Objects) -> None:
    item = one(o, "Namespace", lambda n: name(n) == apps(o))
    item["metadata"]["labels"]["istio.io/rev"] = "canary"


@mutation("injection off for a pod, by label", "pod-injected")
def _(o: Objects) -> None:
    pod_template(o)["metadata"].setdefault("labels", {})["sidecar.istio.io/inject"] = "false"


@mutation("injection off for a pod, by annotation", "pod-injected")
def _(o: Objects) -> None:
    pod_template(o)["metadata"].setdefault("annotations", {})["sidecar.istio.io/inject"] = "false"


@mutation("a pod on the host's network", "pod-injected")
def _(o: Objects) -> None:
    pod_template(o)["spec"]["hostNetwork"] = True


def _excluding(setting: str, value: str) -> None:
    key = f"traffic.sidecar.istio.io/{setting}"

    @mutation(f"around the proxy: {setting}", "traffic-not-excluded")
    def _(o: Objects) -> None:
        pod_template(o)["metadata"].setdefault("annotations", {})[key] = value


_excluding("excludeInboundPorts", "8080")
_excluding("excludeOutboundPorts", "443")
_excluding("excludeOutboundIPRanges", "10.0.0.0/8")
_excluding("includeInboundPorts", "")
_excluding("includeOutboundIPRanges", "10.1.0.0/16")


@mutation("an application as the proxy's user", "pod-uid")
def _(o: Objects) -> None:
    pod_template(o)["spec"]["containers"][0].setdefault("securityContext", {})["runAsUser"] = 1337


@mutation("a gateway that nobody injects", "proxy-image-injected")
def _(o: Objects) -> None:
    item = one(
        o,
        "Deployment",
        lambda d: any(
            c.get("image") == "auto" for c in d["spec"]["template"]["spec"]["containers"]
        ),
    )
    item["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"


@mutation("Redis without a NetworkPolicy", "outside-guarded")
def _(o: Objects) -> Objects:
    return without(o, *every(o, "NetworkPolicy"))


@mutation("Redis open to every pod", "network-policy-narrow")
def _(o: Objects) -> None:
    one(o, "NetworkPolicy")["spec"]["ingress"][0].pop("from")


@mutation("Redis open to every namespace", "network-policy-narrow")
def _(o: Objects) -> None:
    one(o, "NetworkPolicy")["spec"]["ingress"][0]["from"] = [{"namespaceSelector": {}}]


@mutation("a password as an environment variable", "no-secret-in-clear")
def _(o: Objects) -> None:
    container = pod_template(o)["spec"]["containers"][0]
    container.setdefault("env", []).append({"name": "REDIS_PASSWORD", "value": "hunter22"})


@mutation("a pod whose interception is off", "traffic-not-excluded")
def _(o: Objects) -> None:
    annotations = pod_template(o)["metadata"].setdefault("annotations", {})
    annotations["sidecar.istio.io/interceptionMode"] = "NONE"


_mesh(
    "no proxy intercepts anything",
    "traffic-not-excluded",
    _set("defaultConfig.interceptionMode", "NONE"),
)


def _cron_job(o: Objects, pod: Object) -> None:
    template = {"metadata": pod.pop("metadata", {}), "spec": {"containers": [], **pod}}
    job = {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": template}}}
    o.append(made("CronJob", "batch/v1", apps(o), job))


@mutation("a CronJob without a proxy", "pod-injected")
def _(o: Objects) -> None:
    _cron_job(o, {"metadata": {"labels": {"sidecar.istio.io/inject": "no"}}})


@mutation("a CronJob around the proxy", "traffic-not-excluded")
def _(o: Objects) -> None:
    excluded = {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "0.0.0.0/0"}
    _cron_job(o, {"metadata": {"annotations": excluded}})


@mutation("a password in an init container of a CronJob", "no-secret-in-clear")
def _(o: Objects) -> None:
    env = [{"name": "DATABASE_URL", "value": "postgres://app:hunter22@db"}]
    _cron_job(o, {"initContainers": [{"name": "migrate", "env": env}]})


@mutation("pods that start without a proxy when istiod is away", "injector-injects")
def _(o: Objects) -> None:
    for webhook in one(o, "MutatingWebhookConfiguration")["webhooks"]:
        webhook["failurePolicy"] = "Ignore"


@mutation("pods with a label that never get a proxy", "injector-injects")
def _(o: Objects) -> None:
    item = one(o, "ConfigMap", lambda c: name(c) == "istio-sidecar-injector")
    lines = item["data"]["config"]
    item["data"]["config"] = lines.replace(
        "neverInjectSelector:\n  []",
        "neverInjectSelector: [{matchExpressions: [{key: app, operator: Exists}]}]",
    )


_value(
    "injection switched off",
    "injector-injects",
    "istiod",
    _set("global.proxy.autoInject", "disabled"),
)


@mutation("Redis guarded against leaving only", "outside-guarded")
def _(o: Objects) -> None:
    for item in every(o, "NetworkPolicy"):
        item["spec"]["policyTypes"] = ["Egress"]


@mutation("Redis open to half of the world", "network-policy-narrow")
def _(o: Objects) -> None:
    one(o, "NetworkPolicy")["spec"]["ingress"][0]["from"] = [{"ipBlock": {"cidr": "128.0.0.0/1"}}]


# Egress


@mutation("a Sidecar that hears of everything", "sidecar-scoped")
def _(o: Objects) -> None:
    one(o, "Sidecar", lambda s: bool(s["spec"].get("egress")))["spec"]["egress"][0]["hosts"] = [
        "*/*"
    ]


@mutation("egress to every host of a domain", "egress-host-exact")
def _(o: Objects) -> None:
    one(o, "ServiceEntry")["spec"]["hosts"] = ["*.example.com"]


@mutation("egress to wherever the caller says", "egress-host-exact")
def _(o: Objects) -> None:
    one(o, "ServiceEntry")["spec"]["resolution"] = "NONE"


@mutation("egress in plain text", "egress-encrypted")
def _(o: Objects) -> None:
    port = one(o, "ServiceEntry")["spec"]["ports"][0]
    port.update(number=80, name="http", protocol="HTTP")


@mutation("an egress host known to every namespace", "egress-private")
def _(o: Objects) -> None:
    one(o, "ServiceEntry")["spec"].pop("exportTo")


@mutation("istiod fetches keys from any address", "issuer-fetch-restricted")
def _(o: Objects) -> None:
    for item in every(o, "Deployment"):
        for container in item["spec"]["template"]["spec"]["containers"]:
            container["env"] = [
                e for e in container.get("env") or () if not e["name"].startswith("BLOCKED_CIDRS")
            ]


@mutation("a Telemetry without a provider", "telemetry-provider-exists")
def _(o: Objects) -> None:
    mesh_config(o, lambda config: config["defaultProviders"].pop("tracing"))
    for item in every(o, "Telemetry"):
        for tracing in item["spec"].get("tracing") or ():
            tracing.pop("providers", None)


@mutation("Istio's validation switched to Ignore", "webhook-fails-closed")
def _(o: Objects) -> None:
    item = one(o, "ValidatingWebhookConfiguration")
    for webhook in item["webhooks"]:
        webhook["failurePolicy"] = "Ignore"


# What joins by hand

NETWORKING = "networking.istio.io/v1"


def _inside(o: Objects) -> tuple[str, Object]:
    """(namespace, Service) of an application."""
    ns = apps(o)
    return ns, one(o, "Service", lambda s: namespace(s) == ns)


def _taken(title: str, host: str, location: str) -> None:
    @mutation(f"a Service's name taken {title}", "service-host-owned")
    def _(o: Objects) -> None:
        ns, service = _inside(o)
        spec = {
            "hosts": [host.format(name=name(service), ns=ns)],
            "location": location,
            "resolution": "STATIC",
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
            "endpoints": [{"address": "203.0.113.9"}],
        }
        o.append(made("ServiceEntry", NETWORKING, ns, spec))


_taken("inside the mesh", "{name}.{ns}.svc.cluster.local", "MESH_INTERNAL")
_taken("outside the mesh", "{name}.{ns}.svc.cluster.local", "MESH_EXTERNAL")
_taken("by its short form", "{name}", "MESH_EXTERNAL")
_taken("by a wildcard", "*.{ns}.svc.cluster.local", "MESH_EXTERNAL")


@mutation("a Service that is a name of somebody's", "service-leads-to-pods")
def _(o: Objects) -> None:
    _, service = _inside(o)
    service["spec"].update(type="ExternalName", externalName="evil.example")


@mutation("an address of a Service by hand", "service-leads-to-pods")
def _(o: Objects) -> None:
    ns, service = _inside(o)
    metadata = {"labels": {"kubernetes.io/service-name": name(service)}}
    item = made("EndpointSlice", "discovery.k8s.io/v1", ns, None, metadata)
    o.append({**item, "endpoints": [{"addresses": ["203.0.113.9"]}]})


@mutation("a host outside that somebody serves too", "egress-host-distinct")
def _(o: Objects) -> None:
    spec = copy.deepcopy(one(o, "ServiceEntry")["spec"])
    spec.update(resolution="STATIC", endpoints=[{"address": "203.0.113.9"}])
    o.append(made("ServiceEntry", NETWORKING, namespace(one(o, "ServiceEntry")), spec))


@mutation("a host outside called inside", "egress-location-true")
def _(o: Objects) -> None:
    one(o, "ServiceEntry")["spec"]["location"] = "MESH_INTERNAL"


def _joining(o: Objects, **spec: Any) -> None:
    ns, service = _inside(o)
    labels = {**service["spec"]["selector"], **spec.pop("labels", {})}
    o.append(
        made("WorkloadEntry", NETWORKING, ns, {"address": "203.0.113.9", "labels": labels, **spec})
    )


@mutation("an address that takes a share of a Service's requests", "member-declared")
def _(o: Objects) -> None:
    _joining(o, serviceAccount="default")


@mutation("a share of a Service's requests in plain text", "member-encrypted")
def _(o: Objects) -> None:
    _joining(o)


def _listener(title: str, protocol: str = "HTTP", **listener: Any) -> None:
    @mutation(f"a Sidecar's listener {title}", "sidecar-captures")
    def _(o: Objects) -> None:
        sidecar = one(o, "Sidecar", lambda s: "workloadSelector" in s["spec"])
        labels = sidecar["spec"]["workloadSelector"]["labels"].items()
        service = one(o, "Service", lambda s: labels <= s["spec"].get("selector", {}).items())
        number = service["spec"]["ports"][0]["targetPort"]
        port = {"number": number, "name": "x", "protocol": protocol}
        sidecar["spec"]["ingress"] = [{"port": port, **listener}]


_listener("that captures nothing", captureMode="NONE")
_listener("with TLS of its own", tls={"mode": "SIMPLE", "credentialName": "x"})
_listener("for TCP", protocol="TCP", defaultEndpoint="127.0.0.1:8080")
_listener("for the proxy's administration", defaultEndpoint="127.0.0.1:15000")
