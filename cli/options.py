"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Stack = Annotated[
    str, typer.Option(help="The stack: dev, staging or prod; its file is Pulumi.STACK.yaml.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Directory = Annotated[
    Path | None,
    typer.Option("--directory", help="Where the lab keeps its state; .voicemesh/lab by default."),
]

READY_SECONDS = 240.0
"""How long the lab's pods may take to get ready after a change, on a busy machine."""
