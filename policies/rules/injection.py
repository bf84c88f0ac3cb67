"""Proxies are there and nothing goes around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.mesh_config import RELEASE_KINDS, release_values
from policies.policy import (
    Config,
    Enforcement,
    Finding,
    Object,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.rules.envoy_filters import protocol_of
from policies.stack import Stack
from policies.workloads import POD_TEMPLATES

_INJECTION = "https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/"
_ANNOTATIONS = "https://istio.io/latest/docs/reference/config/annotations/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_PODS = (*POD_TEMPLATES, "Pod")
_TRAFFIC = "traffic.sidecar.istio.io/"
_EXCLUDING = (
    "excludeInboundPorts",
    "excludeOutboundPorts",
    "excludeOutboundIPRanges",
    "excludeInterfaces",
)
_INCLUDING = ("includeInboundPorts", "includeOutboundIPRanges")
_GLOBAL_EXCLUDING: tuple[str, ...] = (
    "excludeIPRanges",
    "excludeInboundPorts",
    "excludeOutboundPorts",
)
_GLOBAL_INCLUDING = ("includeIPRanges", "includeInboundPorts")
_MESHED_KINDS = (
    "AuthorizationPolicy",
    "PeerAuthentication",
    "DestinationRule",
    "Sidecar",
    "RequestAuthentication",
)
_PROTOCOLS = {
    "http", "http2", "https", "grpc", "grpc-web", "tls", "tcp", "udp", "mongo", "mysql", "redis",
    "h2c", "ws", "wss",
}  # fmt: skip


def _template(item: Object) -> tuple[str, Mapping[str, Any]]:
    """(path, pod template); a Pod is its own."""
    if item.get("kind") == "Pod":
        return "", item
    return "spec.template.", spec_of(item).get("template") or {}


@stack_policy(
    "namespace-injected",
    title="Namespaces of the mesh inject proxies",
    severity=Severity.CRITICAL,
    codes=("IST0102", "IST0123"),
    text="A namespace with mesh policies of its own has the label istio-injection=enabled or "
    "istio.io/rev, and not two that contradict each other. Pods without a proxy enforce nothing.",
    remedy="Label the Namespace istio-injection=enabled.",
    url=_ANALYSIS + "ist0102/",
)
def namespace_injected(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at Namespaces that hold policies with an effect on workloads."""
    meshed = {namespace_of(item) for item in stack.of(*_MESHED_KINDS)} - {stack.root_namespace}
    for name, item in stack.namespace_objects.items():
        labels = (item.get("metadata") or {}).get("labels") or {}
        if name in meshed and not stack.injects(name):
            yield Finding(item, "metadata.labels[istio-injection]", "pods here get no proxy")
        if "istio-injection" in labels and "istio.io/rev" in labels:
            message = "istio-injection and istio.io/rev contradict each other"
            yield Finding(item, "metadata.labels", message)


