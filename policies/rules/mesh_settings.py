"""meshConfig and Helm values, Sidecars and egress: what the mesh as a whole lets happen."""

from __future__ import annotations

from collections.abc import Iterator

from policies.access_rules import clauses
from policies.mesh_config import RELEASE_KINDS, chart_of, release_values
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.routing import protocol_of, traffic_policies
from policies.stack import Stack, selector_of
from policies.workloads import PODS
from semantics.pods import pod_template

_MESH_CONFIG = "https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/"
_SIDECAR = "https://istio.io/latest/docs/reference/config/networking/sidecar/"
_SERVICE_ENTRY = "https://istio.io/latest/docs/reference/config/networking/service-entry/"
_NORMALIZING = ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


@stack_policy(
    "egress-registry-only",
    title="Nothing leaves the mesh unless it is declared",
    severity=Severity.HIGH,
    text="meshConfig.outboundTrafficPolicy.mode is REGISTRY_ONLY, and no Sidecar says otherwise. "
    "Istio's default lets every pod call any address in the world.",
    remedy="Set REGISTRY_ONLY and add a ServiceEntry for each host outside.",
    url=_MESH_CONFIG + "#MeshConfig-OutboundTrafficPolicy",
)
def registry_only(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at meshConfig and at Sidecars."""
    for mesh in stack.mesh_configs:
        mode = mesh.get("outboundTrafficPolicy.mode", "ALLOW_ANY")
        if mode != "REGISTRY_ONLY":
            yield mesh.finding("outboundTrafficPolicy.mode", f"the mode is {mode}")
    for item in stack.of("Sidecar"):
        if (spec_of(item).get("outboundTrafficPolicy") or {}).get("mode") == "ALLOW_ANY":
            yield Finding(item, "spec.outboundTrafficPolicy.mode", "the mode is ALLOW_ANY")


@stack_policy(
    "paths-normalized",
    title="Paths are normalized before policies see them",
    severity=Severity.HIGH,
    text="meshConfig.pathNormalization decodes and merges slashes. Without it /api//v1/users and "
    "/api%2Fv1/users go past a DENY on /api/v1/users, and services see them as that path.",
    remedy="Set pathNormalization.normalization to DECODE_AND_MERGE_SLASHES.",
    url="https://istio.io/latest/docs/ops/best-practices/security/#customize-your-system-on-path-normalization",
)
def paths_normalized(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at every meshConfig."""
    for mesh in stack.mesh_configs:
        how = mesh.get("pathNormalization.normalization", "DEFAULT")
        if how not in _NORMALIZING:
            yield mesh.finding("pathNormalization.normalization", f"normalization is {how}")


@stack_policy(
    "client-address-declared",
    title="Rules about client addresses know how many proxies are in front",
    severity=Severity.HIGH,
    text="Where a policy compares remoteIpBlocks, gatewayTopology.numTrustedProxies says how many "
    "proxies append to X-Forwarded-For, in meshConfig or on the gateway's pods. Otherwise clients "
    "write the address that is compared, or all of them share the load balancer's.",
    remedy="Set meshConfig.defaultConfig.gatewayTopology.numTrustedProxies to the real number.",
    url="https://istio.io/latest/docs/ops/configuration/traffic-management/network-topologies/",
)
def client_address(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for such rules, then for the number."""
    if not stack.mesh_configs:
        return
    for mesh in stack.mesh_configs:
        if (
            mesh.get("defaultConfig.gatewayTopology.numTrustedProxies") is not None
            or mesh.get("defaultConfig.gatewayTopology.proxyProtocol") is not None
        ):
            return
    on_pods = any(
        "numTrustedProxies" in str(pod_template(item)[1].get("metadata") or {})
        for item in stack.of(PODS)
    )
    for item in () if on_pods else stack.of("AuthorizationPolicy"):
        for clause in clauses(item):
            if "remoteIpBlocks" in clause.fields or "remoteIpBlocks" in clause.negative:
                yield Finding(item, clause.path, "nothing says whose X-Forwarded-For is true")
                break


@stack_policy(
    "client-address-real",
    title="At a gateway the client's address is remoteIpBlocks",
    severity=Severity.HIGH,
    text="Policies of gateways compare remoteIpBlocks. ipBlocks is the sender of the packet: "
    "behind a load balancer that is always the balancer, and a deny list denies nobody.",
    remedy="Use remoteIpBlocks and notRemoteIpBlocks.",
    url="https://istio.io/latest/docs/tasks/security/authorization/authz-ingress/",
)
def client_address_real(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at policies of gateways."""
    for item in stack.of("AuthorizationPolicy"):
        if not selector_of(item) or not stack.is_gateway(selector_of(item)):
            continue
        for clause in clauses(item):
            if "ipBlocks" in clause.fields or "ipBlocks" in clause.negative:
                yield Finding(item, clause.path, "ipBlocks is the load balancer's address here")


@stack_policy(
    "ingress-controller-off",
    title="Kubernetes Ingress objects open nothing",
    severity=Severity.MEDIUM,
    text="meshConfig.ingressControllerMode is OFF. In other modes istiod makes routes at the "
    "gateway of every Ingress object of every namespace.",
    remedy="Set ingressControllerMode: OFF.",
    url=_MESH_CONFIG + "#MeshConfig-IngressControllerMode",
    enforcement=Enforcement.ADVISORY,
    reason="only meshes whose gateways serve no Ingress on purpose can switch it off",
)
def ingress_controller(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at every meshConfig."""
    for mesh in stack.mesh_configs:
        mode = mesh.get("ingressControllerMode", "STRICT")
        if mode is not False and str(mode) != "OFF":  # YAML 1.1 reads a bare OFF as false
            yield mesh.finding("ingressControllerMode", f"the mode is {mode}")


@object_policy(
    "webhook-fails-closed",
    "ValidatingWebhookConfiguration",
    *RELEASE_KINDS,
    title="Istio's validation is not optional",
    severity=Severity.MEDIUM,
    text="The charts base and istiod get base.validationFailurePolicy Fail, so that no Istio "
    "object is accepted unchecked.",
    remedy="Set base.validationFailurePolicy: Fail in both charts.",
    url="https://istio.io/latest/docs/ops/configuration/mesh/webhook/",
)
def fails_closed(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at values of the two charts, and at the webhooks that they render."""
    if item.get("kind") in RELEASE_KINDS:
        policy = (release_values(item).get("base") or {}).get("validationFailurePolicy")
        if chart_of(item) in ("base", "istiod") and policy != "Fail":
            path = "spec.values.base.validationFailurePolicy"
            yield Finding(item, path, f"the failure policy is {policy or 'unset'}")
        return
    for index, webhook in enumerate(item.get("webhooks") or ()):
        if "istio.io" in str(webhook.get("name")) and webhook.get("failurePolicy") == "Ignore":
            yield Finding(
                item, f"webhooks[{index}].failurePolicy", "unchecked objects are accepted"
            )


@object_policy(
    "sidecar-scoped",
    "Sidecar",
    title="Proxies hear of the services they call",
    severity=Severity.MEDIUM,
    text="A Sidecar's egress lists hosts. One that takes in every host of a namespace or of the "
    "mesh makes proxies larger with every service, and lets callers find what they do not need.",
    remedy="List the hosts that the workload calls.",
    url=_SIDECAR + "#IstioEgressListener",
)
def sidecar_scoped(item: Object, _: Config) -> Iterator[Finding]:
    """Looks for wildcards."""
    for index, listener in enumerate(spec_of(item).get("egress") or ()):
        for number, host in enumerate(listener.get("hosts") or ()):
            where, _slash, name = str(host).rpartition("/")
            if name.startswith("*") and where != "~":  # "~/*" is no host at all
                path = f"spec.egress[{index}].hosts[{number}]"
                yield Finding(item, path, f"{host} takes in hosts that nobody named")


@stack_policy(
    "sidecar-captures",
    title="Sidecars leave nothing to the application",
    severity=Severity.CRITICAL,
    text="No listener of a Sidecar has captureMode NONE, ends TLS of its own, speaks TCP where the "
    "Service speaks HTTP, or leads to a port of the proxy. Such a listener takes requests past "
    "mutual TLS, past rules about paths and tokens, or to the proxy's administration.",
    remedy="Delete the field, or the whole listener.",
    url=_SIDECAR + "#IstioIngressListener",
)
def sidecar_captures(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at listeners, and at Services of the pods that the Sidecar is for."""
    for item in stack.of("Sidecar"):
        for part in ("ingress", "egress"):
            for index, listener in enumerate(spec_of(item).get(part) or ()):
                if listener.get("captureMode") == "NONE":
                    path = f"spec.{part}[{index}].captureMode"
                    yield Finding(item, path, "what arrives is not taken by the proxy")
        for index, listener in enumerate(spec_of(item).get("ingress") or ()):
            path, port = f"spec.ingress[{index}]", listener.get("port") or {}
            if listener.get("tls"):
                yield Finding(item, f"{path}.tls", "clients need no identity of the mesh here")
            endpoint = str(listener.get("defaultEndpoint") or "").rpartition(":")[2]
            if endpoint.startswith("15") and len(endpoint) == 5:
                yield Finding(item, f"{path}.defaultEndpoint", f"{endpoint} is the proxy's own")
            spoken = str(port.get("protocol") or "TCP").split("-")[0].lower()
            if spoken in ("tcp", "tls") and _speaks_http(stack, item, port.get("number")):
                message = f"port {port.get('number')} speaks HTTP, and rules for HTTP do not hold"
                yield Finding(item, f"{path}.port.protocol", message)


def _speaks_http(stack: Stack, sidecar: Object, number: object) -> bool:
    return any(
        protocol_of(port) in ("http", "http2", "grpc", "h2c", "ws")
        for workload in stack.taken_by(sidecar)
        for service in stack.services_selecting(workload)
        for port in spec_of(service).get("ports") or ()
        if port.get("targetPort", port.get("port")) == number
    )


@object_policy(
    "egress-host-exact",
    "ServiceEntry",
    title="Hosts outside the mesh are named one by one",
    severity=Severity.HIGH,
    text="A ServiceEntry's hosts are no wildcards, and it resolves them itself. With a wildcard "
    "and resolution NONE the caller says where the connection goes.",
    remedy="List the hosts, with resolution DNS.",
    url=_SERVICE_ENTRY,
)
def egress_host_exact(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at hosts and resolution."""
    for index, host in enumerate(spec_of(item).get("hosts") or ()):
        if "*" in str(host):
            yield Finding(item, f"spec.hosts[{index}]", f"{host} is a wildcard")
    outside = spec_of(item).get("location", "MESH_EXTERNAL") == "MESH_EXTERNAL"
    if outside and spec_of(item).get("resolution", "NONE") == "NONE":
        yield Finding(item, "spec.resolution", "the caller says where the connection goes")


@stack_policy(
    "egress-encrypted",
    title="What leaves the mesh is encrypted",
    severity=Severity.HIGH,
    text="A port of a host outside the mesh speaks TLS or HTTPS, or a DestinationRule starts TLS "
    "for it.",
    remedy="Declare protocol TLS, or originate TLS in a DestinationRule.",
    url="https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/",
)
def egress_encrypted(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at ports of hosts outside, and at DestinationRules for them."""
    originated = {
        str(spec_of(rule).get("host"))
        for rule in stack.of("DestinationRule")
        for _, policy in traffic_policies(rule)
        if (policy.get("tls") or {}).get("mode") in ("SIMPLE", "MUTUAL")
    }
    for item in stack.of("ServiceEntry"):
        spec = spec_of(item)
        if spec.get("location") == "MESH_INTERNAL" or originated & set(spec.get("hosts") or ()):
            continue
        for index, port in enumerate(spec.get("ports") or ()):
            protocol = str(port.get("protocol", "")).upper()
            if protocol not in ("TLS", "HTTPS"):
                message = f"port {port.get('number')} speaks {protocol or 'TCP'} in plain text"
                yield Finding(item, f"spec.ports[{index}].protocol", message)


@object_policy(
    "egress-private",
    "ServiceEntry",
    title="A host outside is known to the namespace that needs it",
    severity=Severity.LOW,
    enforcement=Enforcement.ADVISORY,
    reason="some hosts are meant for everybody",
    text="A ServiceEntry is exported to its own namespace only.",
    remedy='Set exportTo: ["."].',
    url=_SERVICE_ENTRY,
)
def egress_private(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at exportTo."""
    if spec_of(item).get("location") != "MESH_INTERNAL" and "." not in (
        spec_of(item).get("exportTo") or ()
    ):
        where = namespace_of(item)
        yield Finding(item, "spec.exportTo", f"every namespace hears of it, not only {where}")
