"""A stack in a cluster without the engine: server-side apply as one ApplySet.

A run that fails or is cut off leaves what was applied so far and the ApplySet's record of it; the
next run goes on from there.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from apply import apply_set
from apply.changes import Change, changes, keeping_ignored, strays
from apply.kubectl import ClusterError, Kubectl, Resource
from components.objects import Declared, GeneratedSecret, HelmRelease, Manifest, reference

_GENERATED = "voicemesh.io/generated-for"
"""Label of Secrets made at deployment: they are no members of the ApplySet, whose files would have
to hold them in clear."""
_ALPHABET = string.ascii_letters + string.digits
_ROUTES = frozenset({"VirtualService", "Gateway"})
"""What exposes services: it goes before the policies that protect it."""
_DELETION_TIMEOUT, _ROLLOUT_TIMEOUT = 180, 300
"""Seconds."""

Progress = Callable[[str, int], None]
"""Called with what is being done, and how many objects of the whole are done."""


@dataclass
class Deployment:
    """One stack and one cluster."""

    stack: str
    declared: Sequence[Declared]
    """Everything the stack declares, in the order of deployment."""
    expand: Callable[[Sequence[Declared]], list[Manifest]]
    """Makes plain objects of what is declared, releases included."""
    kubectl: Kubectl
    applied: list[str] = field(default_factory=list)
    """What the API server has taken so far in this run; for the message when it fails."""
    ahead: set[str] = field(default_factory=set)
    """What it has taken ahead of the whole set: namespaces, releases that others build on."""
    others: list[Manifest] = field(default_factory=list)
    """Objects of other stacks, of the kinds that this one uses."""

    @cached_property
    def objects(self) -> list[Manifest]:
        """All objects, in the order of deployment."""
        return self.expand(self.declared)

    @cached_property
    def known(self) -> dict[tuple[str, str], Resource]:
        """Kinds of the API server at the start."""
        return self.kubectl.resources()

    @property
    def _members(self) -> list[Manifest]:
        """Objects that are pruned when they leave the stack.

        Definitions are not: with one of them every object of its kind would go, of any owner.
        """
        return [one for one in self.objects if not _kept(one)]

    @property
    def _definitions(self) -> list[Manifest]:
        return [one for one in self.objects if _kept(one)]

    def live(self) -> list[Manifest]:
        """The stack's objects as they stand in the cluster."""
        mine, label = apply_set.identifier(self.stack), apply_set.PART_OF
        # Of the kinds that were ever applied only: Endpoints copy their Service's labels.
        kinds = self._recorded_kinds() | {_group_kind(one) for one in self._members}
        resources = [
            resource
            for (version, kind), resource in self.known.items()
            if (version.rpartition("/")[0], kind) in kinds
        ]
        members = self.kubectl.labelled(resources, label)
        self.others = [one for one in members if one["metadata"]["labels"][label] != mine]
        kept = self.kubectl.existing(self._definitions)
        return [*kept, *(one for one in members if one["metadata"]["labels"][label] == mine)]

    def _only_mine(self) -> None:
        """Refuses to take over what another stack owns; `live` has found out what that is."""
        own = {reference(one) for one in self._members}
        for one in self.others:
            if reference(one) in own:
                raise ClusterError(
                    f"{reference(one)} belongs to another stack of this cluster (ApplySet"
                    f" {one['metadata']['labels'][apply_set.PART_OF]}); two stacks can't own one"
                    " object"
                )

    def preview(self) -> list[Change]:
        """What `up` would do; nothing is changed.

        Objects whose namespace or kind does not exist yet can't be sent to admission; they count
        as created.
        """
        live = self.live()
        self._only_mine()
        by_name = {reference(one): one for one in live}
        namespaces = set(self.kubectl.run("get", "namespaces", "-o", "name").split())
        checkable = [
            keeping_ignored(one, by_name.get(reference(one)))
            for one in self.objects
            if (one["apiVersion"], one["kind"]) in self.known and _namespace_exists(one, namespaces)
        ]
        after = {reference(one): one for one in self.kubectl.dry_run(checkable)}
        for one in strays(checkable, after.values()):
            after[reference(one)] = {**after[reference(one)], "spec": one["spec"]}
        return changes(live, [after.get(reference(one), one) for one in self.objects])

    def up(self, on_progress: Progress) -> list[Change]:
        """Applies everything, prunes what left the stack, and tells what that changed.

        Raises:
            ClusterError: the cluster refused an object or was lost; `applied` says how far it got.
        """
        before = self.live()
        self._only_mine()
        by_name = {reference(one): one for one in before}
        on_progress("namespaces and definitions", 0)
        self._define([apply_set.parent_definition(), *self._definitions])
        self._apply_early([one for one in self.objects if one["kind"] == "Namespace"])
        if not self._parent_stands():
            # kubectl keeps the record of the set's kinds there, under this name.
            self.kubectl.apply(
                [apply_set.parent(self.stack, self._members)], manager="kubectl-applyset"
            )
        self._make_secrets()
        self._install(on_progress)
        self._unexpose(before)

        def applied(line: str) -> None:
            if line.endswith("serverside-applied"):
                self.applied.append(line.split()[0])
                on_progress(self.applied[-1], len(self.applied))

        members = [keeping_ignored(one, by_name.get(reference(one))) for one in self._members]
        if self._nothing_left(before) and self._recorded(members):
            # kubectl asks for each kind in each namespace before it prunes, five times a second.
            self.kubectl.apply_each(self._marked(members), applied, self.applied.clear)
        else:
            parent = apply_set.parent_name(self.stack)
            self.kubectl.apply_set(members, parent, applied, self.applied.clear)
        self._remove_secrets(
            keep=[one for one in self.declared if isinstance(one, GeneratedSecret)]
        )
        del self.known  # definitions of this run are known only now
        after = self.live()
        if changed_by_others := strays(members, after):
            self.kubectl.replace(self._marked(changed_by_others))
            after = self.live()
        return changes(before, after)

    def destroy(self, on_progress: Progress) -> list[Change]:
        """Removes everything of the stack but definitions, and waits until it is gone.

        What depends on something goes before it: routes, then policies and workloads, then
        namespaces.

        Raises:
            ClusterError: something could not be removed in time.
        """
        before = [one for one in self.live() if not _kept(one)]
        self._remove_secrets(keep=[])
        mine = f"{apply_set.PART_OF}={apply_set.identifier(self.stack)}"
        done = 0
        for stage in range(3):
            doomed = [one for one in before if _removal_stage(one) == stage]
            if not doomed:
                continue
            on_progress(f"removing {', '.join(sorted({one['kind'] for one in doomed}))}", done)
            kinds = {self.known[one["apiVersion"], one["kind"]] for one in doomed}
            self.kubectl.delete(kinds, mine, within=_DELETION_TIMEOUT)
            done += len(doomed)
        if self._has_parent:
            self.kubectl.run(
                "delete", apply_set.parent_name(self.stack), "--ignore-not-found", timeout=30
            )
        return changes(before, [])

    @property
    def _has_parent(self) -> bool:
        return (f"{apply_set.GROUP}/v1", apply_set.KIND) in self.known

    def _nothing_left(self, before: Sequence[Manifest]) -> bool:
        """True where every object of the stack that stands is still declared."""
        declared = {reference(one) for one in self.objects}
        return all(reference(one) in declared for one in before)

    def _recorded(self, members: Sequence[Manifest]) -> bool:
        """True where the ApplySet's record has all kinds and namespaces of the members already."""
        return apply_set.kinds(members) <= self._annotated(
            apply_set.KINDS
        ) and apply_set.namespaces(members) <= self._annotated(apply_set.NAMESPACES)

    def _recorded_kinds(self) -> set[tuple[str, str]]:
        """Group and kind of everything the ApplySet holds, as kubectl keeps it on the parent."""
        pairs = [name.partition(".") for name in self._annotated(apply_set.KINDS)]
        return {(group, kind) for kind, _, group in pairs}

    def _annotated(self, annotation: str) -> set[str]:
        """The members of a list that kubectl keeps on the parent; empty before the first apply."""
        if not self._has_parent:
            return set()
        escaped = annotation.replace(".", r"\.")
        listed = self.kubectl.run(
            "get",
            apply_set.parent_name(self.stack),
            "--ignore-not-found",
            "-o",
            f"jsonpath={{.metadata.annotations.{escaped}}}",
        )
        return set(listed.strip().split(",")) - {""}

    def _parent_stands(self) -> bool:
        found = self.kubectl.run(
            "get", apply_set.parent_name(self.stack), "--ignore-not-found", "-o", "name"
        )
        return bool(found.strip())

    def _define(self, definitions: list[Manifest]) -> None:
        self.kubectl.apply(definitions)
        names = [f"customresourcedefinition/{one['metadata']['name']}" for one in definitions]
        self.kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *names)

    def _apply_early(self, objects: Sequence[Manifest]) -> None:
        """Applies members before the whole set is: marked already, or they would lose the mark."""
        self.kubectl.apply(self._marked(objects))
        self.ahead |= {reference(one) for one in objects}

    def _marked(self, objects: Sequence[Manifest]) -> list[Manifest]:
        """The objects with the label that kubectl gives to members of the ApplySet."""
        mark = {apply_set.PART_OF: apply_set.identifier(self.stack)}
        return [
            {
                **one,
                "metadata": {
                    **one["metadata"],
                    "labels": {**(one["metadata"].get("labels") or {}), **mark},
                },
            }
            for one in objects
        ]

    def _install(self, on_progress: Progress) -> None:
        """Releases that others build on, each ready before the next is begun.

        istiod must answer its webhook before the API server takes any of Istio's resources.
        """
        releases = [one for one in self.declared if isinstance(one, HelmRelease)]
        needed = {name for release in releases for name in release.after}
        for release in releases:
            if release.name not in needed:
                continue
            on_progress(f"release {release.name}", 0)
            objects = [one for one in self.expand([release]) if not _kept(one)]
            self._apply_early(objects)
            for one in objects:
                if one["kind"] == "Deployment":
                    self.kubectl.run(
                        "rollout",
                        "status",
                        f"deployment/{one['metadata']['name']}",
                        f"--namespace={one['metadata']['namespace']}",
                        f"--timeout={_ROLLOUT_TIMEOUT}s",
                        timeout=_ROLLOUT_TIMEOUT + 10,
                    )
            for condition in release.ready_when:
                self.kubectl.run(
                    "wait",
                    f"{condition.kind}/{condition.name}",
                    f"--for=jsonpath={condition.json_path}",
                    "--timeout=60s",
                )

    def _unexpose(self, before: list[Manifest]) -> None:
        """Takes away routes that left the stack, before the policies that protect them go."""
        declared = {reference(one) for one in self.objects}
        for one in before:
            if one["kind"] in _ROUTES and reference(one) not in declared:
                self.kubectl.run(
                    "delete",
                    self.known[one["apiVersion"], one["kind"]].name,
                    one["metadata"]["name"],
                    f"--namespace={one['metadata']['namespace']}",
                    "--ignore-not-found",
                )

    def _make_secrets(self) -> None:
        """Makes the generated Secrets that the cluster lacks; the value is nowhere but there."""
        for secret in self.declared:
            if not isinstance(secret, GeneratedSecret):
                continue
            values = {
                namespace: self.kubectl.run(
                    "get",
                    "secret",
                    secret.name,
                    f"--namespace={namespace}",
                    "--ignore-not-found",
                    "-o",
                    f"jsonpath={{.data.{secret.key}}}",
                )
                for namespace in (secret.namespace, *secret.also_in)
            }
            there = next((value for value in values.values() if value), None)
            body = (
                {"data": {secret.key: there}}
                if there
                else {"stringData": {secret.key: _password(secret.length)}}
            )
            self.kubectl.apply(
                [
                    {
                        "apiVersion": "v1",
                        "kind": "Secret",
                        "metadata": {
                            "name": secret.name,
                            "namespace": namespace,
                            "labels": {**secret.labels, _GENERATED: self.stack},
                        },
                        **body,
                    }
                    for namespace, value in values.items()
                    if not value
                ]
            )

    def _remove_secrets(self, keep: Sequence[GeneratedSecret]) -> None:
        kept = {f"{space}/{one.name}" for one in keep for space in (one.namespace, *one.also_in)}
        for name in self.kubectl.run(
            "get",
            "secrets",
            "--all-namespaces",
            f"--selector={_GENERATED}={self.stack}",
            "-o",
            'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\\n"}{end}',
        ).split():
            if name not in kept:
                namespace, _, secret = name.partition("/")
                self.kubectl.run(
                    "delete", "secret", secret, f"--namespace={namespace}", "--ignore-not-found"
                )


def _kept(one: Manifest) -> bool:
    return bool(one["kind"] == "CustomResourceDefinition")


def _group_kind(one: Manifest) -> tuple[str, str]:
    return one["apiVersion"].rpartition("/")[0], one["kind"]


def _removal_stage(one: Manifest) -> int:
    return 0 if one["kind"] in _ROUTES else 2 if one["kind"] == "Namespace" else 1


def _namespace_exists(one: Manifest, namespaces: set[str]) -> bool:
    namespace = one["metadata"].get("namespace")
    return namespace is None or f"namespace/{namespace}" in namespaces


def _password(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
