"""`voicemesh diff`: what a change means for the mesh, access first."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from diff.as_json import as_json
from diff.changes import Diff
from diff.compare import diff_objects
from diff.markdown import markdown
from diff.revisions import NoSuchStack, NotRendered, checkout, rendered, resolve
from diff.terminal import render
from manifests import scan
from model.invalid import InvalidInput

ROOT = Path(__file__).resolve().parent.parent
CHANGED, WRONG_USAGE = 1, 2
NAMED = 10
"""How many files that hold no objects are named."""


class Format(StrEnum):
    """How the difference is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def diff(
    stack: Annotated[
        str | None, typer.Option(help="Stack to compare: its file is Pulumi.STACK.yaml.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Git revision to compare the working tree with, such as origin/main."),
    ] = None,
    from_directory: Annotated[
        Path | None, typer.Option("--from", help="Directory of manifests: what is.")
    ] = None,
    to_directory: Annotated[
        Path | None, typer.Option("--to", help="Directory of manifests: what becomes.")
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="text, markdown (a pull request's comment) or json.")
    ] = Format.TEXT,
    as_json_too: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything changes.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    artifact: Annotated[
        str, typer.Option(help="Where the whole difference is, for a comment that is cut.")
    ] = "",
    summary_only: Annotated[
        bool, typer.Option("--summary", help="Leave out the objects' own lines (text).")
    ] = False,
) -> None:
    """Says what a change does: who can newly reach what, mTLS, routes, limits, telemetry, objects.

    Either `--stack S --base REF`, which renders both revisions, each with its own code, or
    `--from DIR --to DIR` on any two sets of manifests. Needs no cluster and no secret.

    Exit codes: 0, or with `--exit-code` 1 where something changes; 2 for wrong usage.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        _wrong(f"--out {out}: {'a directory' if out.is_dir() else 'its directory is not there'}")
    try:
        compared, name = _compared(stack, base, from_directory, to_directory)
    except (NotRendered, InvalidInput) as error:
        _wrong(str(error))
    form = Format.JSON if as_json_too else output
    try:
        _write(compared, form, name, out, artifact, objects=not summary_only)
    except OSError as error:
        _wrong(f"--out {out}: {error.strerror}")
    if exit_code and not compared.empty:
        raise typer.Exit(CHANGED)


def _compared(
    stack: str | None, base: str | None, from_directory: Path | None, to_directory: Path | None
) -> tuple[Diff, str]:
    if from_directory is not None and to_directory is not None and not (stack or base):
        return _of_directories(from_directory, to_directory), to_directory.resolve().name
    if stack is not None and base is not None and not (from_directory or to_directory):
        return _of_stack(stack, base), stack
    return _wrong("give either --stack and --base, or --from and --to")


def _of_directories(old: Path, new: Path) -> Diff:
    found = {option: scan([path]) for option, path in (("--from", old), ("--to", new))}
    for (option, each), path in zip(found.items(), (old, new), strict=True):
        if not each.objects:
            raise InvalidInput(f"{option} {path}: no file there holds a Kubernetes object")
    notes = [
        f"{option}: {skipped.file} is left out: {skipped.reason}."
        for option, each in found.items()
        for skipped in each.skipped
    ]
    if len(notes) > NAMED:
        notes[NAMED:] = [f"{len(notes) - NAMED} more files hold no objects."]
    return diff_objects(found["--from"].objects, found["--to"].objects, notes=notes)


def _of_stack(stack: str, base: str) -> Diff:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", stack):
        _wrong(f"--stack {stack}: a name has small letters, digits, '.', '_' and '-'")
    notes: list[str] = []
    commit = resolve(ROOT, base)
    with checkout(ROOT, commit) as tree, ThreadPoolExecutor(2) as pool:
        now = pool.submit(rendered, ROOT, stack)
        then = pool.submit(rendered, tree, stack)
        sides: list[list[dict[str, Any]]] = []
        missing: list[NoSuchStack] = []
        for revision, run in ((f"{base} ({commit[:12]})", then), ("The working tree", now)):
            try:
                sides.append(run.result())
            except NoSuchStack as error:
                sides.append([])
                missing.append(error)
                all_of_it = "new" if run is then else "gone"
                notes.append(f"{revision} has no stack {stack}: everything is {all_of_it}.")
        if len(missing) == len(sides):
            raise missing[-1]
    old, new = sides
    return diff_objects(old, new, notes=notes)


def _write(
    compared: Diff, form: Format, name: str, out: Path | None, artifact: str, *, objects: bool
) -> None:
    if form is Format.TEXT:
        if out is None:
            render(compared, Console(), objects=objects)
        else:
            with out.open("w") as file:
                render(compared, Console(file=file, width=160), objects=objects)
        return
    text = as_json(compared) if form is Format.JSON else markdown(compared, name, artifact=artifact)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


def _wrong(message: str) -> NoReturn:
    typer.echo(f"voicemesh diff: {message}", err=True)
    raise typer.Exit(WRONG_USAGE)
