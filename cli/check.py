"""`voicemesh check`: the policies over a stack, or over any Istio YAML."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from manifests import Found, Skipped, scan
from model.invalid import InvalidInput
from policies.policy import Enforcement, Violation
from policies.run import ConfigError, resolved
from policies.run import check as violations_of

_COLOURS = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(
    stack: Annotated[
        str | None, typer.Option(help="Check what this stack renders: dev, staging, prod.")
    ] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(help="Check these files, and all YAML below these directories. Repeatable."),
    ] = None,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="More files and directories, after --manifests.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="JSON or YAML with enforcement levels and settings by policy, in the form of"
            " Pulumi's --policy-pack-config."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Advisory violations fail too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the policies: no cluster, no engine.

    Exits with 0 if all hold, 1 if some do not, 2 for wrong usage or input.
    """
    given = [*(manifests or ()), *(paths or ())]
    if (stack is None) == (not given):
        raise InvalidInput("check: give either --stack NAME or --manifests PATH...")
    try:
        chosen = _config(config)
        objects, skipped = Found(_rendered(stack), []) if stack is not None else scan(given)
        for each in skipped:
            print(f"skipped {each.file}: {each.reason}", file=sys.stderr)
        if not objects:
            raise InvalidInput(f"no objects in {', '.join(map(str, given))}")
        found = violations_of(objects, chosen)
    except ConfigError as problem:
        raise InvalidInput(f"{config}: {problem}") from problem
    except OSError as problem:
        raise InvalidInput(f"{problem.filename}: {problem.strerror}") from problem
    failing = [v for v in found if strict or v.enforcement is Enforcement.MANDATORY]
    if as_json:
        report = _report(found, len(objects), skipped, failed=bool(failing))
        print(json.dumps(report, indent=2))
    elif sys.stdout.isatty():
        _table(found)
    else:
        _lines(found)
    if not as_json:
        _summary(found, len(objects))
    raise typer.Exit(1 if failing else 0)


def _rendered(stack: str) -> list[dict[str, Any]]:
    # Imported when used: the model and its builders are of no use for --manifests.
    import render

    return render.objects(stack)


def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    except yaml.YAMLError as problem:
        raise ConfigError(f"the file is neither JSON nor YAML: {problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"the file can't be read: {problem}") from problem
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError("the file must be a mapping by policy id")
    resolved(loaded or {})  # told before a stack is rendered
    return loaded or {}


def _report(
    found: list[Violation], objects: int, skipped: list[Skipped], *, failed: bool
) -> dict[str, Any]:
    return {
        "failed": failed,
        "objects": objects,
        "skipped": [each._asdict() for each in skipped],
        "violations": [dataclasses.asdict(violation) for violation in found],
    }


def _table(found: list[Violation]) -> None:
    if not found:
        return
    table = Table(show_lines=True)
    for column in ("severity", "policy", "object", "what and remedy"):
        table.add_column(column, overflow="fold")
    for v in found:
        where = f"{v.path}\n" if v.path else ""
        advisory = "\nadvisory" if v.enforcement is Enforcement.ADVISORY else ""
        table.add_row(
            f"[{_COLOURS[v.severity]}]{v.severity}[/]{advisory}",
            f"[link={v.url}]{v.policy_id}[/link]",
            escape(v.object),
            escape(f"{where}{v.message}") + f"\n[dim]{escape(v.remedy)}[/]",
        )
    Console().print(table)


def _lines(found: list[Violation]) -> None:
    for v in found:
        where = f" {v.path}" if v.path else ""
        print(f"{v.severity} {v.enforcement} {v.policy_id} {v.object}{where}: {v.message}")


def _summary(found: list[Violation], objects: int) -> None:
    mandatory = sum(v.enforcement is Enforcement.MANDATORY for v in found)
    advisory = len(found) - mandatory
    print(f"{objects} objects: {mandatory} violations, {advisory} advisory")
