"""The verdict: what is said first, and that nothing that weakens it is left out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hwrun.records import append_cell, read_run
from paretosim.calibration import Calibration, DeviceTerms
from tests.validation.conftest import SLOW_LINK, SyntheticRun
from validation.assessment import assess
from validation.join import join
from validation.report.origin_tables import doubt_table
from validation.verdict import Verdict, verdict


def factors(latency: float) -> Callable:
    return lambda split, repeat: SimpleNamespace(latency=latency, throughput=1.0, transfer=1.0)


def verdict_on(run: object) -> Verdict:
    return verdict(assess(join([read_run(run.folder)], run.store), 0.02))


def test_errors_come_first_then_what_following_them_costs_then_doubts(synthetic: Callable) -> None:
    run = synthetic(factors=factors(1.25))
    run.write()
    found = verdict_on(run)
    assert found.headline == (
        "Predictions are off by 20.0 % in latency (measured to within 0.0 %), 0.0 % in throughput (measured to within"
        " 0.0 %) and 0.0 % in transfers over shaped links (measured to within 0.0 %), on average of 6 cells"
        " (12 records) predicted without calibration."
    )
    choice, fronts = found.findings
    assert choice.startswith("Choosing by them would have lost nothing: the splits recommended")
    assert "the predicted ones keep 100.0 % of the measured ones' hypervolume or more" in fronts
    assert str(found).startswith(found.headline)
    assert found.cautions[0].startswith("Devices are emulated at 2 times their speed")


def test_a_wrong_recommendation_and_its_order_are_counted(synthetic: Callable) -> None:
    # Split 5 is predicted fastest and measures three times as slow.
    run = synthetic(factors=lambda split, repeat: factors(3.0 if split == 5 else 1.0)(split, repeat))
    run.write()
    choice, order = verdict_on(run).findings
    predicted = run.prediction(run.modes[0], run.links[0])
    lost = 3 * predicted.row(5).latency_s / predicted.row(4).latency_s - 1
    assert f"Choosing by them would have lost {lost * 100:.1f} % at most" in choice
    assert "were the measured best in 0 of 1 condition." in choice
    # It now lies above 4, 3, 2 and 0, which are predicted slower.
    assert "Of pairs of splits that the measurements tell apart, 4 of 30 are in the wrong order" in order


def test_pairs_in_the_wrong_order_are_known_failures_with_their_numbers(synthetic: Callable) -> None:
    run = synthetic(factors=lambda split, repeat: factors(3.0 if split == 5 else 1.0)(split, repeat))
    run.write()
    rows = [row for row in doubt_table(assess(join([read_run(run.folder)], run.store), 0.02)).rows if row[0] == "order"]
    predicted = run.prediction(run.modes[0], run.links[0])
    five_s, four_s = predicted.row(5).latency_s, predicted.row(4).latency_s
    said = (
        f"latency of split 5 was measured larger than of 4 ({3 * five_s:.4g} and {four_s:.4g}) and predicted smaller"
        f" ({five_s:.4g} and {four_s:.4g})"
    )
    assert len(rows) == 4
    assert said in [row[2] for row in rows]


def test_the_condition_that_is_furthest_off_is_named(synthetic: Callable) -> None:
    run = synthetic(links=(synthetic().links[0], None), factors=factors(1.25))
    run.write()
    assessment = assess(join([read_run(run.folder)], run.store), 0.02)
    *_, furthest = verdict(assessment).findings
    assert furthest.startswith("Furthest off is the latency of toy, slow → fast, ")
    assert furthest.endswith(": 20.0 % on average of its cells.")


def test_a_single_repeat_says_what_it_was_measured_to(synthetic: Callable) -> None:
    run = synthetic(repeats=1)
    run.write()
    assert "0.0 % in latency (measured to within 0.0 %, by batches of single repeats)" in verdict_on(run).headline


def test_one_split_has_no_front(synthetic: Callable) -> None:
    run = synthetic(splits=(2,))
    run.write()
    assert verdict_on(run).findings == (
        "No condition of these cells alone has two splits or more, so that there is no front.",
    )


def test_what_was_left_out_is_counted_by_why(synthetic: Callable) -> None:
    run = synthetic(repeats=1)
    folder = run.write()
    cell = read_run(folder).cells[0]
    for repeat, status in ((7, "skipped"), (8, "failed"), (9, "done")):
        plan = cell.plan if status != "done" else cell.plan.replace("/f32", "/f16")
        subruns = cell.subruns if status == "done" else ()
        append_cell(folder, msgspec.structs.replace(cell, repeat=repeat, status=status, plan=plan, subruns=subruns))
    assert verdict_on(run).cautions[-1] == "Not in these numbers: 1 skipped, 1 failed, 1 refused."


def test_unequal_outputs_and_large_errors_are_doubts(synthetic: Callable) -> None:
    run = synthetic(factors=factors(1.25), splits=(1, 2), repeats=1)
    folder = run.write()
    cells = read_run(folder).cells
    check = msgspec.structs.replace(cells[0].output_check, bitwise_equal=False)
    append_cell(folder, msgspec.structs.replace(cells[0], output_check=check))
    assessment = assess(join([read_run(folder)], run.store), 0.02)
    assert "The output differed from the unsplit model's in 1 records." in verdict(assessment).cautions
    rows = doubt_table(assessment).rows
    assert [row[0] for row in rows] == ["error", "output", "error"]
    assert "latency of split 1 is off by -20.0%" in rows[0][2]


@pytest.mark.parametrize("latency", [1.0, 1.05])
def test_small_errors_are_no_doubts(synthetic: Callable, latency: float) -> None:
    run = synthetic(factors=factors(latency))
    run.write()
    assert doubt_table(assess(join([read_run(run.folder)], run.store), 0.02)).rows == ()


def cautions_with(run: SyntheticRun, **fields: Any) -> str:
    calibration = Calibration(schema_version=2, name="desk", backend="tcp", **fields)
    joined = join([read_run(run.folder)], run.store, {"tcp": calibration})
    return " ".join(verdict(assess(joined, 0.02)).cautions)


def test_a_fit_whose_starts_disagree_is_a_doubt(synthetic: Callable) -> None:
    run = synthetic(splits=(1, 2))
    run.write()
    said = "Most starts of a fit ended elsewhere: desk (1 of 5)"
    assert said in cautions_with(run, starts=5, agreeing=1)
    for fields in ({"starts": 5, "agreeing": 3}, {}):
        assert "Most starts" not in cautions_with(run, **fields)


def test_an_unshaped_link_that_no_fit_could_foresee_is_a_doubt(synthetic: Callable) -> None:
    run = synthetic(splits=(1, 2), links=(SLOW_LINK, None))
    run.write()
    said = "Of 2 cells over unshaped links within one machine the calibration knows nothing of copying"
    assert said in cautions_with(run)
    assert said not in cautions_with(run, devices={"*": DeviceTerms(copying_bytes_per_s=3e9)})
    shaped = synthetic("shaped", splits=(1, 2))
    shaped.write()
    assert "knows nothing of copying" not in cautions_with(shaped)
