"""`voicemesh lab shell`, `logs` and `request`: for a person who explores the running mesh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from cli.options import Directory, Json

if TYPE_CHECKING:
    from lab.contracts.contract import Caller
    from lab.data_plane import DataPlane
    from lab.exchange import Reply, Request

APPLICATION, PROXY = "app", "istio-proxy"

Workload = Annotated[
    str, typer.Argument(help="Value of the pods' label `app`: a service, istio-ingressgateway, …")
]
InContainer = Annotated[
    str | None, typer.Option("--container", help="Which container; the application by default.")
]
OfLab = Annotated[str, typer.Option("--stack", help="The stack that was deployed to the lab.")]
Instance = Annotated[int, typer.Option(min=0, help="Which of several pods, from 0.")]


def shell(
    workload: Workload,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, with its own options; a shell if none."),
    ] = None,
    container: InContainer = None,
    instance: Instance = 0,
    directory: Directory = None,
) -> None:
    """Open a shell inside a pod's container, or run one command there.

    Options of this command stand before the workload; all that follows it is the command's own.
    """
    data_plane = _data_plane(directory)
    _, found = _container(data_plane, workload, container, instance)
    inside = ["nsenter", "-t", str(found["pid"]), "-m", "-n", "-p", "-i", "-u", "-r", "-w", "--"]
    words = data_plane.lab.node.entered([*inside, *(command or ["/bin/sh"])])
    environment = {**data_plane.lab.node.environment({}), "PS1": f"{workload}$ "}
    environment["TERM"] = os.environ.get("TERM", "dumb")
    raise typer.Exit(subprocess.run(words, env=environment, check=False).returncode)


def logs(
    workload: Workload,
    container: InContainer = None,
    instance: Instance = 0,
    tail: Annotated[int, typer.Option(min=0, help="How many lines from the end.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until interrupted.")
    ] = False,
    directory: Directory = None,
) -> None:
    """Print what a container wrote; the proxy's access log is `--container istio-proxy`."""
    _, found = _container(_data_plane(directory), workload, container, instance)
    words = ["tail", f"--lines={tail}", *(["--follow"] if follow else []), found["log"]]
    raise typer.Exit(subprocess.run(words, check=False).returncode)


def request(
    url: Annotated[
        str,
        typer.Argument(
            help="https://HOST/PATH for a public host, http://SERVICE:PORT/PATH inside."
        ),
    ],
    source: Annotated[
        str, typer.Option("--from", help="`client`, `plain` (no identity), or a service.")
    ] = "client",
    method: Annotated[str, typer.Option("--method", "-X")] = "GET",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="`Name: value`; may be repeated.")
    ] = None,
    data: Annotated[str, typer.Option("--data", "-d", help="Body.")] = "",
    token: Annotated[bool, typer.Option("--token", help="Send a valid token.")] = False,
    tenant: Annotated[str, typer.Option(help="The token's tenant.")] = "tenant-a",
    role: Annotated[str, typer.Option(help="The token's role.")] = "user",
    address: Annotated[
        str, typer.Option(help="The client's address, as the load balancer reports it.")
    ] = "198.18.0.1",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 10.0,
    stack: OfLab = "dev",
    as_json: Json = False,
    directory: Directory = None,
) -> None:
    """Send one request into the mesh; print the answer and what each proxy said about it."""
    from dataclasses import asdict, replace

    from lab.clients import Clients
    from lab.contracts.contract import Call, Expect
    from lab.contracts.facts import Facts
    from lab.contracts.world import World
    from lab.errors import LabError

    data_plane = _data_plane(directory, stack)
    if not data_plane.lab.running():
        raise LabError("the lab does not run; `voicemesh lab start` starts it")
    facts = Facts.of(data_plane)
    sent = [_header(item) for item in header or ()]
    if token:
        names = facts.settings.authentication
        claims = {names.tenant.claim: tenant, names.role.claim: role}
        sent += facts.bearer(**claims)
    caller = _caller(data_plane, source)
    if caller.kind == "client":
        sent.append(("x-forwarded-for", address))
    asked = replace(_request(data_plane, facts, url, method, tuple(sent), data), timeout=timeout)
    world = World(data_plane)
    number = f"by-hand-{os.getpid()}/0"
    with Clients(data_plane.lab) as clients:
        pid, resolved = world.resolve(Call(caller, asked, Expect(())), number)
        reply = clients.send(pid, [resolved])[0]
    if as_json:
        import json

        typer.echo(json.dumps(asdict(reply), indent=2))
    else:
        _print(reply)
        if any(name.lower() == "user-agent" for name, _ in sent):
            sys.stderr.write(
                "# the proxies' lines are found by the User-Agent that this command sends itself;"
                " see `voicemesh lab logs NAME --container istio-proxy`\n"
            )
        else:
            _settle(world, number)
    if reply.error:
        raise typer.Exit(1)


