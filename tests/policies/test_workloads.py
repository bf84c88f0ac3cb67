"""Pods are judged whatever makes them, and whatever way they leave the proxy out."""

from __future__ import annotations

from typing import Any

import pytest

from policies.policy import Object
from policies.stack import Stack
from policies.workloads import PODS
from semantics.pods import pod_template
from tests.policies.variants import reported

KINDS = {
    "Pod": ("v1", []),
    "Deployment": ("apps/v1", ["spec", "template"]),
    "StatefulSet": ("apps/v1", ["spec", "template"]),
    "DaemonSet": ("apps/v1", ["spec", "template"]),
    "ReplicaSet": ("apps/v1", ["spec", "template"]),
    "ReplicationController": ("v1", ["spec", "template"]),
    "Job": ("batch/v1", ["spec", "template"]),
    "CronJob": ("batch/v1", ["spec", "jobTemplate", "spec", "template"]),
    "Rollout": ("argoproj.io/v1alpha1", ["spec", "template"]),
    "DeploymentConfig": ("apps.openshift.io/v1", ["spec", "template"]),
    "CloneSet": ("apps.kruise.io/v1alpha1", ["spec", "template"]),
}


def making(kind: str, pod: Object, **metadata: Any) -> dict[str, Any]:
    """An object of a kind that makes this pod."""
    api, path = KINDS[kind]
    value: dict[str, Any] = {"metadata": dict(pod["metadata"]), "spec": pod["spec"]}
    for key in reversed(path):
        value = {key: value}
    own = {"name": "added", "namespace": "shop", **metadata}
    value["metadata"] = {**own, **value.get("metadata", {})}
    return {"apiVersion": api, "kind": kind, **value}


def pod(
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> Object:
    return {
        "metadata": {
            "labels": {"app": "added", **(labels or {})},
            "annotations": annotations or {},
        },
        "spec": {"containers": [{"name": "c", "image": "c:1", **(container or {})}], **spec},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_pods_of_every_kind_are_judged(kind: str) -> None:
    bad = pod(
        {"sidecar.istio.io/inject": "false"},
        {"traffic.sidecar.istio.io/excludeOutboundPorts": "443"},
        {
            "securityContext": {"runAsUser": 1337},
            "env": [{"name": "DB_PASSWORD", "value": "hunter22"}],
        },
    )
    assert reported([making(kind, bad)]) >= {
        "pod-injected",
        "traffic-not-excluded",
        "pod-uid",
        "no-secret-in-clear",
    }
    assert reported([making(kind, pod())]) == set()


def test_what_another_object_of_the_set_has_made_is_judged_once() -> None:
    deployment = making("Deployment", pod(), uid="d")
    owned = {"name": "of-d", "uid": "r", "ownerReferences": [{"kind": "Deployment", "uid": "d"}]}
    alone = {"name": "alone", "ownerReferences": [{"kind": "ReplicaSet", "name": "x", "uid": "?"}]}
    stack = Stack([deployment, making("ReplicaSet", pod(), **owned), making("Pod", pod(), **alone)])
    assert [item["kind"] for item in stack.of(PODS)] == ["Deployment", "Pod"]


@pytest.mark.parametrize("broken", [None, [], {"template": None}, {"template": []}])
def test_an_object_without_a_template_has_an_empty_one(broken: object) -> None:
    assert pod_template({"kind": "Deployment", "spec": broken})[1] == {}


INJECT = "sidecar.istio.io/inject"
PROXY_CONFIG = "proxy.istio.io/config"
WEAK = {
    "pod-injected": [
        pod({INJECT: "False"}),
        pod({INJECT: "no"}),
        pod(annotations={INJECT: "off"}),
        pod({INJECT: "n"}, {INJECT: "true"}),
        pod(annotations={"inject.istio.io/templates": "gateway"}),
        pod(hostNetwork=True),
    ],
    "traffic-not-excluded": [
        pod(annotations={"sidecar.istio.io/interceptionMode": "NONE"}),
        pod(annotations={"traffic.sidecar.istio.io/excludeInterfaces": "eth1"}),
        pod(annotations={PROXY_CONFIG: "interceptionMode: NONE"}),
        pod(annotations={PROXY_CONFIG: "{customConfigFile: /own.json}"}),
        pod(annotations={"sidecar.istio.io/bootstrapOverride": "own"}),
        pod(annotations={"sidecar.istio.io/discoveryAddress": "other:15012"}),
    ],
    "pod-uid": [
        pod(securityContext={"runAsGroup": 1337}),
        pod(container={"name": "istio-proxy", "securityContext": {"runAsUser": 1337}}),
        pod(initContainers=[{"name": "i", "image": "i", "securityContext": {"runAsUser": 1337}}]),
    ],
    "no-secret-in-clear": [
        pod(
            container={"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "wJalrXUtnFEMIK7MDENG"}]}
        ),
        pod(container={"env": [{"name": "GITHUB_TOKEN", "value": "ghp_aaaaaaaaaaaaaaaa"}]}),
        pod(container={"env": [{"name": "REDIS_URL", "value": "redis://:hunter22@redis:6379"}]}),
        pod(container={"args": ["--requirepass", "hunter22"]}),
        pod(container={"command": ["app", "--db-password=hunter22"]}),
        pod(initContainers=[{"name": "i", "env": [{"name": "dbPassword", "value": "hunter22"}]}]),
    ],
}


@pytest.mark.parametrize(
    ("policy", "weak"), [(policy, each) for policy, pods in WEAK.items() for each in pods]
)
def test_every_way_around_the_proxy_is_reported(policy: str, weak: Object) -> None:
    assert reported([making("Deployment", weak)]) == {policy}


@pytest.mark.parametrize(
    "fine",
    [
        pod({INJECT: "true"}),
        pod({INJECT: "true"}, {INJECT: "false"}),
        pod(annotations={INJECT: "Yes"}),
        pod(annotations={"inject.istio.io/templates": "sidecar,tracing"}),
        pod(annotations={"sidecar.istio.io/interceptionMode": "TPROXY"}),
        pod(annotations={PROXY_CONFIG: "concurrency: 2"}),
        pod(container={"env": [{"name": "TOKEN_FILE", "value": "token.jwt"}]}),
        pod(container={"env": [{"name": "CA_TOKEN", "value": "/var/run/secrets/token"}]}),
        pod(container={"args": ["--requirepass", "$(REDIS_PASSWORD)", "--max-tokens", "5000"]}),
    ],
)
def test_what_leaves_nothing_out_is_not_reported(fine: Object) -> None:
    assert reported([making("Deployment", fine)]) == set()
