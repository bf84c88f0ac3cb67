"""`voicemesh`: one verb for each thing a platform engineer does with the mesh."""

from __future__ import annotations

import sys

import typer

from cli.check import check
from cli.deploy import destroy, preview, up
from cli.diff import diff
from cli.lab import lab_app
from cli.render import render
from model.invalid import InvalidInput

app = typer.Typer(
    name="voicemesh",
    help="The VoiceAssistant service mesh: render, preview, deploy and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(render)
app.command()(preview)
app.command()(up)
app.command()(destroy)
app.command()(check)
app.command()(diff)
app.add_typer(lab_app, name="lab")


def main() -> None:
    """Runs one verb; exit 0 is fine, 1 not fine, 2 wrong usage or settings, 130 interrupted."""
    try:
        app()
    except InvalidInput as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
