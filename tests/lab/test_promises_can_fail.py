"""Every contract can fail: each mistake in the deployed stack is noticed by exactly those meant to.

It stands behind `test_promises` in the alphabet: the same lab serves both, and that one wants it new.
Mutations that no contract has to notice both of are tried together, against all contracts; then each
by itself, against those that must notice it. With `--mutations-alone` each is tried by itself from
the start, against all. VOICEMESH_MUTATIONS=FILE keeps the results as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from lab.data_plane import DataPlane
from tests.lab.conftest import STACK
from tests.lab.mutations.all import ALL
from tests.lab.mutations.batches import LARGEST, batches
from tests.lab.mutations.mutation import Mutation
from tests.lab.mutations.table import as_json, table
from tests.lab.mutations.trials import Trial, Trials

pytestmark = [pytest.mark.lab, pytest.mark.mutations]
RESULTS = os.environ.get("VOICEMESH_MUTATIONS", "")


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest, mesh: DataPlane) -> Mapping[str, Trial]:
    """What became of each mutation that this run is about, by id."""
    chosen = _chosen(request)
    tried = Trials(mesh, STACK)
    alone = request.config.getoption("--mutations-alone")
    together = batches(
        chosen, tried.contracts, tried.mesh.declared, 1 if alone else LARGEST, tried.costly
    )
    plugins = request.config.pluginmanager
    report, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
    done: list[Trial] = []

    def said(text: str) -> None:
        # What a fixture writes is kept back otherwise, and for two hours nothing would be seen.
        with capture.global_and_fixture_disabled():
            report.write_line(f"\n{text}")
            report.flush()
        if RESULTS:
            # Each time: a run that is cut off leaves what it found.
            Path(RESULTS).write_text(as_json(done), encoding="utf-8")

    try:
        for number, batch in enumerate(together, 1):
            done += tried.of(batch)
            place = f"batch {number} of {len(together)}"
            said(f"mutations, {place}: {done[-1].seconds:.0f} s{_also(done[-1].strays)}")
        for number, trial in enumerate(done):
            if trial.alone is None:
                done[number] = tried.by_itself(trial)
                told = "noticed" if done[number].alone == trial.meant else "NOT NOTICED"
                place = f"mutation {number + 1} of {len(done)} by itself"
                said(f"{place}, {trial.mutation.id}: {told}{_also(done[number].also)}")
    finally:
        tried.end()
        said(table(done) if done else "no mutation was tried")
    return {one.mutation.id: one for one in done}


def _also(failed: Iterable[str]) -> str:
    return "".join(f"; also failed: {name}" for name in sorted(failed))


def _chosen(request: pytest.FixtureRequest) -> list[Mutation]:
    """The mutations that were not deselected."""
    found = [
        item.callspec.params["mutation"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == _TEST
    ]
    return [one for one in found if isinstance(one, Mutation)]


@pytest.mark.parametrize("mutation", ALL, ids=lambda one: one.id)
def test_a_mutation_is_noticed_by_exactly_the_contracts_meant(
    trials: Mapping[str, Trial], mutation: Mutation
) -> None:
    trial = trials[mutation.id]
    assert trial.meant
    assert trial.failed == trial.meant
    assert trial.strays == {}
    assert trial.alone == trial.meant


_TEST = test_a_mutation_is_noticed_by_exactly_the_contracts_meant.__name__
