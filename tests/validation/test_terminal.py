"""Tables at the width of a terminal: nothing is cut, no word broken, and what has no room is named."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from validation.cli import main
from validation.report.tables import Column, Table
from validation.report.terminal import fitting, print_table

COLUMNS = (
    Column("split"),
    Column("measured", "latency"),
    Column("predicted", "latency", priority=1),
    Column("noise floor", "latency", priority=2),
    Column("output", words=True, once=True),
    Column("remark", words=True),
)
ROWS = (("1", "63.18ms", "62.46ms", "2.77 %", "equal", "a few words"), ("12", "5.1ms", "5ms", "–", "equal", "none"))
TABLE = Table("Cells", COLUMNS, ROWS, ("Of one run.",))


def shown(table: Table, width: int) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width), table, elsewhere="report.md")
    return file.getvalue()


def test_columns_stand_under_the_name_of_their_group() -> None:
    assert [line.rstrip() for line in shown(TABLE, 80).splitlines()] == [
        "",
        "Cells",
        "        latency",
        "                             noise",
        "split  measured  predicted   floor  remark",
        "    1   63.18ms    62.46ms  2.77 %  a few words",
        "   12     5.1ms        5ms       –  none",
        "Of one run. In every row: output equal.",
    ]


def test_the_least_important_column_goes_first_and_is_named() -> None:
    assert [len(fitting(TABLE.said_once(), width)[1]) for width in (80, 53, 46, 30)] == [0, 0, 1, 2]
    text = " ".join(shown(TABLE, 30).split())
    assert "2.77 %" not in text
    assert "No room here for: latency predicted, latency noise floor (see report.md)." in text


def test_what_is_nothing_in_every_row_is_not_said() -> None:
    table = Table("Cells", (Column("split"), Column("transfer error", once=True)), (("1", "–"), ("2", "–")))
    assert table.said_once() == Table("Cells", (Column("split"),), (("1",), ("2",)))


@pytest.mark.parametrize("width", [80, 100])
def test_a_report_breaks_no_word_and_keeps_to_the_width(
    width: int, synthetic: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    run = synthetic(splits=(1, 3))
    assert main(["report", str(run.write()), "--profiles", str(run.profiles)]) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = lines[2:-1]  # after the verdict, which a pipe gets in whole paragraphs, and before the path
    assert max(map(len, tables)) <= width
    words = {word for line in tables for word in line.split()}
    assert {"predicted", "measured", "throughput", "hypervolume", "uncalibrated"} <= words