@stack_policy(
    "pod-injected",
    title="No pod of an injected namespace goes without a proxy",
    severity=Severity.CRITICAL,
    codes=("IST0103",),
    text="No pod template in an injected namespace sets sidecar.istio.io/inject to false or uses "
    "the host's network, where no proxy is injected.",
    remedy="Remove the label, annotation or hostNetwork; move what can't have a proxy elsewhere.",
    url=_INJECTION,
)
def pod_injected(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at pod templates in injected namespaces."""
    for item in stack.of(*_PODS):
        if not stack.injects(namespace_of(item)):
            continue
        base, template = _template(item)
        metadata = template.get("metadata") or {}
        for part in ("labels", "annotations"):
            if str((metadata.get(part) or {}).get("sidecar.istio.io/inject", "")) == "false":
                path = f"{base}metadata.{part}[sidecar.istio.io/inject]"
                yield Finding(item, path, "the pod gets no proxy")
        if (template.get("spec") or {}).get("hostNetwork"):
            yield Finding(item, f"{base}spec.hostNetwork", "the pod gets no proxy")


@object_policy(
    "traffic-not-excluded",
    *_PODS,
    *RELEASE_KINDS,
    title="No traffic goes around the proxy",
    severity=Severity.CRITICAL,
    text="Neither pods nor the injector's values exclude ports, addresses or interfaces from the "
    "proxy, or include only some. What goes around it is plain text that no policy sees.",
    remedy="Remove the exclusion; declare the port's protocol, or the host as a ServiceEntry.",
    url=_ANNOTATIONS,
)
def traffic_not_excluded(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at pod annotations and at global.proxy of Helm values."""
    if item.get("kind") in RELEASE_KINDS:
        proxy = (release_values(item).get("global") or {}).get("proxy") or {}
        settings = {f"spec.values.global.proxy.{name}": (name, proxy.get(name)) for name in proxy}
        excluding: tuple[str, ...] = _GLOBAL_EXCLUDING
        including = _GLOBAL_INCLUDING
    else:
        base, template = _template(item)
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        settings = {
            f"{base}metadata.annotations[{name}]": (name.removeprefix(_TRAFFIC), value)
            for name, value in annotations.items()
            if name.startswith(_TRAFFIC)
        }
        excluding, including = _EXCLUDING, _INCLUDING
    for path, (name, value) in settings.items():
        if name in excluding and value:
            yield Finding(item, path, f"{value} goes around the proxy")
        elif name in including and value != "*":
            yield Finding(item, path, f"only {value or 'nothing'} goes through the proxy")


@object_policy(
    "pod-uid",
    *_PODS,
    title="No application runs as the proxy's user",
    severity=Severity.CRITICAL,
    codes=("IST0144",),
    text="No pod or container runs as user or group 1337: traffic of that user goes around the "
    "proxy.",
    remedy="Use another runAsUser.",
    url=_ANALYSIS + "ist0144/",
)
def pod_uid(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the pod and each container."""
    base, template = _template(item)
    pod = template.get("spec") or {}
    places = {f"{base}spec": pod}
    for part in ("containers", "initContainers"):
        for index, container in enumerate(pod.get(part) or ()):
            if container.get("name") != "istio-proxy":
                places[f"{base}spec.{part}[{index}]"] = container
    for path, place in places.items():
        for key in ("runAsUser", "runAsGroup"):
            if (place.get("securityContext") or {}).get(key) == 1337:
                yield Finding(item, f"{path}.securityContext.{key}", "1337 is the proxy's own id")


@stack_policy(
    "proxy-image-injected",
    title="Where the proxy's image is left to the injector, there is an injector",
    severity=Severity.MEDIUM,
    codes=("IST0146", "IST0147"),
    text="A container with image: auto stands in pods that are injected.",
    remedy="Label the pod sidecar.istio.io/inject=true.",
    url=_ANALYSIS + "ist0146/",
)
def image_injected(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks for the image `auto`."""
    proxied = {id(w.source): w.proxied for w in stack.workloads if w.known}
    for item in stack.of(*_PODS):
        base, template = _template(item)
        for index, container in enumerate((template.get("spec") or {}).get("containers") or ()):
            if container.get("image") == "auto" and not proxied.get(id(item), True):
                path = f"{base}spec.containers[{index}].image"
                yield Finding(item, path, "nothing puts an image in its place")


@stack_policy(
    "port-named",
    title="Service ports say what they speak",
    severity=Severity.HIGH,
    codes=("IST0118", "KIA0601"),
    text="Each port of a Service in the mesh has an appProtocol or a name that begins with its "
    "protocol. A port left to detection can fall to TCP, where rules about paths, methods and "
    "tokens do not hold.",
    remedy="Set appProtocol, or name the port http-..., grpc-..., tcp-...",
    url="https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/",
)
def port_named(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at Services of injected namespaces."""
    for (namespace, _name), item in stack.services.items():
        if stack.injects(namespace) is False or namespace == stack.root_namespace:
            continue
        for index, port in enumerate(spec_of(item).get("ports") or ()):
            if port.get("protocol") == "UDP" or protocol_of(port) in _PROTOCOLS:
                continue
            message = f"port {port.get('port')} does not say what it speaks"
            yield Finding(item, f"spec.ports[{index}]", message)


@stack_policy(
    "outside-guarded",
    title="What has no proxy has a NetworkPolicy",
    severity=Severity.MEDIUM,
    enforcement=Enforcement.MANDATORY,
    text="Pods of the set that run without a proxy, in a namespace that is not injected, are "
    "selected by a NetworkPolicy that names who may reach them. Nothing else keeps callers out.",
    remedy="Add a NetworkPolicy with the callers' namespaces and labels.",
    url="https://kubernetes.io/docs/concepts/services-networking/network-policies/",
)
def outside_guarded(stack: Stack, _: Config) -> Iterator[Finding]:
    """Compares pods of namespaces with injection disabled with the NetworkPolicies there."""
    for workload in stack.workloads:
        if workload.proxied or not workload.known or stack.injects(workload.namespace):
            continue
        if workload.namespace == stack.root_namespace:
            continue  # istiod answers every proxy of every namespace
        policies = [
            item
            for item in stack.of("NetworkPolicy")
            if namespace_of(item) == workload.namespace
            and ((spec_of(item).get("podSelector") or {}).get("matchLabels") or {}).items()
            <= workload.labels.items()
        ]
        if not policies:
            yield Finding(workload.source, "", "no NetworkPolicy says who may reach its pods")


@object_policy(
    "network-policy-narrow",
    "NetworkPolicy",
    title="NetworkPolicies name who may come in",
    severity=Severity.HIGH,
    text="Every ingress rule has a `from`, and no peer of it is the whole cluster or the world.",
    remedy="Name the namespace and the pods' labels.",
    url="https://kubernetes.io/docs/concepts/services-networking/network-policies/",
)
def network_policy_narrow(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at each rule's peers."""
    for index, rule in enumerate(spec_of(item).get("ingress") or ()):
        path = f"spec.ingress[{index}].from"
        if not (rule or {}).get("from"):
            yield Finding(item, path, f"{name_of(item)} lets everybody in")
        for peer in (rule or {}).get("from") or ():
            block = (peer.get("ipBlock") or {}).get("cidr")
            everyone = peer.get("namespaceSelector") == {} and not peer.get("podSelector")
            if block in ("0.0.0.0/0", "::/0") or everyone:
                yield Finding(item, path, f"{block or 'every namespace'} may come in")


@object_policy(
    "no-secret-in-clear",
    "EnvoyFilter",
    "ConfigMap",
    *RELEASE_KINDS,
    *_PODS,
    title="No password stands in an object",
    severity=Severity.CRITICAL,
    text="Neither Helm values, EnvoyFilters and ConfigMaps nor environment variables hold a "
    "password, key or token as text: it would stand in every diff, in Git and in the engine's "
    "state.",
    remedy="Refer to a Secret by name.",
    url="https://kubernetes.io/docs/concepts/configuration/secret/",
)
def no_secret_in_clear(item: Object, _: Config) -> Iterator[Finding]:
    """Searches for keys that name a credential and have a text."""
    for path, key, value in _leaves(item):
        if _names_credential(key) and isinstance(value, str) and len(value.strip()) >= 4:
            yield Finding(item, path, f"{key} is given as text")


def _leaves(item: Object) -> Iterator[tuple[str, str, Any]]:
    if item.get("kind") in _PODS:
        base, template = _template(item)
        for index, container in enumerate((template.get("spec") or {}).get("containers") or ()):
            for number, variable in enumerate(container.get("env") or ()):
                path = f"{base}spec.containers[{index}].env[{number}].value"
                yield path, str(variable.get("name")), variable.get("value")
        return
    for part in ("spec", "data"):
        yield from _below(part, item.get(part) or {})


def _below(path: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield f"{path}.{key}", str(key), entry
            yield from _below(f"{path}.{key}", entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from _below(f"{path}[{index}]", entry)


def _names_credential(key: str) -> bool:
    plain = key.lower().replace("_", "").replace("-", "")
    return plain.endswith(
        ("password", "passwd", "apikey", "privatekey", "clientsecret", "secretkey", "accesstoken")
    )
