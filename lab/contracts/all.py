"""All contracts, in the order they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.contracts import (
    access,
    access_log,
    applications,
    audit,
    balancing,
    capacity,
    client_addresses,
    compression,
    connections,
    drills,
    edge,
    egress,
    errors_alone,
    floods,
    limits,
    listeners,
    lost_proxy,
    metrics,
    mtls,
    newcomers,
    outages,
    outliers,
    paths,
    retries,
    roles,
    routing,
    spans,
    stream_calls,
    streams,
    tenants,
    tls,
    tokens,
    traces,
    traffic,
    user_agents,
)
from lab.contracts.contract import Contract
from lab.contracts.facts import Facts

FAMILIES = (
    *(
        mtls,
        access,
        newcomers,
        tokens,
        tenants,
        roles,
        client_addresses,
        user_agents,
        paths,
        tls,
        routing,
    ),
    *(
        edge,
        compression,
        connections,
        streams,
        applications,
        stream_calls,
        listeners,
        traffic,
        balancing,
        outliers,
        retries,
        egress,
    ),
    *(audit, access_log, metrics, traces, spans, errors_alone, lost_proxy),
    *(floods, limits, capacity, outages, drills),
)


def contracts(facts: Facts) -> Iterator[Contract]:
    """Every contract that holds for the stack under test."""
    for family in FAMILIES:
        yield from family.contracts(facts)


def chosen(facts: Facts, only: Sequence[str]) -> list[Contract]:
    """The contracts whose ids begin with one of the given texts; all where none is given."""
    return [
        contract
        for contract in contracts(facts)
        if not only or any(contract.id.startswith(text) for text in only)
    ]
