"""Aligned columns, and which are left out where width is short."""

from __future__ import annotations

from paretosim.show.columns import Column, aligned, fitting

COLUMNS = [
    Column(heading="split", cells=("0", "10")),
    Column(heading="after", cells=("input", "conv"), align="left", priority=2),
    Column(heading="latency\ns", cells=("1.5", "12")),
    Column(heading="memory", cells=("1 GB", "2 GB"), priority=3),
]


def test_cells_stand_under_their_headings_on_their_side() -> None:
    assert aligned(COLUMNS, ["", "bold"]).plain.split("\n") == [
        "              latency",
        "split  after        s  memory",
        "    0  input      1.5    1 GB",
        "   10  conv        12    2 GB",
        "",
    ]


def test_each_row_has_its_style() -> None:
    text = aligned(COLUMNS, ["green", "red"])
    assert [str(span.style) for span in text.spans] == ["bold", "bold", "green", "red"]


def test_everything_is_kept_where_it_fits_exactly() -> None:
    assert fitting(COLUMNS, 29) == (COLUMNS, [])


def test_the_largest_priority_goes_first_and_the_rest_keep_their_order() -> None:
    kept, left_out = fitting(COLUMNS, 28)
    assert (kept, left_out) == (COLUMNS[:3], [COLUMNS[3]])
    kept, left_out = fitting(COLUMNS, 15)
    assert (kept, left_out) == ([COLUMNS[0], COLUMNS[2]], [COLUMNS[3], COLUMNS[1]])


def test_priority_zero_is_never_left_out() -> None:
    assert fitting(COLUMNS, 1)[0] == [COLUMNS[0], COLUMNS[2]]
