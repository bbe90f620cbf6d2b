"""`paretosim front` as a user types it: panels, what they say, and that they are what predict says."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paretosim import BadInputError, paper_figure, predict, predict_side_by_side
from paretosim.calibration import Calibration, DeviceTerms, MessageCost
from paretosim.cli import main
from paretosim.profiles import write_profile
from paretosim.side_by_side.panels import PAPER_FIGURES, PAPER_MODELS, SideBySide
from paretosim.side_by_side.tables import show
from paretosim.side_by_side.verdict import front_verdict, is_one_point

Command = Callable[..., tuple[int, str, str]]
DEVICES = {3: "rpi4b,rpi4b", 4: "rpi4b,rtx4090", 5: "rpi4b,rpi4b", 6: "rpi4b,rtx4090"}
LINKS = {3: "paper-lan-pi-pi", 4: "paper-lan-pi-gpu", 5: "paper-duress", 6: "paper-duress"}


@pytest.fixture(autouse=True)
def _no_own_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARETOSIM_PROFILES", raising=False)


@pytest.fixture
def toys(profiles: Path) -> tuple[object, ...]:
    """Options that find the toy model's profiles."""
    return ("--models", "toy", "--profiles", profiles)


def _json(command: Command, *options: object) -> dict[str, Any]:
    code, out, err = command("front", "--json", *options)
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


# The paper's figures


@pytest.mark.parametrize("number", [3, 4, 5, 6])
def test_a_figures_panels_are_what_predict_says(command: Command, number: int) -> None:
    found = _json(command, "--figure", number)
    assert found["figure"] == number
    assert [panel["model"] for panel in found["panels"]] == list(PAPER_MODELS)
    for panel in found["panels"]:
        options = ("--devices", DEVICES[number], "--link", LINKS[number], "--splits", "interior")
        code, out, _ = command("predict", "--model", panel["model"], "--json", *options)
        assert code == 0
        assert panel["prediction"] == json.loads(out)
        on_front = [row for row in panel["prediction"]["rows"] if row["on_front"]]
        assert panel["front"] == [row["split"] for row in sorted(on_front, key=lambda row: row["latency_s"])]
        assert panel["one_point"] == (len(panel["front"]) == 1)


