"""`voicemesh render`: every object of a stack as a file of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.options import Json, Stack


def render(
    stack: Stack,
    out: Annotated[
        Path, typer.Option(help="Directory to write to; what an earlier render wrote is replaced.")
    ],
    as_json: Json = False,
) -> None:
    """Write the stack as YAML, one file for each object; no cluster and no engine needed.

    The files lie at DIR/KIND/NAMESPACE/NAME.yaml, ready for Argo CD, Flux or kubectl. Secrets that
    are made at deployment have no file; the objects refer to them by name.
    """
    import manifests
    import render as rendering
    from components.objects import GeneratedSecret

    declared = rendering.declared(stack)
    objects = list(rendering.expanded(declared))
    written = manifests.write(objects, out)
    secrets = [f"{s.namespace}/{s.name}" for s in declared if isinstance(s, GeneratedSecret)]
    kinds = Counter(manifest["kind"] for manifest in objects)
    if as_json:
        report = {"directory": str(out), "objects": dict(sorted(kinds.items())), "secrets": secrets}
        typer.echo(json.dumps(report))
        return
    table = Table("Kind", "Objects", title=f"{stack}: {len(written)} files in {out}")
    for kind, count in sorted(kinds.items()):
        table.add_row(kind, str(count))
    console = Console()
    console.print(table)
    for secret in secrets:
        console.print(f"Secret {secret} is made at deployment and has no file.", highlight=False)
