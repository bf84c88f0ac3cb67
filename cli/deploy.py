"""`voicemesh preview`, `up` and `destroy`: through the Pulumi engine, or without it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.options import Json, Stack
from model.invalid import InvalidInput

if TYPE_CHECKING:
    from apply.changes import Change
    from apply.server_side import Deployment

DESTROYABLE = "dev"
"""The one stack that may be destroyed without saying `--allow-production`."""

Kubeconfig = Annotated[
    Path | None, typer.Option(help="kubeconfig file; for dev the lab's is the default.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
InstallPulumi = Annotated[
    bool, typer.Option("--install-pulumi", help="Install the Pulumi CLI first, if it is missing.")
]
_COLOURS = {"created": "green", "changed": "yellow", "pruned": "red", "unchanged": "dim"}


def preview(
    stack: Stack,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    install_pulumi: InstallPulumi = False,
    as_json: Json = False,
) -> None:
    """Show what `up` would create, change and prune. Nothing is changed."""
    if _engine(install_pulumi, as_json):
        _through_engine("preview", stack, kubeconfig, context)
        return
    deployment = _deployment(stack, kubeconfig, context)
    with _progress(deployment, "preview", as_json), _failing():
        changes = deployment.preview()
    _report(changes, stack, as_json, wording={"created": "to create", "pruned": "to prune"})


def up(
    stack: Stack,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    install_pulumi: InstallPulumi = False,
    as_json: Json = False,
) -> None:
    """Deploy the stack. Running it again after a failure goes on where it stopped."""
    if _engine(install_pulumi, as_json):
        _through_engine("up", stack, kubeconfig, context)
        return
    deployment = _deployment(stack, kubeconfig, context)
    _sound(deployment)
    with _progress(deployment, "up", as_json) as on_progress, _failing(_so_far(deployment)):
        changes = deployment.up(on_progress)
    _report(changes, stack, as_json)
    if not as_json:
        _next_steps(stack)


def destroy(
    stack: Stack,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    allow_production: Annotated[
        bool, typer.Option("--allow-production", help="Needed for every stack but dev.")
    ] = False,
    install_pulumi: InstallPulumi = False,
    as_json: Json = False,
) -> None:
    """Remove everything the stack deployed."""
    if stack != DESTROYABLE and not allow_production:
        raise InvalidInput(
            f"--stack {stack}: only {DESTROYABLE} may be destroyed; to destroy {stack} add"
            " --allow-production"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput(
                "destroy asks before it removes anything; say --yes where nobody can"
            )
        typer.confirm(f"Remove everything that stack {stack} deployed?", abort=True)
    if _engine(install_pulumi, as_json):
        _through_engine("destroy", stack, kubeconfig, context)
        return
    deployment = _deployment(stack, kubeconfig, context)
    half = "What was removed before is gone. Run the same command again to go on."
    with _progress(deployment, "destroy", as_json) as on_progress, _failing(lambda: half):
        changes = deployment.destroy(on_progress)
    _report(changes, stack, as_json, wording={"pruned": "removed"})


def _engine(install: bool, quiet: bool) -> bool:
    """Which of the two ways is taken, and says so."""
    from apply import engine

    if install and not engine.available():
        try:
            typer.echo(f"installed {engine.install()}", err=True)
        except engine.EngineError as error:
            _fail(str(error))
    found = engine.available()
    if not quiet:
        way = (
            "through the Pulumi engine"
            if found
            else "by server-side apply (no `pulumi` on PATH; state is kept in the cluster)"
        )
        typer.echo(f"Deploying {way}.", err=True)
    return found


def _through_engine(verb: str, stack: str, kubeconfig: Path | None, context: str | None) -> None:
    from pulumi.automation import CommandError

    from apply import engine
    from apply.kubectl import ClusterError
    from model import stack_file
    from model.catalogue import catalogue

    stack_file.load(stack, catalogue())  # bad input is told before the engine makes a stack of it
    try:
        with engine.chosen(_kubeconfig(stack, kubeconfig, context), context) as chosen:
            selected = engine.stack(stack, chosen)
            getattr(selected, verb)(on_output=lambda text: typer.echo(text, nl=False))
    except (engine.EngineError, ClusterError) as error:
        _fail(str(error))
    except CommandError as error:
        _fail(
            f"pulumi {verb} failed; run the same command again once its cause is mended.\n{error}"
        )


def _deployment(stack: str, kubeconfig: Path | None, context: str | None) -> Deployment:
    import render
    from apply.kubectl import Kubectl
    from apply.server_side import Deployment

    return Deployment(
        stack=stack,
        declared=render.declared(stack),
        expand=lambda declared: list(render.expanded(declared)),
        kubectl=Kubectl(_kubeconfig(stack, kubeconfig, context), context),
    )


def _sound(deployment: Deployment) -> None:
    """Nothing goes to a cluster that a mandatory policy refuses."""
    from policies.policy import Enforcement
    from policies.run import check

    broken = [one for one in check(deployment.objects) if one.enforcement is Enforcement.MANDATORY]
    if broken:
        told = "\n".join(f"  {one.policy_id} {one.object}: {one.message}" for one in broken)
        _fail(
            f"stack {deployment.stack} breaks {len(broken)} mandatory policies; nothing was"
            f" deployed (`voicemesh check --stack {deployment.stack}` says more):\n{told}"
        )


def _kubeconfig(stack: str, given: Path | None, context: str | None) -> Path | None:
    """The lab's for `dev`, unless the user names another cluster."""
    if given or context or stack != "dev":
        return given
    from lab.lab import Lab

    kubeconfig = Lab().kubeconfig
    if not kubeconfig.is_file():
        raise InvalidInput(
            "stack dev is deployed to the lab, which is not running: start it with"
            " `voicemesh lab start`, or name a cluster with --kubeconfig or --context"
        )
    return kubeconfig


