"""Front agreement, computed by hand on synthetic runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwrun.records import read_run
from paretosim.pareto import is_nondominated
from validation.fronts import _front_ranks, _nearly_on_front, front_agreement
from validation.join import join
from validation.measured import quantity
from validation.resampling import Resampling, draw


@pytest.fixture
def agreement(synthetic: Callable) -> Callable:
    """Agreement of the one condition of a synthetic run whose measurements are off by `factors`."""

    def find(factors: Callable, tolerance: float = 0.02, **changes: object) -> object:
        run = synthetic(factors=factors, repeats=1, **changes)
        return front_agreement(join([read_run(run.write())], run.store).comparisons, tolerance)

    return find


def _factors(latency: float) -> object:
    return SimpleNamespace(latency=latency, throughput=1.0, transfer=1.0)


def test_exact_predictions_agree_in_every_respect(agreement: Callable) -> None:
    found = agreement(lambda split, repeat: _factors(1.0))
    assert found.predicted == found.measured == ("3", "4", "5")
    assert found.agrees
    assert (found.strict.precision, found.strict.recall, found.strict.f1) == (1.0, 1.0, 1.0)
    assert found.decision_hypervolume == pytest.approx(1.0)
    assert (found.latency.regret, found.latency.true_rank) == (0.0, 1)
    assert (found.throughput.regret, found.throughput.true_rank) == (0.0, 1)


def test_a_split_that_measures_far_worse_costs_precision(agreement: Callable) -> None:
    # Split 4 is predicted on the front; twice its latency puts it behind split 3.
    found = agreement(lambda split, repeat: _factors(2.0 if split == 4 else 1.0))
    assert found.predicted == ("3", "4", "5")
    assert found.measured == ("3", "5")
    assert (found.strict.precision, found.strict.recall) == (pytest.approx(2 / 3), 1.0)
    assert found.strict.f1 == pytest.approx(0.8)
    assert found.decision_hypervolume == pytest.approx(1.0)  # the other two are on the measured front


def test_following_a_wrong_recommendation_has_a_regret_and_a_rank(agreement: Callable) -> None:
    found = agreement(lambda split, repeat: _factors(3.0 if split == 5 else 1.0))
    latency = found.latency
    assert (latency.recommended, latency.measured_best) == ("5", "4")
    # Predicted (so measured but for split 5): 96.1 ms at split 5, 107.6 ms at split 4.
    assert latency.regret == pytest.approx(3 * 0.0961184 / 0.1076352 - 1, rel=1e-3)
    assert latency.true_rank == 5


def test_a_near_miss_counts_in_the_tolerant_score_alone(agreement: Callable) -> None:
    # Of two splits with nearly equal latency, 1 % is enough to leave the front and not enough to matter.
    def nearly(split: int, repeat: int) -> object:
        return _factors(0.1371 / 0.1076 * 1.01 if split == 4 else 1.0)

    found = agreement(nearly)
    assert "4" not in found.measured
    assert found.strict.precision < 1
    assert found.tolerant.precision == 1.0
    assert agreement(nearly, tolerance=0.0).tolerant.precision < 1


def test_one_split_makes_no_front(agreement: Callable) -> None:
    assert agreement(lambda split, repeat: _factors(1.0), splits=(2,)) is None


def test_membership_is_the_share_of_draws_in_which_a_split_is_on_the_measured_front(synthetic: Callable) -> None:
    # In one repeat of three, split 4 is far behind split 3: the median of three draws is that repeat's where it
    # was drawn twice or thrice, 3 · (1/3)² · (2/3) + (1/3)³ = 7/27 of the time.
    run = synthetic(factors=lambda split, repeat: _factors(2.0 if split == 4 and repeat == 0 else 1.0), repeats=3)
    cells = join([read_run(run.write())], run.store).comparisons
    draws = draw([[r.run_id for r in cell.repeats] for cell in cells], Resampling(4000))
    found = front_agreement(cells, 0.02, draws)
    assert found is not None
    assert found.measured == ("3", "4", "5")
    assert found.membership == {"0": 0, "1": 0, "2": 0, "3": 1, "4": pytest.approx(20 / 27, abs=0.02), "5": 1}
    assert found.intervals["precision"] == (pytest.approx(2 / 3), 1.0)
    assert found.intervals["recall"] == (1.0, 1.0)
    assert found.intervals["epsilon"] == (1.0, 1.0)


def test_every_interval_of_a_resample_is_the_score_of_the_cells_it_drew(synthetic: Callable) -> None:
    noise = np.random.default_rng(7).normal(1.0, 0.15, (6, 3))
    run = synthetic(factors=lambda split, repeat: _factors(float(noise[split, repeat])), repeats=3)
    cells = join([read_run(run.write())], run.store).comparisons
    draws = draw([["run"] * 3] * 6, Resampling(60, confidence=0.9))
    found = front_agreement(cells, 0.02, draws)
    assert found is not None
    scores: dict[str, list[float]] = {}
    for k in range(60):
        drawn = []
        for cell, indices in zip(cells, draws.indices, strict=True):
            picked = [cell.repeats[i] for i in indices[k]]
            drawn.append(
                replace(
                    cell,
                    latency=quantity([r.latency_s for r in picked], [], cell.latency.predicted),
                    throughput=quantity([r.throughput_per_s for r in picked], [], cell.throughput.predicted),
                )
            )
        one = front_agreement(drawn, 0.02)
        assert one is not None
        for name, value in {
            "f1": one.strict.f1, "tolerant_f1": one.tolerant.f1, "tolerant_recall": one.tolerant.recall,
            "decision_hypervolume": one.decision_hypervolume, "igd_plus": one.igd_plus, "epsilon": one.epsilon,
            "latency_regret": one.latency.regret, "throughput_true_rank": one.throughput.true_rank,
            "knee_regret": one.knee.regret, "knee_true_rank": one.knee.true_rank,
        }.items():  # fmt: skip
            scores.setdefault(name, []).append(float(value))
    for name, values in scores.items():
        assert found.intervals[name] == pytest.approx(np.quantile(values, (0.05, 0.95)).tolist()), name


def test_a_knee_off_the_front_is_ranked_by_the_fronts_before_it(agreement: Callable) -> None:
    # Predicted and measured front are 3, 4, 5 with the knee at 4; of twice its latency, 4 is behind split 3 alone.
    assert agreement(lambda split, repeat: _factors(1.0)).knee.regret == 0.0
    found = agreement(lambda split, repeat: _factors(2.0 if split == 4 else 1.0)).knee
    assert (found.recommended, found.measured_best, found.true_rank) == ("4", "3", 2)
    latency, throughput = 2 * 0.1076352 / 0.1371, 1.0
    assert 0 < found.regret <= latency - throughput


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8))
def test_ranks_of_fronts_equal_those_of_moocore(points: list[tuple[int, int]]) -> None:
    objectives = np.array(points, dtype=np.float64)
    ranks = _front_ranks(objectives[np.newaxis])[0]
    assert ranks.tolist() == (moocore.pareto_rank(objectives * [1, -1]) + 1).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=7), st.floats(0, 0.3))
def test_nearly_on_the_front_by_improving_one_split_after_the_other(
    points: list[tuple[int, int]], tolerance: float
) -> None:
    objectives = np.array(points, dtype=np.float64)
    expected = []
    for index in range(len(points)):
        changed = objectives.copy()
        changed[index] *= [1 / (1 + tolerance), 1 + tolerance]
        expected.append(is_nondominated(changed * [1, -1])[index])
    assert _nearly_on_front(objectives[np.newaxis], tolerance)[0].tolist() == expected
