"""docs/PROMISES.md: each promise of the documentation with its contracts and what became of them.

    python -m lab.contracts.promises [RESULTS]

RESULTS is what `voicemesh verify --json` printed, or what the lab's tests kept of several runs. What
it does not speak of keeps the result that stands in the file, with the run that it is of, as long as
promise and contracts are the same. A promise without a contract is listed too, so that nobody takes
it for proven.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.contracts.all import contracts
from lab.contracts.contract import PUSHED, Contract
from lab.contracts.facts import Facts
from lab.tokens import Issuers
from model import stack_file
from model.catalogue import catalogue

DOCS = Path("docs")
FILE = DOCS / "PROMISES.md"
STACK = "dev"
LISTED = ("security.md", "traffic.md", "edge.md", "telemetry.md", "outages.md")
"""Documents in which every bullet of the list sections is a promise."""
_NOT_RUN = "not run"
_HEAD = """\
# Promises and their proofs

Made by `python -m lab.contracts.promises`; do not edit. Each sentence stands in the document named
above it. A contract sends real requests through a real mesh (`voicemesh verify --stack dev`).
`passed 4 of 4` says that every contract of the promise held in each of four runs; one that did not
hold in each is named with the times that it did. Contracts that come from the catalogue are shown
once for all services. Those marked `pushed config` send nothing: upstream Envoy, which the lab's
proxies are, can't carry out what they are about, so they look at what istiod sends to proxies.
"""
_RUN = "Results without a date are of"
_NAMED = "## How it is done"


@dataclass(frozen=True)
class Result:
    """How often a contract was tried, and how often it held."""

    passed: int
    times: int

    def __str__(self) -> str:
        return f"{self.passed} of {self.times}"


HELD = Result(1, 1)
_NOTHING: Mapping[tuple[str, str], str] = {}


def made(
    found: Sequence[Contract],
    results: Mapping[str, Result],
    before: Mapping[tuple[str, str], str] = _NOTHING,
    run: str = "",
) -> str:
    """The file's text.

    Args:
        found: the contracts.
        results: by contract id how often the promise held.
        before: by promise and contracts, as the file names them, what an earlier run found; it
            stands where none of them is in `results`.
        run: which run the results are of.
    """
    lines = [_HEAD]
    if run:
        lines.append(f"{_RUN} {run}.\n")
    services = [one.name for one in catalogue().services]
    without = 0
    for document in dict.fromkeys((*LISTED, *(contract.document for contract in found))):
        lines.append(f"## {document}\n")
        lines.append("| promise | contract | last result |")
        lines.append("|---|---|---|")
        proven: dict[str, list[Contract]] = {}
        for contract in found:
            if contract.document == document:
                proven.setdefault(contract.sentence, []).append(contract)
        bullets = promises(document) if document in LISTED else ()
        for sentence in dict.fromkeys((*bullets, *proven)):
            mine = proven.get(sentence, [])
            without += not mine
            names = ", ".join(f"`{name}" for name in _shortened(mine, services)) or "none"
            promise = sentence.replace("|", "\\|")
            result = _result(mine, results)
            if result == _NOT_RUN:
                result = before.get((promise, names), result)
            lines.append(f"| {promise} | {names} | {result} |")
        lines.append("")
    lines.append(f"{len(found)} contracts; {without} promises have none.\n")
    return "\n".join(lines)


def declared() -> Iterator[Contract]:
    """The contracts of the lab's stack, with keys made for the moment."""
    services = catalogue()
    settings = stack_file.load(STACK, services)
    with TemporaryDirectory() as directory:
        issuers = Issuers(Path(directory))
        issuers.ensure(settings.authentication.issuers)
        adapted = stack_file.adapted(services, settings)
        yield from contracts(Facts(STACK, settings, adapted, issuers, "ca.crt"))


def promises(document: str) -> Sequence[str]:
    """The bullets of a document, before it goes on to how things are done."""
    text = (DOCS / document).read_text(encoding="utf-8").split(_NAMED)[0]
    bullets = re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE)
    return [" ".join(bullet.split()) for bullet in bullets]


def _shortened(found: Sequence[Contract], services: Sequence[str]) -> Sequence[str]:
    """Ids, with those that differ in the service alone written once."""
    names = []
    for contract in found:
        name = contract.id
        for service in services:
            if name.endswith(f".{service}"):
                name = f"{name.removesuffix(service)}SERVICE"
        names.append(f"{name}` ({PUSHED})" if contract.pushed else f"{name}`")
    return [
        f"{name} ({names.count(name)})" if names.count(name) > 1 else name
        for name in dict.fromkeys(names)
    ]


def _result(found: Sequence[Contract], results: Mapping[str, Result]) -> str:
    if not found:
        return "not proven"
    tried = {one.id: results[one.id] for one in found if one.id in results}
    if failed := [f"{name} ({one})" for name, one in tried.items() if one.passed < one.times]:
        return f"failed: passed {', '.join(failed)}"
    if missing := len(found) - len(tried):
        return _NOT_RUN if not tried else f"{missing} of {len(found)} not run"
    return f"passed {min(tried.values(), key=lambda one: one.times)}"


def results(path: Path) -> dict[str, Result]:
    """What a run with `--json`, or several, said of each contract."""
    return {
        row["id"]: Result(row.get("held", int(row["passed"])), row.get("times", 1))
        for row in json.loads(path.read_text(encoding="utf-8"))["contracts"]
    }


def together(earlier: Sequence[Mapping[str, Any]], run: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Rows of several runs: of each contract the last, with how often it was tried and held.

    A contract has passed where it has in every run; one whose promise was another then begins anew.
    """
    known = {(row["id"], row["promise"]): row for row in earlier}
    rows = []
    for row in run:
        before = known.pop((row["id"], row["promise"]), {})
        times, held = before.get("times", 0) + 1, before.get("held", 0) + row["passed"]
        rows.append({**row, "passed": held == times, "times": times, "held": held})
    ids = {row["id"] for row in run}
    return [row for row in known.values() if row["id"] not in ids] + rows


def written(text: str) -> dict[tuple[str, str], str]:
    """By promise and contracts, as the file names them, the result that the file has.

    Those of the file's own run get its name, for what is kept of it is of an earlier one from now on.
    """
    of = re.search(rf"^{_RUN} (.*)\.$", text, re.MULTILINE)
    run = of[1] if of else "an earlier run"
    return {
        (promise, names): result if _dated(result) else f"{result} ({run})"
        for promise, names, result in re.findall(
            r"^\| (.*) \| (`.*) \| ([^|]*) \|$", text, re.MULTILINE
        )
        if result != _NOT_RUN
    }


def _dated(result: str) -> bool:
    return re.search(r"\((\d{4}-|an earlier run)[^)]*\)$", result) is not None


def name_of_run(path: Path) -> str:
    """When results were written, and of which commit the files here are."""
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":!docs") if commit else ""
    return f"{day}" + (f", commit {commit}" if commit else "") + (" with changes" * bool(changed))


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    before = written(text)
    if arguments:
        found, run = results(Path(arguments[0])), name_of_run(Path(arguments[0]))
    else:
        found, run = {}, ""
    FILE.write_text(made(list(declared()), found, before, run), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