def _settle(world: Any, number: str) -> None:
    """Proxies write their logs each second."""
    import time

    time.sleep(1.2)
    for line in world.logged(number):
        sys.stderr.write(f"# {line}\n")


def _print(reply: Reply) -> None:
    if reply.error:
        sys.stderr.write(f"no answer: {reply.error}\n")
        return
    typer.echo(f"{reply.protocol} {reply.status}")
    for name, value in reply.headers:
        typer.echo(f"{name}: {value}")
    typer.echo(f"\n{reply.body}")


def _request(
    data_plane: DataPlane,
    facts: Any,
    url: str,
    method: str,
    headers: tuple[tuple[str, str], ...],
    data: str,
) -> Request:
    from lab.contracts.contract import GATEWAY
    from lab.exchange import Request

    try:
        parts = urlsplit(url)
        given = parts.port
    except ValueError as error:
        raise typer.BadParameter(f"{url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{url!r} is no http:// or https:// URL")
    path = url.split("://", 1)[1].partition("/")[2]
    port = given or (443 if parts.scheme == "https" else 80)
    public = parts.hostname in data_plane.settings.public_hosts
    names = data_plane.catalogue.names
    where = GATEWAY if public else f"service:{parts.hostname}" if parts.hostname in names else None
    return Request(
        f"{where or parts.hostname}:{port}",
        parts.netloc,
        method=method,
        path=f"/{path}",
        headers=headers,
        body=data,
        tls=facts.tls(parts.hostname) if parts.scheme == "https" else None,
    )


def _caller(data_plane: DataPlane, name: str) -> Caller:
    from lab.contracts.contract import CLIENT, PLAIN, service

    if name in ("client", "plain"):
        return CLIENT if name == "client" else PLAIN
    if name not in data_plane.catalogue.names:
        raise typer.BadParameter(
            f"no service {name!r}; there are client, plain, {', '.join(data_plane.catalogue.names)}"
        )
    return service(name)


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise typer.BadParameter(f"{text!r} is no `Name: value`")
    return name.strip(), value.strip()


def _container(
    data_plane: DataPlane, workload: str, container: str | None, instance: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    from lab.errors import LabError
    from lab.pod import recorded

    pods = list(recorded(data_plane.pods))
    found = [pod for pod in pods if pod["labels"].get("app") == workload]
    if instance >= len(found):
        known = sorted({pod["labels"].get("app", pod["name"]) for pod in pods})
        raise LabError(
            f"{workload} has {len(found)} pods here"
            + ("" if found else f"; there are pods of {', '.join(known) or 'nothing'}")
        )
    containers = found[instance]["containers"]
    name = container or next((one for one in containers if one != PROXY), PROXY)
    if name not in containers:
        raise LabError(f"{workload} has no container {name!r}, it has {', '.join(containers)}")
    return found[instance], containers[name]


def _data_plane(directory: Path | None, stack: str = "dev") -> DataPlane:
    from lab.data_plane import DataPlane
    from lab.directory import DEFAULT
    from lab.lab import Lab

    return DataPlane.of_stack(Lab(directory or DEFAULT), stack)