@contextmanager
def _progress(
    deployment: Deployment, verb: str, quiet: bool
) -> Iterator[Callable[[str, int], None]]:
    """A bar in a terminal, a line every fifty objects elsewhere, nothing with `--json`."""
    console = Console(stderr=True)
    total = len(deployment.objects)
    if quiet or not console.is_terminal:
        said = 0

        def plain(text: str, done: int) -> None:
            nonlocal said
            if not quiet and (done == 0 or done - said >= 50):
                said = done
                typer.echo(f"{verb} {deployment.stack}: {done}/{total} {text}", err=True)

        yield plain
        return
    columns = (TextColumn("{task.description:<60.60}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"{verb} {deployment.stack}", total=total)
        yield lambda text, done: bar.update(task, description=text, completed=done)


@contextmanager
def _failing(half: Callable[[], str] = str) -> Iterator[None]:
    """Turns what the cluster refused into a message, with how far the run got by then."""
    from apply.kubectl import ClusterError

    try:
        yield
    except ClusterError as error:
        _fail(f"{error}\n{half()}".rstrip())


def _so_far(deployment: Deployment) -> Callable[[], str]:
    def told() -> str:
        done, total = max(len(deployment.applied), len(deployment.ahead)), len(deployment.objects)
        if not done:
            return "Nothing was applied yet."
        return (
            f"Half-applied: {done} of {total} objects are in the cluster as declared. Run the same"
            " command again to go on."
        )

    return told


def _report(
    changes: list[Change], stack: str, as_json: bool, wording: dict[str, str] | None = None
) -> None:
    if as_json:
        listed = [{"action": c.action.value, "object": c.object} for c in changes]
        typer.echo(json.dumps({"stack": stack, "changes": listed}))
        return
    console = Console()
    counts = Counter((change.kind, change.action.value) for change in changes)
    actions = [action for action in _COLOURS if any(a == action for _, a in counts)]
    words = {action: (wording or {}).get(action, action) for action in actions}
    table = Table("Kind", title=f"Stack {stack}: {len(changes)} objects")
    for action in actions:
        table.add_column(words[action], justify="right", style=_COLOURS[action])
    for kind in sorted({kind for kind, _ in counts}):
        table.add_row(kind, *(str(counts[kind, action] or "") for action in actions))
    if changes:
        console.print(table)
    moved = [change for change in changes if change.action.value != "unchanged"]
    if not moved:
        console.print(f"Nothing changed: stack {stack} is as declared.")
    elif len(moved) <= 40:
        for change in moved:
            colour = _COLOURS[change.action.value]
            console.print(f"[{colour}]{words[change.action.value]:<10}[/] {change.object}")


def _next_steps(stack: str) -> None:
    if stack == "dev":
        typer.echo(
            "\nNext: `voicemesh lab status` shows what runs,\n"
            "      `kubectl --kubeconfig $(voicemesh lab kubeconfig --path) get virtualservices -A`"
            " what is deployed,\n"
            "      `voicemesh preview --stack dev` what a change would do."
        )


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    raise typer.Exit(1)
