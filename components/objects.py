"""What builders hand on: plain Kubernetes objects, Helm releases, generated secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object as it goes over the wire: apiVersion, kind, metadata and the rest."""

IGNORE_CHANGES = "voicemesh.io/ignore-changes"
"""Annotation: comma-separated property paths that another controller owns after creation.

The engine gets them as `ignoreChanges`; without it `up` keeps the live values at these paths.
"""
PUBLIC_WITHOUT_TOKEN = "voicemesh.io/public-without-token"  # noqa: S105 - the name of an annotation
"""Annotation `"true"` on an AuthorizationPolicy that lets clients in without a token."""
NO_OTHER_API = {"galley.istio.io/analyze-suppress": "IST0133"}
"""Annotations of every EnvoyFilter: the analyzer warns of each one, and each one here does what no
Istio API can. Source: https://istio.io/latest/docs/reference/config/analysis/
"""
REASON = "voicemesh.io/reason"
"""Annotation: why the object opens something, in words for a reviewer."""
REQUIRES_CLAIMS = "voicemesh.io/requires-claims"
"""Annotation on a Service: claims, separated by commas, without which its pods refuse a request."""
DEPLOYED_ELSEWHERE = "voicemesh.io/deployed-elsewhere"
"""Annotation on a Namespace: Services in it, separated by commas, that someone else deploys."""


@dataclass(frozen=True)
class WaitFor:
    """A field that someone else fills in on an object, after the object was made."""

    api_version: str
    kind: str
    name: str
    """Name of a cluster-scoped object."""
    json_path: str
    """JSONPath, as kubectl writes it, of the field that must have a value."""


@dataclass(frozen=True)
class HelmRelease:
    """One of Istio's own charts with typed values."""

    name: str
    namespace: str
    chart: str
    version: str
    repository: str
    values: Mapping[str, Any]
    after: tuple[str, ...] = ()
    """Names of releases of the same component that must be ready first."""
    ready_when: tuple[WaitFor, ...] = ()
    """What must be true, beyond all its pods being ready, before anything builds on the release."""


@dataclass(frozen=True)
class GeneratedSecret:
    """A Secret whose one value is made at deployment and never stands in a file.

    The engine makes it with pulumi-random and keeps it as a Pulumi secret; without the engine it
    is made once, when the cluster has no such Secret yet.
    """

    name: str
    namespace: str
    key: str
    length: int = 32
    labels: Mapping[str, str] = field(default_factory=dict)
    also_in: tuple[str, ...] = ()
    """More namespaces that get a Secret of the same name with the same value: pods read the
    Secrets of their own namespace only, and both ends of a connection need the password."""


Declared = Manifest | HelmRelease | GeneratedSecret
"""Anything a builder may return."""


def labels(stack: str, component: str) -> dict[str, str]:
    """The labels that every object of the stack carries."""
    return {
        "app.kubernetes.io/part-of": "voiceassistant",
        "app.kubernetes.io/managed-by": "voicemesh",
        "app.kubernetes.io/instance": stack,
        "app.kubernetes.io/component": component,
    }


def labelled(stack: str, component: str, manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """The manifests with the stack's labels; labels they have already are kept."""
    common = labels(stack, component)
    return tuple(
        {
            **manifest,
            "metadata": {
                **manifest["metadata"],
                "labels": {**common, **manifest["metadata"].get("labels", {})},
            },
        }
        for manifest in manifests
    )


def reference(manifest: Manifest) -> str:
    """How messages name an object: `Kind namespace/name`."""
    metadata = manifest["metadata"]
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{manifest['kind']} {namespace}{metadata['name']}"
