"""The mutations of the deployed stack: every contract is meant by one, and none is idle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

import render
from lab.contracts.promises import declared
from lab.stack import istiod_values
from tests.lab.mutations import table
from tests.lab.mutations.all import ALL
from tests.lab.mutations.batches import batches, meant
from tests.lab.mutations.mutation import (
    Mutation,
    NothingToMutate,
    Objects,
    matches,
    named,
    without,
)
from tests.lab.mutations.trials import Trial

STACK = "dev"
_OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}}


@pytest.fixture(scope="module")
def objects() -> Iterator[Objects]:
    """The stack's objects, which no mutation may touch: it changes a copy."""
    found = list(render.expanded(render.declared(STACK)))
    before = json.dumps(found)
    yield found
    assert json.dumps(found) == before


@pytest.fixture(scope="module")
def values() -> Mapping[str, Any]:
    return istiod_values(STACK)


@pytest.fixture(scope="module")
def contracts() -> list[str]:
    return [one.id for one in declared()]


def test_every_contract_is_meant_by_a_mutation(contracts: list[str]) -> None:
    assert [one for one in contracts if not any(mutation.meant(one) for mutation in ALL)] == []


def test_every_mutation_means_contracts_that_there_are(contracts: list[str]) -> None:
    idle = [
        (mutation.id, pattern)
        for mutation in ALL
        for pattern in (*mutation.caught_by, *mutation.may_fail)
        if not any(matches(pattern, one) for one in contracts)
    ]
    assert idle == []
    assert [mutation.id for mutation in ALL if not mutation.caught_by] == []


def test_what_hides_a_mutation_is_one() -> None:
    hiding = {name for one in ALL for name in one.apart_from}
    assert hiding <= {one.id for one in ALL}


def test_ids_and_texts_are_distinct() -> None:
    for texts in ([one.id for one in ALL], [one.what for one in ALL]):
        assert [text for text, count in Counter(texts).items() if count > 1] == []


@pytest.mark.parametrize("mutation", ALL, ids=lambda one: one.id)
def test_each_mutation_changes_something(
    objects: Objects, values: Mapping[str, Any], mutation: Mutation
) -> None:
    assert mutation.change or mutation.control_plane
    assert mutation.of(objects) != objects or mutation.of_values(values) != values


def test_mutations_of_a_batch_can_be_made_together(objects: Objects, contracts: list[str]) -> None:
    together = batches(ALL, contracts, objects)
    assert Counter(one.id for batch in together for one in batch) == Counter(one.id for one in ALL)
    for batch in together:
        everything = Counter(each for one in batch for each in meant(one, contracts))
        assert max(everything.values()) == 1
        mutant = objects
        for mutation in batch:
            mutant = mutation.of(mutant)


def test_what_needs_to_be_alone_is() -> None:
    one, two = (
        Mutation("a", "a", ("x",), lambda o: [*o, {**_OBJECT}]),
        Mutation("b", "b", ("y",), lambda o: [*o, {**_OBJECT}], alone=True),
    )
    three = Mutation("c", "c", ("z",), lambda o: [*o, {**_OBJECT}])
    assert batches([one, two, three], ["x", "y", "z"], []) == [[one, three], [two]]
    assert batches([one, three], ["x", "z"], [], largest=1) == [[one], [three]]
    hidden = replace(three, apart_from=("a",))
    assert batches([one, hidden], ["x", "z"], []) == [[one], [hidden]]
    assert batches([hidden, one], ["x", "z"], []) == [[hidden], [one]]
    shaking = replace(three, may_fail=("x",))
    assert batches([one, shaking], ["x", "z"], []) == [[one], [shaking]]
    assert batches([shaking, one], ["x", "z"], []) == [[shaking], [one]]


def test_a_mutation_that_changes_nothing_proves_nothing(objects: Objects) -> None:
    with pytest.raises(NothingToMutate, match="idle"):
        Mutation("idle", "idle", ("a",), lambda _: None).of(objects)
    with pytest.raises(NothingToMutate, match="idle"):
        Mutation("idle", "idle", ("a",), control_plane=lambda _: None).of_values({})
    with pytest.raises(NothingToMutate, match="Gateway nowhere"):
        named(objects, "Gateway", "nowhere")


def test_objects_can_be_removed(objects: Objects) -> None:
    gone = named(objects, "Gateway", "public")
    assert len(without(objects, gone)) == len(objects) - 1
    assert gone not in without(objects, gone)


def test_the_table_tells_what_was_missed() -> None:
    mutation = Mutation("family.mistake", "a mistake", ("a.*",), lambda o: [*o, {**_OBJECT}])
    noticed, nothing = frozenset({"a.b"}), frozenset[str]()
    caught = Trial(mutation, noticed, noticed, {}, 1.0, alone=noticed)
    missed = Trial(mutation, noticed, nothing, {}, 1.0, alone=nothing)
    stray = Trial(mutation, noticed, noticed, {"c.d": "why"}, 1.0, alone=noticed)
    another = Trial(mutation, noticed, noticed, {}, 1.0, alone=nothing)
    not_alone = Trial(mutation, noticed, noticed, {}, 1.0)
    guilty = replace(stray, also=frozenset({"c.d"}))
    trials = [caught, missed, stray, another, not_alone]
    assert [one.caught for one in trials] == [True, False, False, False, False]
    told = table.table(trials)
    assert "family.mistake  caught  1/1 of a.*" in told
    assert "did not fail: a.b" in told
    assert "failed too: c.d: why" in told
    assert "did not fail by itself: a.b" in told
    assert told.endswith("1 of 5 mutations caught by exactly the contracts meant")
    assert json.loads(table.as_json([caught, missed]))["caught"] == 1
    assert "failed by itself too: c.d" not in told
    assert "failed by itself too: c.d" in table.table([guilty])
    assert not guilty.caught


def test_a_trial_by_itself_counts_for_a_later_run_that_was_cut_off() -> None:
    one, both = frozenset({"mtls.a"}), frozenset({"mtls.a", "mtls.b"})
    stray = {"mtls.c": "why"}
    whole = Trial(ALL[0], one, one, stray, 1.0, alone=one)
    later = Trial(ALL[0], one, one, {}, 1.0)

    def told(*trials: Trial) -> bool:
        return table.caught([table.as_json([each]) for each in trials])[ALL[0].id]

    assert told(whole) is False
    assert told(later) is False
    assert told(whole, later) is True
    assert told(later, whole) is False
    assert told(replace(whole, alone=frozenset()), later) is False
    assert told(whole, replace(later, meant=both, failed=both)) is False
    assert told(whole, replace(later, failed=frozenset())) is False


def test_the_document_has_every_mutation() -> None:
    """Results come from runs; ids and texts must be those of the code."""
    written = table.FILE.read_text(encoding="utf-8")
    assert _rows(written) == _rows(table.document(ALL, {})), table.__doc__


def _rows(text: str) -> list[str]:
    return [line.rsplit("|", 2)[0] for line in text.splitlines() if line.startswith("| `")]
