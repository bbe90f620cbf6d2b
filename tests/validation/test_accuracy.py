"""The accuracy table: no cell on both sides, one row a link, model and mode, written between marks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from paretosim.mode import Mode
from tests.validation.conftest import SLOW_LINK, SyntheticRun
from validation.accuracy import BEGIN, END
from validation.cli import main

FAST = msgspec.structs.replace(SLOW_LINK, name="100mbit,20ms", rate_bps=100e6, return_rate_bps=100e6)
MODES = [Mode.named("single"), Mode.named("burst")]


@pytest.fixture
def run(synthetic: Callable[..., SyntheticRun]) -> SyntheticRun:
    made = synthetic(modes=MODES, links=[SLOW_LINK, FAST], splits=(1, 2, 3))
    made.write()
    return made


def _accuracy(run: SyntheticRun, *options: str) -> int:
    return main(["accuracy", str(run.folder), "--profiles", str(run.profiles), "--model", "toy", *options])


def test_what_was_fitted_is_not_judged(run: SyntheticRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert _accuracy(run, "--link", SLOW_LINK.name, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fitted_cells"] == 3 * 2 * 2
    assert [row["cells_of"] for row in found["rows"]] == ["all", FAST.name, "toy", "mode burst", "mode single"]
    assert [row["figures"][0] for row in found["rows"]] == [6, 6, 6, 3, 3]


def test_the_table_goes_between_its_marks(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert _accuracy(run, "--link", SLOW_LINK.name, "--into", str(page)) == 0
    table = capsys.readouterr().out
    assert page.read_text() == f"before\n{BEGIN}\n\n{table}\n{END}\nafter\n"
    assert "| all | 6 |" in table
    page.write_text("no marks")
    assert _accuracy(run, "--link", SLOW_LINK.name, "--into", str(page)) == 2
    assert "to write between" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("links", "message"),
    [(["lte"], "got no cell of toy over lte"), ([SLOW_LINK.name, FAST.name], "got no other cell")],
    ids=("none to fit", "none to judge"),
)
def test_both_sides_need_cells(
    run: SyntheticRun, links: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _accuracy(run, *[option for link in links for option in ("--link", link)]) == 2
    assert message in capsys.readouterr().err
