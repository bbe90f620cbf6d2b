"""Scores, computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hwrun.records import read_run
from validation.join import join
from validation.measured import Quantity, quantity
from validation.resampling import Resampling, draw
from validation.scores import error_score, quantity_score, score


def measured(value: float, predicted: float, spread: float = 0.0) -> Quantity:
    return quantity([value - spread, value, value + spread], [], predicted)


def test_scores_by_hand() -> None:
    found = error_score([0.10, -0.20, 0.05, 0.0, -0.101])
    assert found is not None
    assert found.mape == pytest.approx(0.0902)
    # Sizes 0, .05, .10, .101, .20: the 90th percentile lies 0.6 of the way from the fourth to the fifth.
    assert found.p90 == pytest.approx(0.101 + 0.6 * 0.099)
    assert found.within == pytest.approx(3 / 5)
    assert found.bias == 0.0


def test_nothing_to_score_scores_nothing() -> None:
    assert error_score([]) is None


def test_noise_floor_of_a_score_is_the_median_of_the_known_ones() -> None:
    quantities = [measured(1.0, 1.0, 0.01), measured(1.0, 1.0, 0.03), measured(1.0, 1.0, 0.02)]
    found = error_score([0.0, 0.0, 0.0], quantities)
    assert found is not None
    assert found.noise_floor == pytest.approx(0.02)


def test_a_cell_off_by_exactly_the_limit_is_within_it() -> None:
    found = error_score([0.1, -0.1, 0.1000001])
    assert found is not None
    assert found.within == pytest.approx(2 / 3)


def test_intervals_are_how_far_the_scores_of_resamples_lie_from_their_mean() -> None:
    """Of one cell with two repeats, a draw is (1, 1), (1, 2) or (2, 2): errors of 1, 1/3 or 0, on average 5/12."""
    quantities = [quantity([1.0, 2.0], [], 2.0)]
    found = quantity_score(quantities, [2.0], draw([["a", "a"]], Resampling(4000)))
    assert found is not None
    assert found.mape == pytest.approx(1 / 3)
    assert found.intervals["mape"] == (0.0, pytest.approx(1 / 3 + 1 - 5 / 12, abs=0.02))
    # A quarter of the draws is exact, and so within 10 %.
    assert found.intervals["within"] == (0.0, pytest.approx(0.75, abs=0.02))


def test_intervals_of_many_cells_against_drawing_by_hand() -> None:
    random = np.random.default_rng(3)
    cells = [quantity(random.normal(1.0, 0.05, 4).tolist(), [], 1.02) for _ in range(6)]
    draws = draw([["a"] * 4] * 6, Resampling(200))
    found = quantity_score(cells, [1.02] * 6, draws)
    assert found is not None
    by_hand = []
    for k in range(200):
        medians = [np.median([cell.values[i] for i in draws.indices[n][k]]) for n, cell in enumerate(cells)]
        by_hand.append(np.percentile([abs(1.02 - m) / m for m in medians], 90))
    expected = found.p90 + np.quantile(by_hand, (0.025, 0.975)) - np.mean(by_hand)
    assert found.intervals["p90"] == pytest.approx(expected.tolist())


def test_of_whole_runs_the_spread_that_few_of_them_lack_is_put_right() -> None:
    quantities = [quantity([1.0, 1.2], [], 2.0)]
    repeats, runs = (
        quantity_score(quantities, [2.0], draw([own], Resampling(4000))) for own in (["a", "a"], ["a", "b"])
    )
    assert repeats is not None
    assert runs is not None
    widths = [found.intervals["bias"][1] - found.intervals["bias"][0] for found in (repeats, runs)]
    assert widths[1] / widths[0] == pytest.approx(2**0.5, rel=0.02)


def test_an_interval_of_mape_holds_what_the_same_measurement_shows_on_average() -> None:
    """Errors of half the noise: percentiles of resamples, which hold the noise twice, hold it in one case of four."""
    random = np.random.default_rng(11)
    errors = random.normal(0.0, 0.005, 20)

    def measured() -> np.ndarray:
        return random.normal(1.0, 0.01, (5, 20))

    shown = np.mean([np.abs((1 + errors) / np.median(measured(), axis=0) - 1).mean() for _ in range(2000)])
    held = 0
    for trial in range(150):
        cells = [quantity(own.tolist(), [], 1.0) for own in measured().T]
        draws = draw([["a"] * 5] * 20, Resampling(200, trial, 0.9))
        found = quantity_score(cells, (1 + errors).tolist(), draws)
        assert found is not None
        held += found.intervals["mape"][0] <= shown <= found.intervals["mape"][1]
    assert held / 150 == pytest.approx(0.92, abs=0.07)


def test_what_cannot_be_compared_takes_no_part() -> None:
    quantities = [quantity([1.0, 1.0], [], 1.1), quantity([1e-6, 1e-6], [], 0.0)]
    found = quantity_score(quantities, [1.1, 0.0], draw([["a", "a"]] * 2, Resampling(10)))
    assert found is not None
    assert (found.cells, found.mape) == (1, pytest.approx(0.1))


def test_baselines_are_scored_as_they_are_defined(synthetic: Callable) -> None:
    run = synthetic(splits=(2,), repeats=1)
    comparison = join([read_run(run.write())], run.store).comparisons[0]
    # Stages at speed 2: (0.05 + 0.04) / 2 and (0.006 + 0.004 + 0.002) / 2; payload 4000 floats, batch 8, 5 Mbit/s.
    wire_s = 4000 * 4 * 8 * 8 / 5e6
    assert comparison.baselines.additive_latency_s == pytest.approx(0.045 + 0.006 + wire_s)
    assert comparison.baselines.additive_throughput_per_s == pytest.approx(8 / (0.051 + wire_s))
    assert comparison.baselines.overlap_throughput_per_s == pytest.approx(8 / wire_s)
    found = score([comparison]).additive_latency
    measured_s = comparison.latency.measured
    assert found is not None
    assert found.mape == pytest.approx(abs(0.051 + wire_s - measured_s) / measured_s)
