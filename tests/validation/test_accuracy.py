"""The accuracy table: no cell on both sides, one row a link, model and mode, written between marks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwrun.records import append_cell, read_run
from paretosim.mode import Mode
from tests.validation.conftest import SLOW_LINK, Factors, SyntheticRun
from validation.accuracy import models_over
from validation.accuracy_tables import marks
from validation.bars import read_bars
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
    (found,) = json.loads(capsys.readouterr().out)["backends"]
    assert (found["backend"], found["fitted_cells"], found["judged"]) == ("tcp", 3 * 2 * 2, [])
    rows = {row["cells_of"]: row["cells"] for row in found["rows"]}
    assert rows == {"all": 6, FAST.name: 6, "toy": 6, "slow → fast": 6, "mode burst": 3, "mode single": 3}


def test_a_cell_that_was_refused_after_it_was_done_is_neither_fitted_nor_judged(
    run: SyntheticRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for link in (SLOW_LINK.name, FAST.name):
        cell = next(cell for cell in read_run(run.folder).cells if cell.link_name == link)
        append_cell(run.folder, msgspec.structs.replace(cell, status="failed", reason="not the link", remedy="resume"))
    assert _accuracy(run, "--link", SLOW_LINK.name, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["backends"]
    assert found["fitted_cells"] == 3 * 2 * 2 - 1


def test_the_table_goes_between_its_marks(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    begin, end = marks("emulated")
    other = "\n".join(marks("computed"))
    page.write_text(f"before\n{other}\n{begin}\nold\n{end}\nafter\n")
    assert _accuracy(run, "--link", SLOW_LINK.name, "--into", str(page)) == 0
    table = capsys.readouterr().out
    assert page.read_text() == f"before\n{other}\n{begin}\n\n{table}\n{end}\nafter\n"
    assert "| all | 6 |" in table


def test_a_page_without_marks_is_refused_before_anything_is_fitted(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validation.commands.accuracy.accuracy", lambda *_, **__: pytest.fail("fitted"))
    page = tmp_path / "page.md"
    page.write_text("\n".join(marks("computed")))  # those of the other tables
    assert _accuracy(run, "--link", SLOW_LINK.name, "--into", str(page)) == 2
    assert "accuracy emulated: written by python -m validation accuracy -->' and '<!--" in capsys.readouterr().err
    assert _accuracy(run, "--link", SLOW_LINK.name, "--into", str(tmp_path / "none.md")) == 2
    assert "none.md: No such file or directory" in capsys.readouterr().err


def test_bars_stand_beside_what_was_found_and_a_missed_one_fails(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = tmp_path / "bars.toml"
    met = "[at_most]\nlatency_mape = 0.5\ninversions = 0\n"
    bars.write_text(met)
    assert _accuracy(run, "--link", SLOW_LINK.name, "--bars", str(bars)) == 0
    assert "2 of 2 bars met" in capsys.readouterr().out
    bars.write_text(f"{met}[at_least]\ncells = 1000\n")
    assert _accuracy(run, "--link", SLOW_LINK.name, "--bars", str(bars)) == 1
    shown = capsys.readouterr()
    assert "2 of 3 bars met" in shown.out
    assert "| latency MAPE | ≤ 50 % |" in shown.out
    assert "| cells | ≥ 1000 | 6 | **not met** |" in shown.out
    assert shown.err == "accuracy: 1 of 3 bars missed: tcp: cells\n"


def test_bars_of_a_group_are_of_its_own_cells_and_those_of_another_backend_are_left_alone(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = tmp_path / "bars.toml"
    bars.write_text(
        f'[tcp.at_least]\ncells = 6\n[tcp."mode burst"."{FAST.name}".at_least]\ncells = 4\n[rpc.at_least]\ncells = 9\n'
        "[tpc.at_most]\nlatency_mape = 1\n"
    )
    assert _accuracy(run, "--link", SLOW_LINK.name, "--bars", str(bars)) == 1
    shown = capsys.readouterr()
    assert "| tcp cells | ≥ 6 | 6 | met |" in shown.out
    assert f"| tcp mode burst {FAST.name} cells | ≥ 4 | 3 | **not met** |" in shown.out
    assert "rpc" not in shown.out
    assert shown.err.endswith(f"tcp: tcp mode burst {FAST.name} cells; tcp: tpc latency_mape\n")


def test_each_backend_has_a_fit_of_its_own(
    synthetic: Callable[..., SyntheticRun], capsys: pytest.CaptureFixture[str]
) -> None:
    made = synthetic(modes=MODES, links=[SLOW_LINK, FAST], splits=(1, 2, 3))
    made.write()
    cells = made.folder / "cells.jsonl"
    again = cells.read_text().replace("/tcp/", "/rpc/")
    cells.write_text(cells.read_text() + again)
    assert _accuracy(made, "--link", SLOW_LINK.name, "--json") == 0
    found = json.loads(capsys.readouterr().out)["backends"]
    assert [(one["backend"], one["fitted_cells"], one["rows"][0]["cells"]) for one in found] == [
        ("tcp", 12, 6), ("rpc", 12, 6)
    ]  # fmt: skip
    assert _accuracy(made, "--link", SLOW_LINK.name, "--backend", "rpc", "--json") == 0
    assert [one["backend"] for one in json.loads(capsys.readouterr().out)["backends"]] == ["rpc"]


def test_every_model_is_fitted_on_in_turn_and_each_has_a_row(
    synthetic: Callable[..., SyntheticRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = synthetic(modes=MODES, links=[SLOW_LINK, FAST], splits=(1, 2, 3))
    made.write()
    bars, page = tmp_path / "bars.toml", tmp_path / "page.md"
    bars.write_text("[at_least]\ncells = 1000\n[at_most]\nlatency_mape = 1\n")
    begin, end = marks("emulated by model")
    page.write_text(f"{begin}\n{end}\n")
    options = ["--profiles", str(made.profiles), "--each-model", "--link", SLOW_LINK.name]
    assert main(["accuracy", str(made.folder), *options, "--bars", str(bars), "--into", str(page)]) == 1
    shown = capsys.readouterr()
    rows = [line for line in shown.out.splitlines() if line.startswith("| tcp |")]
    assert [row.split(" | ")[1] for row in rows] == ["toy"]
    assert rows[0].endswith("| 1 of 2; **missed: cells** |")
    assert page.read_text() == f"{begin}\n\n{shown.out}\n{end}\n"
    assert shown.err == "accuracy: 1 of 2 bars missed: tcp fitted on toy: cells\n"
    assert main(["accuracy", str(made.folder), *options, "--link", "lte"]) == 2
    assert "got no model over 5mbit,20ms and lte" in capsys.readouterr().err


def test_models_to_fit_on_are_those_of_the_backend_over_all_of_the_links(run: SyntheticRun) -> None:
    cells = run.folder / "cells.jsonl"
    own = cells.read_text().splitlines(keepends=True)
    over_one = [line.replace("toy@", "alexnet@") for line in own if f'"{FAST.name}"' in line]
    of_another = [line.replace("toy@", "vgg16@").replace("/tcp/", "/rpc/") for line in own]
    cells.write_text("".join((*own, *over_one, *of_another)))
    runs = [read_run(run.folder)]
    assert models_over(runs, "tcp", [FAST.name]) == ("alexnet", "toy")
    assert models_over(runs, "tcp", [FAST.name, SLOW_LINK.name]) == ("toy",)
    assert models_over(runs, "rpc", [FAST.name]) == ("vgg16",)


def test_bars_are_renewed_by_their_rule_and_what_gets_looser_is_said(
    synthetic: Callable[..., SyntheticRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic(
        modes=MODES, links=[SLOW_LINK, FAST], splits=(1, 2, 3),
        factors=lambda split, _: Factors(latency=1 + 0.002 * split),
    )  # fmt: skip
    run.write()
    bars = tmp_path / "bars.toml"
    bars.write_text(
        "# why\n[tcp.at_most]\ncells = 9\nlatency_mape = 0\nlatency_bias = 1\n\n"
        f'[tcp."{FAST.name}".at_least]\nlatency_within_10_percent = 0.5\nlatency_bias = -1 # how far\n'
    )
    options = ("--link", SLOW_LINK.name, "--bars", str(bars))
    assert _accuracy(run, *options, "--json") == 1
    (before,) = json.loads(capsys.readouterr().out)["backends"]
    cells, mape, bias, within, _ = [one["figure"] for one in before["judged"]]
    assert (cells, within) == (6, 1)
    assert 0 < mape < 0.1
    assert _accuracy(run, *options, "--renew-bars") == 0
    (looser,) = capsys.readouterr().out.splitlines()
    assert looser.startswith("looser: tcp latency_mape was at most 0, is 0.0")
    assert bars.read_text().startswith("# why\n[tcp.at_most]\ncells = 6\nlatency_mape = 0.0")
    new = {(bar.figure, bar.side): bar.limit for bar in read_bars(bars)}
    assert new["latency_mape", "at_most"] == pytest.approx(1.25 * mape, rel=0.1)
    assert new["latency_bias", "at_most"] == pytest.approx(bias + mape / 5, abs=0.02 * mape)
    assert new["latency_bias", "at_least"] == pytest.approx(bias - mape / 5, abs=0.02 * mape)
    assert new["latency_within_10_percent", "at_least"] == 0.995
    assert _accuracy(run, *options) == 0


def test_bars_without_a_figure_or_a_rule_are_not_renewed(
    run: SyntheticRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = tmp_path / "bars.toml"
    for content, message in (
        ("[tpc.at_most]\nlatency_mape = 1\n", "tpc latency_mape: no figure was found"),
        ("[at_least]\nlatency_mape = 0\n", "latency_mape: no rule says how much lower it may be"),
    ):
        bars.write_text(content)
        assert _accuracy(run, "--link", SLOW_LINK.name, "--bars", str(bars), "--renew-bars") == 2
        assert message in capsys.readouterr().err
        assert bars.read_text() == content
    assert _accuracy(run, "--link", SLOW_LINK.name, "--renew-bars") == 2
    assert "expected --bars FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--link", "lte"],
            f"--link: backend tcp: got lte, expected links that toy was measured over: {SLOW_LINK.name} or",
        ),
        (["--link", SLOW_LINK.name, "--link", "lte"], "--link: backend tcp: got lte, expected links"),
        (["--link", SLOW_LINK.name, "--link", FAST.name], "got no cell beside those of toy over"),
        (
            ["--link", FAST.name, "--backend", "rpc"],
            "--model: backend rpc: got toy, expected one that was measured: none",
        ),
    ],
    ids=("none to fit", "not all to fit", "none to judge", "another backend"),
)
def test_both_sides_need_cells(
    run: SyntheticRun, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _accuracy(run, *options) == 2
    assert message in capsys.readouterr().err
