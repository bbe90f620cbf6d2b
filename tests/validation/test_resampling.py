"""Bootstrap draws: what is drawn anew, and that intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from paretosim.errors import BadInputError
from validation.resampling import Resampling, draw


def test_equal_seeds_draw_equally_and_others_do_not() -> None:
    runs = [["a"] * 5] * 3
    first, again, other = (draw(runs, Resampling(50, seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first.indices, again.indices, strict=True))
    assert any((a != b).any() for a, b in zip(first.indices, other.indices, strict=True))


def test_with_one_run_the_repeats_of_each_cell_are_drawn() -> None:
    found = draw([["a", "a", "a"], ["a", "a"]], Resampling(2000))
    assert found.level == "repeats"
    assert [indices.shape for indices in found.indices] == [(2000, 3), (2000, 2)]
    # Every repeat is drawn as often as any other, and the cells apart from each other.
    counts = np.bincount(found.indices[0].ravel())
    assert counts / counts.sum() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert abs(np.corrcoef(found.indices[0][:, 0], found.indices[1][:, 0])[0, 1]) < 0.1


def test_with_two_runs_of_every_cell_whole_runs_are_drawn_for_all_cells_alike() -> None:
    runs = [["a", "a", "b", "b"], ["b", "b", "a", "a"]]
    found = draw(runs, Resampling(400))
    assert found.level == "runs"
    of_cells = [[[runs[cell][place] for place in row] for row in found.indices[cell]] for cell in (0, 1)]
    for one, two in zip(*of_cells, strict=True):
        assert sorted(one) == sorted(two)
        assert one.count("a") in (0, 2, 4)


def test_a_run_that_lacks_a_cell_gives_it_nothing() -> None:
    found = draw([["a", "b"], ["b", "c"]], Resampling(400))
    medians = found.medians([[1.0, 2.0], [20.0, 30.0]])
    assert np.isnan(medians).any(axis=0).all()  # some resample is of a alone, some of c alone
    for row, indices in zip(medians, found.indices[0], strict=True):
        held = [[1.0, 2.0][place] for place in indices if place >= 0]
        assert (np.isnan(row[0]) and not held) or row[0] == np.median(held)


def test_cells_measured_once_have_no_interval() -> None:
    found = draw([["a"], ["b"]], Resampling(10))
    assert found.level == "nothing"
    assert found.interval(np.array([1.0, 2.0])) is None


def test_where_no_resamples_are_asked_for_nothing_is_drawn() -> None:
    found = draw([["a", "b"], ["a", "b"]], Resampling(0))
    assert found.level == "nothing"
    assert [indices.shape for indices in found.indices] == [(0, 2), (0, 2)]


def test_a_cell_measured_in_one_run_makes_all_cells_be_drawn_by_repeats() -> None:
    assert draw([["a", "b"], ["a", "a"]], Resampling(10)).level == "repeats"


def test_an_interval_is_the_middle_of_the_resamples() -> None:
    found = draw([["a", "a"]], Resampling(10, confidence=0.8))
    assert found.interval(np.arange(101.0)) == (pytest.approx(10.0), pytest.approx(90.0))
    assert found.interval(np.array([np.nan, 3.0])) == (3.0, 3.0)


def test_the_interval_of_a_median_covers_it_as_often_as_theory_says() -> None:
    """Of 9 repeats, 5 % of resampled medians lie below the third smallest: P(Bin(9, 2/9) ≥ 5) = 3 %, with 3/9 14 %.

    So the interval runs from the third to the seventh, which hold the median in 420 of 512 cases, not in nine of ten:
    percentile intervals of few repeats are short.
    """
    random = np.random.default_rng(5)
    held = 0
    for trial in range(400):
        values = random.normal(10.0, 1.0, 9)
        found = draw([["a"] * 9], Resampling(400, seed=1000 + trial, confidence=0.9))
        interval = found.interval(found.medians([values])[:, 0])
        assert interval is not None
        held += interval[0] <= 10.0 <= interval[1]
    assert held / 400 == pytest.approx(420 / 512, abs=0.06)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resamples": 1}, "resamples: got 1, expected 2 to"),
        ({"seed": -1}, "seed: got -1"),
        ({"confidence": 1.0}, "confidence: got 1.0, expected a share above 0 and below 1"),
    ],
)
def test_meaningless_options_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        Resampling(**options)