def test_a_figure_takes_a_calibration_as_predict_does(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    terms = DeviceTerms(gamma=1.3, kappa=0.2, sending=MessageCost(message_s=0.01))
    write_profile(path, Calibration(schema_version=2, name="mine", backend="tcp", devices={"*": terms}))
    options = ("--calibration", path, "--without", "scale")
    (panel,) = _json(command, "--figure", 5, "--models", "alexnet", *options)["panels"]
    words = ("--model", "alexnet", "--devices", DEVICES[5], "--link", LINKS[5], "--splits", "interior")
    assert panel["prediction"] == json.loads(command("predict", *words, *options, "--json")[1])
    assert panel["prediction"]["calibration"]["terms"] == ["contention", "sending"]
    out = command("front", "--figure", 5, "--models", "alexnet", *options)[1]
    assert "calibration mine (" in out
    assert "terms switched off: scale" in out


def test_a_figures_csv_is_predicts_after_columns_that_say_which_panel(command: Command) -> None:
    code, out, _ = command("front", "--figure", 6, "--csv")
    assert code == 0
    heading, *lines = out.splitlines()
    for model in PAPER_MODELS:
        options = ("--devices", DEVICES[6], "--link", LINKS[6], "--splits", "interior", "--csv")
        expected = command("predict", "--model", model, *options)[1].splitlines()
        assert heading == f"model,first_device,second_device,link,{expected[0]}"
        start = f"{model},rpi4b,rtx4090,paper-duress,"
        assert [line.removeprefix(start) for line in lines if line.startswith(start)] == expected[1:]


def test_splits_and_mode_of_a_figure_can_be_chosen_and_some_of_its_panels(command: Command) -> None:
    found = _json(command, "--figure", 3, "--models", "vgg16, alexnet", "--splits", "all", "--mode", "burst")
    assert [panel["model"] for panel in found["panels"]] == ["vgg16", "alexnet"]
    assert [len(panel["prediction"]["rows"]) for panel in found["panels"]] == [40, 22]
    assert {panel["prediction"]["burst_batches"] for panel in found["panels"]} == {8}


def test_the_terminal_says_for_each_panel_its_front_and_what_it_means(command: Command) -> None:
    code, out, err = command("front", "--figure", 4)
    assert (code, err) == (0, "")
    assert out.startswith("The paper's figure 4, predicted: Pi to GPU, LAN\n")
    assert "the paper's own numbers are of bursts of 8 batches through serial workers" in out
    assert "rpi4b → rtx4090 on paper-lan-pi-gpu (1gbit, 191.5us), batch 8, mode paced, interior splits" in out
    for panel in paper_figure(4).panels:
        model = panel.setting.model.name
        said = out.split(f"\n{model}: ")[1]
        splits = len(panel.setting.model.blocks) - 1
        assert said.startswith(f"front 1 (1 of {splits} splits)  timings: rpi4b reconstructed, rtx4090 reconstructed;")
        assert f"error of stage times {panel.profile_error:.1%}" in said.split("\n")[0]
        assert "One-point front: split 1 is best in latency and in throughput" in said.split("\n\n")[1]
        assert "first alone" in said
        assert "second alone" in said


def test_a_figure_as_the_papers_programs_run_is_what_predict_says(command: Command) -> None:
    found = _json(command, "--figure", 3, "--models", "alexnet", "--paper")
    options = ("--link", "paper-lan-pi-pi", "--paper", "--json")
    assert found["panels"][0]["prediction"] == json.loads(command("predict", "--model", "alexnet", *options)[1])
    out = command("front", "--figure", 3, "--models", "alexnet", "--paper")[1]
    assert "as the paper's programs run: bursts of 8 batches through serial workers" in out
    assert "mode burst(batches=8), interior splits, serial workers, clock from the start of stage 1" in out
    assert "--paper predicts those" in command("front", "--figure", 3, "--models", "alexnet", "--batch", 8)[1]


def test_splits_that_do_not_keep_up_are_in_the_tables_and_not_in_the_figure(
    command: Command, drawn: list[Any], tmp_path: Path
) -> None:
    options = ("--models", "alexnet", "--rate", 1.5)
    found = _json(command, *options)["panels"][0]
    late = [row["split"] for row in found["prediction"]["rows"] if row["latency_s"] is None]  # infinite
    assert late
    assert not set(late) & set(found["front"])
    assert command("front", *options, "--plot", tmp_path / "a.png")[0] == 0
    assert len(_fronts_drawn(drawn[0])[0]) == len(found["front"])
    assert predict_side_by_side(["alexnet"], mode="open", rate=1.5)._repr_html_().count("<circle") == 22 - len(late)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--figure", 2), "--figure: got 2, expected one of 3, 4, 5, 6"),
        (("--figure", 3, "--devices", "rpi4b,rpi4b"), "--devices: the devices and the link are figure 3's own"),
        (("--figure", 3, "--link", "ethernet-1g"), "--link: the devices and the link are figure 3's own"),
        (("--figure", 3, "--bw", "1mbit"), "--bw: the devices and the link are figure 3's own"),
        (("--figure", 3, "--models", "vit"), "--models: got 'vit', which the paper's figures do not show"),
        (("--models", "vgg61"), "model: got 'vgg61', expected one of"),
        (("--devices", "rpi4b"), "--devices: got 'rpi4b', expected two names"),
        (("--devices", "rpi4b,pi"), "device: got 'pi', expected one of"),
        (("--timing", "pi=x.csv"), "--timing: got a timing of pi, expected one of rpi4b"),
        (("--mode", "paced", "--burst", "3"), "--burst: has no meaning in mode paced"),
        (("--link", "nowhere"), "link: got 'nowhere'"),
        (("--figure", 3, "--plot", "a.txt"), "--plot: got 'a.txt', expected a file ending in"),
    ],
)
def test_bad_input_is_2_and_says_what_was_expected(command: Command, options: tuple[object, ...], said: str) -> None:
    code, out, err = command("front", *options)
    assert (code, out) == (2, "")
    assert said in err


# Any models, devices and links


def test_panels_are_every_model_over_every_pair_and_link(command: Command, toys: tuple[object, ...]) -> None:
    pairs, links = ("--devices", "one,two", "--devices", "two,one"), ("--link", "1mbit,0s", "--link", "ethernet-1g")
    found = _json(command, *toys, *pairs, *links)
    assert found["figure"] is None
    assert [(panel["devices"], panel["link"]) for panel in found["panels"]] == [
        (["one", "two"], "1mbit,0s"), (["one", "two"], "ethernet-1g"),
        (["two", "one"], "1mbit,0s"), (["two", "one"], "ethernet-1g"),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(command("front", "--csv", *toys, *pairs, *links)[1])))
    assert [row["link"] for row in rows] == (["1mbit,0s"] * 3 + ["ethernet-1g"] * 3) * 2  # a comma is quoted
    assert float(rows[0]["latency_s"]) == found["panels"][0]["prediction"]["rows"][0]["latency_s"]


