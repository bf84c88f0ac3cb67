"""What a run of contracts is told as: a table, JSON, JUnit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rich.table import Table

from lab.contracts.runner import Outcome

NOT_IN_ENVOY = (
    "pushed config: nothing was sent; what the proxies were told of every route was looked at or,"
    " where upstream Envoy can't carry it out (metric labels, the token counter), what istiod pushes."
)


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row a contract."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("contract", "promise", "sent", "came back", "", "why"):
        made.add_column(title, overflow="fold", justify="right" if title == "sent" else "left")
    for outcome in outcomes:
        made.add_row(
            outcome.contract.id,
            f"{outcome.contract.sentence} [dim]({outcome.contract.document})[/]",
            str(outcome.sent),
            "\n".join((outcome.came, *map(str, outcome.errors))),
            "[green]pass[/]" if outcome.passed else "[red]FAIL[/]",
            "\n".join(_plain(problem) for problem in outcome.problems),
        )
    return made


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _told(outcome: Outcome) -> Sequence[str]:
    """What was promised, what was sent for it, and what came back."""
    contract = outcome.contract
    came = f"came back: {outcome.came}" if outcome.sent else outcome.came
    return (
        f"{contract.sentence} (docs/{contract.document})",
        f"sent: {outcome.sent}",
        *((came,) if outcome.came else ()),
        *map(str, outcome.errors),
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last line."""
    passed = sum(outcome.passed for outcome in outcomes)
    return f"{passed} passed, {len(outcomes) - passed} failed"


def as_json(outcomes: Sequence[Outcome]) -> str:
    """All outcomes for a machine."""
    rows: list[dict[str, Any]] = [
        {
            "id": outcome.contract.id,
            "promise": outcome.contract.sentence,
            "document": f"docs/{outcome.contract.document}",
            "sent": outcome.sent,
            "came": outcome.came,
            "passed": outcome.passed,
            "problems": list(outcome.problems),
            "seconds": round(outcome.seconds, 3),
            "errors": [asdict(found) for found in outcome.errors],
        }
        for outcome in outcomes
    ]
    passed = sum(row["passed"] for row in rows)
    return json.dumps({"contracts": rows, "passed": passed, "failed": len(rows) - passed}, indent=2)


def write_junit(outcomes: Sequence[Outcome], path: Path) -> None:
    """A JUnit file, as CI systems show it."""
    suite = ET.Element(
        "testsuite",
        name="voicemesh verify",
        tests=str(len(outcomes)),
        failures=str(sum(not outcome.passed for outcome in outcomes)),
        time=f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    )
    for outcome in outcomes:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"contracts.{outcome.contract.family}",
            name=outcome.contract.id,
            time=f"{outcome.seconds:.3f}",
        )
        ET.SubElement(case, "system-out").text = "\n".join(_told(outcome))
        if not outcome.passed:
            failure = ET.SubElement(case, "failure", message=outcome.contract.sentence)
            failure.text = "\n".join(outcome.problems)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
