"""A live mesh made wrong: the objects of a stack with mutations, applied to a lab."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import render
from apply import apply_set
from apply.kubectl import Kubectl
from components.objects import reference
from lab.data_plane import DataPlane
from lab.stack import istiod_values
from lab.waiting import NotYet, until
from tests.lab.mutations.mutation import Mutation, Object

_READY_SECONDS = 240.0


class MutantMesh:
    """A lab that a stack was deployed to, and what is wrong with it now."""

    def __init__(self, data_plane: DataPlane, stack: str) -> None:
        self.data_plane = data_plane
        self._stack = stack
        self._kubectl = Kubectl(data_plane.lab.kubeconfig)
        self.declared: list[Object] = list(
            render.expanded(render.declared(stack, data_plane.catalogue))
        )
        self._values = istiod_values(stack)
        self._live = {reference(one): one for one in self.declared}
        self._live_values: Mapping[str, Any] = self._values

    def become(self, mutations: Sequence[Mutation]) -> None:
        """Deploy the stack with these mutations and no others; none makes it right again.

        It returns when the API server has the objects and all pods that they change are ready;
        proxies may need a moment more. Raises LabError if pods don't get ready.
        """
        objects, values = self.declared, self._values
        for mutation in mutations:
            objects, values = mutation.of(objects), mutation.of_values(values)
        if values != self._live_values:
            self.data_plane.lab.start(values["meshConfig"], values)
            self._live_values = values
        wanted = {reference(one): one for one in objects}
        changed = [one for name, one in wanted.items() if self._live.get(name) != one]
        gone = [one for name, one in self._live.items() if name not in wanted]
        for one in gone:
            self._delete(one)
        self._kubectl.apply([self._marked(one) for one in changed])
        self._live = wanted
        if any(one["kind"] in ("Deployment", "ConfigMap") for one in (*changed, *gone)):
            self.data_plane.wait_until_ready(_READY_SECONDS)
            until("old pods gone", self._check_no_old_pods, within=90, every=0.5)

    def _marked(self, one: Object) -> Object:
        """The object as a member of the stack's ApplySet, which it must not leave."""
        metadata = one["metadata"]
        labels = {
            **(metadata.get("labels") or {}),
            apply_set.PART_OF: apply_set.identifier(self._stack),
        }
        return {**one, "metadata": {**metadata, "labels": labels}}

    def _delete(self, one: Object) -> None:
        group = one["apiVersion"].rpartition("/")[0]
        kind = f"{one['kind']}.{group}" if group else one["kind"]
        namespace = one["metadata"].get("namespace")
        self._kubectl.run(
            *("delete", kind, one["metadata"]["name"], "--ignore-not-found"),
            *([f"--namespace={namespace}"] if namespace else []),
        )

    def _check_no_old_pods(self) -> None:
        pods = json.loads(self._kubectl.run("get", "pods", "--all-namespaces", "-o", "json"))
        if old := [
            one["metadata"]["name"]
            for one in pods["items"]
            if one["metadata"].get("deletionTimestamp")
        ]:
            raise NotYet(", ".join(old))
