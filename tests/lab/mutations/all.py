"""All mutations, in the order of the contracts' families."""

from __future__ import annotations

from tests.lab.mutations import (
    callers,
    capacity,
    edge,
    limits,
    observed,
    outages,
    streams,
    telemetry,
    tokens,
    traffic,
)
from tests.lab.mutations.mutation import Mutation

ALL: tuple[Mutation, ...] = tuple(
    mutation
    for family in (
        callers,
        tokens,
        traffic,
        edge,
        streams,
        limits,
        capacity,
        observed,
        telemetry,
        outages,
    )
    for mutation in family.MUTATIONS
)
