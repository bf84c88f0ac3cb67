"""A stack in a cluster without the engine: server-side apply as one ApplySet.

A run that fails or is cut off leaves what was applied so far and the ApplySet's record of it; the
next run goes on from there.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from apply import apply_set
from apply.changes import Change, changes, keeping_ignored
from apply.kubectl import Kubectl, Resource
from components.objects import GeneratedSecret, Manifest, reference

_GENERATED = "voicemesh.io/generated-for"
"""Label of Secrets made at deployment: they are no members of the ApplySet, whose files would have
to hold them in clear."""
_FIRST_KINDS = ("CustomResourceDefinition", "Namespace")
_ALPHABET = string.ascii_letters + string.digits
_DELETION_TIMEOUT = 180


@dataclass
class Deployment:
    """One stack and one cluster."""

    stack: str
    objects: Sequence[Manifest]
    """Everything the stack declares, in the order of deployment."""
    generated: Sequence[GeneratedSecret]
    kubectl: Kubectl
    applied: list[str] = field(default_factory=list)
    """What the API server has taken so far in this run; for the message when it fails."""

    @cached_property
    def known(self) -> dict[tuple[str, str], Resource]:
        """Kinds of the API server at the start."""
        return self.kubectl.resources()

    def live(self) -> list[Manifest]:
        """The stack's objects as they stand in the cluster."""
        resources = (
            self.known.values()
            if self._has_parent
            else [self.known[key] for key in self._kinds() if key in self.known]
        )
        members = f"{apply_set.PART_OF}={apply_set.identifier(self.stack)}"
        return self.kubectl.labelled(resources, members)

    def preview(self) -> list[Change]:
        """What `up` would do; nothing is changed.

        Objects whose namespace or kind does not exist yet can't be sent to admission; they count
        as created.
        """
        live = self.live()
        by_name = {reference(one): one for one in live}
        namespaces = set(self.kubectl.run("get", "namespaces", "-o", "name").split())
        checkable = [
            keeping_ignored(one, by_name.get(reference(one)))
            for one in self.objects
            if (one["apiVersion"], one["kind"]) in self.known
            and self._namespace_exists(one, namespaces)
        ]
        after = {reference(one): one for one in self.kubectl.dry_run(checkable)}
        return changes(live, [after.get(reference(one), one) for one in self.objects])

    def up(self, on_progress: Callable[[str, int], None]) -> list[Change]:
        """Applies everything, prunes what left the stack, and tells what that changed.

        Args:
            on_progress: called with a description and how many objects of the whole are done.

        Raises:
            ClusterError: the cluster refused an object or was lost; `applied` says how far it got.
        """
        before = self.live()
        by_name = {reference(one): one for one in before}
        first = [one for one in self.objects if one["kind"] in _FIRST_KINDS]
        definitions = [one for one in first if one["kind"] == "CustomResourceDefinition"]
        on_progress("namespaces and definitions", 0)
        self.kubectl.apply([apply_set.parent_definition(), *first], lambda _: None)
        self._established([apply_set.parent_definition(), *definitions])
        if not self._parent_stands():
            self.kubectl.apply([apply_set.parent(self.stack)], lambda _: None)
        self._make_secrets()

        def applied(line: str) -> None:
            if line.endswith("serverside-applied"):
                self.applied.append(line.split()[0])
                on_progress(self.applied[-1], len(self.applied))

        self.kubectl.apply_set(
            [keeping_ignored(one, by_name.get(reference(one))) for one in self.objects],
            apply_set.parent_name(self.stack),
            applied,
        )
        self.__dict__.pop("known", None)  # definitions of this run are known only now
        return changes(before, self.live())

    def destroy(self, on_progress: Callable[[str, int], None]) -> list[Change]:
        """Removes everything of the stack, what depends on something before that, and waits.

        Raises:
            ClusterError: something could not be removed in time.
        """
        before = self.live()
        rank = {"CustomResourceDefinition": 1, "Namespace": 2}
        done = 0
        for stage in (0, 1, 2):
            doomed = [one for one in before if rank.get(one["kind"], 0) == stage]
            kinds = {self.known[one["apiVersion"], one["kind"]].name for one in doomed}
            if stage == 0:
                self._remove_secrets()
            if not kinds:
                continue
            on_progress(f"{len(doomed)} objects of {len(kinds)} kinds", done)
            members = f"{apply_set.PART_OF}={apply_set.identifier(self.stack)}"
            self.kubectl.run(
                "delete",
                ",".join(sorted(kinds)),
                *([] if stage else ["--all-namespaces"]),
                f"--selector={members}",
                "--ignore-not-found",
                f"--timeout={_DELETION_TIMEOUT}s",
                timeout=_DELETION_TIMEOUT + 10,
            )
            done += len(doomed)
        if self._has_parent:
            self.kubectl.run(
                "delete", apply_set.parent_name(self.stack), "--ignore-not-found", timeout=30
            )
        return changes(before, [])

    @property
    def _has_parent(self) -> bool:
        return (f"{apply_set.GROUP}/v1", apply_set.KIND) in self.known

    def _parent_stands(self) -> bool:
        found = self.kubectl.run(
            "get", apply_set.parent_name(self.stack), "--ignore-not-found", "-o", "name"
        )
        return bool(found.strip())

    def _kinds(self) -> set[tuple[str, str]]:
        return {(one["apiVersion"], one["kind"]) for one in self.objects}

    def _namespace_exists(self, one: Manifest, namespaces: set[str]) -> bool:
        namespace = one["metadata"].get("namespace")
        return namespace is None or f"namespace/{namespace}" in namespaces

    def _established(self, definitions: Iterable[Manifest]) -> None:
        names = [f"customresourcedefinition/{one['metadata']['name']}" for one in definitions]
        self.kubectl.run("wait", "--for=condition=Established", "--timeout=60s", *names)

    def _make_secrets(self) -> None:
        """Makes the generated Secrets that the cluster lacks; the value is nowhere but there."""
        for secret in self.generated:
            namespaces = (secret.namespace, *secret.also_in)
            value = None
            missing = []
            for namespace in namespaces:
                found = self.kubectl.run(
                    "get",
                    "secret",
                    secret.name,
                    f"--namespace={namespace}",
                    "--ignore-not-found",
                    "-o",
                    f"jsonpath={{.data.{secret.key}}}",
                )
                value = value or found
                if not found:
                    missing.append(namespace)
            body = (
                {"data": {secret.key: value}}
                if value
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
                    for namespace in missing
                ],
                lambda _: None,
            )

    def _remove_secrets(self) -> None:
        self.kubectl.run(
            "delete",
            "secrets",
            "--all-namespaces",
            f"--selector={_GENERATED}={self.stack}",
            "--ignore-not-found",
        )


def _password(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
