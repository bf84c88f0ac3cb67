"""The safe contracts against a cluster that is not the lab: through its public address, reading."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lab.client import perform
from lab.contracts.contract import Call, Contract
from lab.contracts.runner import Outcome, judged, sent
from lab.exchange import Reply, Request


def safe(contracts: Sequence[Contract]) -> list[Contract]:
    """The contracts that only read, as a client without a token."""
    return [contract for contract in contracts if contract.safe]


def run(contracts: Sequence[Contract], address: str) -> Iterator[Outcome]:
    """Run contracts against the gateway at `address` (name or IP)."""
    for contract in contracts:
        yield judged(contract, sent(contract, lambda calls: asyncio.run(_send(calls, address))))


async def _send(calls: Sequence[Call], address: str) -> list[Reply]:
    gate = asyncio.Semaphore(4)  # a live gateway has other clients

    async def one(request: Request) -> Reply:
        async with gate:
            return await perform(request)

    return list(await asyncio.gather(*(one(_placed(call.request, address)) for call in calls)))


def _placed(request: Request, address: str) -> Request:
    port = request.address.rpartition(":")[2]
    # A client's own X-Forwarded-For is for the lab, where the test stands for the load balancer.
    headers = tuple(item for item in request.headers if item[0].lower() != "x-forwarded-for")
    return replace(request, address=f"{address}:{port}", headers=headers)


def authorities() -> str:
    """The file with the CAs that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    usual = Path("/etc/ssl/certs/ca-certificates.crt")
    return paths.cafile or (str(usual) if usual.exists() else "")
