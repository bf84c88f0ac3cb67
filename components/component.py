"""The common shape of all components: pure objects in, registered resources out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pydantic import BaseModel, ConfigDict

from components.objects import (
    IGNORE_CHANGES,
    Declared,
    GeneratedSecret,
    HelmRelease,
    Manifest,
    WaitFor,
)


class ComponentArgs(BaseModel):
    """Base of every component's arguments: immutable, unknown arguments are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: str
    """Name of the stack; goes into the labels of every object."""


ArgsT = TypeVar("ArgsT", bound=ComponentArgs)


class MeshComponent(pulumi.ComponentResource, Generic[ArgsT]):
    """A ComponentResource whose children are exactly the objects its builder returns.

    A subclass gives `token` (its Pulumi type, never renamed without an alias) and `build`. The
    same `build` serves rendering, policies and lab, so nothing is registered that they don't see.
    """

    token: ClassVar[str]

    objects: pulumi.Output[list[str]]
    """Logical names of the registered objects."""

    def __init__(self, name: str, args: ArgsT, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.token, name, None, opts)
        releases: dict[str, list[pulumi.Resource]] = {}
        names: list[str] = []
        for declared in self.build(args):
            match declared:
                case HelmRelease():
                    after = [one for earlier in declared.after for one in releases[earlier]]
                    releases[declared.name] = _release(declared, self, after)
                    names.append(declared.name)
                case GeneratedSecret():
                    names += _secret(declared, self)
                case _:
                    register(declared, pulumi.ResourceOptions(parent=self))
                    names.append(
                        logical_name(
                            declared["metadata"].get("namespace"), declared["metadata"]["name"]
                        )
                    )
        self.objects = pulumi.Output.from_input(names)
        self.register_outputs({"objects": names})

    @staticmethod
    def build(args: Any) -> tuple[Declared, ...]:
        """The component's objects; pure, and the same on every call."""
        raise NotImplementedError


def logical_name(namespace: str | None, name: str) -> str:
    """Logical name of a child: readable, and stable whatever else is added."""
    return f"{namespace}/{name}" if namespace else name


def register(manifest: Manifest, opts: pulumi.ResourceOptions) -> pulumi.Resource:
    """Registers one object with the engine, key for key as it is.

    Built-in kinds become their own Pulumi types (the provider then waits until they are ready);
    everything else is a plain CustomResource, which previews without its CRD being installed.
    """
    metadata = manifest["metadata"]
    name = logical_name(metadata.get("namespace"), metadata["name"])
    if ignored := metadata.get("annotations", {}).get(IGNORE_CHANGES):
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=ignored.split(","))
        )
    body = {key: value for key, value in manifest.items() if key not in {"apiVersion", "kind"}}
    group = manifest["apiVersion"].rpartition("/")[0]
    if "." not in group or group.endswith(".k8s.io"):
        built_in = _built_in(manifest["apiVersion"], manifest["kind"])
        return _registered(built_in(name, opts=opts, **_snake_case(body)))
    return _registered(
        kubernetes.apiextensions.CustomResource(
            name, api_version=manifest["apiVersion"], kind=manifest["kind"], opts=opts, **body
        )
    )


def _built_in(api_version: str, kind: str) -> Any:
    """The SDK's class of a built-in kind."""
    # Imported when used: the SDK's modules are large, and rendering needs none of them.
    group, _, version = api_version.rpartition("/")
    module = f"pulumi_kubernetes.{group.split('.')[0] or 'core'}.{version}"
    return getattr(importlib.import_module(module), kind)


def _registered(resource: Any) -> pulumi.Resource:
    assert isinstance(resource, pulumi.Resource)
    return resource


def _snake_case(body: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level keys as the SDK's constructors name them; what lies below passes verbatim."""
    return {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in key): value
        for key, value in body.items()
    }


def _release(
    release: HelmRelease, parent: pulumi.Resource, after: list[pulumi.Resource]
) -> list[pulumi.Resource]:
    """The release and what must be true of it; all of them are what a later one depends on."""
    # Release, not Chart v4: Chart renders against the cluster even in preview, and Release leaves
    # the fields that istiod patches into its webhooks out of the diff.
    installed = kubernetes.helm.v3.Release(
        release.name,
        name=release.name,
        namespace=release.namespace,
        chart=release.chart,
        version=release.version,
        repository_opts={"repo": release.repository},
        values=dict(release.values),
        opts=pulumi.ResourceOptions(parent=parent, depends_on=after),
    )
    return [installed, *(_wait(condition, parent, installed) for condition in release.ready_when)]


def _wait(condition: WaitFor, parent: pulumi.Resource, after: pulumi.Resource) -> pulumi.Resource:
    # The object belongs to the chart; a Patch adds the annotation that makes the provider wait,
    # under a field manager of its own, so that neither sees the other's fields as a change.
    patch = _built_in(condition.api_version, f"{condition.kind}Patch")
    return _registered(
        patch(
            condition.name,
            metadata={
                "name": condition.name,
                "annotations": {"pulumi.com/waitFor": f"jsonpath={condition.json_path}"},
            },
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[after]),
        )
    )


def _secret(secret: GeneratedSecret, parent: pulumi.Resource) -> list[str]:
    """One password, as a Secret in each namespace; the logical names of the Secrets."""
    opts = pulumi.ResourceOptions(parent=parent)
    password = random.RandomPassword(
        logical_name(secret.namespace, secret.name), length=secret.length, special=False, opts=opts
    )
    names = []
    for namespace in (secret.namespace, *secret.also_in):
        names.append(logical_name(namespace, secret.name))
        kubernetes.core.v1.Secret(
            names[-1],
            metadata={
                "name": secret.name,
                "namespace": namespace,
                "labels": dict(secret.labels),
            },
            string_data={secret.key: password.result},
            opts=opts,
        )
    return names
