"""The injector is there, knows its namespaces and leaves nobody out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.labels import selects
from policies.mesh_config import RELEASE_KINDS, parsed, release_values
from policies.policy import (
    Config,
    Finding,
    Object,
    Severity,
    name_of,
    namespace_of,
    object_policy,
    stack_policy,
)
from policies.stack import Stack
from policies.workloads import PODS
from semantics.pods import pod_template

_INJECTION = "https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/"
_ANALYSIS = "https://istio.io/latest/docs/reference/config/analysis/"
_MESHED_KINDS = (
    "AuthorizationPolicy",
    "PeerAuthentication",
    "DestinationRule",
    "Sidecar",
    "RequestAuthentication",
)


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


@object_policy(
    "injector-injects",
    "ConfigMap",
    "MutatingWebhookConfiguration",
    *RELEASE_KINDS,
    title="The injector leaves nobody out",
    severity=Severity.CRITICAL,
    text="Neither the injector's ConfigMap nor Helm values switch injection off or name labels of "
    "pods that never get a proxy, and the injector's webhook fails closed: with failurePolicy "
    "Ignore pods start without a proxy whenever istiod does not answer.",
    remedy="Set policy (global.proxy.autoInject) to enabled, neverInjectSelector to [] and the "
    "webhook's failurePolicy to Fail.",
    url=_INJECTION,
)
def injector_injects(item: Object, _: Config) -> Iterator[Finding]:
    """Looks at the three places where it is configured."""
    kind = item.get("kind")
    if kind == "MutatingWebhookConfiguration":
        for index, webhook in enumerate(item.get("webhooks") or ()):
            name = str(webhook.get("name"))
            if "sidecar-injector" in name and webhook.get("failurePolicy") == "Ignore":
                path = f"webhooks[{index}].failurePolicy"
                yield Finding(item, path, "pods start without a proxy when istiod is away")
    elif kind == "ConfigMap":
        if name_of(item).startswith("istio-sidecar-injector"):
            settings = parsed((item.get("data") or {}).get("config"))
            yield from _left_out(item, "data.config", settings, "policy", settings.get("policy"))
    else:
        values = release_values(item)
        webhook = values.get("sidecarInjectorWebhook") or {}
        asked = ((values.get("global") or {}).get("proxy") or {}).get("autoInject")
        path = "spec.values.sidecarInjectorWebhook"
        yield from _left_out(item, path, webhook, "global.proxy.autoInject", asked)


def _left_out(
    item: Object, path: str, settings: Mapping[str, Any], switch: str, policy: Any
) -> Iterator[Finding]:
    if policy not in (None, "enabled"):
        yield Finding(item, path, f"{switch} is {policy}: no pod gets a proxy")
    if settings.get("neverInjectSelector"):
        message = "pods with some labels never get a proxy"
        yield Finding(item, f"{path}.neverInjectSelector", message)


@stack_policy(
    "injector-reaches",
    title="Every injected namespace has an injector",
    severity=Severity.CRITICAL,
    text="Where the set holds the injector's webhooks, one of them selects each namespace that is "
    "labelled for injection, and meshConfig.discoverySelectors takes it in. A label for a revision "
    "that is not there, or a selector that leaves the namespace out, makes pods without a proxy, or "
    "with one that hears of nothing.",
    remedy="Correct the namespace's label, the webhook's namespaceSelector or discoverySelectors.",
    url=_INJECTION,
)
def injector_reaches(stack: Stack, _: Config) -> Iterator[Finding]:
    """Tries each namespace with the selectors."""
    webhooks = [
        webhook
        for item in stack.of("MutatingWebhookConfiguration")
        for webhook in item.get("webhooks") or ()
        if "sidecar-injector" in str(webhook.get("name"))
    ]
    for name, item in stack.namespace_objects.items():
        if not stack.injects(name):
            continue
        own = (item.get("metadata") or {}).get("labels") or {}
        labels = {"kubernetes.io/metadata.name": name, **own}
        if webhooks and not any(
            selects(webhook.get("namespaceSelector") or {}, labels) for webhook in webhooks
        ):
            yield Finding(item, "metadata.labels", "no webhook of the injector selects it")
        for mesh in stack.mesh_configs:
            selectors = mesh.get("discoverySelectors", ())
            if selectors and not any(selects(selector, labels) for selector in selectors):
                yield mesh.finding("discoverySelectors", f"istiod does not look into {name}")


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
    for item in stack.of(PODS):
        base, template = pod_template(item)
        for index, container in enumerate((template.get("spec") or {}).get("containers") or ()):
            if container.get("image") == "auto" and not proxied.get(id(item), True):
                path = f"{base}spec.containers[{index}].image"
                yield Finding(item, path, "nothing puts an image in its place")
