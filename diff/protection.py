"""What else protects the mesh: tokens, ways in, pods beside their proxies, Kubernetes' own guards.

The evaluator of policies does not see these: what is told of them is told field by field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diff.changes import Effect, Section
from diff.facts import Fact, Object, compare, flat, label, spec
from semantics.pods import injection_asked, makes_pods, pod_template

JUDGED = frozenset(
    {
        *("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"),
        *("VirtualService", "DestinationRule", "Gateway", "Sidecar", "ServiceEntry", "Telemetry"),
        *("Service", "ServiceAccount", "Namespace", "NetworkPolicy"),
        *("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget"),
        *("PodMonitor", "ServiceMonitor", "PrometheusRule"),
    }
)
"""Kinds of which some section judges every change, or that protect nothing. Of a change to any
other kind (pods, EnvoyFilters, ConfigMaps, kinds that nobody here knows) a person has to see the
object."""

_SCALES: Mapping[str, Sequence[str]] = {
    "type": ("LoadBalancer", "NodePort", "ExternalName", "ClusterIP"),
    "failurePolicy": ("Ignore", "Fail"),
    "pod security": ("none", "privileged", "baseline", "restricted"),
    "outbound traffic": ("ALLOW_ANY", "REGISTRY_ONLY"),
}
"""Values from the weakest to the strongest; the last one is meant where none is given."""
_MORE_IS_WEAKER = (
    "issuers",
    "read from",
    "external addresses",
    "beside the proxy",
    "of the node",
    "capabilities",
    "may",
    "granted to",
    "way in for",
    "patches",
    "not captured",
    "lets in",
)
_LESS_IS_WEAKER = ("claims to headers",)
_NONE_IS_WEAKEST = ("audiences", "source ranges")
"""Lists that restrict: without any, everything is let in."""
_TOKEN_FIELDS = ("issuers", "keys", "audiences", "read from", "claims to headers")
_GUARDS = ("NetworkPolicy", "RequestAuthentication", "WebhookConfiguration")
"""Objects that protect by being there."""
_ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "Ingress")
_TOUCHES = re.compile(r"rbac|jwt_authn|ext_authz|transport_?socket|tls_context|REMOVE", re.I)
"""In an EnvoyFilter's patch: filters that decide who is let in, or the connection's own TLS."""


def section(old: Sequence[Object], new: Sequence[Object]) -> Section:
    """Everything that protects and is no policy, no TLS setting and no route."""
    changes = compare(facts(old), facts(new), judge, judge_whole)
    # What comes or goes without protecting or opening anything is in the list of objects.
    told = (change for change in changes if change.field or change.effect is not Effect.NEUTRAL)
    return Section("protection", "What else protects the mesh", tuple(told))


def judge(field: str, before: str | None, after: str | None) -> Effect:
    """More who are let in or left out is weaker, and less that is asked."""
    if field in _SCALES:
        scale = _SCALES[field]
        ranks = [
            scale.index(v) if v in scale else 0 for v in (before or scale[-1], after or scale[-1])
        ]
        return _step(ranks[1] - ranks[0])
    was, becomes = (set(filter(None, (value or "").split(", "))) for value in (before, after))
    if field.endswith(_NONE_IS_WEAKEST):
        weaker = bool(was) and (not becomes or bool(becomes - was))
        return Effect.WEAKER if weaker else Effect.STRICTER
    if field.endswith(_LESS_IS_WEAKER):
        return Effect.WEAKER if was - becomes else Effect.STRICTER
    if field.endswith(_MORE_IS_WEAKER):
        return Effect.WEAKER if becomes - was else Effect.STRICTER
    if field == "guards":
        return Effect.WEAKER if after is None else Effect.STRICTER
    return Effect.WEAKER if field.endswith("keys") and before is not None else Effect.NEUTRAL


def judge_whole(field: str, before: str | None, after: str | None) -> Effect:
    """Of a guard that comes or goes it counts that it does, not what it is made of."""
    own = field in (*_TOKEN_FIELDS, "ingress lets in", "egress lets in")
    return Effect.NEUTRAL if own else judge(field, before, after)


def _step(direction: int) -> Effect:
    if not direction:
        return Effect.NEUTRAL
    return Effect.STRICTER if direction > 0 else Effect.WEAKER


def facts(objects: Sequence[Object]) -> Iterator[Fact]:
    """What protects, of every kind that does; what is empty is left out."""
    return (fact for item in objects for fact in _facts(item) if fact.value)


def _facts(item: Object) -> Iterator[Fact]:
    kind = str(item.get("kind", ""))
    if kind.endswith(_GUARDS):
        yield Fact(label(item), "guards", "yes")
    if kind in _BY_KIND:
        yield from _BY_KIND[kind](item)
    elif makes_pods(item):
        yield from _pod(label(item), pod_template(item)[1])
    elif kind in _ROUTES:
        yield Fact(label(item), "way in for", _hosts(item))


def _request_authentication(item: Object) -> Iterator[Fact]:
    rules = spec(item).get("jwtRules") or ()
    yield Fact(label(item), "issuers", _listed(str(rule.get("issuer", "")) for rule in rules))
    for rule in rules:
        subject = f"{label(item)} {rule.get('issuer', '')}"
        yield Fact(subject, "keys", str(rule.get("jwksUri") or rule.get("jwks") or "discovered"))
        yield Fact(subject, "audiences", _listed(rule.get("audiences") or ()))
        places = [f"header {h.get('name')}" for h in rule.get("fromHeaders") or ()]
        places += [f"parameter {name}" for name in rule.get("fromParams") or ()]
        places += [f"cookie {name}" for name in rule.get("fromCookies") or ()]
        yield Fact(subject, "read from", _listed(places or ["header Authorization"]))
        filled = [
            f"{entry.get('claim')} → {entry.get('header')}"
            for entry in rule.get("outputClaimToHeaders") or ()
        ]
        if payload := rule.get("outputPayloadToHeader"):
            filled.append(f"all → {payload}")
        yield Fact(subject, "claims to headers", _listed(filled))
        yield Fact(subject, "token goes on", str(bool(rule.get("forwardOriginalToken"))).lower())


def _service(item: Object) -> Iterator[Fact]:
    body = spec(item)
    yield Fact(label(item), "type", str(body.get("type") or "ClusterIP"))
    yield Fact(label(item), "external addresses", _listed(body.get("externalIPs") or ()))
    yield Fact(label(item), "source ranges", _listed(body.get("loadBalancerSourceRanges") or ()))
    selector = (f"{k}={v}" for k, v in (body.get("selector") or {}).items())
    yield Fact(label(item), "selects", _listed(selector))


_BESIDE = re.compile(r"^traffic\.sidecar\.istio\.io/(exclude|include|kubevirt)")


def _pod(subject: str, template: Mapping[str, Any]) -> Iterator[Fact]:
    metadata, pod = template.get("metadata") or {}, template.get("spec") or {}
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    beside = [f"{k.partition('/')[2]} {v}" for k, v in marks.items() if _BESIDE.match(k)]
    if injection_asked(template) is False:
        beside.append("not injected")
    if marks.get("sidecar.istio.io/interceptionMode") == "NONE":
        beside.append("not intercepted")
    # Commas part the values of a list.
    yield Fact(subject, "beside the proxy", _listed(text.replace(", ", ",") for text in beside))
    node = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    gained = []
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        context = container.get("securityContext") or {}
        if context.get("privileged"):
            node.append(f"{container.get('name')} privileged")
        for capability in (context.get("capabilities") or {}).get("add") or ():
            gained.append(f"{container.get('name')} {capability}")
    yield Fact(subject, "of the node", _listed(node))
    yield Fact(subject, "capabilities", _listed(gained))
    yield Fact(subject, "account", str(pod.get("serviceAccountName") or "default"))


def _network_policy(item: Object) -> Iterator[Fact]:
    body = spec(item)
    for direction in ("ingress", "egress"):
        rules = (
            json.dumps(rule, sort_keys=True, separators=(",", ":"))
            for rule in body.get(direction) or ()
        )
        yield Fact(label(item), f"{direction} lets in", _listed(rules))
    for path, value in flat(body.get("podSelector"), "selects"):
        yield Fact(label(item), path, value)
    yield Fact(label(item), "directions", _listed(body.get("policyTypes") or ()))


def _role(item: Object) -> Iterator[Fact]:
    for rule in item.get("rules") or ():
        what = [
            f"{verb} {resource}"
            for resource in rule.get("resources") or rule.get("nonResourceURLs") or ()
            for verb in rule.get("verbs") or ()
        ]
        groups = "/".join(str(group) or "core" for group in rule.get("apiGroups") or ())
        named = f" {_listed(rule['resourceNames'])}" if rule.get("resourceNames") else ""
        yield Fact(label(item), f"{groups}{named} may", _listed(what))


def _binding(item: Object) -> Iterator[Fact]:
    role = item.get("roleRef") or {}
    subjects = (
        f"{s.get('kind')} {s.get('namespace', '')}/{s.get('name')}"
        for s in item.get("subjects") or ()
    )
    field = f"{role.get('kind')} {role.get('name')} granted to"
    yield Fact(label(item), field, _listed(subjects))


def _webhook(item: Object) -> Iterator[Fact]:
    for hook in item.get("webhooks") or ():
        subject = f"{label(item)} {hook.get('name')}"
        yield Fact(subject, "failurePolicy", str(hook.get("failurePolicy") or "Fail"))
        for key in ("namespaceSelector", "objectSelector", "rules"):
            for path, value in flat(hook.get(key), key):
                yield Fact(subject, path, value)


def _envoy_filter(item: Object) -> Iterator[Fact]:
    """Only patches that touch who is let in; what they do is for the object itself to show."""
    touching = []
    for patch in spec(item).get("configPatches") or ():
        if found := sorted({match.lower() for match in _TOUCHES.findall(_touched(patch))}):
            names = _NAMES.findall(json.dumps(patch.get("match") or {}))
            operation = (patch.get("patch") or {}).get("operation", "")
            words = (patch.get("applyTo"), operation, *names, f"({'/'.join(found)})")
            touching.append(" ".join(map(str, words)))
    yield Fact(label(item), "patches", _listed(dict.fromkeys(touching)))


def _touched(patch: Mapping[str, Any]) -> str:
    """What a patch is about: whom it matches, what it does, which filters it sets up."""
    change = patch.get("patch") or {}
    value = change.get("value") or {}
    own = [value.get("name"), *(value.get("typed_per_filter_config") or {})]
    sockets = [key for key in ("transport_socket", "tls_context") if key in json.dumps(value)]
    return json.dumps([patch.get("match"), change.get("operation"), own, sockets])


_NAMES = re.compile(r'"name": "([^"]*)"')
"""Of routes and filters, in what a patch matches."""


def _sidecar(item: Object) -> Iterator[Fact]:
    body = spec(item)
    policy = body.get("outboundTrafficPolicy") or {}
    if policy:
        yield Fact(label(item), "outbound traffic", str(policy.get("mode") or "REGISTRY_ONLY"))
    listeners = [*(body.get("ingress") or ()), *(body.get("egress") or ())]
    ports = [str((one.get("port") or {}).get("number", "every port")) for one in listeners]
    free = [p for p, one in zip(ports, listeners, strict=True) if one.get("captureMode") == "NONE"]
    yield Fact(label(item), "not captured", _listed(free))


def _namespace(item: Object) -> Iterator[Fact]:
    labels = (item.get("metadata") or {}).get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce") or "none"
    yield Fact(label(item), "pod security", str(level))


def _hosts(item: Object) -> str:
    body = spec(item)
    hosts = [str(host) for host in body.get("hostnames") or ()]
    hosts += [str(rule.get("host") or "*") for rule in body.get("rules") or () if "host" in rule]
    return _listed(hosts or ["*"])


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(sorted(str(value) for value in values))


_BY_KIND = {
    "RequestAuthentication": _request_authentication,
    "Service": _service,
    "NetworkPolicy": _network_policy,
    "Role": _role,
    "ClusterRole": _role,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "MutatingWebhookConfiguration": _webhook,
    "ValidatingWebhookConfiguration": _webhook,
    "EnvoyFilter": _envoy_filter,
    "Sidecar": _sidecar,
    "Namespace": _namespace,
}


def unjudged(kinds: Iterable[str]) -> list[str]:
    """Of some kinds of objects those of which no section judges every change."""
    return sorted(set(kinds) - JUDGED)
