"""EnvoyFilters leave alone what keeps the mesh closed: tokens, policies, mutual TLS, routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.patches import CHANGING, anchors, fields, opened, patches, typed
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Setting,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    reference,
    stack_policy,
)
from policies.stack import Stack

_ENVOY_FILTER = "https://istio.io/latest/docs/reference/config/networking/envoy-filter/"
_GUARDS = (
    "envoy.filters.http.jwt_authn",
    "envoy.filters.http.rbac",
    "envoy.filters.http.ext_authz",
    "envoy.filters.network.rbac",
    "envoy.filters.network.ext_authz",
    "istio_authn",
)
_GUARD_TYPES = (".http.jwt_authn.", ".http.rbac.", ".network.rbac.", ".ext_authz.")
_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
_PER_FILTER = ("typed_per_filter_config", "per_filter_config")
_WITH_FILTERS = {
    "LISTENER": ("filter_chains", "default_filter_chain", "listener_filters"),
    "FILTER_CHAIN": ("filters",),
    "NETWORK_FILTER": ("http_filters", "route_config", "rds", "scoped_routes"),
}
_OF_TLS = (
    "transport_socket",
    "transport_socket_matches",
    "tls_context",
    "common_tls_context",
    "require_client_certificate",
    "validation_context",
)
_PASSING_ON = (
    ".rbac.",
    ".ratelimit.",
    ".local_ratelimit.",
    ".connection_limit.",
    ".ext_authz.",
    ".metadata_exchange",
    ".set_filter_state.",
    ".wasm.",
)
"""Network filters behind which others run; behind any other what arrives has left the chain."""
_LEADING = {
    "HTTP_ROUTE": ("route", "redirect", "direct_response", "match", "filter_action"),
    "VIRTUAL_HOST": ("routes", "domains", "matcher"),
    "ROUTE_CONFIGURATION": ("virtual_hosts", "vhds"),
    "CLUSTER": ("load_assignment", "type", "cluster_type", "eds_cluster_config", "hosts"),
    "LISTENER": ("address", "additional_addresses", "use_original_dst"),
    "BOOTSTRAP": ("admin", "static_resources", "dynamic_resources", "layered_runtime"),
}
"""Fields that say where requests arrive or go."""
_DESTINING = (
    "cluster",
    "cluster_header",
    "weighted_clusters",
    "inline_cluster_specifier_plugin",
    "prefix_rewrite",
    "regex_rewrite",
    "path_rewrite_policy",
    "host_rewrite_literal",
    "host_rewrite_header",
    "cors",
)
_HARMLESS = {
    "normalize_path": (True,),
    "merge_slashes": (True,),
    "path_with_escaped_slashes_action": (
        "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
        "REJECT_REQUEST",
    ),
    "path_normalization_options": (),
    "use_remote_address": (),
    "xff_num_trusted_hops": (),
    "skip_xff_append": (False,),
    "original_ip_detection_extensions": (),
    "forward_client_cert_details": ("SANITIZE", "SANITIZE_SET"),
    "set_current_client_cert_details": (),
    "internal_address_config": (),
}
"""Fields that say what policies take for the path, the client and the caller, by the values that
take nothing away."""
_CODE = (".lua.", ".wasm.", ".ext_proc.", ".golang.", ".dynamic_modules.", ".dynamic_module.")
_CLAIM_WRITERS = (*_CODE, ".set_metadata.", ".header_to_metadata.", ".json_to_metadata.")


@object_policy(
    "envoy-filter-keeps-guards",
    "EnvoyFilter",
    title="No EnvoyFilter touches authentication or authorization",
    severity=Severity.CRITICAL,
    text="No patch removes, replaces or changes the filters that check tokens and policies "
    "(jwt_authn, rbac, ext_authz), by name, together with all others, for a route or by "
    "exchanging what holds them, or writes the claims that policies read. What they do is said by "
    "RequestAuthentication and AuthorizationPolicy.",
    remedy="Delete the patch.",
    url=_ENVOY_FILTER,
)
def keeps_guards(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at filters, at what holds filters, and at overrides for routes."""
    for path, applies_to, match, patch in patches(item):
        operation, value = str(patch.get("operation")), patch["value"]
        if operation in CHANGING and (problem := _loses(applies_to, operation, match, patch)):
            yield Finding(item, f"{path}.patch", f"{operation} of {problem}")
        config = typed(patch)
        kind = str(config.get("@type", ""))
        if operation not in CHANGING and ".http.jwt_authn." in kind:
            yield Finding(item, f"{path}.patch.value", "another filter says which tokens hold")
        if any(each in kind for each in _CLAIM_WRITERS) and _GUARDS[0] in str(config):
            yield Finding(item, f"{path}.patch.value", "it writes the claims that policies read")
        for where, name, entry in fields(f"{path}.patch.value", value):
            if name in _PER_FILTER and isinstance(entry, Mapping):
                for guard in entry:
                    if _is_guard(str(guard), entry[guard]):
                        yield Finding(item, where, f"{guard} is changed for a route")


