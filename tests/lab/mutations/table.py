"""How the trials of mutations are told: a table, JSON, and docs/MUTATIONS.md.

    python -m tests.lab.mutations.table [RESULTS …]

writes docs/MUTATIONS.md. RESULTS are files that runs of tests/lab/test_promises_can_fail.py with
VOICEMESH_MUTATIONS=FILE left behind. Of what two of them tried the last one counts; what it did not
come to try by itself counts as the one before found, if the same contracts were meant. Without any
file results are told as unknown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab.mutations.all import ALL
from tests.lab.mutations.mutation import Mutation
from tests.lab.mutations.trials import Trial

FILE = Path("docs/MUTATIONS.md")
_HEAD = """\
# Mutations: that every contract can fail

Made by `python -m tests.lab.mutations.table`; do not edit. Each row is a mistake that a person could
make in the objects of stack dev (or in what istiod is started with). `tests/lab/test_promises_can_fail.py`
deploys it to a real mesh, together with others that no contract has to notice as well, and runs the
contracts of [PROMISES.md](PROMISES.md): exactly those named here must fail, no more and no fewer; one
in brackets may, by chance. Contracts that first bring the mesh into another state (an outage, a
second instance, a drill) are run where one of that state is meant. Then each mutation is tried by
itself, and each contract named here must fail once more, so that it was this mistake that it
noticed. A `*` stands for every contract whose id begins so. What was tried in several runs counts as
the last one found.
"""


def table(trials: Sequence[Trial]) -> str:
    """One line for each mutation, and the sum."""
    width = max(len(one.mutation.id) for one in trials)
    lines = []
    for one in trials:
        meant = ", ".join(one.mutation.caught_by)
        lines.append(
            f"{one.mutation.id:{width}}  {'caught' if one.caught else 'MISSED'}"
            f"  {len(one.failed)}/{len(one.meant)} of {meant}"
        )
        lines += [f"{'':{width}}  did not fail: {name}" for name in sorted(one.meant - one.failed)]
        if one.alone is not None:
            silent = sorted(one.failed - one.alone)
            lines += [f"{'':{width}}  did not fail by itself: {name}" for name in silent]
        lines += [
            f"{'':{width}}  failed too: {name}: {why[:300]}"
            for name, why in sorted(one.strays.items())
        ]
        lines += [f"{'':{width}}  failed by itself too: {name}" for name in sorted(one.also)]
    return "\n".join((*lines, summary([one.caught for one in trials])))


def summary(caught: Sequence[bool]) -> str:
    """The sum: how many were caught."""
    return f"{sum(caught)} of {len(caught)} mutations caught by exactly the contracts meant"


def as_json(trials: Sequence[Trial]) -> str:
    """The same for machines."""
    rows = [
        {
            "id": one.mutation.id,
            "what": one.mutation.what,
            "meant": sorted(one.meant),
            "failed": sorted(one.failed),
            "alone": None if one.alone is None else sorted(one.alone),
            "strays": one.strays,
            "also": sorted(one.also),
            "caught": one.caught,
            "seconds": round(one.seconds, 1),
        }
        for one in trials
    ]
    caught = sum(one.caught for one in trials)
    return json.dumps({"mutations": rows, "caught": caught, "total": len(rows)}, indent=1)


def document(mutations: Sequence[Mutation], results: Mapping[str, bool]) -> str:
    """The text of docs/MUTATIONS.md; `results` says by id whether a mutation was caught."""
    lines = [
        _HEAD,
        "| mutation | mistake | contracts that must fail | result |",
        "|---|---|---|---|",
    ]
    for one in mutations:
        chance = (f"(`{name}`)" for name in one.may_fail)
        names = ", ".join([*(f"`{name}`" for name in one.caught_by), *chance])
        result = {True: "caught", False: "missed", None: "not run"}[results.get(one.id)]
        lines.append(f"| `{one.id}` | {one.what} | {names} | {result} |")
    known = [results[one.id] for one in mutations if one.id in results]
    last = f"{summary(known)}." if known else f"{len(mutations)} mutations."
    return "\n".join((*lines, "", last, ""))


def caught(files: Sequence[str]) -> dict[str, bool]:
    """Whether each mutation that was tried was caught, by id; `files` are texts of `as_json`."""
    known = {one.id: one for one in ALL}
    trials: dict[str, Trial] = {}
    for text in files:
        for row in json.loads(text)["mutations"]:
            if row["id"] not in known:
                continue
            trial = _tried(known[row["id"]], row)
            before = trials.get(row["id"])
            if trial.alone is None and before and before.meant == trial.meant:
                trial = replace(trial, alone=before.alone)
            trials[row["id"]] = trial
    return {name: trial.caught for name, trial in trials.items()}


def _tried(mutation: Mutation, row: Mapping[str, Any]) -> Trial:
    """A trial as `as_json` told it."""
    alone = None if row["alone"] is None else frozenset(row["alone"])
    meant, failed = frozenset(row["meant"]), frozenset(row["failed"])
    return Trial(mutation, meant, failed, row["strays"], row["seconds"], alone)


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    results = caught([Path(name).read_text(encoding="utf-8") for name in arguments])
    FILE.write_text(document(ALL, results), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
