"""What a run's cells say of the parameters: which phases, of which modes, and how they are predicted."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from hwrun.records import BatchRecord, Cell, Phases, read_run
from paretosim.calibration import ANY_DEVICE, Backend, Calibration, DeviceTerms
from paretosim.mode import Mode
from tests.validation.conftest import CONTROL_S, SLOW_LINK, SyntheticRun
from validation.commands.calibrate import uncalibrated
from validation.fitting.observations import Observed, cases_of, observe
from validation.fitting.phase_times import PhaseTimes
from validation.join import Joined, join

SINGLE, CLOSED = Mode.named("single"), Mode.named("closed")


def _joined(run: SyntheticRun) -> Joined:
    return join([read_run(run.write())], run.store)


def _with_hand_over(cell: Cell) -> Cell:
    """The synthetic cell with 1 ms before sending, 2 ms before computing, and 4 ms for the result's way."""

    def later(batch: BatchRecord) -> BatchRecord:
        one, two = batch.stages
        assert two.receive_start_s is not None
        assert two.receive_end_s is not None
        first = msgspec.structs.replace(one, send_start_s=one.send_start_s + 1e-3, send_end_s=one.send_end_s + 1e-3)
        second = Phases(
            receive_start_s=two.receive_start_s + 1e-3, receive_end_s=two.receive_end_s + 1e-3,
            compute_start_s=two.compute_start_s + 3e-3, compute_end_s=two.compute_end_s + 3e-3,
            send_start_s=two.send_start_s + 3e-3, send_end_s=two.send_end_s + 3e-3,
        )  # fmt: skip
        returned_s = second.compute_end_s + 4e-3
        return msgspec.structs.replace(batch, stages=(first, second), returned_s=returned_s)

    subruns = tuple(
        msgspec.structs.replace(subrun, batches=tuple(map(later, subrun.batches))) for subrun in cell.subruns
    )
    return msgspec.structs.replace(cell, subruns=subruns)


def _observed(run: SyntheticRun, change: Callable[[Cell], Cell] = lambda cell: cell) -> Observed:
    cases = cases_of(_joined(run))
    return observe(
        [
            type(case)(case.setting, case.emulated, case.one_clock, tuple((r, change(cell)) for r, cell in case.cells))
            for case in cases
        ]
    )


def test_each_phase_is_read_between_its_times(synthetic: Callable[..., SyntheticRun]) -> None:
    observed = _observed(synthetic(modes=[SINGLE], splits=(2,), repeats=1), _with_hand_over)
    found = {o.point.phase: o.seconds for o in observed.observations}
    setting = observed.cases[0].setting
    transfer_s = (setting.model.cut_bytes()[2] * 8 + 66 * -(-setting.model.cut_bytes()[2] * 8 // 1448)) * 8 / 5e6 + 0.02
    assert found == pytest.approx(
        {"leaving": 1e-3, "arriving": 2e-3, "dispatch": CONTROL_S, "transfer": transfer_s, "result": 4e-3}, rel=1e-6
    )


def test_a_full_pipeline_says_how_often_alone(synthetic: Callable[..., SyntheticRun]) -> None:
    observed = _observed(synthetic(modes=[SINGLE, CLOSED], splits=(1, 2), repeats=3))
    closed = {number for number, case in enumerate(observed.cases) if case.setting.mode == CLOSED}
    assert {o.point.phase for o in observed.observations if o.point.case in closed} == {"period"}
    assert observed.counted()["period"] == 2 * 3
    predicted = PhaseTimes(observed)(uncalibrated("tcp"))
    for point, seconds in zip(observed.points, predicted.tolist(), strict=True):
        if point.phase in ("period", "transfer"):
            measured = [o.seconds for o in observed.observations if o.point == point]
            assert seconds == pytest.approx(measured[0], rel=1e-9)


def test_stages_that_compute_are_observed_beside_transfers_too(synthetic: Callable[..., SyntheticRun]) -> None:
    observed = _observed(synthetic(modes=[CLOSED, Mode.named("burst")], splits=(0, 2), emulated=False, speed=1.0))
    phases = {(o.point.split, o.point.phase) for o in observed.observations}
    assert phases == {(0, "compute2"), (0, "period"), (2, "compute1"), (2, "compute2"), (2, "period")}
    slowed = msgspec.structs.replace(uncalibrated("tcp"), devices={ANY_DEVICE: DeviceTerms(kappa=0.5)})
    alone_s, beside_s = (PhaseTimes(observed)(calibration) for calibration in (uncalibrated("tcp"), slowed))
    computing = [point.phase.startswith("compute") for point in observed.points]
    assert (beside_s[computing] > alone_s[computing]).all()


def test_real_stages_are_observed_and_two_clocks_are_not_compared(synthetic: Callable[..., SyntheticRun]) -> None:
    real = synthetic("real", modes=[SINGLE], splits=(2,), emulated=False, speed=1.0)
    assert {"compute1", "compute2", "transfer"} <= set(_observed(real).counted())
    apart = synthetic("apart", modes=[SINGLE], splits=(2,), emulated=False, speed=1.0, kind="network")
    assert set(_observed(apart, _with_hand_over).counted()) == {"compute1", "compute2", "leaving", "arriving"}


def test_within_one_machine_the_wire_is_no_slower_than_copying(synthetic: Callable[..., SyntheticRun]) -> None:
    run = synthetic(modes=[SINGLE], links=[None, SLOW_LINK], goodput_bps=40e6)
    runs = [read_run(run.write())]
    copying = msgspec.structs.replace(
        uncalibrated("tcp"), devices={ANY_DEVICE: DeviceTerms(copying_bytes_per_s=1e9)}
    )  # fmt: skip
    known: list[tuple[dict[Backend, Calibration], float]] = [({}, 40e6), ({"tcp": copying}, 8e9)]
    for calibrations, rate_bps in known:
        rates = [c.inputs.links[0].rate_bps for c in join(runs, run.store, calibrations).conditions]
        assert rates == [rate_bps, SLOW_LINK.rate_bps]
