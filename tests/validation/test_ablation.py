"""Ablation: each term off in turn, over the cells that it changes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from hwrun.records import read_run
from paretosim.calibration import Calibration, DeviceTerms
from validation.ablation import Ablation, ablate
from validation.join import join


def ablations(run: object, calibration: Calibration | None = None) -> dict[str, Ablation]:
    calibrations = {} if calibration is None else {"tcp": calibration}
    return {a.term: a for a in ablate(join([read_run(run.write())], run.store, calibrations).comparisons)}


def test_a_term_that_measurements_have_costs_its_share_when_off(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(5,))
    found = ablations(run)
    assert set(found) == {"headers", "window-cap", "slow-start", "delay"}  # those of the link: no calibration
    latency_s = run.prediction(run.modes[0], run.links[0]).row(5).latency_s
    delay = found["delay"]
    assert (delay.cells, delay.left_out) == (1, 0)
    assert delay.with_term is not None
    assert delay.without_term is not None
    assert delay.with_term.latency.mape == pytest.approx(0, abs=1e-9)
    assert delay.without_term.latency.mape == pytest.approx(0.02 / latency_s)
    # A delay is latency and no occupancy.
    assert delay.without_term.throughput.mape == pytest.approx(0, abs=1e-9)


def test_a_term_is_judged_over_the_cells_that_it_changes(synthetic: Callable) -> None:
    slow = synthetic().links[0]
    lan = msgspec.structs.replace(slow, name="no delay", one_way_delay_s=0.0)
    found = ablations(synthetic(repeats=1, links=(slow, lan)))
    assert found["delay"].cells == 6
    assert found["headers"].cells == 12


def test_a_term_that_changes_nothing_has_no_scores(synthetic: Callable) -> None:
    found = ablations(synthetic(repeats=1))["slow-start"]  # connections are warm
    assert (found.cells, found.with_term, found.without_term) == (0, None, None)


def test_terms_of_a_calibration_join_in_and_a_wrong_one_is_worth_less_than_nothing(synthetic: Callable) -> None:
    calibration = Calibration(schema_version=2, name="wrong", backend="tcp", devices={"slow": DeviceTerms(gamma=1.3)})
    found = ablations(synthetic(repeats=1, splits=(3, 4)), calibration)["scale"]
    assert found.with_term.latency.mape > 0.05
    assert found.without_term.latency.mape == pytest.approx(0, abs=1e-9)
