"""What timings' errors leave open: intervals, probabilities, and what is said of them."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.prediction import Prediction, predict
from paretosim.setting import Setting
from paretosim.show.verdict import verdict
from paretosim.timing import BatchTiming, BlockTiming, Timing
from paretosim.uncertainty.block_error import NORMAL_MEDIAN_DEVIATION, ErrorModel, drawn_block_times_s
from paretosim.uncertainty.sampling import Doubts, Uncertainty, draw, uncertainty_of
from paretosim.uncertainty.text import doubt_sentences, percent

Command = Callable[..., tuple[int, str, str]]
QUICK = Doubts(samples=200)
# The 95th percentile of a standard normal.
Z95 = NormalDist().inv_cdf(0.95)


def _setting(toy: Any, **fields: Any) -> Setting:
    options = {"outputs": (4000, 2000, 1000, 500), "inputs": 8000, "link": toy.link(1e7, 0.01), **fields}
    found: Setting = toy.setting((0.25, 0.1, 0.3, 0.2), (0.2, 0.15, 0.25, 0.1), **options)
    return found


def _with_repeats(timing: Timing, repeats: Any) -> Timing:
    """The timing with those repeats of each block, (blocks, n)."""
    blocks = tuple(
        BlockTiming(name=block.name, samples_s=tuple(samples))
        for block, samples in zip(timing.batches[0].blocks, np.asarray(repeats).tolist(), strict=True)
    )
    return msgspec.structs.replace(timing, batches=(BatchTiming(batch=8, blocks=blocks),))


def _widths(found: Uncertainty) -> list[float]:
    return [math.log(split.latency_p95_s / split.latency_p05_s) for split in found.splits]


MODES: dict[str, dict[str, Any]] = {
    "single": {"mode": Mode.named("single")},
    "paced": {},
    "closed": {"mode": Mode.named("closed")},
    "burst": {"mode": Mode.named("burst")},
    "open": {"mode": Mode.named("open", arrivals=Arrivals(rate_per_s=1.2))},
    "serial": {"operation": Operation(workers="serial"), "mode": Mode.named("burst")},
    "buffers": {"operation": Operation(slots=1)},
    "random": {
        "operation": Operation(batches=20),
        "mode": Mode.named("open", arrivals=Arrivals(rate_per_s=1.2, process="poisson")),
    },
    "cold": {"tcp_state": "cold"},
    "both ways": {"source": "sink", "sink": "last", "control_delay_s": 0.02, "speed": 3.0},
}


@pytest.mark.parametrize("fields", MODES.values(), ids=MODES.keys())
def test_without_any_error_everything_is_certain_and_as_predicted(toy: Any, fields: dict[str, Any]) -> None:
    prediction = predict(_setting(toy, error=0.0, **fields))
    found = uncertainty_of(prediction, QUICK)
    for row, split in zip(prediction.rows, found.splits, strict=True):
        latencies = {split.latency_p05_s, split.latency_p50_s, split.latency_p95_s, split.latency_p99_s}
        throughputs = {split.throughput_p01_per_s, split.throughput_p05_per_s, split.throughput_p99_per_s}
        assert (latencies, throughputs) == ({row.latency_s}, {row.throughput_per_s})
        assert split.front_probability == row.on_front
        assert split.best_latency_probability == (row.split == prediction.recommended.latency)
        assert split.best_throughput_probability == (row.split == prediction.recommended.throughput)
        assert split.meets_constraints_probability == row.meets_constraints


@pytest.mark.parametrize("fields", MODES.values(), ids=MODES.keys())
def test_probabilities_add_up_and_intervals_hold_the_prediction(toy: Any, fields: dict[str, Any]) -> None:
    prediction = predict(_setting(toy, error=0.1, **fields))
    found = uncertainty_of(prediction, QUICK)
    for best in ("best_latency_probability", "best_throughput_probability"):
        assert sum(getattr(split, best) for split in found.splits) == pytest.approx(found.qualifying_probability)
    for row, split in zip(prediction.rows, found.splits, strict=True):
        # What is best in an objective, ties by the other one, is never dominated.
        assert max(split.best_latency_probability, split.best_throughput_probability) <= split.front_probability
        assert split.latency_p05_s <= row.latency_s <= split.latency_p95_s
        assert split.throughput_p05_per_s <= row.throughput_per_s <= split.throughput_p95_per_s
        assert split.throughput_p01_per_s <= split.throughput_p05_per_s
        assert split.latency_p95_s <= split.latency_p99_s


def test_with_one_common_factor_a_single_batch_is_off_by_that_factor(toy: Any) -> None:
    """Two devices of one timing and next to no transfer: log-normal latency, its spread known."""
    times = (0.25, 0.1, 0.3, 0.2)
    device = toy.device("one")
    setting = toy.setting(
        times, times, devices=(device, device), link=toy.link(1e12), mode=Mode.named("single"), error=0.1
    )
    prediction = predict(setting)
    doubts = Doubts(samples=20_000, error_model=ErrorModel(common_share=1.0))
    spread = 0.1 / NORMAL_MEDIAN_DEVIATION
    for split in uncertainty_of(prediction, doubts).splits:
        for share, value in ((0.05, split.latency_p05_s), (0.5, split.latency_p50_s), (0.95, split.latency_p95_s)):
            expected = sum(times) * math.exp(NormalDist(0, spread).inv_cdf(share))
            assert value == pytest.approx(expected, rel=0.01)
        # Half of a standard normal lies within its median deviation: the headline error is the median one.
    latency_s = draw(prediction, doubts).latency_s[:, 0]
    assert np.median(np.abs(np.log(latency_s / sum(times)))) == pytest.approx(0.1, rel=0.03)


def test_a_stage_of_half_the_model_is_off_by_the_headline_error_and_its_halves_are_not_correlated(toy: Any) -> None:
    timing = toy.timing([0.01] * 200, error=0.05)
    block_s = drawn_block_times_s(timing, 8, 0.05, 20_000, np.random.default_rng(0), ErrorModel())
    halves = np.log(block_s.reshape(-1, 2, 100).sum(axis=2))
    spread = 0.05 / NORMAL_MEDIAN_DEVIATION
    assert halves.std(axis=0) == pytest.approx([spread, spread], rel=0.03)
    assert abs(np.corrcoef(halves.T)[0, 1]) < 0.03
    # The whole is off by the common half of the variance, and a single block by more than a half.
    assert np.log(block_s.sum(axis=1)).std() == pytest.approx(spread * math.sqrt(0.5), rel=0.03)
    assert np.log(block_s[:, 0]).std() > 1.2 * spread


def test_only_what_is_common_changes_the_sum_of_a_models_blocks(toy: Any) -> None:
    timing = toy.timing([0.3, 0.01, 0.2, 0.0], error=0.3)
    block_s = drawn_block_times_s(timing, 8, 0.3, 500, np.random.default_rng(1), ErrorModel(common_share=0.0))
    assert block_s.sum(axis=1) == pytest.approx(0.51)
    assert np.log(block_s[:, 0]).std() > 0.05
    assert (block_s[:, 3] == 0).all()


def test_seeds_reproduce_and_differ(toy: Any) -> None:
    prediction = predict(_setting(toy))
    one, again, other = (uncertainty_of(prediction, Doubts(samples=200, seed=seed)) for seed in (7, 7, 8))
    assert one == again
    assert one.splits != other.splits


def test_a_spread_of_the_link_leaves_the_draws_of_block_times_alone(toy: Any) -> None:
    prediction = predict(_setting(toy, mode=Mode.named("single")))
    certain = draw(prediction, QUICK).latency_s
    spread = draw(prediction, Doubts(samples=200, rate_spread=1e-9)).latency_s
    assert spread == pytest.approx(certain, rel=1e-6)
    assert (spread != certain).any()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    errors=st.lists(st.floats(0.0, 0.4), min_size=2, max_size=2).map(sorted),
    share=st.sampled_from([0.5, 1.0]),
    name=st.sampled_from(["single", "paced", "closed", "burst"]),
)
def test_intervals_widen_with_the_error(toy: Any, errors: list[float], share: float, name: str) -> None:
    """Of what is on one device alone with next to no transfer, where nothing else moves."""
    doubts = Doubts(samples=200, error_model=ErrorModel(common_share=share))
    link = toy.link(1e12)
    small, large = (
        _widths(uncertainty_of(predict(_setting(toy, error=error, link=link, **MODES[name])), doubts))
        for error in errors
    )
    assert small[0] <= large[0] + 1e-9
    assert small[-1] <= large[-1] + 1e-9


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spreads=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2).map(sorted), delay=st.booleans())
def test_intervals_widen_with_the_spread_of_the_link(toy: Any, spreads: list[float], delay: bool) -> None:
    prediction = predict(_setting(toy, error=0.0))
    doubts = []
    for spread in spreads:
        names: dict[str, Any] = {"delay_spread" if delay else "rate_spread": spread}
        doubts.append(Doubts(samples=100, **names))
    small, large = (_widths(uncertainty_of(prediction, one)) for one in doubts)
    assert all(a <= b + 1e-9 for a, b in zip(small, large, strict=True))


def test_two_devices_of_one_timing_share_its_draws(toy: Any) -> None:
    """Latency then only moves with the total, which is the same at every split; with two timings it does not."""
    times, device = (0.25, 0.1, 0.3, 0.2), toy.device("one")
    shared = toy.setting(times, times, devices=(device, device), link=toy.link(1e12), error=0.1)
    latency_s = draw(predict(shared), QUICK).latency_s
    assert latency_s == pytest.approx(np.broadcast_to(latency_s[:, :1], latency_s.shape), rel=1e-6)
    apart = draw(predict(toy.setting(times, times, link=toy.link(1e12), error=0.1)), QUICK).latency_s
    assert np.abs(np.corrcoef(apart[:, 0], apart[:, -1])[0, 1]) < 0.2


def test_exact_ties_stay_ties_in_every_sample(toy: Any) -> None:
    times, device = (0.25, 0.1, 0.3, 0.2), toy.device("one")
    tied = toy.setting(times, times, devices=(device, device), outputs=(50,) * 4, inputs=50, error=0.3)
    found = uncertainty_of(predict(tied), Doubts(samples=1000))
    # All splits have one latency; so in each sample just those of the best throughput are on the front.
    assert sum(split.front_probability for split in found.splits) == pytest.approx(1.0)


COVERED = (0.85, 0.95)


def test_the_interval_holds_the_truth_in_nine_of_ten_trials_where_all_blocks_are_off_alike(toy: Any) -> None:
    """Of a split whose first stage binds clearly."""
    rng = np.random.default_rng(20)
    true = predict(_setting(toy))
    held = []
    for trial in range(200):
        factors = np.exp(rng.normal(0, 0.1 / NORMAL_MEDIAN_DEVIATION, 2))
        seen = toy.setting(
            np.array((0.25, 0.1, 0.3, 0.2)) * factors[0], np.array((0.2, 0.15, 0.25, 0.1)) * factors[1],
            outputs=(4000, 2000, 1000, 500), inputs=8000, link=toy.link(1e7, 0.01), error=0.1,
        )  # fmt: skip
        doubts = Doubts(samples=300, seed=trial, error_model=ErrorModel(common_share=1.0))
        found = uncertainty_of(predict(seen), doubts).split(3)
        row = true.row(3)
        held.append(
            (
                found.latency_p05_s <= row.latency_s <= found.latency_p95_s,
                found.throughput_p05_per_s <= row.throughput_per_s <= found.throughput_p95_per_s,
            )
        )
    for share in np.mean(held, axis=0):
        assert COVERED[0] <= share <= COVERED[1]


@pytest.mark.parametrize("name", ["paced", "closed", "burst"])
def test_the_interval_holds_the_truth_in_nine_of_ten_trials_where_two_stages_are_equal(toy: Any, name: str) -> None:
    """The larger of two equal times is seen too long, and drawn longer still: plain percentiles hold it in eight."""
    rng = np.random.default_rng(23)
    first, second = np.array((0.25, 0.15, 0.3)), np.array((0.2, 0.1, 0.4))  # 0.4 s on either side of split 2

    def setting(*factors: float) -> Setting:
        built: Setting = toy.setting(first * factors[0], second * factors[1], link=toy.link(1e9), **MODES[name])
        return built

    true = predict(setting(1.0, 1.0)).row(2)
    assert true.stages_s == pytest.approx((0.4, 0.4))
    held, plain = [], []
    for trial in range(250):
        prediction = predict(setting(*np.exp(rng.normal(0, 0.05 / NORMAL_MEDIAN_DEVIATION, 2))))
        doubts = Doubts(samples=300, seed=trial, error_model=ErrorModel(common_share=1.0))
        found = uncertainty_of(prediction, doubts).split(2)
        held.append(
            (
                found.latency_p05_s <= true.latency_s <= found.latency_p95_s,
                found.throughput_p05_per_s <= true.throughput_per_s <= found.throughput_p95_per_s,
            )
        )
        low, high = np.quantile(draw(prediction, doubts).throughput_per_s[:, 2], [0.05, 0.95])
        plain.append(low <= true.throughput_per_s <= high)
    for share in np.mean(held, axis=0):
        assert COVERED[0] <= share <= COVERED[1]
    assert np.mean(plain) < COVERED[0]


def test_no_interval_is_faster_than_a_link_that_is_certain(toy: Any) -> None:
    # 1 600 bytes on a link of 40 kbit/s: 0.32 s, where either stage takes as long.
    setting = toy.setting((0.32, 0.3), (0.3, 0.32), outputs=(50, 10), link=toy.link(4e4), error=0.1)
    row = predict(setting).row(1)
    assert row.period_s == pytest.approx(0.32)
    found = uncertainty_of(predict(setting), QUICK).split(1)
    assert found.throughput_p05_per_s < found.throughput_p95_per_s == found.throughput_p99_per_s == row.throughput_per_s


@pytest.mark.parametrize("fields", MODES.values(), ids=MODES.keys())
def test_claims_are_of_what_is_drawn_and_said_to_be(toy: Any, fields: dict[str, Any]) -> None:
    prediction = predict(_setting(toy, error=0.1, **fields))
    drawn, found = draw(prediction, QUICK), uncertainty_of(prediction, QUICK)
    if drawn.claims is None:
        assert (found.fast_ends, prediction.setting.has_closed_form) == ("samples", False)
        return
    assert found.fast_ends == "stations"
    assert drawn.claims.latency_s.max(axis=0) == pytest.approx(drawn.latency_s, rel=1e-11)
    assert 8 / drawn.claims.period_s.max(axis=0) == pytest.approx(drawn.throughput_per_s, rel=1e-11)


def test_the_interval_holds_the_truth_in_nine_of_ten_trials_where_errors_move_along_the_model(toy: Any) -> None:
    """Errors drawn here from their covariance, by a factorisation of it, and not by the process under test."""
    rng = np.random.default_rng(21)
    blocks, error = 20, 0.05
    true_s = rng.uniform(0.01, 0.1, blocks)
    shares = true_s / true_s.sum()
    middles = np.cumsum(shares) - shares / 2
    model = ErrorModel()
    covariance = model.moving_spread(error) ** 2 * np.exp(
        -np.abs(middles[:, np.newaxis] - middles) / model.correlation_length
    )
    factor = np.linalg.cholesky(covariance)
    held = []
    for trial in range(200):
        logs = factor @ rng.standard_normal(blocks)
        moved = true_s * np.exp(logs)
        seen_s = moved * true_s.sum() / moved.sum() * np.exp(rng.normal(0, model.common_spread(error)))
        drawn = drawn_block_times_s(
            toy.timing(seen_s.tolist(), error=error), 8, error, 300, np.random.default_rng(trial), model
        )
        for last in (4, 10, 20):
            low, high = np.quantile(drawn[:, :last].sum(axis=1), [0.05, 0.95])
            held.append((last, low <= true_s[:last].sum() <= high))
    for last in (4, 10, 20):
        assert COVERED[0] <= np.mean([inside for at, inside in held if at == last]) <= COVERED[1]


def test_the_interval_of_repeats_alone_holds_the_true_medians_sum(toy: Any) -> None:
    """Passes are slow as a whole: drawn one block at a time, repeats would make sums look far more certain."""
    rng = np.random.default_rng(22)
    true_s = np.array((0.25, 0.1, 0.3, 0.2))
    held, widths = [], []
    for trial in range(200):
        passes = np.exp(rng.normal(0, 0.1, 31)) * np.exp(rng.normal(0, 0.02, (4, 31)))
        timing = _with_repeats(toy.timing(true_s, error=0.0), true_s[:, np.newaxis] * passes)
        drawn = drawn_block_times_s(timing, 8, 0.0, 300, np.random.default_rng(trial), ErrorModel())
        low, high = np.quantile(drawn.sum(axis=1), [0.05, 0.95])
        held.append(low <= true_s.sum() <= high)
        widths.append(math.log(high / low))
    assert COVERED[0] <= np.mean(held) <= COVERED[1]
    # The median of 31 normals is known to about 1.25 σ/√31.
    assert np.mean(widths) == pytest.approx(2 * Z95 * 1.25 * 0.1 / math.sqrt(31), rel=0.15)


def test_repeats_of_unequal_number_are_drawn_block_by_block_and_one_repeat_says_nothing(toy: Any) -> None:
    timing = toy.timing((0.2, 0.4, 0.4), error=0.0)
    samples = ((0.1, 0.2, 0.3), (0.3, 0.4, 0.4, 0.5), (0.4,))
    blocks = tuple(
        BlockTiming(name=block.name, samples_s=own)
        for block, own in zip(timing.batches[0].blocks, samples, strict=True)
    )
    timing = msgspec.structs.replace(timing, batches=(BatchTiming(batch=8, blocks=blocks),))
    drawn = drawn_block_times_s(timing, 8, 0.0, 2000, np.random.default_rng(3), ErrorModel())
    assert set(np.round(drawn[:, 0], 12)) == {0.1, 0.2, 0.3}
    assert (drawn[:, 2] == 0.4).all()
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.1


def test_what_does_not_fit_is_never_on_a_front_nor_best(toy: Any) -> None:
    needs = [row.memory_bytes[0] for row in predict(_setting(toy, weights=10**6)).rows]
    device = toy.device("one", memory_bytes=sorted(needs)[2])
    prediction = predict(_setting(toy, devices=(device, toy.device("two")), weights=10**6, error=0.2))
    unfit = [row.split for row in prediction.rows if not row.fits]
    found = uncertainty_of(prediction, QUICK)
    assert unfit
    assert len(unfit) < len(prediction.rows)
    for number in unfit:
        split = found.split(number)
        assert (split.front_probability, split.best_latency_probability, split.best_throughput_probability) == (0, 0, 0)
        assert all(number not in (alike or ()) for alike in found.alike.values())


def test_constraints_are_met_with_a_probability(toy: Any) -> None:
    prediction = predict(_setting(toy))
    limit_s = prediction.row(4).latency_s
    found = uncertainty_of(predict(_setting(toy, max_latency_s=limit_s)), Doubts(samples=2000))
    assert found.split(4).meets_constraints_probability == pytest.approx(0.5, abs=0.05)
    assert 0.4 < found.qualifying_probability < 1


def test_alike_are_splits_that_may_well_be_as_good(toy: Any) -> None:
    """Two splits 0.2% apart are not told apart at an error of 20%, and two 20% apart are at one of 0.1%."""

    near = toy.setting((0.5, 0.011, 0.5), (0.5, 0.01, 0.5), link=toy.link(1e12), error=0.2)
    found = uncertainty_of(predict(near), Doubts(samples=1000))
    assert (predict(near).recommended.throughput, found.alike["throughput"]) == (1, (2,))
    far = predict(toy.setting((0.5, 0.1, 0.5), (0.5, 0.15, 0.5), link=toy.link(1e12), error=0.001))
    assert uncertainty_of(far, QUICK).alike["throughput"] == ()


def test_a_sample_in_which_nothing_keeps_up_makes_no_splits_alike(toy: Any) -> None:
    mode = Mode.named("open", arrivals=Arrivals(rate_per_s=2.2))
    prediction = predict(_setting(toy, error=0.1, mode=mode, outputs=(400_000, 2000, 1000, 500)))
    found = uncertainty_of(prediction, QUICK)
    assert 0.05 < found.qualifying_probability < 0.95
    assert math.isinf(found.split(1).latency_p05_s)  # ten seconds a batch over the link
    assert found.split(1).meets_constraints_probability == 0
    assert 1 not in (found.alike["latency"] or ())
    assert (found.alike["latency"], found.gain_over_first) != (None, None)


def test_an_unknown_error_is_refused_and_can_be_assumed(toy: Any) -> None:
    prediction = predict(_setting(toy, error=None))
    with pytest.raises(
        BadInputError,
        match=r"the error of the timing of toy on one is not known; assume one with --assume-error one=0\.1 .*"
        r"or measure it with: hwrun profile",
    ):
        uncertainty_of(prediction, QUICK)
    found = uncertainty_of(prediction, Doubts(samples=200, assumed_errors={"one": 0.1, "two": 0.2}))
    known = uncertainty_of(predict(_setting(toy, error=0.1)), QUICK)
    assert [(doubt.error, doubt.source) for doubt in found.devices] == [(0.1, "assumed"), (0.2, "assumed")]
    assert found.splits[-1].latency_p50_s == known.splits[-1].latency_p50_s
    with pytest.raises(BadInputError, match=r"got one of one, but its timing of toy has its own, 5\.0%"):
        uncertainty_of(predict(_setting(toy)), Doubts(assumed_errors={"one": 0.1}))
    with pytest.raises(BadInputError, match="got one of three, expected one of one or two"):
        uncertainty_of(prediction, Doubts(assumed_errors={"three": 0.1}))


def test_bad_doubts_are_refused(toy: Any) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"samples": 99}, "samples: got 99, expected 100 to 100000"),
        ({"seed": -1}, "seed: got -1"),
        ({"rate_spread": -0.1}, "rate_spread: got -0.1, expected a share from 0 to 10"),
        ({"delay_spread": math.nan}, "delay_spread: got nan"),
        ({"assumed_errors": {"one": 11.0}}, "assumed error of one: got 11.0"),
    ]
    for fields, said in bad:
        with pytest.raises(BadInputError, match=said):
            Doubts(**fields)
    with pytest.raises(BadInputError, match=r"common_share: got 1\.5, expected 0 to 1"):
        ErrorModel(common_share=1.5)
    with pytest.raises(BadInputError, match="correlation_length: got 0"):
        ErrorModel(correlation_length=0)
    with pytest.raises(BadInputError, match="error of 1000 of toy on one is too large"):
        uncertainty_of(predict(_setting(toy, error=1000.0)), QUICK)
    random = {"mode": Mode.named("open", arrivals=Arrivals(rate_per_s=1.0, process="poisson"))}
    with pytest.raises(BadInputError, match=r"random arrivals are a simulation of their own .*--batches"):
        uncertainty_of(predict(_setting(toy, **random)), QUICK)


def test_the_verdict_speaks_of_samples(toy: Any) -> None:
    prediction = predict(_setting(toy))
    found = uncertainty_of(prediction, QUICK)
    said = verdict(prediction, doubt_sentences(prediction, found))
    best = prediction.recommended.throughput
    assert (
        f"Split {best} has the highest throughput in {percent(found.split(best or 0).best_throughput_probability)}"
        in said
    )
    assert "Over 200 samples" in said
    assert verdict(prediction).split("The stage times")[0].strip() in said or "cannot be told apart" in verdict(
        prediction
    )


def test_a_verdict_without_a_split_says_how_often_there_is_one(toy: Any) -> None:
    prediction = predict(_setting(toy, max_latency_s=1e-3))
    said = verdict(prediction, doubt_sentences(prediction, uncertainty_of(prediction, QUICK)))
    assert said.startswith("No split meets latency ≤ 1 ms")
    assert said.endswith("Some split does in 0% of 200 samples.")


# As a user types it.


@pytest.fixture
def known(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """`predict` over toy profiles."""
    monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))
    return ("predict", "--model", "toy", "--devices", "one,two", "--bw", "5mbit")


def test_the_command_adds_columns_and_leaves_the_rest(command: Command, known: tuple[str, ...]) -> None:
    code, out, err = command(*known, "--uncertainty", "--samples", 200, "--seed", 3)
    assert (code, err) == (0, "")
    assert "uncertainty: 200 samples, seed 3; block times one ±5.0% of its timing, two ±5.0% of its timing" in out
    assert "rate certain, delay certain" in out
    for heading in ("5–95%, s", "front", "bottleneck"):
        assert heading in out
    assert "Over 200 samples of what block times and link may be" in out
    _, plain, _ = command(*known)
    assert "uncertainty" not in plain
    assert set(plain.splitlines()[:2]) <= set(out.splitlines())


def test_json_has_an_object_and_fields_of_each_row(command: Command, known: tuple[str, ...]) -> None:
    _, out, _ = command(*known, "--uncertainty", "--samples", 200, "--seed", 3, "--rate-spread", 0.2, "--json")
    found, plain = json.loads(out), json.loads(command(*known, "--json")[1])
    assert found["seed"] == found["uncertainty"]["seed"] == 3
    assert found["uncertainty"]["rate_spread"] == 0.2
    assert found["uncertainty"]["error_model"] == {"common_share": 0.5, "correlation_length": 0.25}
    assert found["uncertainty"]["devices"][0] == {"device": "one", "error": 0.05, "source": "timing", "repeats": False}
    assert found["identity"] != plain["identity"]
    for row, before in zip(found["rows"], plain["rows"], strict=True):
        own = row["uncertainty"]
        assert {name: value for name, value in row.items() if name != "uncertainty"} == before
        assert own["latency_p05_s"] < row["latency_s"] < own["latency_p95_s"]
        assert 0 <= own["front_probability"] <= 1
    assert "uncertainty" not in plain
    again = json.loads(
        command(*known, "--uncertainty", "--samples", 200, "--seed", 3, "--rate-spread", 0.2, "--json")[1]
    )
    assert again == found


def test_csv_has_more_columns_behind_the_same_ones(command: Command, known: tuple[str, ...]) -> None:
    _, out, _ = command(*known, "--uncertainty", "--samples", 100, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    plain = list(csv.DictReader(io.StringIO(command(*known, "--csv")[1])))
    assert list(rows[0])[: len(plain[0])] == list(plain[0])
    assert list(rows[0])[len(plain[0])] == "uncertainty.latency_p05_s"
    assert [float(row["uncertainty.front_probability"]) for row in rows]
    assert [{name: row[name] for name in plain[0]} for row in rows] == plain


def test_a_figure_has_bars_and_a_scale_of_probabilities(
    command: Command, known: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    code, _, err = command(*known, "--uncertainty", "--samples", 100, "--plot", tmp_path / "a.svg")
    assert (code, err) == (0, f"figure: {tmp_path / 'a.svg'}\n")
    assert "share of 100 samples on the front (bars: 5–95%)" in (tmp_path / "a.svg").read_text()
    command(*known, "--plot", tmp_path / "b.svg")
    assert "share of" not in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--samples", 200), "--samples: has no meaning without --uncertainty; add it, or leave --samples out"),
        (("--rate-spread", 0.1), "--rate-spread: has no meaning without --uncertainty"),
        (("--assume-error", "one=0.1"), "--assume-error: has no meaning without --uncertainty"),
        (("--uncertainty", "--samples", 5), "samples: got 5, expected 100 to 100000"),
        (("--uncertainty", "--assume-error", "one"), "--assume-error: got 'one', expected DEVICE=F such as rpi4b=0.1"),
        (("--uncertainty", "--batch", "1,8"), "--uncertainty: has no meaning with several batches or windows"),
        (("--uncertainty", "--objectives", "latency,bytes"), "--uncertainty: has no meaning with several batches"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    command: Command, known: tuple[str, ...], options: tuple[object, ...], said: str
) -> None:
    code, out, err = command(*known, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_a_users_own_times_need_an_assumed_error(command: Command, known: tuple[str, ...], tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("b0,0.1\nb0,0.12\nb0,0.11\nb1,0.2\nb1,0.2\nb1,0.2\n")
    asked = (*known, "--timing", f"one={own}", "--uncertainty", "--samples", 100)
    code, _, err = command(*asked)
    assert code == 2
    assert "assume one with --assume-error one=0.1" in err
    code, out, _ = command(*asked, "--assume-error", "one=0.2")
    assert code == 0
    assert "one ±20.0% assumed and repeats redrawn" in out
    assert "Over 100 samples" in out


def _prediction_of_the_paper() -> Prediction:
    from paretosim.predicting import predict_splits

    return predict_splits("vgg16", bw="5mbit", delay="200ms")


def test_shares_of_the_papers_deployment_are_neither_none_nor_all() -> None:
    prediction = _prediction_of_the_paper()
    found = uncertainty_of(prediction)
    best = found.split(prediction.recommended.throughput or 0)
    assert 0.5 < best.best_throughput_probability < 0.95
    assert found.gain_over_first is not None
    assert found.gain_over_first.p05 < found.gain_over_first.p50 < found.gain_over_first.p95
