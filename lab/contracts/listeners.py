"""What becomes of connections when the gateway's listeners change, as any new policy changes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from components.gateway_workload import GATEWAY, GATEWAY_SELECTOR
from lab.contracts.arrangements import applied, until_in_force
from lab.contracts.contract import CLIENT, Call, Contract, Expect, Incident, Judge
from lab.contracts.facts import Facts
from lab.contracts.stream_requests import open_requests, streaming
from lab.data_plane import DataPlane
from lab.exchange import Reply
from model.values import seconds

_BEGINS = 1.0
"""Seconds after which the policy is applied."""
_LATE = 6.0
"""Seconds that pass at most until the gateways have it, on a busy machine."""
_PAUSE = 0.25
"""Seconds between a client's messages: how well it knows when it was cut off."""
_LONGEST = 10
"""Seconds of the longest drain that a contract waits for."""
_PATH = "/no-such-path-of-any-service"


def contracts(facts: Facts) -> Iterator[Contract]:
    """The family `listener`."""
    drain = float(seconds(facts.settings.control_plane.drain_duration))
    if drain > _LONGEST:
        return
    lasts = int((_BEGINS + drain + _LATE + 1) / _PAUSE)
    yield Contract(
        "listener.replaced",
        "When a policy of the gateway changes, WebSockets and streams that are open go on for"
        " `controlPlane.drainDuration`; then what is left of them is cut.",
        "edge.md",
        tuple(
            # Cut, which the judge looks at, or else served to the end.
            Call(CLIENT, replace(one, address=f"gateway:{gateway}:443"), Expect((0, 101, 200)))
            for one in open_requests(facts, lasts, _PAUSE)
            for gateway in range(2)
        ),
        cut_after(_BEGINS + drain, _BEGINS + drain + _LATE),
        incident=Incident(_another_policy, _BEGINS),
        arrangement=streaming,
    )


def cut_after(least: float, most: float) -> Judge:
    """Each client was answered for that many seconds at least, and not much longer."""

    def judge(replies: Sequence[Reply]) -> str | None:
        for reply in replies:
            last = max(reply.arrivals, default=0.0)
            if reply.status or last > most:
                return f"a client was still answered after {last:.1f} s"
            if last + 2 * _PAUSE < least:
                return f"a client was cut off after {last:.1f} s, not after {least:g} s"
        return None

    return judge


@contextmanager
def _another_policy(data_plane: DataPlane) -> Iterator[None]:
    """A policy that denies nothing that anyone asks for; all gateways and no sidecar get it."""
    policy: dict[str, Any] = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "another", "namespace": data_plane.settings.namespaces.mesh},
        "spec": {
            "selector": {"matchLabels": GATEWAY_SELECTOR},
            "action": "DENY",
            "rules": [{"to": [{"operation": {"paths": [_PATH]}}]}],
        },
    }
    with applied(data_plane, [policy]):
        yield
    until_in_force(data_plane, GATEWAY, lambda told: _PATH not in told, "the gateways forget it")
