"""`voicemesh lab`: the cluster on this machine that stack `dev` is deployed to."""

from __future__ import annotations

import datetime
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.explore import logs, request, shell
from cli.options import READY_SECONDS, Directory, Json

if TYPE_CHECKING:
    from lab.lab import Lab, PartStatus

lab_app = typer.Typer(
    help="The lab: a real API server, istiod and proxies on this machine.", no_args_is_help=True
)
for verb in (logs, request):
    lab_app.command()(verb)
# What follows the workload is the command that runs there, with the options that it has.
lab_app.command(context_settings={"allow_interspersed_args": False})(shell)


@lab_app.command()
def start(
    stack: Annotated[
        str, typer.Option(help="The stack that is deployed; istiod runs with its meshConfig.")
    ] = "dev",
    deploy: Annotated[
        bool, typer.Option(help="Deploy the stack, too, as `voicemesh up` does.")
    ] = True,
    directory: Directory = None,
) -> None:
    """Start what does not run, control plane and data plane, and wait until every pod is ready."""
    from cli.deploy import up
    from lab import stack as of_stack
    from lab.data_plane import DataPlane
    from lab.toolchain.progress import step

    began = time.monotonic()
    lab = _lab(directory)
    started = of_stack.start(lab, stack)
    typer.echo(f"started {', '.join(started)}" if started else "the lab's parts all run")
    data_plane = DataPlane.of_stack(lab, stack)
    if deploy and not data_plane.deployable:
        typer.echo(f"stack {stack} installs a control plane of its own: not deployed to the lab")
    elif deploy:
        up(stack, kubeconfig=lab.kubeconfig)
    with step("waiting until every pod is ready"):
        pods = data_plane.wait_until_ready(READY_SECONDS)
    memory = sum(part.memory or 0 for part in lab.status())
    seconds = time.monotonic() - began
    typer.echo(f"ready after {seconds:.0f} s: {pods} pods, {memory / 1e9:.1f} GB of memory in all")


@lab_app.command()
def stop(
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep what the cluster has stored.")
    ] = False,
    directory: Directory = None,
) -> None:
    """End all that `start` started; the cluster's data go too, its logs stay."""
    ended = _lab(directory).stop(keep_data=keep_data)
    typer.echo(f"ended {ended} processes" if ended else "nothing was running")


@lab_app.command()
def status(as_json: Json = False, directory: Directory = None) -> None:
    """Show the parts of the lab; exit 1 unless node and control plane all run."""
    lab = _lab(directory)
    parts = lab.status()
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts], indent=2))
    else:
        Console().print(_table(parts))
    if not lab.complete(parts):
        sys.exit(1)


@lab_app.command()
def kubeconfig(
    path: Annotated[bool, typer.Option("--path", help="Print where the file is instead.")] = False,
    directory: Directory = None,
) -> None:
    """Print the lab's kubeconfig (cluster admin; treat it as a password)."""
    found = _lab(directory).kubeconfig
    typer.echo(str(found) if path else found.read_text(), nl=path)


def _lab(directory: Path | None) -> Lab:
    from lab.directory import DEFAULT
    from lab.lab import Lab

    return Lab(directory or DEFAULT)


def _table(parts: list[PartStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("part", "pid", "state", "since", "memory"):
        table.add_column(title, justify="right" if title in {"pid", "memory"} else "left")
    for part in parts:
        table.add_row(
            part.part,
            str(part.pid or ""),
            f"[{'green' if part.state == 'running' else 'red'}]{part.state}[/]",
            _when(part.since),
            f"{part.memory / 1e6:.0f} MB" if part.memory else "",
        )
    return table


def _when(since: float | None) -> str:
    return f"{datetime.datetime.fromtimestamp(since):%Y-%m-%d %H:%M:%S}" if since else ""
