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
from model.invalid import InvalidInput


def render(
    stack: Stack,
    out: Annotated[
        Path, typer.Option(help="Directory to write to; what an earlier render wrote is replaced.")
    ],
    argocd: Annotated[
        bool,
        typer.Option(
            "--argocd", help="Add Argo CD's sync waves: it then keeps the order that `up` keeps."
        ),
    ] = False,
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
    objects = rendering.in_waves(stack) if argocd else list(rendering.expanded(declared))
    try:
        written = manifests.write(objects, out)
    except OSError as error:
        raise InvalidInput(f"--out {error.filename}: {error.strerror}") from None
    secrets = [
        f"{namespace}/{secret.name}"
        for secret in declared
        if isinstance(secret, GeneratedSecret)
        for namespace in (secret.namespace, *secret.also_in)
    ]
    kinds = Counter(manifest["kind"] for manifest in objects)
    if as_json:
        report = {"directory": str(out), "objects": dict(sorted(kinds.items())), "secrets": secrets}
        typer.echo(json.dumps(report))
        return
    table = Table("Kind", "Objects", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for kind, count in sorted(kinds.items()):
        table.add_row(kind, str(count))
    Console().print(table)
    for secret in secrets:
        typer.echo(f"Secret {secret} is made at deployment and has no file.")
    typer.echo(f"Stack {stack}: {len(written)} files in {out}")
