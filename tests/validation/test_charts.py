"""Charts: where things land, and that ticks are round."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from validation.report.charts import SHAPES, Panel, Scale, scale_over


def test_a_value_lies_where_its_scale_says() -> None:
    assert Scale(2.0, 4.0).at(3.0) == 0.5
    assert Scale(1.0, 100.0, logarithmic=True).at(10.0) == pytest.approx(0.5)


def test_a_wide_range_above_zero_is_logarithmic_and_errors_never_are() -> None:
    assert scale_over([1.0, 20.0]).logarithmic
    assert not scale_over([1.0, 9.0]).logarithmic
    assert not scale_over([0.0, 20.0]).logarithmic
    assert not scale_over([1.0, 20.0], whole=True).logarithmic


@given(st.floats(1e-9, 1e9), st.floats(1.0001, 1e6))
def test_ticks_are_few_round_and_within(low: float, factor: float) -> None:
    for logarithmic in (False, True):
        scale = Scale(low, low * factor, logarithmic)
        ticks = scale.ticks()
        assert len(ticks) <= 8
        assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)
        assert len(ticks) >= 2
        if logarithmic and factor > 1000:
            leading = {round(tick / 10 ** math.floor(math.log10(tick) + 1e-9), 6) for tick in ticks}
            assert leading <= {1.0, 2.0, 5.0}


@example([1.0, 2.2e-311], False)  # a ratio beyond the largest float
@example([1.7e308, 5e-324], False)  # and no room for a margin at either end
@example([5e-324], True)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.booleans())
def test_a_scale_holds_all_its_values(values: list[float], whole: bool) -> None:
    scale = scale_over(values, whole=whole)
    assert scale.low < scale.high
    assert all(0 <= scale.at(value) <= 1 for value in values)
    assert not whole or 0 <= scale.at(0.0) <= 1


def panel() -> Panel:
    return Panel(Scale(0.0, 10.0), Scale(0.0, 10.0), x_label="x", y_label="y", size=(100.0, 100.0))


def test_marks_land_where_they_should_and_say_what_they_are() -> None:
    drawn = panel()
    drawn.point(10.0, 10.0, shape="circle", style="s0", title="a <b>")
    text = drawn.svg("about", "one")
    # The plot's upper right corner: 12 from the right, 10 from the top.
    assert '<circle class="s0" cx="88.0" cy="10.0" r="4.0"><title>a &lt;b&gt;</title></circle>' in text
    assert 'role="img" aria-label="about"' in text


def test_error_bars_end_at_the_panel() -> None:
    drawn = Panel(Scale(1.0, 10.0, True), Scale(0.0, 1.0), x_label="", y_label="", size=(100.0, 100.0))
    drawn.bar((-5.0, 1000.0), (0.5, 0.5), "spread")
    assert 'class="spread" d="M52.0 35.0L88.0 35.0"' in drawn.svg("", "one")


def test_labels_never_lie_on_each_other_or_on_a_point() -> None:
    drawn = Panel(Scale(0.0, 10.0), Scale(0.0, 10.0), x_label="", y_label="")
    for place in range(12):
        drawn.point(5.0 + place * 0.05, 5.0, shape="circle", style="s0")
    for place in range(12):
        drawn.label(5.0 + place * 0.05, 5.0, f"split {place}")
    found = re.findall(r'class="label" x="([\d.]+)" y="([\d.]+)"', drawn.svg("", "one"))
    assert 1 <= len(found) < 12  # there is no room for all
    boxes = [(float(x), float(y)) for x, y in found]
    assert all(abs(a[0] - b[0]) > 30 or abs(a[1] - b[1]) > 8 for a in boxes for b in boxes if a is not b)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn(shape: str) -> None:
    drawn = panel()
    drawn.point(5.0, 5.0, shape=shape, style="mine")
    assert 'class="mine"' in drawn.svg("", "one")
