"""`voicemesh verify`: every promise of the documentation, tried with real requests."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.options import READY_SECONDS, Directory, Json, Stack

if TYPE_CHECKING:
    from lab.contracts.contract import Contract
    from lab.contracts.runner import Outcome
    from lab.data_plane import DataPlane

    Began = Callable[[Contract], None]
    Run = Callable[[Began], Iterator[Outcome]]
    """Runs contracts; it is told what to do when one begins."""


def verify(
    stack: Stack,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Contracts whose id begins so: `jwt`, `access.identity-service`."),
    ] = None,
    as_json: Json = False,
    junit: Annotated[Path | None, typer.Option(dir_okay=False, help="Write a JUnit file.")] = None,
    safe: Annotated[
        bool, typer.Option("--safe", help="Only what may be asked of a live cluster.")
    ] = False,
    context: Annotated[
        str | None,
        typer.Option(help="With --safe: the kubeconfig context whose gateway is asked."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With --safe: the gateway's address, instead of --context.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="With --safe: the CA of the public certificate; what this machine trusts if none.",
        ),
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            help="With --safe: PUBLIC=OTHER, where a port-forward has other ports: `443=8443`."
        ),
    ] = None,
    directory: Directory = None,
) -> None:
    """Send every contract's requests and compare; exit 1 where a promise does not hold."""
    from lab.contracts import report

    if safe:
        outcomes = _shown(*_live(stack, only or [], context, address, ca, _ports(port or [])))
    elif context or address or ca or port:
        raise typer.BadParameter(
            "--context, --address, --ca and --port need --safe: without it contracts send what"
            " no live cluster should get"
        )
    else:
        outcomes = _shown(*_in_lab(stack, only or [], directory))
    if junit:
        report.write_junit(outcomes, junit)
    if as_json:
        typer.echo(report.as_json(outcomes))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(report.table(outcomes))
        if any(outcome.contract.pushed for outcome in outcomes):
            typer.echo(report.NOT_IN_ENVOY)
        typer.echo(report.summary(outcomes))
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def _in_lab(
    stack: str, only: Sequence[str], directory: Path | None
) -> tuple[Sequence[Contract], Run]:
    from lab.clients import Clients
    from lab.contracts.all import chosen
    from lab.contracts.facts import Facts
    from lab.contracts.runner import run
    from lab.contracts.world import World
    from lab.data_plane import DataPlane
    from lab.directory import DEFAULT
    from lab.lab import Lab

    data_plane = DataPlane.of_stack(Lab(directory or DEFAULT), stack)
    facts = Facts.of(data_plane)
    data_plane.wait_until_ready(READY_SECONDS)
    _deployed(data_plane)
    contracts = _chosen(chosen(facts, only), only)

    def outcomes(began: Began) -> Iterator[Outcome]:
        with Clients(data_plane.lab) as clients:
            yield from run(contracts, World(data_plane), clients, began)

    return contracts, outcomes


def _deployed(data_plane: DataPlane) -> None:
    """See that the stack is in the lab at all.

    Raises:
        LabError: it is not, and no contract could be tried.
    """
    from components.gateway_workload import GATEWAY
    from lab.errors import LabError

    namespaces = data_plane.settings.namespaces
    for namespace, what in ((namespaces.mesh, GATEWAY), (namespaces.apps, "")):
        selector = [f"--selector=app={what}"] if what else []
        if not data_plane.lab.kubectl.get("pods", f"--namespace={namespace}", *selector)["items"]:
            raise LabError(
                f"stack {data_plane.stack} is not deployed here: {namespace} has no pods"
                f"{f' of {what}' if what else ''}; `voicemesh up --stack {data_plane.stack}`"
                " deploys it"
            )


def _live(
    stack: str,
    only: Sequence[str],
    context: str | None,
    address: str | None,
    ca: Path | None,
    ports: Mapping[int, int],
) -> tuple[Sequence[Contract], Run]:
    from lab.contracts import live
    from lab.contracts.all import chosen
    from lab.contracts.facts import Facts
    from lab.tokens import Issuers
    from model import stack_file
    from model.catalogue import catalogue

    if bool(context) == bool(address):
        raise typer.BadParameter("--safe needs either --context or --address")
    trusted = str(ca) if ca else live.authorities()
    services = catalogue()
    settings = stack_file.load(stack, services)
    with tempfile.TemporaryDirectory() as keys:
        # Keys that no issuer has: safe contracts send no token, the others are left out.
        issuers = Issuers(Path(keys))
        issuers.ensure(settings.authentication.issuers)
        adapted = stack_file.adapted(services, settings)
        facts = Facts(stack, settings, adapted, issuers, trusted)
        contracts = _chosen(chosen(facts, only), only)
        safe, known = live.safe(contracts), live.safe(chosen(facts, []))
    if not safe:
        raise typer.BadParameter(
            f"none of the {len(contracts)} contracts is safe; these are:"
            f" {', '.join(one.id for one in known)}"
        )
    found = address or live.public_address(context or "", settings.namespaces.mesh)
    gateway = live.Gateway(found, ports)
    live.answering(gateway, settings.api_host, trusted)
    return safe, partial(live.run, safe, gateway)


def _ports(given: Sequence[str]) -> dict[int, int]:
    try:
        return {int(public): int(other) for public, other in (item.split("=") for item in given)}
    except ValueError:
        raise typer.BadParameter(
            f"--port takes PUBLIC=OTHER, like 443=8443, not {', '.join(given)}"
        ) from None


def _chosen(contracts: Sequence[Contract], only: Sequence[str]) -> Sequence[Contract]:
    for text in only:
        if not any(contract.id.startswith(text) for contract in contracts):
            raise typer.BadParameter(f"no contract begins with {text}")
    return contracts


def _shown(contracts: Sequence[Contract], run: Run) -> list[Outcome]:
    """Collect outcomes, with progress on standard error."""
    columns = (TextColumn("{task.description:45}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    done: list[Outcome] = []
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("contracts", total=len(contracts))
        for outcome in run(lambda contract: progress.update(task, description=contract.id)):
            done.append(outcome)
            progress.update(task, advance=1)
            if not console.is_terminal:
                _say(console, outcome, len(done), len(contracts))
    return done


def _say(console: Console, outcome: Outcome, number: int, total: int) -> None:
    """Progress where nobody sees a bar move: what failed, and how far it is, each tenth."""
    if not outcome.passed:
        console.print(f"failed: {outcome.contract.id}", highlight=False)
    if number * 10 // total > (number - 1) * 10 // total:
        console.print(f"{number} of {total} contracts tried", highlight=False)
