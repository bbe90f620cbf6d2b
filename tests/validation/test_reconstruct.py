from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from paretosim.block import Block, Model, TensorShape
from paretosim.profiles import ProfileStore, shipped_directory
from validation.block_work import model_work, work_matrix
from validation.cli import main
from validation.contradictions import beats_the_wire, exceeds_total, longer_is_faster, out_of_line, totals_differ
from validation.device_law import Floats, Regularisation, fit_law
from validation.errors import FitError
from validation.left_out import fit_and_judge, rows_of, without
from validation.overhead_bound import judge_overhead, spread_overhead
from validation.published import PublishedRow, StageTime, stage_times

LAW = np.array([1 / 10e9, 1 / 0.5e9, 3e-3])  # seconds a multiply-add, a byte, a call
STIFF = Regularisation(model_spread=1e-4, segment_spread=1e-4)
LOOSE = Regularisation(model_spread=0.3, segment_spread=0.3)


def row(
    model: str, split: int, first_s: float, second_s: float, *, table: str = "pi_to_pi", network_s: float = 0.05
) -> PublishedRow:
    assert table in ("pi_to_pi", "pi_to_gpu")
    return PublishedRow(
        table="pi_to_pi" if table == "pi_to_pi" else "pi_to_gpu",
        model=model,
        index=split,
        split=split,
        stages_s=(first_s, second_s),
        resolution_s=(1e-9, 1e-9),
        network_s=network_s,
        memory_fraction=(0.2, 0.2),
    )


def times_of(rows: list[PublishedRow], blocks: int, device: str = "rpi4b") -> tuple[StageTime, ...]:
    return stage_times(rows, {entry.model: blocks for entry in rows}, device)


@pytest.fixture
def work() -> dict[str, Floats]:
    return networks("abc")


def networks(names: str) -> dict[str, Floats]:
    """Networks of four blocks whose mixes of arithmetic, traffic and calls differ."""
    random = np.random.default_rng(7)
    return {
        name: np.column_stack([random.uniform(1e6, 100e6, 4), random.uniform(0.1e6, 5e6, 4), np.ones(4)])
        for name in names
    }


def obedient_rows(work: dict[str, Floats]) -> list[PublishedRow]:
    """Rows without noise, exactly of LAW."""
    rows = []
    for model, blocks in work.items():
        seconds = blocks @ LAW
        rows += [row(model, split, seconds[:split].sum(), seconds[split:].sum()) for split in (1, 2, 3)]
    return rows


def test_noise_free_stage_sums_give_back_the_law_they_were_made_of() -> None:
    # Of many networks, because the law's own weak prior (44, 40 and 67 % away from this one) still pulls.
    work = networks("abcdefghijklmnopqrst")
    fit = fit_law(work, times_of(obedient_rows(work), 4), STIFF)
    assert fit.law.multiply_adds_per_s == pytest.approx(10e9, rel=0.01)
    assert fit.law.bytes_per_s == pytest.approx(0.5e9, rel=0.01)
    assert fit.law.overhead_s == pytest.approx(3e-3, rel=0.01)
    assert fit.block_times_s["b"] == pytest.approx(work["b"] @ LAW, rel=0.005)


def test_a_slow_model_gets_a_factor_and_the_law_stays(work: dict[str, Floats]) -> None:
    rows = [row(r.model, r.split, *(2 * s if r.model == "c" else s for s in r.stages_s)) for r in obedient_rows(work)]
    fit = fit_law(work, times_of(rows, 4), Regularisation(model_spread=0.3, segment_spread=0.01))
    assert fit.model_factors["c"] / fit.model_factors["a"] == pytest.approx(2, rel=0.1)
    assert fit.block_times_s["c"] == pytest.approx(2 * work["c"] @ LAW, rel=0.02)


def test_jacobian_is_the_derivative_of_the_residuals(work: dict[str, Floats]) -> None:
    from validation.device_law import _Problem

    problem = _Problem(work, times_of(obedient_rows(work), 4), LOOSE)
    at = np.random.default_rng(1).normal(scale=0.3, size=problem.unknowns)
    step = 1e-6
    numeric = np.column_stack(
        [
            (problem.residuals(at + step * unit) - problem.residuals(at - step * unit)) / (2 * step)
            for unit in np.eye(problem.unknowns)
        ]
    )
    assert problem.jacobian(at) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_a_ridge_keeps_the_fit_between_sums_that_contradict_each_other(work: dict[str, Floats]) -> None:
    rows = obedient_rows(work)
    rows.append(row("a", 2, 1.2 * rows[1].stages_s[0], rows[1].stages_s[1]))
    fitted_s = fit_law(work, times_of(rows, 4), LOOSE).block_times_s["a"]
    assert rows[1].stages_s[0] < fitted_s[:2].sum() < rows[-1].stages_s[0]
    assert (fitted_s > 0).all()


