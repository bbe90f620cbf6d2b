"""A bench says why a cell failed, once, and where more is said."""

from types import SimpleNamespace

import pytest

from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import CellTimeOverError, PeerGoneError
from hwrun.sweeps.bench import Bench


def failed_by(error, deaths=""):
    """The record of a cell that this error ended."""

    def revive():
        raise error

    workers = SimpleNamespace(revive=revive, deaths=lambda: deaths, logs="the log on its host says more")
    options = ["--model", "mobilenet_v2", "--splits", "3", "--repeats", "1", "--max-cell-time", "90s"]
    plan = sweep_plan(parsed(options))
    return Bench(None, workers, None, plan, None).measure(plan.cells[0])


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
    cell = failed_by(PeerGoneError(error), deaths)
    assert (cell.status, cell.reason) == ("failed", reason)
    assert cell.remedy == "resume the sweep to try it again; the log on its host says more"


def test_what_nobody_foresaw_fails_its_cell_and_not_the_sweep():
    assert failed_by(IndexError("tuple index out of range")).reason == "IndexError: tuple index out of range"


def test_a_cell_whose_time_was_over_for_a_worker_that_is_gone_asks_for_no_more_time():
    cell = failed_by(CellTimeOverError("results: not all were back"), deaths="worker A is gone (no answer)")
    assert cell.remedy == "resume the sweep to try it again; the log on its host says more"


def test_a_cell_whose_time_was_over_says_which_option_gives_it_more():
    cell = failed_by(CellTimeOverError("results: not all were back within the cell's time limit"))
    assert cell.remedy == (
        "resume with more than --max-cell-time 90s: a cell's batches are given up after 3 times that; the log on its"
        " host says more"
    )
