"""Hold-out: no cell is predicted by a calibration that saw it, and what cannot be fitted is listed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import msgspec
import pytest

from hwrun.records import Cell, EchoSample, LinkMeasured, LinkProbe, Run, append_cell, read_run
from paretosim.calibration import ANY_DEVICE, Backend, Calibration, DeviceTerms
from paretosim.errors import BadInputError
from paretosim.mode import Mode
from paretosim.plan import Plan
from validation.assessment import assess, basis_of
from validation.cli import main
from validation.commands.calibrate import calibrate
from validation.errors import FitError
from validation.held_out import join_held_out
from validation.verdict import verdict


def two_links(synthetic: Callable, **changes: object) -> object:
    slow = synthetic().links[0]
    fast = msgspec.structs.replace(slow, name="50mbit,20ms", rate_bps=50e6, return_rate_bps=50e6)
    return synthetic(links=(slow, fast), **changes)


class Recorder:
    """A fit that remembers what it was given; the calibration's overhead says which of them it is of."""

    def __init__(self) -> None:
        self.seen: list[tuple[Backend, tuple[Cell, ...]]] = []

    def __call__(self, runs: Sequence[Run], backend: Backend) -> Calibration:
        cells = tuple(cell for run in runs for cell in run.cells)
        self.seen.append((backend, cells))
        devices = {ANY_DEVICE: DeviceTerms(overhead_s=len(self.seen) * 1e-6)}
        return Calibration(schema_version=2, name="fit", backend=backend, devices=devices)


@pytest.mark.parametrize("by", ["bandwidth", "cells"])
def test_no_cell_is_predicted_by_a_fit_that_saw_it(synthetic: Callable, by: str) -> None:
    run = two_links(synthetic)
    fit = Recorder()
    found = join_held_out([read_run(run.write())], run.store, by, fit)
    assert len(found.comparisons) == 12
    for comparison in found.comparisons:
        calibration = comparison.inputs.calibration
        assert calibration is not None
        _, seen = fit.seen[round(calibration.devices[ANY_DEVICE].overhead_s * 1e6) - 1]
        assert not {repeat.cell_id for repeat in comparison.repeats} & {cell.cell_id for cell in seen}
        assert basis_of(comparison) == "held out"
    if by == "bandwidth":
        assert [{cell.link_name for cell in cells} for _, cells in fit.seen] == [{"5mbit,20ms"}, {"50mbit,20ms"}]
        names = {c.condition.link_name: c.inputs.calibration.name for c in found.conditions}
        assert names == {"5mbit,20ms": "without 5mbit", "50mbit,20ms": "without 50mbit"}


def test_a_cell_that_was_refused_after_it_was_done_is_in_no_fold(synthetic: Callable) -> None:
    run = two_links(synthetic)
    folder = run.write()
    refused, *_ = read_run(folder).cells
    append_cell(folder, msgspec.structs.replace(refused, status="failed", reason="not the link", remedy="resume"))
    fit = Recorder()
    found = join_held_out([read_run(folder)], run.store, "bandwidth", fit)
    seen = [cell.cell_id for _, cells in fit.seen for cell in cells]
    judged = [repeat.cell_id for comparison in found.comparisons for repeat in comparison.repeats]
    assert refused.cell_id not in seen + judged
    assert len(judged) == len(read_run(folder).latest_cells()) - 1
    assert (found.superseded, [entry.reason for entry in found.unjoined]) == (1, ["not the link"])


def test_plans_of_one_condition_held_out_apart_still_make_one_front(synthetic: Callable) -> None:
    run = two_links(synthetic)
    found = join_held_out([read_run(run.write())], run.store, "cells", Recorder())
    assert [len(condition.comparisons) for condition in found.conditions] == [6, 6]
    for condition in found.conditions:
        assert [c.cuts for c in condition.comparisons] == sorted(c.cuts for c in condition.comparisons)
    assessment = assess(found, 0.02, held_out="cells")
    assert sum(fold.cells for fold in assessment.folds) == 12
    assert "a fifth of all combinations held out in turn" in str(verdict(assessment))


def test_a_fold_whose_rest_cannot_be_fitted_is_refused_and_the_others_stand(synthetic: Callable) -> None:
    def fit(runs: Sequence[Run], backend: Backend) -> Calibration:
        if all(cell.link_name == "5mbit,20ms" for run in runs for cell in run.cells):
            raise FitError("fit: too little")
        return Calibration(schema_version=2, name="fit", backend=backend)

    run = two_links(synthetic, repeats=1)
    found = join_held_out([read_run(run.write())], run.store, "bandwidth", fit)
    assert {c.condition.link_name for c in found.conditions} == {"5mbit,20ms"}
    assert {entry.link_name for entry in found.unjoined} == {"50mbit,20ms"}
    assert all("fit: too little" in entry.reason for entry in found.unjoined)
    assert found.missing == 0