def _loses(
    applies_to: str, operation: str, match: Mapping[str, Any], patch: Mapping[str, Any]
) -> str | None:
    """The guard that a patch of what is there takes away or changes."""
    network, http = anchors(match)
    if applies_to in ("HTTP_FILTER", "NETWORK_FILTER"):
        target = http if applies_to == "HTTP_FILTER" else network
        if target in _GUARDS:
            return target
        if not target:
            return f"every {applies_to}"
        if target == _CONNECTION_MANAGER and operation in ("REMOVE", "REPLACE"):
            return f"{target} with all its filters"
    elif applies_to in ("FILTER_CHAIN", "LISTENER", "LISTENER_FILTER") and operation == "REMOVE":
        return f"a whole {applies_to}"
    holder = typed(patch) if applies_to == "NETWORK_FILTER" else patch["value"]
    held = next((name for name in _WITH_FILTERS.get(applies_to, ()) if name in holder), None)
    return held and f"the {held} of a {applies_to}"


def _is_guard(name: str, config: Any) -> bool:
    kind = str(opened(config).get("@type", "")) if isinstance(config, Mapping) else ""
    return name in _GUARDS or any(each in kind for each in _GUARD_TYPES)


@object_policy(
    "envoy-filter-keeps-tls",
    "EnvoyFilter",
    title="No EnvoyFilter touches TLS",
    severity=Severity.CRITICAL,
    text="No patch changes the transport sockets of listeners and of clusters that are there: "
    "they are what mutual TLS consists of, and a PeerAuthentication with STRICT says nothing of a "
    "listener that no longer asks for a certificate.",
    remedy="Delete the patch; say it in PeerAuthentication, Gateway or DestinationRule.",
    url=_ENVOY_FILTER,
)
def keeps_tls(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for fields of TLS in all patches but those that add a cluster."""
    for path, applies_to, _match, patch in patches(item):
        if applies_to == "CLUSTER" and patch.get("operation") == "ADD":
            continue
        for where, name, _value in fields(f"{path}.patch.value", patch["value"]):
            if name in _OF_TLS:
                yield Finding(item, where, f"{name} of a {applies_to} is changed")
                break


@object_policy(
    "envoy-filter-opens-nothing",
    "EnvoyFilter",
    title="No EnvoyFilter opens a way of its own",
    severity=Severity.CRITICAL,
    text="No patch adds a listener, a filter chain, a virtual host or a route, ends the chain of "
    "network filters before the others, says whose pages may call, or changes where routes and "
    "clusters lead. No other policy judges such a way: they read Gateways, VirtualServices and "
    "ServiceEntries.",
    remedy="Say it in a Gateway, VirtualService or ServiceEntry.",
    url=_ENVOY_FILTER,
)
def opens_nothing(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at what patches add, and at fields that lead somewhere."""
    for path, applies_to, _match, patch in patches(item):
        operation, value = str(patch.get("operation")), patch["value"]
        where, kind = f"{path}.patch", str(typed(patch).get("@type", ""))
        if operation == "REMOVE":
            continue
        adds = operation not in CHANGING
        if adds and applies_to in ("LISTENER", "FILTER_CHAIN", "VIRTUAL_HOST", "HTTP_ROUTE"):
            yield Finding(item, where, f"{operation} of a {applies_to} that no policy judges")
            continue
        ends = applies_to == "NETWORK_FILTER" and not any(each in kind for each in _PASSING_ON)
        if adds and ends:
            yield Finding(item, where, "what it takes passes no other filter")
        if ".dynamic_forward_proxy." in kind:
            yield Finding(item, where, "requests go wherever the client says")
        if applies_to == "CLUSTER" and adds:
            continue  # nothing leads to it unless a route does
        for field, name, entry in fields(f"{where}.value", value):
            if name in ("@type", "type_url") and ".http.cors." in str(entry):
                yield Finding(item, field, "CORS is said by VirtualServices, and judged there")
        for name in _LEADING.get(applies_to, ()):
            leads = name in value
            if leads and (applies_to, name) == ("HTTP_ROUTE", "route"):
                leads = any(each in (value[name] or {}) for each in _DESTINING)
            if leads:
                message = f"{name} of a {applies_to} is not what other objects say"
                yield Finding(item, f"{where}.value.{name}", message)


@object_policy(
    "envoy-filter-keeps-requests",
    "EnvoyFilter",
    title="No EnvoyFilter changes what policies take for path, client and caller",
    severity=Severity.HIGH,
    text="No patch of the connection manager switches path normalization off or changes whose "
    "X-Forwarded-For and X-Forwarded-Client-Cert are believed. Policies by path, address and "
    "identity compare what it makes of them.",
    remedy="Say it in meshConfig: pathNormalization, defaultConfig.gatewayTopology.",
    url=_ENVOY_FILTER,
)
def keeps_requests(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at fields of the connection manager."""
    for path, applies_to, _match, patch in patches(item):
        config = typed(patch) if applies_to == "NETWORK_FILTER" else {}
        for name in config.keys() & _HARMLESS.keys():
            if config[name] not in _HARMLESS[name]:
                where = f"{path}.patch.value.typed_config.{name}"
                yield Finding(item, where, f"{name} is {config[name]}")


@stack_policy(
    "envoy-filter-keeps-others",
    title="No EnvoyFilter undoes another",
    severity=Severity.HIGH,
    text="No patch removes, replaces or changes a filter that another EnvoyFilter has put in, or "
    "switches another's rate limit off for routes. What it says still stands in the other object.",
    remedy="Change the object that the filter comes from.",
    url=_ENVOY_FILTER,
)
def keeps_others(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares names of filters that are added with those that are changed."""
    added: dict[str, Object] = {}
    limits: dict[str, Object] = {}
    for item in stack.of("EnvoyFilter"):
        for _path, applies_to, _match, patch in patches(item):
            if applies_to == "HTTP_FILTER" and patch.get("operation") not in CHANGING:
                name = str(patch["value"].get("name", ""))
                added.setdefault(name, item)
                if str(typed(patch).get("@type", "")).endswith("RateLimit"):
                    limits.setdefault(name, item)
    for item in stack.of("EnvoyFilter"):
        for path, applies_to, match, patch in patches(item):
            source = added.get(anchors(match)[1])
            changed = applies_to == "HTTP_FILTER" and patch.get("operation") in CHANGING
            if changed and source is not None and source is not item:
                message = f"{patch.get('operation')} of a filter that {reference(source)} puts in"
                yield Finding(item, f"{path}.patch", message)
            for where, field, entry in fields(f"{path}.patch.value", patch["value"]):
                if field in _PER_FILTER and isinstance(entry, Mapping):
                    for name in entry.keys() & limits.keys():
                        if limits[name] is not item and (entry[name] or {}).get("disabled"):
                            message = f"the limit of {reference(limits[name])} is switched off"
                            yield Finding(item, f"{where}.{name}", message)


@object_policy(
    "proxy-runs-known-code",
    "EnvoyFilter",
    "WasmPlugin",
    "TrafficExtension",
    title="Code in proxies is known",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.ADVISORY,
    reason="code in proxies may be wanted, and policies can't read what it does",
    text="Lua, WebAssembly, shared objects and external processors see every request with its "
    "token, and can change it before or after it was judged.",
    remedy="Review the code and list the object under `reviewed`, or do without it.",
    url="https://istio.io/latest/docs/concepts/wasm/",
    settings={"reviewed": Setting("array", [], "Objects (namespace/name) whose code is known.")},
)
def known_code(item: Object, config: Config) -> Iterator[Finding]:
    """Looks at plugins, and at the types of filters in patches."""
    if f"{namespace_of(item)}/{name_of(item)}" in config["reviewed"]:
        return
    if item.get("kind") != "EnvoyFilter":
        yield Finding(item, "", "nobody has said that its code is known")
        return
    for path, _to, _match, patch in patches(item):
        for where, name, value in fields(f"{path}.patch.value", patch["value"]):
            if name in ("@type", "type_url") and any(code in str(value) for code in _CODE):
                yield Finding(item, where, "nobody has said that its code is known")
                break
