"""The namespaces, and what is injected in them."""

from __future__ import annotations

from collections.abc import Iterator

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from components.component import ComponentArgs, MeshComponent
from components.objects import DEPLOYED_ELSEWHERE, Manifest, labelled
from model.settings import Namespaces

_POD_SECURITY = "pod-security.kubernetes.io"


class NamespacesArgs(ComponentArgs):
    """Arguments of `MeshNamespaces`."""

    namespaces: Namespaces
    owns_mesh_namespace: bool
    """True where the stack installs Istio, and so makes the namespace it lives in."""
    collector: str
    """Host of the trace collector: someone else's, often a Service of the infra namespace."""


class MeshNamespaces(MeshComponent[NamespacesArgs]):
    """The namespaces of the stack."""

    token = "voicemesh:kubernetes:Namespaces"  # noqa: S105 - a Pulumi type token

    @staticmethod
    def build(args: NamespacesArgs) -> tuple[Manifest, ...]:
        """The namespaces that the stack owns."""
        return labelled(args.stack, "namespaces", _namespaces(args))


def _namespaces(args: NamespacesArgs) -> Iterator[Manifest]:
    if args.owns_mesh_namespace:
        # No injection label: "disabled" would also keep the gateway's pods from being injected,
        # which ask for it themselves.
        yield _namespace(args.namespaces.mesh, {f"{_POD_SECURITY}/enforce": "baseline"})
    # No pod-security level: istio-init needs NET_ADMIN, which every level but the open one refuses.
    yield _namespace(args.namespaces.apps, {"istio-injection": "enabled"})
    # Only warnings: what else runs here (Prometheus, collectors) is not the stack's to refuse.
    yield _namespace(
        args.namespaces.infra,
        {"istio-injection": "disabled", f"{_POD_SECURITY}/warn": "restricted"},
        _elsewhere(args),
    )


def _elsewhere(args: NamespacesArgs) -> dict[str, str] | None:
    """Says that the collector's Service exists, so that policies don't miss it."""
    service, _, rest = args.collector.partition(".")
    return {DEPLOYED_ELSEWHERE: service} if rest.startswith(f"{args.namespaces.infra}.") else None


def _namespace(
    name: str, labels: dict[str, str], annotations: dict[str, str] | None = None
) -> Manifest:
    return dict(
        Namespace(
            apiVersion="v1",
            kind="Namespace",
            metadata=ObjectMeta(name=name, labels=labels, annotations=annotations),
        ).to_dict()
    )