def test_a_backend_held_out_is_predicted_by_what_another_one_taught(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(1, 2))
    folder = run.write()
    for cell in read_run(folder).cells:
        plan = msgspec.structs.replace(Plan.parse(cell.plan), backend="memory")
        append_cell(folder, msgspec.structs.replace(cell, plan=str(plan), link_asked=None, link_name="unshaped"))
    fit = Recorder()
    found = join_held_out([read_run(folder)], run.store, "backend", fit)
    assert sorted(backend for backend, _ in fit.seen) == ["memory", "tcp"]
    for condition in found.conditions:
        calibration = condition.inputs.calibration
        assert calibration is not None
        assert calibration.backend == condition.condition.backend
        assert calibration.name == f"without {condition.condition.backend}"


def test_skipped_cells_are_still_listed(synthetic: Callable) -> None:
    run = two_links(synthetic, repeats=1)
    folder = run.write()
    cell = read_run(folder).cells[0]
    append_cell(folder, msgspec.structs.replace(cell, repeat=7, status="skipped", subruns=(), reason="too long"))
    found = join_held_out([read_run(folder)], run.store, "bandwidth", Recorder())
    assert [(entry.status, entry.reason) for entry in found.unjoined] == [("skipped", "too long")]


def test_nothing_to_hold_out_is_refused(synthetic: Callable) -> None:
    run = synthetic(repeats=1)
    with pytest.raises(BadInputError, match="--hold-out model: got toy alone"):
        join_held_out([read_run(run.write())], run.store, "model", Recorder())


def test_the_report_fits_predicts_and_says_so(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    run = two_links(synthetic)
    folder = str(run.write())
    options = ["--profiles", str(run.profiles), "--json"]
    assert main(["report", folder, *options, "--hold-out", "bandwidth"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held_out"] == "bandwidth"
    assert [basis["basis"] for basis in found["bases"]] == ["held out"]
    assert [fold["name"] for fold in found["folds"]] == ["without 50mbit", "without 5mbit"]
    assert "each bandwidth held out in turn" in found["headline"]
    assert all(cell["basis"] == "held out" for condition in found["conditions"] for cell in condition["cells"])
    # What was measured is the model's own, so a fit of the others has nothing to add and does no harm.
    assert found["bases"][0]["scores"]["latency"]["mape"] < 0.01


def test_hold_out_and_a_calibration_exclude_each_other(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    run = synthetic()
    options = ["--profiles", str(run.profiles), "--hold-out", "cells", "--calibration", "x.json"]
    assert main(["report", str(run.write()), *options]) == 2
    assert "--hold-out: got --calibration too" in capsys.readouterr().err


def test_what_is_held_out_moves_no_fit_however_wrong_it_is(synthetic: Callable) -> None:
    """Cells and probes of the unshaped link are poisoned; the calibration that predicts them is the same to a bit."""

    def without_unshaped(name: str, factor: float) -> Calibration:
        run = synthetic(
            name, links=(synthetic().links[0], None), splits=(0, 1, 3, 4), modes=(Mode.named("single"),), emulated=True
        )
        folder = run.write()
        read = read_run(folder)
        cells = [cell if cell.link_asked is not None else _slower(cell, factor) for cell in read.cells]
        probe = LinkProbe(
            link_name="unshaped", link_asked=None, moment="before", started_utc="", near="A", far="B",
            measured=LinkMeasured(
                medium="loopback", rtt_samples_s=(1e-3,), goodput_bps=40e6, probe_bytes=1,
                echo=tuple(
                    EchoSample(size_bytes=size, round_trips_s=((1e-4 + size * 1e-9) * factor,) * 3)
                    for size in (64, 65536, 1048576)
                ),
            ),
        )  # fmt: skip
        poisoned = msgspec.structs.replace(read, cells=tuple(cells), probes=(probe,))

        def fit(runs: Sequence[Run], backend: Backend) -> Calibration:
            return calibrate(runs, run.store, backend, name="fit", confidence=0.9, seed=0).calibration

        found = join_held_out([poisoned], run.store, "bandwidth", fit)
        return next(c.inputs.calibration for c in found.conditions if c.inputs.calibration.name == "without unshaped")

    assert without_unshaped("clean", 1.0) == without_unshaped("poisoned", 7.0)


def _slower(cell: Cell, factor: float) -> Cell:
    """All of its times that much longer."""
    found = json.loads(msgspec.json.encode(cell))

    def scaled(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: scaled(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [scaled(part, key) for part in value]
        return value * factor if isinstance(value, float) and key.endswith("_s") else value

    found["subruns"] = scaled(found["subruns"])
    return msgspec.convert(found, Cell)