def test_one_wild_row_hardly_moves_the_others(work: dict[str, Floats]) -> None:
    rows = obedient_rows(work)
    rows[0] = row("a", 1, 10 * rows[0].stages_s[0], rows[0].stages_s[1])
    fit = fit_law(work, times_of(rows, 4), Regularisation(model_spread=0.03, segment_spread=0.03))
    assert fit.block_times_s["b"] == pytest.approx(work["b"] @ LAW, rel=0.05)


def test_a_left_out_row_has_no_say_in_its_own_prediction(work: dict[str, Floats]) -> None:
    rows = obedient_rows(work)
    candidates = (STIFF, LOOSE)
    times = times_of(rows, 4)
    before = fit_and_judge(work, times, candidates)
    rows[4] = row("b", 2, *(1.3 * s for s in rows[4].stages_s))
    after = fit_and_judge(work, times_of(rows, 4), candidates)
    pairs = [(old, new) for old, new in zip(before.stages, after.stages, strict=True) if new.time.row == rows[4]]
    assert len(pairs) == 2
    for old, new in pairs:
        assert new.left_out_s == pytest.approx(old.left_out_s, rel=1e-9)
        assert new.fitted_s != pytest.approx(old.fitted_s, rel=1e-3)


def test_leaving_a_row_out_takes_both_of_its_stages(work: dict[str, Floats]) -> None:
    times = times_of(obedient_rows(work), 4)
    remaining = without(times, rows_of(times)[0])
    assert len(remaining) == len(times) - 2
    assert rows_of(times)[0] not in rows_of(remaining)


def test_a_stage_without_work_cannot_be_fitted(work: dict[str, Floats]) -> None:
    work["a"][0] = 0
    with pytest.raises(FitError, match=r"a P1 \(pi_to_pi\), stage 1: its blocks have no work"):
        fit_law(work, times_of([*obedient_rows(work), row("a", 1, 1.0, 1.0)], 4)[-2:], STIFF)


# --- block work -----------------------------------------------------------------------------------------------------


def block(name: str, shape: tuple[int, ...], *, flops: int, parameters: int, channels: int = 0, peak: int = 0) -> Block:
    return Block(
        name=name,
        flops=flops,
        parameters=parameters,
        parameter_bytes=4 * parameters,
        buffer_bytes=8 * channels,
        outputs=(TensorShape(shape=shape, dtype="float32"),),
        peak_activation_bytes=peak,
    )


def model_of(*blocks: Block) -> Model:
    return Model(
        schema_version=1,
        name="toy",
        classes=10,
        input=TensorShape(shape=(3, 8, 8), dtype="float32"),
        flops_convention="a multiply-add counts as one",
        origin={},
        blocks=blocks,
    )


def test_work_of_each_kind_of_block_by_hand() -> None:
    toy = model_of(
        block("conv", (4, 8, 8), flops=1000, parameters=108),
        block("relu", (4, 8, 8), flops=0, parameters=0),
        block("conv, norm, activation", (6, 8, 8), flops=2000, parameters=300, channels=6, peak=1024 + 2 * 1536),
        block("head", (6, 8, 8), flops=0, parameters=99),
        # Expanded to 36 channels at 8 × 8, then strided to 36 and projected to 5 channels at 4 × 4.
        block("expand", (5, 4, 4), flops=3000, parameters=900, channels=77, peak=1536 + 2 * 9216),
    )
    conv, relu, normed, head, expand = model_work(toy, batch=2)
    assert (conv.multiply_adds, conv.moved_bytes, conv.is_computing) == (2000, 2 * (768 + 1024) + 432, True)
    assert (relu.multiply_adds, relu.moved_bytes, relu.is_computing) == (0, 2 * 2048, False)
    assert normed.moved_bytes == 2 * (1024 + 6 * 1536 - 1536) + 1200
    assert (head.moved_bytes, head.is_computing) == (0, False)
    maps_bytes = 4 * (36 * 64 + 36 * 16 + 5 * 16)
    assert expand.moved_bytes == 2 * (1536 + 6 * maps_bytes - 320) + 3600


# --- contradictions -------------------------------------------------------------------------------------------------


