"""The written list of weakenings. Each is reported by the policy that is meant for it.

`python -m tests.policies.mutations` prints the table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.objects import GeneratedSecret, HelmRelease
from policies.run import check
from tests.policies import (
    mutations_disguised,
    mutations_identity,
    mutations_mesh,
    mutations_traffic,
)
from tests.policies.mutants import MUTATIONS, Mutation, Object, Objects, made

SUBJECTS = (mutations_identity, mutations_disguised, mutations_traffic, mutations_mesh)


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    mutation: Mutation
    reported: tuple[str, ...]
    """Policies that report something."""

    @property
    def caught(self) -> bool:
        """Whether the policy meant for the weakening is among them."""
        return self.mutation.policy in self.reported


def run(stacks: Mapping[str, Objects]) -> list[Result]:
    """Makes every mutant and checks it."""
    found = []
    for mutation in MUTATIONS:
        violations = check(mutation.of(stacks[mutation.stack]))
        found.append(Result(mutation, tuple(dict.fromkeys(v.policy_id for v in violations))))
    return found


def rendered() -> dict[str, Objects]:
    """The stacks that mutants are made from, without the CRDs, which no policy reads.

    `prod declared` is prod as the engine sees it: Helm releases with their values, unrendered.
    """
    import render

    stacks = {
        stack: [o for o in render.objects(stack) if o["kind"] != "CustomResourceDefinition"]
        for stack in ("dev", "staging", "prod")
    }
    return {**stacks, "prod declared": list(_declared(render.declared("prod")))}


def _declared(items: Iterable[Any]) -> Iterator[Object]:
    for item in items:
        match item:
            case HelmRelease():
                values = json.loads(json.dumps(item.values))
                yield made(
                    "Release",
                    "helm.sh/v3",
                    item.namespace,
                    {"chart": item.chart, "version": item.version, "values": values},
                    {"name": item.name},
                )
            case GeneratedSecret():
                continue
            case _:
                yield item


def table(results: list[Result]) -> str:
    """One line for each mutant, and the sum."""
    width = max(len(r.mutation.name) for r in results)
    lines = [
        f"{'caught' if r.caught else 'MISSED':7} {r.mutation.name:{width}}  {r.mutation.policy}"
        + (f"  (also {len(r.reported) - 1})" if r.caught and len(r.reported) > 1 else "")
        + ("" if r.caught else f"  reported: {', '.join(r.reported) or 'nothing'}")
        for r in results
    ]
    caught = sum(r.caught for r in results)
    return "\n".join([*lines, f"{caught} of {len(results)} mutants caught by the policy meant"])


if __name__ == "__main__":
    outcome = run(rendered())
    print(table(outcome))
    sys.exit(0 if all(r.caught for r in outcome) else 1)
