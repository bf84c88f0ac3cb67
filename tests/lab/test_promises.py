"""Every contract holds in a real mesh made of stack dev: from the first moment, and after a restart.

The drills, in which parts of the mesh are killed, are the last of each run; so the second run shows
too that nothing of them is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.clients import Clients
from lab.contracts import report
from lab.contracts.all import contracts
from lab.contracts.facts import Facts
from lab.contracts.promises import together
from lab.contracts.runner import Outcome, run
from lab.contracts.world import World
from lab.data_plane import DataPlane
from tests.lab.conftest import bring_up

pytestmark = pytest.mark.lab
RESULTS = os.environ.get("VOICEMESH_RESULTS", "")
"""A file for the results of all runs, as `python -m lab.contracts.promises` reads them."""


@pytest.fixture(scope="module", params=["a lab that was just made", "a lab that was restarted"])
def standing(request: pytest.FixtureRequest, mesh: DataPlane) -> DataPlane:
    if request.param == "a lab that was just made":
        return mesh
    mesh.lab.stop(keep_data=True)
    return bring_up(mesh.lab)


@pytest.mark.parametrize("time", ["once", "twice in a row"])
def test_every_promise_holds(standing: DataPlane, time: str) -> None:
    wanted = list(contracts(Facts.of(standing)))
    with Clients(standing.lab) as clients:
        outcomes = list(run(wanted, World(standing), clients))
    if RESULTS:
        _keep(outcomes, Path(RESULTS))
    broken = {outcome.contract.id: outcome.problems for outcome in outcomes if not outcome.passed}
    assert not broken, json.dumps(broken, indent=1)
    # Nothing was left out: each contract was tried, and each sent or looked at something.
    assert [one.contract.id for one in outcomes] == [one.id for one in wanted]
    assert wanted
    assert all(outcome.sent or outcome.contract.pushed for outcome in outcomes)


def _keep(outcomes: Sequence[Outcome], file: Path) -> None:
    """Adds a run's results to those of the others: a contract that failed in any has failed."""
    earlier = json.loads(file.read_text(encoding="utf-8"))["contracts"] if file.exists() else []
    rows = together(earlier, json.loads(report.as_json(outcomes))["contracts"])
    passed = sum(row["passed"] for row in rows)
    told = {"contracts": rows, "passed": passed, "failed": len(rows) - passed}
    file.write_text(json.dumps(told, indent=2), encoding="utf-8")
