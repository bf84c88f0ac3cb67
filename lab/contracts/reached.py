"""Who answered a request: the gateway by itself, or somebody behind it."""

from __future__ import annotations

from collections.abc import Sequence

from components.gateway_workload import GATEWAY
from lab.contracts.contract import Bounded, Recorded
from lab.exchange import Reply

_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "7", "16", "8")
"""Statuses of gRPC with which proxies refuse, by name and as they stand in a header."""


@Bounded
def refused_at_gateway(replies: Sequence[Reply], recorded: Recorded) -> str | None:
    """Every request that was refused is in the gateway's log, and in that of nobody behind it."""
    for reply, lines in zip(replies, recorded.lines, strict=True):
        proxies = [str(line["proxy"]) for line in lines]
        if not any(proxy.startswith(GATEWAY) for proxy in proxies):
            return f"a request that was answered with {reply} is not in the gateway's log"
        behind = sorted({proxy for proxy in proxies if not proxy.startswith(GATEWAY)})
        if _refused(reply) and behind:
            return f"a request that the gateway must refuse came to {', '.join(behind)}"
    return None


def _refused(reply: Reply) -> bool:
    told = reply.grpc_status or reply.header("grpc-status")
    return reply.status not in (101, 200) or told in _REFUSALS
