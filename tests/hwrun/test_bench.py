"""A bench says why a cell failed, once, and where more is said."""

from types import SimpleNamespace

import pytest

from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import PeerGoneError
from hwrun.sweeps.bench import Bench


@pytest.mark.parametrize(
    ("deaths", "error", "reason"),
    [
        ("worker A is gone (worker A: closed)", "worker A: closed", "worker A is gone (worker A: closed)"),
        ("worker A died", "stage 2: silent", "worker A died: stage 2: silent"),
        ("", "stage 2: silent", "stage 2: silent"),
        ("", "", "PeerGoneError"),
    ],
)
def test_a_failed_cell_names_the_death_and_not_its_effect_again(deaths, error, reason):
    def revive():
        raise PeerGoneError(error)

    workers = SimpleNamespace(revive=revive, deaths=lambda: deaths, logs="the log on its host says more")
    plan = sweep_plan(parsed(["--model", "mobilenet_v2", "--splits", "3", "--repeats", "1"]))
    cell = Bench(None, workers, None, plan, None).measure(plan.cells[0])
    assert (cell.status, cell.reason) == ("failed", reason)
    assert cell.remedy == "resume the sweep to try it again; the log on its host says more"
