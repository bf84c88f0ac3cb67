"""Objects that make pods: where their template stands, what it says of its proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POD_TEMPLATES: Mapping[str, str] = {
    "Pod": "",
    "Deployment": "spec.template.",
    "StatefulSet": "spec.template.",
    "DaemonSet": "spec.template.",
    "ReplicaSet": "spec.template.",
    "ReplicationController": "spec.template.",
    "Job": "spec.template.",
    "CronJob": "spec.jobTemplate.spec.template.",
    "Rollout": "spec.template.",
}
"""Where kinds that are known to make pods have the template; a Pod is its own."""
INJECT = "sidecar.istio.io/inject"


def pod_template(item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(path with a dot at its end, pod template) of an object that makes pods.

    A kind that is not known counts where its `spec.template` has containers, as those of
    OpenShift, Knative and OpenKruise do. The template is empty where there is none.
    """
    path = POD_TEMPLATES.get(str(item.get("kind")), "spec.template.")
    value: Any = item
    for key in path.split(".")[:-1]:
        value = (value.get(key) if isinstance(value, Mapping) else None) or {}
    return path, value if isinstance(value, Mapping) else {}


def makes_pods(item: Mapping[str, Any]) -> bool:
    """Whether an object makes pods."""
    if str(item.get("kind")) in POD_TEMPLATES:
        return True
    if not isinstance(item.get("spec"), Mapping) or "template" not in item["spec"]:
        return False
    pod = pod_template(item)[1].get("spec")
    return isinstance(pod, Mapping) and "containers" in pod


def injection_asked(template: Mapping[str, Any]) -> bool | None:
    """What a pod template says of its proxy; None where it leaves that to the namespace.

    The label counts before the annotation, and everything but `true`, `yes`, `y` and `on` is a
    no, as in Istio's injector.
    """
    metadata = template.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    asked = str(labels.get(INJECT, annotations.get(INJECT)) or "").lower()
    return asked in ("true", "yes", "y", "on") if asked else None


def is_made(item: Mapping[str, Any]) -> bool:
    """Whether another object makes this one, as a Deployment makes ReplicaSets and those make Pods."""
    owners = (item.get("metadata") or {}).get("ownerReferences") or ()
    return any(owner.get("controller") for owner in owners)
