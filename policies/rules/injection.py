"""Pods have a proxy and nothing goes around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.mesh_config import RELEASE_KINDS, mesh_configs, parsed, release_values
from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    namespace_of,
    object_policy,
    spec_of,
    stack_policy,
)
from policies.routing import protocol_of
from policies.stack import Stack
from policies.workloads import PODS, containers
from semantics.pods import INJECT, injection_asked, pod_template

INJECTION = "https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/"
_ANNOTATIONS = "https://istio.io/latest/docs/reference/config/annotations/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_TRAFFIC = "traffic.sidecar.istio.io/"
_TEMPLATES = "inject.istio.io/templates"
_INTERCEPTING = ("REDIRECT", "TPROXY")
_REPLACING = {
    "sidecar.istio.io/bootstrapOverride": "the proxy's bootstrap",
    "sidecar.istio.io/discoveryAddress": "the control plane that the proxy asks",
    "sidecar.istio.io/proxyImage": "the proxy's image",
}
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
_PROTOCOLS = {
    "http", "http2", "https", "grpc", "grpc-web", "tls", "tcp", "udp", "mongo", "mysql", "redis",
    "h2c", "ws", "wss",
}  # fmt: skip


@stack_policy(
    "pod-injected",
    title="No pod of an injected namespace goes without a proxy",
    severity=Severity.CRITICAL,
    codes=("IST0103",),
    text="Nothing that makes pods in an injected namespace, from Deployment to CronJob, asks for "
    "no proxy (sidecar.istio.io/inject), uses the host's network, where no proxy is injected, or "
    "asks for another template than the sidecar's, which need not redirect anything.",
    remedy="Remove the label, annotation or hostNetwork; move what can't have a proxy elsewhere.",
    url=INJECTION,
)
def pod_injected(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at pod templates in injected namespaces."""
    for item in stack.of(PODS):
        if not stack.injects(namespace_of(item)):
            continue
        base, template = pod_template(item)
        metadata = template.get("metadata") or {}
        if injection_asked(template) is False:
            in_label = INJECT in (metadata.get("labels") or {})
            path = f"{base}metadata.{'labels' if in_label else 'annotations'}[{INJECT}]"
            yield Finding(item, path, "the pod gets no proxy")
        if (template.get("spec") or {}).get("hostNetwork"):
            yield Finding(item, f"{base}spec.hostNetwork", "the pod gets no proxy")
        templates = str((metadata.get("annotations") or {}).get(_TEMPLATES) or "sidecar")
        if "sidecar" not in {name.strip() for name in templates.split(",")} and any(
            containers(item)
        ):
            path = f"{base}metadata.annotations[{_TEMPLATES}]"
            yield Finding(item, path, f"{templates} is not the sidecar that takes all traffic")


