"""Mutation proof: every weakening is noticed by the policy meant for it, the stacks by none."""

from __future__ import annotations

from collections import Counter

import pytest

from policies.catalogue import BY_ID, POLICIES
from policies.run import check
from tests.policies.mutants import MUTATIONS, Mutation, NothingToMutate, Objects
from tests.policies.mutations import Result, table


@pytest.mark.parametrize("stack", ["dev", "staging", "prod", "prod declared"])
def test_the_stacks_themselves_are_sound(stacks: dict[str, Objects], stack: str) -> None:
    assert [(v.policy_id, v.object, v.path, v.message) for v in check(stacks[stack])] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_every_mutant_is_noticed(stacks: dict[str, Objects], mutation: Mutation) -> None:
    reported = {v.policy_id for v in check(mutation.of(stacks[mutation.stack]))}
    assert mutation.policy in reported


def test_the_list_is_long_and_distinct() -> None:
    assert len(MUTATIONS) >= 60
    assert [n for n, count in Counter(m.name for m in MUTATIONS).items() if count > 1] == []


def test_every_policy_has_a_mutant() -> None:
    assert {m.policy for m in MUTATIONS} <= set(BY_ID)
    assert [p.id for p in POLICIES if p.id not in {m.policy for m in MUTATIONS}] == []


def test_a_mutation_that_changes_nothing_fails() -> None:
    idle = Mutation("idle", "mtls-strict", lambda _: None)
    with pytest.raises(NothingToMutate, match="idle"):
        idle.of([{"kind": "Service"}])


def test_a_mutant_that_nobody_notices_is_counted_as_missed() -> None:
    mutation = MUTATIONS[0]
    lines = table([Result(mutation, ("another-policy",)), Result(mutation, (mutation.policy,))])
    assert "MISSED" in lines
    assert lines.endswith("1 of 2 mutants caught by the policy meant")
