"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Stack = Annotated[
    str, typer.Option(help="The stack: dev, staging or prod; its file is Pulumi.STACK.yaml.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
