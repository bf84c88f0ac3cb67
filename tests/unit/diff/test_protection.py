"""What protects and is no policy: each way to weaken it is told, and which way it goes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from diff.changes import Change, Effect
from diff.compare import diff_objects
from diff.markdown import markdown
from diff.terminal import render
from tests.unit.semantics.mesh_objects import APPS, item

WEAKER, STRICTER, NEUTRAL = Effect.WEAKER, Effect.STRICTER, Effect.NEUTRAL


def _tokens(**rule: Any) -> dict[str, Any]:
    jwt = {"issuer": "https://i", "jwksUri": "https://i/keys", "audiences": ["a"], **rule}
    return item("RequestAuthentication", "tokens", {"jwtRules": [jwt]})


def _service(**spec: Any) -> dict[str, Any]:
    return item("Service", "web", {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec})


def _deployment(annotations: dict[str, str] | None = None, **pod: Any) -> dict[str, Any]:
    metadata = {"labels": {"app": "web"}, "annotations": annotations or {}}
    spec = {"serviceAccountName": "web", "containers": [{"name": "app", "image": "x"}], **pod}
    return item("Deployment", "web", {"template": {"metadata": metadata, "spec": spec}})


def _cron_job(**pod: Any) -> dict[str, Any]:
    spec = _deployment(**pod)["spec"]
    made = item("CronJob", "nightly", {"jobTemplate": {"spec": spec}})
    return {**made, "apiVersion": "batch/v1"}


def _filter(*patches: dict[str, Any]) -> dict[str, Any]:
    return item("EnvoyFilter", "own", {"configPatches": list(patches)})


def _virtual_service(**route: Any) -> dict[str, Any]:
    http = {"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "web"}}]}
    return item("VirtualService", "web", {"hosts": ["web"], "http": [{**http, **route}]})


def _network_policy(*ingress: dict[str, Any]) -> dict[str, Any]:
    return item("NetworkPolicy", "guard", {"podSelector": {}, "ingress": list(ingress)})


def _role(*verbs: str) -> dict[str, Any]:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}
    return {"kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": [rule]}


def _binding(*accounts: str) -> dict[str, Any]:
    subjects = [{"kind": "ServiceAccount", "namespace": APPS, "name": name} for name in accounts]
    role = {"kind": "ClusterRole", "name": "reader"}
    made = {"kind": "ClusterRoleBinding", "metadata": {"name": "readers"}}
    return {**made, "roleRef": role, "subjects": subjects}


def _webhook(policy: str) -> dict[str, Any]:
    hook = {"name": "check.istio.io", "failurePolicy": policy}
    metadata = {"name": "istio"}
    return {"kind": "ValidatingWebhookConfiguration", "metadata": metadata, "webhooks": [hook]}


def _sidecar(**spec: Any) -> dict[str, Any]:
    return item("Sidecar", "web", spec)


def _namespace(level: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": level}
    return {"kind": "Namespace", "metadata": {"name": APPS, "labels": labels}}


_REMOVES = {
    "applyTo": "HTTP_FILTER",
    "match": {"listener": {"filterChain": {"filter": {"subFilter": {"name": "envoy.rbac"}}}}},
    "patch": {"operation": "REMOVE"},
}
_TO_ELSEWHERE = {"mirror": {"host": "elsewhere.example"}}
_API = "gateway.networking.k8s.io/v1"

ROWS: dict[str, tuple[list[Any], list[Any], str, Effect]] = {
    "an issuer more": (
        [_tokens()],
        [item("RequestAuthentication", "tokens", {"jwtRules": [
            *_tokens()["spec"]["jwtRules"], {"issuer": "https://evil"}]})],
        "issuers", WEAKER,
    ),
    "other keys": ([_tokens()], [_tokens(jwksUri="https://evil/keys")], "keys", WEAKER),
    "any audience": ([_tokens()], [_tokens(audiences=[])], "audiences", WEAKER),
    "an audience more": ([_tokens()], [_tokens(audiences=["a", "b"])], "audiences", WEAKER),
    "an audience less": ([_tokens(audiences=["a", "b"])], [_tokens()], "audiences", STRICTER),
    "an audience at all": ([_tokens(audiences=[])], [_tokens()], "audiences", STRICTER),
    "tokens read from parameters": (
        [_tokens()], [_tokens(fromParams=["t"])], "read from", WEAKER,
    ),
    "a claim's header that goes": (
        [_tokens(outputClaimToHeaders=[{"claim": "tenant", "header": "x-tenant"}])],
        [_tokens()], "claims to headers", WEAKER,
    ),
    "a payload that no header carries any more": (
        [_tokens(outputPayloadToHeader="x-payload")],
        [_tokens()], "claims to headers", WEAKER,
    ),
    "tokens that nobody checks": ([_tokens()], [], "", WEAKER),
    "a Service of the node": ([_service()], [_service(type="NodePort")], "type", WEAKER),
    "a Service for the world": ([_service()], [_service(type="LoadBalancer")], "type", WEAKER),
    "a Service for the cluster": ([_service(type="NodePort")], [_service()], "type", STRICTER),
    "an address of its own": (
        [_service()], [_service(externalIPs=["192.0.2.1"])], "external addresses", WEAKER,
    ),
    "a balancer for everybody": (
        [_service(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.0/24"])],
        [_service(type="LoadBalancer")], "source ranges", WEAKER,
    ),
    "a port beside the proxy": (
        [_deployment()],
        [_deployment({"traffic.sidecar.istio.io/excludeInboundPorts": "80,81"})],
        "beside the proxy", WEAKER,
    ),
    "no proxy": (
        [_deployment({"sidecar.istio.io/inject": "true"})],
        [_deployment({"sidecar.istio.io/inject": "false"})], "beside the proxy", WEAKER,
    ),
    "the node's network": ([_deployment()], [_deployment(hostNetwork=True)], "of the node", WEAKER),
    "the node's network in a CronJob": (
        [_cron_job()], [_cron_job(hostNetwork=True)], "of the node", WEAKER,
    ),
    "a capability": (
        [_deployment()],
        [_deployment(containers=[{"name": "app", "securityContext": {
            "capabilities": {"add": ["NET_ADMIN"]}}}])],
        "capabilities", WEAKER,
    ),
    "a filter that removes": ([_filter()], [_filter(_REMOVES)], "", WEAKER),
    "a copy of all requests": (
        [_virtual_service()], [_virtual_service(**_TO_ELSEWHERE)], "mirror.host", WEAKER,
    ),
    "a NetworkPolicy that goes": ([_network_policy()], [], "", WEAKER),
    "a NetworkPolicy that comes": ([], [_network_policy({"from": []})], "", STRICTER),
    "a NetworkPolicy that lets in": (
        [_network_policy()], [_network_policy({})], "ingress lets in", WEAKER,
    ),
    "a right more": ([_role("get")], [_role("get", "delete")], "core may", WEAKER),
    "a right less": ([_role("get", "delete")], [_role("get")], "core may", STRICTER),
    "one more who may": (
        [_binding("a")], [_binding("a", "b")], "ClusterRole reader granted to", WEAKER,
    ),
    "a check that may fail": ([_webhook("Fail")], [_webhook("Ignore")], "failurePolicy", WEAKER),
    "a Sidecar that lets everything out": (
        [_sidecar(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"})],
        [_sidecar(outboundTrafficPolicy={"mode": "ALLOW_ANY"})], "outbound traffic", WEAKER,
    ),
    "a port that no proxy takes": (
        [_sidecar()],
        [_sidecar(ingress=[{"port": {"number": 80}, "captureMode": "NONE"}])],
        "", WEAKER,
    ),
    "privileged pods": (
        [_namespace("restricted")], [_namespace("privileged")], "pod security", WEAKER,
    ),
    "a way in by another API": (
        [], [{**item("HTTPRoute", "in", {"hostnames": ["a.example"]}), "apiVersion": _API}],
        "", WEAKER,
    ),
}  # fmt: skip


def _told(old: list[Any], new: list[Any]) -> list[Change]:
    found = diff_objects(old, new)
    return [
        change
        for section in found.sections
        if section.key in ("protection", "routes")
        for change in section.changes
    ]


@pytest.mark.parametrize("name", ROWS)
def test_what_protects(name: str) -> None:
    old, new, field, effect = ROWS[name]
    found = {change.field: change.effect for change in _told(old, new)}
    assert found.get(field) is effect, found


@pytest.mark.parametrize("name", ROWS)
def test_nothing_changes_where_nothing_does(name: str) -> None:
    old, new, _, _ = ROWS[name]
    for objects in (old, new):
        assert _told(objects, [dict(one) for one in reversed(objects)]) == []


def _headline(old: list[Any], new: list[Any]) -> tuple[str, str]:
    found = diff_objects(old, new)
    output = StringIO()
    render(found, Console(file=output, width=200))
    return markdown(found, "prod").splitlines()[3], output.getvalue().splitlines()[0]


def test_only_what_is_judged_is_called_harmless() -> None:
    timeout = ([_virtual_service(timeout="1s")], [_virtual_service(timeout="2s")])
    assert _headline(*timeout) == (
        "**🟢 Nothing is opened or weakened.** 1 object differs.",
        "1 object differs; nothing is opened or weakened",
    )
    unknown = {"kind": "WasmPlugin", "metadata": {"name": "own", "namespace": APPS}}
    for change in ([_filter()], [unknown]):
        kind = change[0]["kind"]
        comment, terminal = _headline([], change)
        assert comment == (
            "**⚪ Nothing that is judged here is opened or weakened.** 1 object differs."
            f" Look at the objects of {kind}: not all of them is judged."
        )
        assert terminal == (
            "1 object differs; nothing that is judged here is opened or weakened,"
            f" look at the objects of {kind}"
        )


def test_an_image_alone_is_for_a_person_to_see() -> None:
    newer = _deployment(containers=[{"name": "app", "image": "y"}])
    assert diff_objects([_deployment()], [newer]).unjudged == ("Deployment",)