@object_policy(
    "traffic-not-excluded",
    PODS,
    "ConfigMap",
    "ProxyConfig",
    *RELEASE_KINDS,
    title="No traffic goes around the proxy",
    severity=Severity.CRITICAL,
    text="Neither pods nor the injector's values nor meshConfig exclude ports, addresses or "
    "interfaces from the proxy, include only some, or switch interception off. What goes around "
    "it is plain text that no policy sees. Nor do pods replace the proxy's bootstrap or the "
    "control plane it asks.",
    remedy="Remove the exclusion; declare the port's protocol, or the host as a ServiceEntry.",
    url=_ANNOTATIONS,
)
def traffic_not_excluded(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at pod annotations, at global.proxy of Helm values and at the proxies' defaults."""
    for mesh in mesh_configs([item]):
        for path, message in _uncaptured(mesh.get("defaultConfig", {})):
            yield mesh.finding(f"defaultConfig.{path}", message)
    if item.get("kind") == "ProxyConfig":
        environment = {"proxyMetadata": spec_of(item).get("environmentVariables") or {}}
        for path, message in _uncaptured(environment):
            yield Finding(item, path.replace("proxyMetadata", "spec.environmentVariables"), message)
    if item.get("kind") in ("ConfigMap", "ProxyConfig"):
        return
    if item.get("kind") in RELEASE_KINDS:
        proxy = (release_values(item).get("global") or {}).get("proxy") or {}
        settings = {f"spec.values.global.proxy.{name}": (name, proxy.get(name)) for name in proxy}
        excluding: tuple[str, ...] = _GLOBAL_EXCLUDING
        including = _GLOBAL_INCLUDING
    else:
        base, template = pod_template(item)
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        settings = {
            f"{base}metadata.annotations[{name}]": (name.removeprefix(_TRAFFIC), value)
            for name, value in annotations.items()
            if name.startswith(_TRAFFIC)
        }
        excluding, including = _EXCLUDING, _INCLUDING
        for name, value in annotations.items():
            path = f"{base}metadata.annotations[{name}]"
            if name == "proxy.istio.io/config":
                for below, message in _uncaptured(parsed(value)):
                    yield Finding(item, f"{path}.{below}", message)
            elif name in _REPLACING:
                yield Finding(item, path, f"{_REPLACING[name]} is {value}")
            elif name == "sidecar.istio.io/interceptionMode" and value not in _INTERCEPTING:
                yield Finding(item, path, f"interception is {value}: nothing goes to the proxy")
    for path, (name, value) in settings.items():
        if name in excluding and value:
            yield Finding(item, path, f"{value} goes around the proxy")
        elif name in including and value != "*":
            yield Finding(item, path, f"only {value or 'nothing'} goes through the proxy")


def _uncaptured(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, message) of what is wrong with a ProxyConfig."""
    mode = config.get("interceptionMode")
    if mode not in (None, *_INTERCEPTING):
        yield "interceptionMode", f"interception is {mode}: nothing goes to the proxy"
    if file := config.get("customConfigFile"):
        yield "customConfigFile", f"the proxy's bootstrap is {file}"
    mode = (config.get("proxyMetadata") or {}).get("ISTIO_META_INTERCEPTION_MODE")
    if mode not in (None, *_INTERCEPTING):
        path = "proxyMetadata.ISTIO_META_INTERCEPTION_MODE"
        yield path, f"interception is {mode}: nothing goes to the proxy"


@object_policy(
    "pod-uid",
    PODS,
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
    base, template = pod_template(item)
    places = {f"{base}spec": template.get("spec") or {}, **dict(containers(item))}
    for path, place in places.items():
        for key in ("runAsUser", "runAsGroup"):
            if (place.get("securityContext") or {}).get(key) == 1337:
                yield Finding(item, f"{path}.securityContext.{key}", "1337 is the proxy's own id")


@stack_policy(
    "pod-keeps-redirection",
    title="No application can undo the redirection",
    severity=Severity.HIGH,
    text="No container of a pod with a proxy is privileged or has NET_ADMIN or SYS_ADMIN: with "
    "these it can delete the rules that send its traffic to the proxy.",
    remedy="Drop the capability, or move the pod to a namespace that is not injected.",
    url="https://istio.io/latest/docs/ops/deployment/application-requirements/",
)
def keeps_redirection(stack: Stack, _: Config) -> Iterator[Finding]:
    """Looks at the containers of injected namespaces."""
    for item in stack.of(PODS):
        if not stack.injects(namespace_of(item)):
            continue
        for path, container in containers(item):
            context = container.get("securityContext") or {}
            if context.get("privileged"):
                yield Finding(item, f"{path}.securityContext.privileged", "it is privileged")
            for capability in (context.get("capabilities") or {}).get("add") or ():
                if str(capability).removeprefix("CAP_") in ("NET_ADMIN", "SYS_ADMIN", "ALL"):
                    where = f"{path}.securityContext.capabilities"
                    yield Finding(item, where, f"it has {capability}")


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
