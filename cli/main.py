"""`voicemesh`: one verb for each thing a platform engineer does with the mesh."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from lab.errors import LabError
from lab.toolchain.errors import ToolchainError
from model.invalid import InvalidInput

VERBS = {
    "render": "cli.render:render",
    "preview": "cli.deploy:preview",
    "up": "cli.deploy:up",
    "destroy": "cli.deploy:destroy",
    "check": "cli.check:check",
    "diff": "cli.diff:diff",
    "verify": "cli.verify:verify",
    "lab": "cli.lab:lab_app",
}
"""Where each verb is: a function, or an app with verbs of its own."""

NOT_FINE, WRONG_USAGE, INTERRUPTED = 1, 2, 130


class Verbs(TyperGroup):
    """Imports a verb when it is asked for: start-up pays for one verb, not for all."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the group's signature
        """Every verb, in the order of the help text."""
        return list(VERBS)

    def get_command(
        self,
        ctx: Any,  # noqa: ARG002 - the group's signature
        cmd_name: str,
    ) -> TyperCommand | TyperGroup | None:
        """The verb of that name, or None if there is none."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name].partition(":")
        verb: Any = getattr(import_module(module), attribute)
        if isinstance(verb, typer.Typer):
            group = get_group(verb)
            group.name = cmd_name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(verb)
        command: Any = get_command(alone)
        return command  # type: ignore[no-any-return]

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; what a user can do something about is told without a traceback."""
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        raise typer.Exit(WRONG_USAGE) from None
    except (LabError, ToolchainError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(NOT_FINE) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="voicemesh",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def voicemesh() -> None:
    """The VoiceAssistant service mesh: render, preview, deploy and prove it."""


def main() -> None:
    """Runs one verb; exit 0 is fine, 1 not fine, 2 wrong usage or settings, 130 interrupted."""
    app()


if __name__ == "__main__":
    main()