def test_all_models_are_those_timed_on_every_device(command: Command, profiles: Path) -> None:
    found = _json(command, "--profiles", profiles, "--devices", "one,two")
    assert [panel["model"] for panel in found["panels"]] == ["toy"]
    found = _json(command, "--models", "all")
    assert [panel["model"] for panel in found["panels"]] == list(PAPER_MODELS)
    code, _, err = command("front", "--profiles", profiles, "--devices", "one,rpi4b")
    assert code == 2
    assert "none is timed on one and rpi4b" in err


def test_the_network_options_hold_for_every_panel(command: Command) -> None:
    found = _json(command, "--models", "alexnet,vgg16", "--bw", "5mbit", "--delay", "200ms", "--tcp-state", "cold")
    for panel in found["panels"]:
        code, out, _ = command(
            "predict", "--model", panel["model"], "--bw", "5mbit", "--delay", "200ms", "--tcp-state", "cold", "--json"
        )
        assert code == 0
        assert panel["prediction"] == json.loads(out)


def test_own_timings_reach_the_pairs_that_have_the_device(
    command: Command, toys: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("b0,0.5\nb1,0.25\n")
    options = ("--devices", "one,one", "--devices", "one,two", "--timing", f"two={tmp_path / 'mine.csv'}")
    found = _json(command, *toys, *options)
    assert [panel["prediction"]["rows"][0]["stages_s"][1] for panel in found["panels"]] == [pytest.approx(0.3), 0.75]


def test_panels_of_nothing_are_refused() -> None:
    with pytest.raises(BadInputError, match="panels: got none"):
        SideBySide(title="", panels=())
    assert set(PAPER_FIGURES) == {3, 4, 5, 6}


# What a front means


def test_a_one_point_front_says_so_and_who_shares_it(toy: Any) -> None:
    tied = predict(toy.setting((0.5, 0.0, 0.5), (0.5, 0.0, 0.5), outputs=(9, 9, 9), inputs=9, error=0.0))
    assert [row.split for row in tied.front] == [1, 2]
    assert is_one_point(tied)
    assert front_verdict(tied).startswith(
        "One-point front: splits 1–2 are best in latency and in throughput, 1 s a batch"
    )


def test_a_fronts_ends_and_their_trade_are_said(toy: Any) -> None:
    # Split 1 balances the stages but sends 8·4000·4 bytes; split 2 sends none to speak of and takes 2 s alone.
    found = predict(
        toy.setting((1.0, 1.0), (1.0, 1.0), outputs=(31250, 1), inputs=62500, link=toy.link(1e7), error=0.0)
    )
    assert [row.split for row in found.front] == [2, 1]
    assert front_verdict(found) == (
        "From split 2 (2 s a batch, 4 images/s) to split 1 (2.8 s a batch, 8 images/s):"
        " 2× the throughput for 800 ms (40.0%) more latency."
    )


def test_what_the_profiles_cannot_tell_is_said(toy: Any) -> None:
    def said(error: float | None) -> str:
        return front_verdict(predict(toy.setting((0.5, 0.1, 0.4), (0.5, 0.1, 0.4), error=error)))

    assert "The timings' error cannot tell in" in said(0.5)
    assert said(None).endswith("The error of a timing used here is not known.")
    assert "cannot tell" not in said(0.0)


def test_no_front_is_made_where_nothing_can_be_concluded(toy: Any) -> None:
    small = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    nothing = predict(toy.setting(devices=small))
    assert front_verdict(nothing).startswith("No split fits in the devices' memory")
    assert not is_one_point(nothing)
    launching = predict(toy.setting(conditions={"overhead_bound": True}))
    assert front_verdict(launching).startswith("No conclusion: both timings are overhead-bound")
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, highlight=False, markup=False)
    show(SideBySide(title="nothing", panels=(nothing,)), console)
    out = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "toy: front none (0 of 3 splits); do not fit: 0–2" in out


# Figures


@contextlib.contextmanager
def _remembered() -> Iterator[list[Any]]:
    """Figures as matplotlib holds them, in the order they are saved."""
    pytest.importorskip("matplotlib")
    from paretosim.side_by_side import figures as front_figures

    figures: list[Any] = []
    save = front_figures.save

    def remembered(figure: Any, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_figures, "save", remembered)
        yield figures


