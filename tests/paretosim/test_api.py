"""The Python API: public names, settings from words, arrays of links, DataFrames, notebooks, and its document."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paretosim
from paretosim import BadInputError, UnknownNameError
from paretosim.show.prediction_json import as_csv

ROOT = Path(paretosim.__file__).resolve().parent
DOCUMENT = ROOT.parent / "docs" / "api.md"


# Public names


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import paretosim; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(done.stdout)) <= {"__future__", "paretosim"}


def test_every_public_name_is_there_and_listed_once() -> None:
    assert len(set(paretosim.__all__)) == len(paretosim.__all__)
    for name in paretosim.__all__:
        assert getattr(paretosim, name).__module__.startswith("paretosim"), name
        assert getattr(paretosim, name).__doc__, name
    assert set(paretosim.__all__) <= set(dir(paretosim))


def test_no_public_name_is_a_modules_which_would_take_its_place() -> None:
    assert not set(paretosim.__all__) & {path.stem for path in ROOT.iterdir()}


def test_type_checkers_and_the_document_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {name for name, _ in typed} == set(paretosim.__all__)
    for name, module in typed:
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(paretosim, name)
    table = DOCUMENT.read_text().split("## All public names")[1]
    assert set(re.findall(r"`(\w+)`", table)) == set(paretosim.__all__)


def test_another_name_is_refused_as_an_attribute() -> None:
    with pytest.raises(AttributeError, match="'paretosim' has no attribute 'nonsense'"):
        _ = paretosim.nonsense  # type: ignore[attr-defined]  # what is tested


def test_the_examples_of_the_document_hold() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert len(blocks) > 5
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/api.md", str(DOCUMENT), 0)
    assert len(test.examples) > 20
    said = io.StringIO()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.write)
    assert result.failed == 0, said.getvalue()


@pytest.mark.parametrize(
    "module",
    [
        "setting_words",
        "predicting",
        "rates.link_arrays",
        "side_by_side.panels",
        "tabular",
        "indented_json",
        "show.axis_scale",
        "show.verdict",
    ],
)
def test_docstrings_tell_the_truth(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"paretosim.{module}"))
    assert result.failed == 0


# Words


@pytest.fixture
def toys(profiles: Path) -> dict[str, Any]:
    """Arguments that every prediction of the toy model takes."""
    return {"model": "toy", "devices": ("one", "two"), "profiles": [profiles]}


def test_words_mean_what_the_commands_options_mean(toys: dict[str, Any], profiles: Path, command: Any) -> None:
    words = {
        "bw": "5mbit", "rtt": "20ms", "batch": 4, "mode": "burst", "burst": 3, "splits": "interior", "source": "sink",
        "sink": "first", "tcp_state": "cold", "control_delay": "1ms", "max_latency": "3s", "min_throughput": 1.5,
        "fps": 1.0,
    }  # fmt: skip
    options = [part for name, value in words.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    code, out, _ = command(
        "predict", "--model", "toy", "--devices", "one,two", "--csv", "--profiles", profiles, *options
    )
    assert code == 0
    assert as_csv(paretosim.predict_splits(**toys, **words)) == out  # type: ignore[arg-type]  # checked as they come


def test_values_stand_in_for_words(toys: dict[str, Any], profiles: Path, toy: Any) -> None:
    by_words = paretosim.predict_splits(**toys, link="1mbit,0s")
    store = paretosim.ProfileStore([profiles])
    by_values = paretosim.predict_splits(
        store.model("toy"),
        [store.device("one"), store.device("two")],
        link=by_words.setting.link,
        timings={"one": store.timing("one", "toy")},
        profiles=store,
    )
    assert by_values == by_words
    mine = paretosim.predict_splits(**toys, timings={"one": toy.timing((1.0, 2.0))})
    assert mine.row(2).stages_s == (3.0, 0.0)


def test_a_timing_may_be_a_file(toys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("b0,0.5\nb1,0.25\n")
    for path in (tmp_path / "mine.csv", str(tmp_path / "mine.csv")):
        assert paretosim.predict_splits(**toys, timings={"two": path}).row(0).stages_s == (0.0, 0.75)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"model": "tyo"}, UnknownNameError, "model: got 'tyo', expected one of .*did you mean 'toy'"),
        ({"devices": "one,two"}, BadInputError, "devices: got 'one,two', expected two names"),
        ({"devices": ("one",)}, BadInputError, "devices: got 'one', expected two names"),
        ({"devices": ("one", "three")}, UnknownNameError, "device: got 'three'"),
        ({"bw": 5e6}, BadInputError, "bw: got 5000000.0, expected text with a unit, such as '5mbit'"),
        ({"bw": "5mbps"}, BadInputError, "bw: got '5mbps', which tc reads as megabytes"),
        ({"delay": 0.2}, BadInputError, "delay: got 0.2, expected text with a unit"),
        ({"delay": "1s", "rtt": "2s"}, BadInputError, "^delay and rtt: got both a one-way delay and a round trip"),
        ({"max_latency": "-1s"}, BadInputError, "max_latency: got '-1s', expected a value that is not negative"),
        ({"mode": "fast"}, BadInputError, "mode: got 'fast', expected one of single, paced"),
        ({"splits": "outer"}, BadInputError, "splits: got 'outer', expected one of all, interior"),
        ({"source": "sky"}, BadInputError, "source: got 'sky', expected one of stage1, sink"),
        ({"sink": "hole"}, BadInputError, "sink: got 'hole', expected one of last, first"),
        ({"tcp_state": "tepid"}, BadInputError, "tcp_state: got 'tepid', expected one of warm, cold"),
        ({"window": 3}, BadInputError, "window: has no meaning in mode paced, expected mode closed"),
        ({"batch": 0}, BadInputError, "batch: got 0, expected 1 or more"),
        ({"batch": 2.5}, BadInputError, "batch: got 2.5"),
        ({"fps": float("nan")}, BadInputError, "fps: got nan, expected a number above zero"),
        ({"timings": {"three": "x.csv"}}, BadInputError, "x.csv"),
        ({"link": "nowhere"}, UnknownNameError, "link: got 'nowhere', expected one of .*ethernet-1g"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_under_its_own_name(
    toys: dict[str, Any], words: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        paretosim.predict_splits(**{**toys, **words})


def test_a_timing_of_another_device_is_refused(toys: dict[str, Any], toy: Any) -> None:
    with pytest.raises(BadInputError, match="timing: got a timing of three, which is not in devices one,two"):
        paretosim.predict_splits(**toys, timings={"three": toy.timing((1.0, 2.0), device="three")})


# Arrays of links

LINKS = st.tuples(st.floats(1e4, 1e10), st.floats(0.0, 1.0))


@settings(max_examples=25, deadline=None)
@given(
    link=LINKS, mode=st.sampled_from(["single", "paced", "closed", "burst"]), sink=st.sampled_from(["last", "first"])
)
def test_an_array_of_one_link_is_what_predict_says(link: tuple[float, float], mode: Any, sink: Any) -> None:
    rate_bps, delay_s = link
    setting = paretosim.split_setting("alexnet", mode=mode, sink=sink)
    found = paretosim.predict_links(setting, rate_bps, delay_s)
    shaped = paretosim.shaped(setting.link, rate_bps=rate_bps, one_way_delay_s=delay_s)
    expected = paretosim.predict_splits("alexnet", link=shaped, mode=mode, sink=sink)
    assert found.latency_s.shape == (22,)
    np.testing.assert_allclose(found.latency_s, [row.latency_s for row in expected.rows], rtol=1e-11)
    np.testing.assert_allclose(found.throughput_per_s, [row.throughput_per_s for row in expected.rows], rtol=1e-11)


def test_links_not_given_are_the_settings_own() -> None:
    setting = paretosim.split_setting("alexnet", link="lte-uplink", sink="first")
    found, expected = paretosim.predict_links(setting), paretosim.predict(setting)
    assert found.latency_s.shape == (22,)
    np.testing.assert_allclose(found.latency_s, [row.latency_s for row in expected.rows], rtol=1e-11)
    assert found.on_front.tolist() == [row.on_front for row in expected.rows]
    along = paretosim.predict_links(setting, one_way_delay_s=[0.025, 0.5])
    assert along.latency_s.shape == (2, 22)
    np.testing.assert_array_equal(along.latency_s[0], found.latency_s)


def test_links_of_any_shapes_broadcast() -> None:
    setting = paretosim.split_setting("resnet18")
    rates_bps, delays_s = np.array([5e6, 5e7, 5e8]), np.array([[0.0], [0.2]])
    found = paretosim.predict_links(setting, rates_bps, delays_s)
    assert found.latency_s.shape == found.on_front.shape == found.period_s.shape == (2, 3, 15)
    for i, j in np.ndindex(2, 3):
        alone = paretosim.predict_links(setting, rates_bps[j], delays_s[i, 0])
        np.testing.assert_array_equal(found.latency_s[i, j], alone.latency_s)
        np.testing.assert_array_equal(found.throughput_per_s[i, j], alone.throughput_per_s)
        np.testing.assert_array_equal(found.on_front[i, j], alone.on_front)
    assert paretosim.predict_links(setting, np.empty(0)).latency_s.shape == (0, 15)


@pytest.mark.parametrize("links", [{"rate_bps": [1e6, 0.0]}, {"one_way_delay_s": -1.0}, {"rate_bps": float("nan")}])
def test_impossible_links_are_refused(links: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="links: expected finite rates above zero"):
        paretosim.predict_links(paretosim.split_setting("resnet18"), **links)


# DataFrames


@pytest.mark.parametrize("mode", ["paced", "burst"])
def test_a_data_frame_is_the_csv(toys: dict[str, Any], mode: Any) -> None:
    found = paretosim.predict_splits(**toys, mode=mode)
    read = pd.read_csv(io.StringIO(as_csv(found)))
    pd.testing.assert_frame_equal(found.to_dataframe(), read, check_dtype=False, check_exact=True)
    assert ("latency_from_start_s" in read) == (mode == "burst")


def test_a_missing_pandas_is_named_with_its_remedy(toys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = paretosim.predict_splits(**toys)
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInputError, match="the package pandas is not installed; pip install pandas"):
        found.to_dataframe()


@pytest.fixture
def placement() -> paretosim.Placement:
    """ResNet18 over two Pis and a GPU, which not every placement on the front uses."""
    store, names = paretosim.ProfileStore(), ("rpi4b", "rpi4b", "x86-core")
    return paretosim.place(
        paretosim.PlacementSetting(
            model=store.model("resnet18"),
            devices=tuple(map(store.device, names)),
            timings=tuple(store.timing(name, "resnet18") for name in names),
            links=paretosim.HopLinks(every=store.link("wifi-5-good")),
            order="any",
            ends="free",
        )
    )


def test_placements_become_a_data_frame_with_what_short_chains_lack_missing(placement: paretosim.Placement) -> None:
    frame = placement.to_dataframe()
    assert frame.plan.tolist() == [str(row.plan) for row in placement.rows]
    assert frame.latency_s.tolist() == [row.latency_s for row in placement.rows]
    counts = [len(row.stages_s) for row in placement.rows]
    assert len(set(counts)) > 1
    assert frame.filter(like="stages_s").notna().sum(axis=1).tolist() == counts
    assert not [column for column in frame if column.startswith("tied")]


# Notebooks


def _markup(html: str) -> ET.Element:
    return ET.fromstring(html.replace("<br>", "<br/>"))


def test_a_notebook_shows_every_split_and_the_front(toys: dict[str, Any]) -> None:
    found = paretosim.predict_splits(**toys)
    page = _markup(found._repr_html_())
    rows = page.findall(".//tbody/tr")
    assert [row[0].text for row in rows] == [str(row.split) for row in found.rows]
    assert [(row[-1].text or "").startswith("front") for row in rows] == [row.on_front for row in found.rows]
    circles = page.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(found.rows)
    assert "one measured, two measured; error of stage times 5.0%" in found._repr_html_()


def test_a_notebook_shows_a_panel_for_each_prediction() -> None:
    page = _markup(paretosim.paper_figure(5)._repr_html_())
    assert [caption[0].text for caption in page.iter("figcaption")] == [
        "mobilenet_v2", "resnet18", "inception_v3", "resnet50", "alexnet", "vgg16",
    ]  # fmt: skip
    assert len(page.findall(".//{http://www.w3.org/2000/svg}svg")) == 6


def test_a_notebook_shows_placements_and_what_is_best(placement: paretosim.Placement) -> None:
    rows = _markup(placement._repr_html_()).findall(".//tbody/tr")
    assert [row[0].text for row in rows] == [str(row.plan) for row in placement.rows]
    assert rows[0][-1].text is not None
    assert rows[0][-1].text.startswith("latency")


def test_a_notebook_labels_the_front_and_has_both_baselines(toy: Any) -> None:
    found = paretosim.predict(toy.setting((1.0, 1.0), (1.0, 1.0), outputs=(31250, 1), inputs=62500, link=toy.link(1e7)))
    page = _markup(found._repr_html_())
    texts = [text.text for text in page.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["2", "1"]
    assert [row[1].text for row in page.findall(".//tfoot/tr")] == ["one alone, no link", "two alone, no link"]


def test_names_are_escaped_and_nothing_is_fetched(toy: Any) -> None:
    device = toy.device("<script>")
    setting = toy.setting(devices=(device, toy.device("two")), link=toy.link(name="a&b<i>"))
    html = paretosim.predict(setting)._repr_html_()
    _markup(html)
    assert "<script>" not in html
    assert "&lt;script&gt; → two on a&amp;b&lt;i&gt;" in html
    assert not re.findall(r"(?:src|href)=|url\(|@import", html)


def test_what_does_not_fit_is_said_in_a_notebook(toy: Any) -> None:
    small = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    html = paretosim.predict(toy.setting(devices=small))._repr_html_()
    assert "No split fits" in html
    assert html.count("does not fit") == 3 + 2  # splits and baselines
