"""The scatter in the terminal: dots where the values are."""

from __future__ import annotations

from typing import Any

import pytest

from paretosim.prediction import predict
from paretosim.show.scatter import scatter

FIELDS = {"first_s": (0.25,) * 4, "second_s": (0.25,) * 4, "outputs": (4000, 2000, 1000, 500), "inputs": 8000}


def _lines(toy: Any, width: int = 40, height: int = 9, **fields: Any) -> list[str]:
    found = predict(toy.setting(**FIELDS, link=toy.link(fields.pop("rate_bps", 1e7)), **fields))
    return scatter(found, width, height).plain.split("\n")


def test_the_front_is_marked_with_its_splits_and_the_axes_with_their_extremes(toy: Any) -> None:
    lines = _lines(toy)
    picture = "\n".join(lines)
    # Front: splits 4 (fastest, bottom left), 3, and 2 (busiest, top); 0 is slowest, bottom right.
    assert lines[1].startswith("16 │")
    assert "●2" in lines[1]
    assert lines[9].startswith(" 8 │●")
    assert lines[9].rstrip().endswith("·")
    assert "1.01" in lines[11]
    assert "1.2  latency, s" in lines[11]
    assert picture.count("●") == 1 + 3  # one in the legend
    assert picture.count("·") == 1 + 2


def test_a_wide_range_gets_a_logarithmic_axis_and_says_so(toy: Any) -> None:
    assert "(log)" not in "\n".join(_lines(toy))
    assert "latency, s (log)" in "\n".join(_lines(toy, rate_bps=1e4))


def test_what_does_not_fit_is_not_drawn(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    assert _lines(toy, devices=devices) == [""]


def test_one_point_is_drawn_too(toy: Any) -> None:
    one = predict(toy.setting((0.1, 0.2), (0.1, 0.2), splits="interior"))
    assert "●1" in scatter(one).plain


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (8, 16), (200, 50)])
def test_no_line_is_wider_than_asked_but_for_labels_and_axis(toy: Any, width: int, height: int) -> None:
    lines = _lines(toy, width, height)
    assert len(lines) == height + 4
    assert all(len(line.rstrip()) <= width + 4 + 4 for line in lines[1:-3])
