"""All mutations, in the order of the contracts' families."""

from __future__ import annotations

from tests.lab.mutations import callers, tokens
from tests.lab.mutations.mutation import Mutation

ALL: tuple[Mutation, ...] = (*callers.MUTATIONS, *tokens.MUTATIONS)
