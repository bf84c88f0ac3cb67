"""docs/PROMISES.md: each promise of the documentation with its contracts and what became of them.

    python -m lab.contracts.promises [RESULTS]

RESULTS is what `voicemesh verify --json` printed. What it does not speak of keeps the result that
stands in the file. A promise without a contract is listed too, so that nobody takes it for proven.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

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
_NOTHING: Mapping[str, str] = {}
_HEAD = """\
# Promises and their proofs

Made by `python -m lab.contracts.promises`; do not edit. Each sentence stands in the document named
above it. A contract sends real requests through a real mesh (`voicemesh verify --stack dev`); the
result is that of the last run whose results were written here. Contracts that come from the
catalogue are shown once for all services. Those marked `pushed config` send nothing: upstream
Envoy, which the lab's proxies are, can't carry out what they are about, so they look at what istiod
sends to proxies.
"""
_NAMED = "## How it is done"


def made(
    found: Sequence[Contract], results: Mapping[str, bool], before: Mapping[str, str] = _NOTHING
) -> str:
    """The file's text.

    Args:
        found: the contracts.
        results: by contract id whether the promise held.
        before: by the contracts of a promise, as the file names them, what an earlier run found;
            it stands where none of them is in `results`.
    """
    lines = [_HEAD]
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
            result = _result(mine, results)
            if result == _NOT_RUN:
                result = before.get(names, result)
            lines.append(f"| {sentence.replace('|', chr(92) + '|')} | {names} | {result} |")
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


def _result(found: Sequence[Contract], results: Mapping[str, bool]) -> str:
    if not found:
        return "not proven"
    if failed := [contract.id for contract in found if results.get(contract.id) is False]:
        return f"failed: {', '.join(failed)}"
    if missing := [contract for contract in found if contract.id not in results]:
        return _NOT_RUN if len(missing) == len(found) else f"{len(missing)} of {len(found)} not run"
    return "passed"


def results(path: Path) -> dict[str, bool]:
    """What a run with `--json` said of each contract."""
    return {row["id"]: row["passed"] for row in json.loads(path.read_text())["contracts"]}


def written(text: str) -> dict[str, str]:
    """By the contracts of a promise, as the file names them, the result that the file has."""
    return dict(re.findall(r"^\| .* \| (`.*) \| ([^|]*) \|$", text, re.MULTILINE))


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    before = written(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = results(Path(arguments[0])) if arguments else {}
    FILE.write_text(made(list(declared()), found, before), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