def test_more_blocks_in_less_time_is_a_contradiction() -> None:
    times = times_of([row("a", 2, 0.452, 0.40), row("a", 3, 0.400, 0.39)], 4)
    (found,) = longer_is_faster(times)
    assert [entry.index for entry in found.rows] == [3, 2]
    assert "the first 3 blocks of a in 0.4 s" in found.arithmetic
    assert "13.0% more time for less work" in found.arithmetic  # 0.452 / 0.400 = 1.13


def test_more_blocks_in_hardly_less_time_is_noise() -> None:
    assert longer_is_faster(times_of([row("a", 2, 0.42, 0.40), row("a", 3, 0.40, 0.39)], 4)) == ()


def test_a_stage_above_the_whole_models_totals_is_named_with_them() -> None:
    rows = [row("a", 2, 0.45, 0.43), row("a", 3, 0.42, 0.38), row("a", 1, 0.96, 0.01, table="pi_to_gpu")]
    (found,) = exceeds_total(rows, times_of(rows, 4))
    assert found.rows == (rows[2],)
    assert "the first block of a in 0.96 s" in found.arithmetic
    assert "the whole model in 0.880 s (P2) and 0.800 s (P3)" in found.arithmetic


def test_totals_that_differ_beyond_noise_show_their_sums() -> None:
    rows = [row("a", 2, 0.451, 0.427), row("a", 3, 0.419, 0.379), row("b", 1, 1.0, 1.0), row("b", 2, 1.02, 1.0)]
    (found,) = totals_differ(rows)
    assert "0.451 + 0.427 = 0.878 s (P2) but 0.419 + 0.379 = 0.798 s (P3), 9.5% of their mean apart" in found.arithmetic


def test_a_transfer_faster_than_its_bits_is_a_contradiction() -> None:
    models = {
        "toy": model_of(block("conv", (1000, 125, 1), flops=1, parameters=1), block("fc", (10,), flops=1, parameters=1))
    }
    slow, fast = row("toy", 1, 1, 1, network_s=0.04), row("toy", 1, 1, 1, network_s=0.02)
    (found,) = beats_the_wire(models, [slow, fast])  # 8 × 125 000 × 4 B = 4 MB: 32 ms
    assert found.rows == (fast,)
    assert "4.00 MB at 1 Gbit/s take 4.00·8/1000 = 0.032 s" in found.arithmetic


def test_a_row_far_from_what_the_others_say_is_out_of_line(work: dict[str, Floats]) -> None:
    random = np.random.default_rng(3)
    rows = [
        row(r.model, r.split, *(s * float(np.exp(random.normal(scale=0.02))) for s in r.stages_s))
        for r in obedient_rows(work)
    ]
    rows[0] = row("a", 1, 5 * rows[0].stages_s[0], rows[0].stages_s[1])
    judged = fit_and_judge(work, times_of(rows, 4), (Regularisation(model_spread=0.03, segment_spread=0.03),))
    found = out_of_line(work, judged)
    assert rows[0] in [entry.rows[0] for entry in found]
    told = next(entry.arithmetic for entry in found if entry.rows[0] == rows[0])
    assert "the first block of a" in told
    assert "1·" in told


# --- the overhead-bound device --------------------------------------------------------------------------------------


def test_overhead_is_spread_over_computing_blocks_and_left_out_is_the_others_median() -> None:
    blocks = np.array([[1e9, 1e6, 1], [0, 1e6, 0], [9e9, 1e6, 1], [1e9, 1e6, 1]])
    rows = [row(m, 1, 1.0, s, table="pi_to_gpu") for m, s in (("a", 0.010), ("b", 0.012), ("c", 0.020))]
    work = {"a": blocks, "b": blocks, "c": blocks}
    times = times_of(rows, 4, "rtx4090")
    assert spread_overhead(work, times)["a"] == pytest.approx([0.005, 0, 0.005, 0.005])
    stages = judge_overhead(work, times)
    assert [stage.fitted_s for stage in stages] == pytest.approx([0.010, 0.012, 0.020])
    assert [stage.left_out_s for stage in stages] == pytest.approx([0.016, 0.015, 0.011])
    assert stages[0].left_out_error == pytest.approx(0.6)


# --- the shipped profiles -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rerun(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    folder = tmp_path_factory.mktemp("profiles")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["reconstruct", "-o", str(folder), "--json"]) == 0
    return json.loads(printed.getvalue()), folder


