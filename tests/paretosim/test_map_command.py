"""`paretosim map` as a user types it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretosim.rates.break_even import Intervals
from paretosim.rates.map_text import interval_names, rate_text

Command = Callable[..., tuple[int, str, str]]
TOY = ("map", "--model", "toy", "--devices", "one,two")
VGG = ("map", "--model", "vgg16", "--devices", "rpi4b,rtx4090")


def _json(command: Command, *options: object) -> dict[str, Any]:
    code, out, err = command(*options, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def _toy_profiles(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))


def test_intervals_are_sentences_that_name_split_and_block(command: Command) -> None:
    code, out, err = command(*VGG, "--sink", "first")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    latency = lines.index("Best latency (exact break-even rates)")
    assert lines[latency + 1].startswith("  below ")
    assert lines[latency + 1].endswith("split 39 (everything on rpi4b)")
    throughput = lines[lines.index("Best throughput (exact break-even rates)") + 1 :]
    assert throughput[0].startswith("  below ")
    assert " split 33 (after classifier.0)" in throughput[0]
    assert any(line.startswith("  above ") and line.endswith("split 0 (everything on rtx4090)") for line in throughput)
    assert "Knee of the front (sampled at 401 rates; its edges are near, not exact)" in lines


def test_kinds_and_errors_of_the_profiles_are_shown(command: Command) -> None:
    out = command(*VGG)[1]
    assert "timing on rpi4b: reconstructed, error 10.3%" in out
    assert "timing on rtx4090: reconstructed, error " in out


def test_the_robust_choice_says_how_much_it_gives_away_and_where(command: Command) -> None:
    out = command("map", "--model", "vgg16", "--rates", "5mbit..100mbit")[1]
    assert "One split for all rates over 5 Mbit/s to 100 Mbit/s (exact minimax regret)" in out
    assert "  latency:    split 39 gives nothing away" in out
    found = _json(command, "map", "--model", "vgg16", "--rates", "5mbit..100mbit")["robust"]["throughput"]
    assert f"  throughput: split {found['split']} is at worst {100 * found['regret']:.3g} % less than the best" in out
    assert 0 < found["regret"] < 1
    assert 5e6 <= found["worst_rate_bps"] <= 1e8


def test_delay_is_pictured_where_it_matters_and_only_there(command: Command) -> None:
    out = command(*VGG, "--tcp-state", "cold", "--sink", "first", "--mode", "closed")[1]
    assert out.count("(sampled picture)") == 3
    assert "Delay matters because a cold connection stalls for round trips, a window of 3.1 MB" in out
    picture = [line for line in out.splitlines() if "│" in line]
    assert len(picture) == 27
    assert len({line.partition("│")[2] for line in picture[:9]}) > 1
    out = command(*VGG, "--rates", "1mbit..20mbit")[1]
    assert out.count("does not change the") == 3
    assert "│" not in out


def test_the_map_says_what_predict_says(command: Command) -> None:
    found = _json(command, *VGG, "--delay", "20ms", "--tcp-state", "cold")
    for objective in ("latency", "throughput"):
        for interval in found[objective]:
            rate = (interval["from_bps"] * interval["to_bps"]) ** 0.5
            predicted = _json(
                command, "predict", *VGG[1:], "--delay", "20ms", "--tcp-state", "cold", "--bw", f"{rate!r}bit"
            )
            assert predicted["recommended"][objective] == interval["split"]
    middle = found["fronts"][len(found["fronts"]) // 2]
    rate = (middle["from_bps"] * middle["to_bps"]) ** 0.5
    predicted = _json(command, "predict", *VGG[1:], "--delay", "20ms", "--tcp-state", "cold", "--bw", f"{rate!r}bit")
    assert [row["split"] for row in predicted["rows"] if row["on_front"]] == middle["splits"]


def test_intervals_join_without_a_gap_and_cover_the_range(command: Command) -> None:
    found = _json(command, *VGG, "--rates", "1mbit..1gbit")
    for intervals in (found["latency"], found["throughput"], found["fronts"], found["knee"]["intervals"]):
        assert (intervals[0]["from_bps"], intervals[-1]["to_bps"]) == (1e6, 1e9)
        assert [i["to_bps"] for i in intervals[:-1]] == [i["from_bps"] for i in intervals[1:]]
    assert found["knee"]["sampled"] is True
    assert found["regions"]["sampled"] is True
    assert np.shape(found["regions"]["latency"]) == (
        len(found["regions"]["delays_s"]),
        len(found["regions"]["rates_bps"]),
    )
    assert found["distinct_fronts"] == len({tuple(i["splits"]) for i in found["fronts"]})


def test_equal_inputs_have_equal_identities(command: Command) -> None:
    one, same, other = (_json(command, *VGG, "--delay", delay)["identity"] for delay in ("1ms", "1ms", "2ms"))
    assert one == same != other


def test_csv_has_a_line_per_interval_and_says_which_are_exact(command: Command) -> None:
    code, out, err = command(*VGG, "--csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {(row["best"], row["exact"]) for row in rows} == {
        ("latency", "true"), ("throughput", "true"), ("knee", "false"), ("front", "true"),
    }  # fmt: skip
    found = _json(command, *VGG)
    assert [float(r["from_bps"]) for r in rows if r["best"] == "latency"] == [i["from_bps"] for i in found["latency"]]
    assert [r["splits"] for r in rows if r["best"] == "front"][-1] == " ".join(map(str, found["fronts"][-1]["splits"]))


def test_a_fixed_return_rate_is_said_and_used(command: Command) -> None:
    options = (*VGG, "--sink", "first", "--mode", "single")
    assert ", 1 Mbit/s back; delay" in command(*options, "--return-rate", "1mbit")[1]
    slow, following = (_json(command, *options, *more) for more in (("--return-rate", "100kbit"), ()))
    assert slow["return_rate_bps"] == 1e5
    assert slow["latency"] != following["latency"]


@pytest.mark.usefixtures("_toy_profiles")
def test_splits_that_do_not_fit_are_named(toy: Any, command: Command, profiles: Path) -> None:
    from paretosim.profiles import write_profile

    write_profile(
        profiles / "devices" / "one.json", toy.device("one", memory_bytes=6000)
    )  # 8 × 800 bytes at splits 0 and 1
    out = command(*TOY)[1]
    assert (
        "left out, since they do not fit in the memory of one (6.0 kB usable) and two (1.0 GB usable): splits [0, 1]\n"
        in out
    )
    assert _json(command, *TOY)["unfit_splits"] == [0, 1]


@pytest.mark.usefixtures("_toy_profiles")
def test_overhead_bound_timings_draw_no_conclusion(toy: Any, command: Command, profiles: Path) -> None:
    toy.write_profiles(profiles, overhead_bound=True)
    assert "No conclusion: both timings are overhead-bound" in command(*TOY)[1]
    assert _json(command, *TOY)["overhead_bound"] is True


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_regions_are_drawn(command: Command, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map.{suffix}"
    code, out, err = command(*VGG, "--tcp-state", "cold", "--plot", path)
    assert (code, err) == (0, f"figure: {path}\n")
    assert "Best latency" in out
    content = path.read_bytes()
    if suffix == "svg":
        assert b"<svg" in content
    else:
        assert content.startswith(b"\x89PNG")


def test_a_figure_of_one_region_and_a_delay_outside_the_picture_is_drawn_too(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "map.svg"
    options = ("--rates", "1gbit..2gbit", "--delays", "1ms..2ms", "--delay", "1s", "--plot", path)
    assert command("map", "--model", "vgg16", *options)[0] == 0
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rates", "5mbit"), "--rates: got '5mbit', expected two values such as LOW..HIGH, e.g. 100kbit..10gbit"),
        (("--rates", "5mbit..1mbit"), "--rates: got '5mbit..1mbit', expected the lower value first"),
        (("--rates", "5mbps..1gbit"), "--rates: got '5mbps', which tc reads as megabytes per second"),
        (("--delays", "0s..1s"), "--delays: got '0s..1s', expected the lower value first, above zero"),
        (("--return-rate", "0"), "--return-rate: got '0', expected more than zero"),
        (("--window", "2"), "--window: has no meaning in mode paced"),
        (("--plot", "map.bmp"), "--plot: got 'map.bmp', expected a file ending in .svg, .png, .pdf"),
        (("--model", "vgg61"), "did you mean 'vgg16'?"),
    ],
)
def test_bad_input_is_named_and_ends_with_2(command: Command, options: tuple[str, ...], message: str) -> None:
    code, out, err = command(*VGG, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_names_of_intervals_stay_apart() -> None:
    edges = np.array([1e5, 1_000_100.0, 1_000_200.0, 1e9])
    assert interval_names(Intervals(edges, np.array([3, 2, 1]))) == [
        "below 1.0001 Mbit/s", "1.0001 Mbit/s to 1.0002 Mbit/s", "above 1.0002 Mbit/s",
    ]  # fmt: skip
    assert interval_names(Intervals(edges[[0, 3]], np.array([3]))) == ["at every rate"]
    assert (rate_text(999_999.0), rate_text(512.0), rate_text(1e13)) == ("1 Mbit/s", "512 bit/s", "10 Tbit/s")
