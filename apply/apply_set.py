"""The ApplySet of a stack: what was applied together, so that what left can be pruned.

Source: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from components.objects import Manifest

GROUP, KIND, PLURAL = "apply.voicemesh.io", "MeshStack", "meshstacks"
PART_OF = "applyset.kubernetes.io/part-of"
"""Label that kubectl puts on every member."""
KINDS = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
"""Annotations of the parent: lists, separated by commas, of what members are and where."""


def identifier(stack: str) -> str:
    """ID of the stack's ApplySet; members carry it in the label `PART_OF`."""
    digest = hashlib.sha256(f"{stack}..{KIND}.{GROUP}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def parent_name(stack: str) -> str:
    """The parent as kubectl's `--applyset` takes it."""
    return f"{PLURAL}.{GROUP}/{stack}"


def parent_definition() -> Manifest:
    """A cluster-scoped kind for parents: a namespaced one could not hold a whole stack."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {
                "applyset.kubernetes.io/is-parent-type": "true",
                "app.kubernetes.io/managed-by": "voicemesh",
            },
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "plural": PLURAL,
                "singular": "meshstack",
                "listKind": f"{KIND}List",
            },
            "scope": "Cluster",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }


def kinds(members: Iterable[Manifest]) -> set[str]:
    """What the members are, as the parent lists it: `Service`, `Deployment.apps`."""
    return {
        f"{one['kind']}.{group}".rstrip(".")
        for one in members
        for group in [one["apiVersion"].rpartition("/")[0]]
    }


def namespaces(members: Iterable[Manifest]) -> set[str]:
    """Where the members are, those of the whole cluster left out."""
    return {one["metadata"]["namespace"] for one in members if "namespace" in one["metadata"]}


def parent(stack: str, members: Sequence[Manifest]) -> Manifest:
    """The stack's parent object before its first apply; kubectl keeps its annotations after that."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": KIND,
        "metadata": {
            "name": stack,
            "labels": {
                "applyset.kubernetes.io/id": identifier(stack),
                "app.kubernetes.io/managed-by": "voicemesh",
            },
            "annotations": {
                "applyset.kubernetes.io/tooling": "kubectl/v1.37",
                KINDS: ",".join(sorted(kinds(members))),
                NAMESPACES: ",".join(sorted(namespaces(members))),
            },
        },
    }
