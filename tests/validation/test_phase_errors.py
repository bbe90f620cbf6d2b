"""Errors of phases: of every phase that a record has, by the prediction of its own cell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwrun.records import read_run
from paretosim.calibration import Calibration, DeviceTerms, MessageCost
from paretosim.mode import Mode
from tests.validation.conftest import SLOW_LINK, SyntheticRun
from validation.held_out import join_held_out
from validation.hold_out import HoldOutBy
from validation.join import join
from validation.phase_errors import phase_errors, summaries

SINGLE = Mode.named("single")


def joined_with(run: SyntheticRun, calibration: Calibration | None = None) -> dict[str, float]:
    joined = join([read_run(run.folder)], run.store, {} if calibration is None else {"tcp": calibration})
    return {found.phase: found.error_s for found in summaries(phase_errors(joined))}


def test_a_cost_that_is_predicted_and_was_not_there_shows_in_its_own_phase(
    synthetic: Callable[..., SyntheticRun],
) -> None:
    run = synthetic(modes=(SINGLE, Mode.named("closed")), splits=(1, 3))
    run.write()
    # What the model itself made: it has nothing but computing, the control message and the transfer.
    exact = joined_with(run)
    assert {"dispatch", "transfer", "period"} <= exact.keys()
    assert all(abs(error_s) < 1e-9 for error_s in exact.values())
    costly = Calibration(
        schema_version=2, name="desk", backend="tcp", dispatch_s=3e-4,
        devices={"*": DeviceTerms(sending=MessageCost(message_s=2e-3))},
    )  # fmt: skip
    found = joined_with(run, costly)
    assert found["dispatch"] == pytest.approx(3e-4)
    assert found["transfer"] == pytest.approx(2e-3)


def test_stages_that_compute_are_phases_too(synthetic: Callable[..., SyntheticRun]) -> None:
    run = synthetic(modes=(SINGLE,), splits=(1, 3), emulated=False, speed=1.0)
    run.write()
    slower = Calibration(schema_version=2, name="desk", backend="tcp", devices={"slow": DeviceTerms(gamma=1.5)})
    errors = phase_errors(join([read_run(run.folder)], run.store, {"tcp": slower}))
    first = [error for error in errors if error.phase == "compute1"]
    assert [error.cell.cuts for error in first] == [(1,), (3,)]
    assert all(error.predicted_s == pytest.approx(1.5 * error.measured_s) for error in first)


def test_each_cell_is_held_to_the_calibration_that_predicted_it(synthetic: Callable[..., SyntheticRun]) -> None:
    run = synthetic(modes=(SINGLE,), splits=(0, 1, 2, 3, 4, 5), repeats=1, links=(SLOW_LINK,))
    run.write()
    made: list[float] = []

    def fit(*_: object) -> Calibration:
        made.append((len(made) + 1) * 1e-3)
        return Calibration(schema_version=2, name="fit", backend="tcp", dispatch_s=made[-1])

    by: HoldOutBy = "cells"
    errors = phase_errors(join_held_out([read_run(run.folder)], run.store, by, fit))
    dispatches = [error for error in errors if error.phase == "dispatch"]
    assert len(dispatches) == 6
    for error in dispatches:
        calibration = error.cell.inputs.calibration
        assert calibration is not None
        assert error.error_s == pytest.approx(calibration.dispatch_s)
    assert len({round(error.error_s, 6) for error in dispatches}) == len(made) > 1
