"""The access log where only errors are logged: a state that the lab's stack is not in by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from components.gateway_workload import GATEWAY
from components.telemetry import DEFAULT, ERRORS
from lab.contracts.arrangements import patched, until_in_force
from lab.contracts.contract import CLIENT, Bounded, Call, Contract, Expect, Recorded, Watch
from lab.contracts.facts import Facts
from lab.data_plane import DataPlane
from lab.errors import LabError
from lab.exchange import Reply, Request
from mesh import parts

_LATE = 3.0
_GIVES_UP = 0.7
"""Seconds after which a client leaves; the answer takes longer."""


def contracts(facts: Facts) -> Iterator[Contract]:
    """The contract `log.errors-only`."""
    calls, logged = [], []
    for call, wanted in _tried(facts):
        calls.append(call)
        logged.append(wanted)
    yield Contract(
        "log.errors-only",
        "With `accessLog.errorsOnly: true` only answers from 400 up, broken connections, gRPC"
        " statuses other than OK and ends of WebSockets are logged.",
        "telemetry.md",
        tuple(calls),
        watch=Bounded(errors_alone(logged)),
        at_once=False,
        settle=_LATE,
        arrangement=errors_only,
    )


def _tried(facts: Facts) -> Iterator[tuple[Call, str]]:
    """Calls, and the service whose proxy must have logged each; empty where nobody may have."""
    one, path = _readable(facts)
    bearer = facts.bearer()
    called = next(
        (service, route)
        for service in facts.catalogue.services
        for route in service.grpc
        if service.port(route.port).protocol == "grpc"
    )
    streaming, socket = next(
        (service.name, route.path)
        for service in facts.catalogue.services
        for route in service.websockets
    )
    for quiet in _readable_each(facts):
        yield Call(CLIENT, facts.api(f"{quiet}/1", *bearer), Expect((200,))), ""
    yield Call(CLIENT, facts.api(f"{path}/1?codes=302", *bearer), Expect((302,))), ""
    yield Call(CLIENT, facts.websocket(socket, *bearer), Expect((101,))), streaming
    yield Call(CLIENT, facts.api(f"{path}/1?codes=404", *bearer), Expect((404,))), one
    yield Call(CLIENT, facts.api(f"{path}/1?codes=500", *bearer), Expect((500,))), one
    yield Call(CLIENT, facts.api(f"{path}/1"), Expect((403,))), GATEWAY
    late: Request = facts.api(f"{path}/1?delay=2s", *bearer, timeout=_GIVES_UP)
    yield Call(CLIENT, late, Expect((0,), given_up=True)), one
    # The echo server has no such method, and says so with a gRPC status under HTTP status 200.
    unknown = facts.grpc(f"/{called[1].name}/Get", *bearer)
    yield Call(CLIENT, unknown, Expect((200,), grpc="UNIMPLEMENTED")), called[0].name


def _readable_each(facts: Facts) -> Iterator[str]:
    """Of each service that clients can read from with a token alone, one path."""
    yield from {one.name: route.path for one, route in reversed(facts.readable())}.values()


def _readable(facts: Facts) -> tuple[str, str]:
    return next(
        (one.name, route.path)
        for one, route in facts.readable()
        if not one.ai and not route.streaming
    )


def errors_alone(wanted: Sequence[str]) -> Watch:
    """Each call is logged by the gateway and that service's proxy, or by nobody where it is ''."""

    def watch(replies: Sequence[Reply], recorded: Recorded) -> str | None:
        for reply, lines, name in zip(replies, recorded.lines, wanted, strict=True):
            told = sorted(line["proxy"] for line in lines if line["log"] == "access")
            if not name and told:
                return f"what was answered with {reply} is in the log of {', '.join(told)}"
            for part in {GATEWAY, name} if name else ():
                if not any(proxy.startswith(part) for proxy in told):
                    return f"what was answered with {reply} is not in the log of {part}"
        return None

    return watch


@contextmanager
def errors_only(data_plane: DataPlane) -> Iterator[None]:
    """The Telemetry that the stack makes with `errorsOnly: true`, in force at every proxy."""
    try:
        with patched(
            data_plane,
            "telemetry",
            data_plane.settings.namespaces.mesh,
            DEFAULT,
            {"spec": {"accessLogging": _logging(data_plane)}},
        ):
            _until_filtered(data_plane, True)
            yield
    finally:
        _until_filtered(data_plane, data_plane.settings.telemetry.access_log.errors_only)


def _logging(data_plane: DataPlane) -> Sequence[Mapping[str, Any]]:
    settings = data_plane.settings
    telemetry = settings.telemetry
    log = telemetry.access_log.model_copy(update={"errors_only": True})
    changed = settings.model_copy(
        update={"telemetry": telemetry.model_copy(update={"access_log": log})}
    )
    for part in parts(data_plane.stack, changed, data_plane.catalogue):
        for one in part.objects() if part.name == "telemetry" else ():
            if isinstance(one, Mapping) and one["metadata"]["name"] == DEFAULT:
                found: Sequence[Mapping[str, Any]] = one["spec"]["accessLogging"]
                return found
    raise LookupError(f"the stack makes no Telemetry {DEFAULT}")


def _until_filtered(data_plane: DataPlane, filtered: bool) -> None:
    expression = ERRORS.split(" || ")[1]
    said = "errors alone" if filtered else "every request"
    for app in (GATEWAY, *(one.name for one in data_plane.catalogue.services)):
        with suppress(LabError):  # a proxy that never gets there is for the calls to tell
            until_in_force(
                data_plane,
                app,
                lambda answer: (expression in answer) == filtered,
                f"{app} logs {said}",
            )