@pytest.mark.slow
def test_running_it_again_gives_the_shipped_profiles(rerun: tuple[dict[str, object], Path]) -> None:
    again, shipped = ProfileStore([rerun[1]]), ProfileStore()
    for device in ("rpi4b", "rtx4090"):
        assert again.device(device) == shipped.device(device)
        assert {path.stem for path in (rerun[1] / "timings" / device).iterdir()} == set(shipped.timed_models(device))
        for model in shipped.timed_models(device):
            new, old = again.timing(device, model), shipped.timing(device, model)
            assert new.at_batch(8)[0] == pytest.approx(old.at_batch(8)[0], rel=2e-6)
            assert (new.how, new.notes) == (old.how, old.notes)
            assert new.conditions == pytest.approx(old.conditions, rel=2e-6)


@pytest.mark.slow
def test_output_has_both_errors_of_every_published_stage(rerun: tuple[dict[str, object], Path]) -> None:
    rows = rerun[0]["rows"]
    assert isinstance(rows, list)
    assert len(rows) == 36
    for entry in rows:
        assert entry["fitted_error"] == pytest.approx(entry["fitted_s"] / entry["published_s"] - 1)
        assert entry["left_out_error"] == pytest.approx(entry["left_out_s"] / entry["published_s"] - 1)
    on_pi = [abs(entry["left_out_error"]) for entry in rows if entry["device"] == "rpi4b"]
    assert rerun[0]["headline"] == pytest.approx({"rpi4b": np.median(on_pi), "rtx4090": 1 / 3}, rel=1e-6)


@pytest.mark.slow
def test_known_contradictions_of_the_paper_are_found(rerun: tuple[dict[str, object], Path]) -> None:
    contradictions = rerun[0]["contradictions"]
    assert isinstance(contradictions, list)
    named = {(entry["kind"], name) for entry in contradictions for name in entry["rows"]}
    assert {
        ("longer_is_faster", "alexnet P10 (pi_to_pi)"),
        ("longer_is_faster", "alexnet P11 (pi_to_pi)"),
        ("exceeds_total", "alexnet P3 (pi_to_gpu)"),
        ("out_of_line", "vgg16 P1 (pi_to_gpu)"),
    } <= named
    assert sum(kind == "beats_the_wire" and "pi_to_pi" in name for kind, name in named) == 4


def test_shipped_timings_say_what_they_are() -> None:
    store = ProfileStore()
    for device in ("rpi4b", "rtx4090"):
        for model in store.timed_models(device):
            timing = store.timing(device, model)
            assert timing.kind == "reconstructed"
            assert timing.conditions["overhead_bound"] is (device == "rtx4090")
            assert timing.error is not None
            assert timing.error.relative > 0.01
            assert all(entry.value_s is not None for entry in timing.batches[0].blocks)


def test_idle_and_dropout_blocks_cost_next_to_nothing() -> None:
    store = ProfileStore()
    times = dict(
        zip(
            (entry.name for entry in store.model("inception_v3").blocks),
            store.timing("rpi4b", "inception_v3").at_batch(8)[0],
            strict=True,
        )
    )
    assert times["AuxLogits"] == 0
    assert times["dropout"] < 1e-3 < times["Conv2d_1a_3x3"]


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One candidate keeps this quick: what is written does not depend on how many were tried.
    from validation import left_out

    judge = left_out.fit_and_judge
    monkeypatch.setattr("validation.reconstruct.fit_and_judge", lambda work, times: judge(work, times, (LOOSE,)))
    monkeypatch.chdir(tmp_path)
    assert main(["reconstruct", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "wrote nothing" in printed
    assert "Headline: the left-out median" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_files_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("validation.commands.reconstruct.reconstruct", lambda *_: pytest.fail("fitted"))
    (tmp_path / "file").touch()
    assert main(["reconstruct", "-o", str(tmp_path / "file" / "profiles")]) == 2
    assert "profiles takes no files (Not a directory), expected a folder of yours" in capsys.readouterr().err


def test_missing_scipy_is_a_failed_run_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["reconstruct", "--dry-run"]) == 1
    assert "pip install 'paretosim[report]'" in capsys.readouterr().err


def test_published_tables_travel_with_the_profiles() -> None:
    assert (shipped_directory() / "published" / "pi_to_pi.csv").is_file()


def test_work_matrix_has_a_row_a_block() -> None:
    toy = model_of(block("conv", (4, 8, 8), flops=1000, parameters=108))
    assert work_matrix(model_work(toy, batch=1)).tolist() == [[1000, 768 + 1024 + 432, 1]]