@pytest.fixture
def drawn() -> Iterator[list[Any]]:
    with _remembered() as figures:
        yield figures


@pytest.fixture(scope="module")
def paper_drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[int, str, str, Path, Any]]:
    """Exit code, stdout, stderr, file and figure of the command that draws a figure of the paper: seconds each."""

    @functools.cache
    def draw(number: int) -> tuple[int, str, str, Path, Any]:
        path = tmp_path_factory.mktemp("paper") / "a.svg"
        out, err = io.StringIO(), io.StringIO()
        with _remembered() as figures, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["front", "--figure", str(number), "--plot", str(path)])
        (figure,) = figures
        return code, out.getvalue(), err.getvalue(), path, figure

    return draw


def _fronts_drawn(figure: Any) -> list[list[tuple[float, float]]]:
    return [list(zip(*axes.lines[0].get_data(), strict=True)) for axes in figure.axes if axes.lines]


@pytest.mark.parametrize("number", [3, 4, 5, 6])
def test_a_figure_has_a_panel_for_each_model_with_its_front(
    paper_drawn: Callable[[int], tuple[int, str, str, Path, Any]], number: int
) -> None:
    code, out, err, path, figure = paper_drawn(number)
    assert (code, err) == (0, f"figure: {path}\n")
    assert out.startswith(f"The paper's figure {number}")
    assert path.read_text().startswith("<?xml")
    found = paper_figure(number)
    assert [axes.get_title() for axes in figure.axes] == list(PAPER_MODELS)
    expected = [[(row.latency_s, row.throughput_per_s) for row in panel.front] for panel in found.panels]
    assert _fronts_drawn(figure) == expected
    for axes, panel in zip(figure.axes, found.panels, strict=True):
        others = len(axes.collections[0].get_offsets())
        assert others + len(panel.front) == len(panel.rows)
        assert f"error of stage times {panel.profile_error:.1%}" in axes.get_xlabel()
        assert "rpi4b reconstructed" in axes.get_xlabel()
        texts = [text.get_text() for text in axes.texts]
        assert ("one-point front" in texts) == (len(panel.front) == 1)
        labelled = {int(split) for text in texts for split in re.findall(r"\d+", text)}
        assert {panel.front[0].split} <= labelled <= {row.split for row in panel.front}
    assert PAPER_FIGURES[number].title in figure.get_suptitle()


def test_labels_of_a_figure_do_not_lie_over_each_other(
    paper_drawn: Callable[[int], tuple[int, str, str, Path, Any]],
) -> None:
    for number in PAPER_FIGURES:
        for axes in paper_drawn(number)[-1].axes:
            boxes = [text.get_window_extent() for text in axes.texts]
            for index, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:index]), axes.get_title()
                assert axes.bbox.x0 <= box.x0, axes.get_title()  # nor over the axis


def test_several_conditions_are_named_in_each_panel(drawn: list[Any], tmp_path: Path) -> None:
    from paretosim.side_by_side.figures import plot

    links = ["ethernet-1g", "5mbit,200ms"]
    plot(predict_side_by_side(["alexnet"], links=links), tmp_path / "a.svg")
    plot(predict_side_by_side(["alexnet", "vgg16"], links=links), tmp_path / "b.svg")
    abreast, in_lines = drawn
    assert [axes.get_title() for axes in abreast.axes] == [
        "alexnet\nrpi4b → rpi4b on ethernet-1g (1gbit, 100us)", "alexnet\nrpi4b → rpi4b on 5mbit, 200ms",
    ]  # fmt: skip
    assert abreast.axes[0].get_subplotspec().get_gridspec().get_geometry() == (1, 2)
    assert in_lines.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 2)
    assert len(_fronts_drawn(in_lines)) == 4


def test_a_panel_where_nothing_fits_says_so(toy: Any, drawn: list[Any], tmp_path: Path) -> None:
    from paretosim.side_by_side.figures import plot

    small = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    plot(
        SideBySide(title="none", panels=(predict(toy.setting()), predict(toy.setting(devices=small)))),
        tmp_path / "a.svg",
    )
    (figure,) = drawn
    assert "no split fits" in [text.get_text() for text in figure.axes[1].texts]
    assert "does not fit in memory" in [text.get_text() for text in figure.legends[0].get_texts()]
