"""Figures: what is in the file, and what is refused."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from paretosim.errors import BadInputError
from paretosim.prediction import Prediction, predict

pytest.importorskip("matplotlib")

from paretosim.show.figures import plot


def _prediction(toy: Any, **fields: Any) -> Prediction:
    options = {"outputs": (4000, 2000, 1000, 500), "inputs": 8000, "link": toy.link(1e7), **fields}
    return predict(toy.setting((0.25,) * 4, (0.25,) * 4, **options))


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """SVG text as text, so that a test can read it."""
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a.PNG", b"\x89PNG")]
)
def test_the_suffix_says_the_format(toy: Any, tmp_path: Path, name: str, magic: bytes) -> None:
    plot(_prediction(toy), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.usefixtures("words")
def test_a_figure_says_what_it_rests_on(toy: Any, tmp_path: Path) -> None:
    plot(_prediction(toy, kind="reconstructed"), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for said in ("toy, one → two, toy, paced, batch 8",
                 "one reconstructed, two reconstructed; error of stage times 5.0%",
                 "Pareto front", "throughput, images/s", "latency, s"):  # fmt: skip
        assert said in text
    assert "does not fit" not in text


@pytest.mark.usefixtures("words")
def test_an_extrapolated_batch_is_marked(toy: Any, tmp_path: Path) -> None:
    plot(_prediction(toy, batch=3, error=None), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "one extrapolated, two extrapolated; error of stage times unknown" in text
    assert "measured" not in text


@pytest.mark.usefixtures("words")
def test_what_does_not_fit_is_marked_even_where_nothing_does(toy: Any, tmp_path: Path) -> None:
    devices = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    plot(_prediction(toy, devices=devices), tmp_path / "a.svg")
    assert "does not fit in memory" in (tmp_path / "a.svg").read_text()


@pytest.mark.usefixtures("words")
def test_points_that_lie_over_each_other_share_a_label(toy: Any, tmp_path: Path) -> None:
    plot(_prediction(toy, outputs=(10, 10, 10, 10), inputs=10), tmp_path / "a.svg")  # one point on the front: 2
    assert ">2</text>" in (tmp_path / "a.svg").read_text()
    tied = predict(toy.setting((0.5, 0.0, 0.0, 0.5), (0.5, 0.0, 0.0, 0.5), outputs=(9,) * 4, inputs=9))
    plot(tied, tmp_path / "b.svg")
    assert ">1 … 3</text>" in (tmp_path / "b.svg").read_text()


@pytest.mark.usefixtures("words")
def test_a_wide_range_gets_plain_ticks_on_a_logarithmic_axis(toy: Any, tmp_path: Path) -> None:
    plot(_prediction(toy, link=toy.link(1e4)), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert ">100</text>" in text
    assert ">50</text>" in text
    assert "mathdefault" not in text  # no powers of ten


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.txt", r"--plot: got 'a.txt', expected a file ending in .svg, .png, .pdf"),
        ("svg", "expected a file ending in"),
        ("gone/a.svg", r"the folder .*gone does not exist; make it first"),
        ("folder.svg", r"folder.svg cannot be written: Is a directory; choose another place"),
    ],
)
def test_where_no_figure_can_be_written_it_is_said(toy: Any, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(BadInputError, match=said):
        plot(_prediction(toy), tmp_path / name)


def test_a_missing_matplotlib_is_named_with_its_remedy(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInputError, match=r"matplotlib is not installed; pip install 'paretosim\[report\]'"):
        plot(_prediction(toy), tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()
