"""`paretosim predict` and `paretosim list` as a user types them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paretosim.calibration import Calibration
from paretosim.profiles import write_profile

Command = Callable[..., tuple[int, str, str]]
PREDICT = ("predict", "--model", "toy", "--devices", "one,two")


@pytest.fixture(autouse=True)
def _toy_profiles(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))


def _json(command: Command, *options: object) -> dict[str, Any]:
    code, out, err = command(*PREDICT, "--json", *options)
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_predict_prints_every_split_the_scatter_and_a_verdict(command: Command) -> None:
    code, out, err = command(*PREDICT, "--bw", "5mbit", "--delay", "200ms")
    assert (code, err) == (0, "")
    assert out.startswith(
        "toy over one → two, batch 8, mode paced, source stage1, sink last\nlink 5mbit,200ms: 5mbit and 200ms"
    )
    assert "second alone: two" in out
    assert "throughput, images/s" in out
    assert "Verdict: " in out


def test_the_papers_deployment_is_the_default(command: Command) -> None:
    code, out, _ = command("predict", "--model", "resnet18", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["devices"], found["batch"], found["backend"], found["mode"]) == (
        ["rpi4b", "rpi4b"],
        8,
        "tcp",
        "paced",
    )
    assert [row["split"] for row in found["rows"]] == list(range(15))
    assert found["links"][0]["name"] == "ethernet-1g"


def test_the_network_is_as_asked(command: Command) -> None:
    link = _json(command, "--bw", "5mbit", "--delay", "200ms")["links"][0]
    assert (link["rate_bps"], link["return_rate_bps"], link["one_way_delay_s"]) == (5e6, 5e6, 0.2)
    link = _json(command, "--rtt", "200ms")["links"][0]
    assert (link["rate_bps"], link["one_way_delay_s"], link["return_delay_s"]) == (1e9, 0.1, 0.1)
    assert _json(command, "--link", "paper-duress")["links"][0]["rate_bps"] == 5e6
    link = _json(command, "--link", "paper-duress", "--bw", "1mbit")["links"][0]
    assert (link["rate_bps"], link["one_way_delay_s"]) == (1e6, 0.2)
    assert _json(command, "--link", "20mbit,10ms")["links"][0]["rate_bps"] == 2e7


def test_the_load_is_as_asked(command: Command) -> None:
    assert _json(command, "--mode", "closed")["window"] == 4
    assert _json(command, "--mode", "closed", "--window", 2)["window"] == 2
    assert _json(command, "--mode", "burst", "--burst", 13)["burst_batches"] == 13
    assert _json(command, "--batch", 4)["timing_kinds"] == ["extrapolated", "extrapolated"]
    assert [row["split"] for row in _json(command, "--splits", "interior")["rows"]] == [1]
    assert _json(command, "--source", "sink")["hops"] == ["input", "link1"]
    assert _json(command, "--sink", "first")["hops"] == ["link1", "return"]
    base, delayed = _json(command), _json(command, "--control-delay", "100ms")
    for before, after in zip(base["rows"], delayed["rows"], strict=True):
        assert after["latency_s"] == pytest.approx(before["latency_s"] + 0.1)


def test_constraints_are_as_asked(command: Command) -> None:
    found = _json(command, "--max-latency", "1s", "--min-throughput", 2.5, "--fps", 30)
    assert found["constraints"] == {"max_latency_s": 1.0, "min_throughput_per_s": 2.5, "frame_rate_per_s": 30.0}


def test_csv_gives_the_rows(command: Command) -> None:
    code, out, err = command(*PREDICT, "--csv")
    assert (code, err) == (0, "")
    assert [row["split"] for row in csv.DictReader(io.StringIO(out))] == ["0", "1", "2"]


def test_a_figure_is_written_and_named_on_stderr_so_that_stdout_stays_a_result(
    command: Command, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "front.svg"
    code, out, err = command(*PREDICT, "--json", "--plot", path)
    assert (code, err) == (0, f"figure: {path}\n")
    json.loads(out)
    assert path.stat().st_size > 1000


def test_a_users_own_timings_replace_the_shipped(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("block,seconds\nb0,1\nb1,2\n")
    found = _json(command, "--timing", f"one={tmp_path / 'mine.csv'}")
    assert found["rows"][2]["stages_s"] == [3.0, 0.0]
    assert found["timing_kinds"] == ["measured", "measured"]
    assert found["profile_error"] is None


def test_profiles_given_on_the_command_line_come_first(command: Command, toy: Any, tmp_path: Path) -> None:
    other = toy.write_profiles(tmp_path / "other", kind="reconstructed")
    assert _json(command, "--profiles", other)["timing_kinds"] == ["reconstructed", "reconstructed"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bw", "5mbps"), "--bw: got '5mbps', which tc reads as megabytes per second"),
        (("--bw", "5 potatoes"), "--bw: got '5 potatoes', expected a number and a unit such as 5mbit"),
        (("--bw", "0mbit"), "--bw: got '0mbit', expected more than zero"),
        (("--bw", "1e400mbit"), "--bw: got '1e400mbit', which is too large for a number"),
        (("--bw", "-5mbit"), "--bw: got '-5mbit', expected a value that is not negative"),
        (("--bw", "1e-306bit"), "prediction: a latency is too large for a number"),
        (("--delay", "-1ms"), "--delay: got '-1ms', expected a value that is not negative, such as 200ms"),
        (("--delay=-1ms",), "--delay: got '-1ms', expected a value that is not negative"),
        (("--delay", "nan"), "--delay: got 'nan', expected a number and a unit"),
        (("--delay", "1ms", "--rtt", "1ms"), "--delay and --rtt: got both a one-way delay and a round trip"),
        (("--rtt", ""), "--rtt: got ''"),
        (("--link", "nosuch"), "link: got 'nosuch', expected one of ethernet-100m"),
        (("--link", "5mbit,"), "link delay: got ''"),
        (("--batch", "0"), "--batch: got 0, expected 1 or more"),
        (("--batch", "-3"), "--batch: got -3"),
        (("--batch", "9" * 30), "batch: got 9999"),
        (("--window", "2"), "--window: has no meaning in mode paced, expected --mode closed"),
        (("--mode", "closed", "--window", "0"), "mode closed: got a window of 0, expected 1 to"),
        (("--mode", "closed", "--burst", "2"), "--burst: has no meaning in mode closed, expected --mode burst"),
        (("--mode", "burst", "--burst", "9" * 30), "expected 1 to 1048576"),
        (("--fps", "nan"), "--fps: got nan, expected a number above zero"),
        (("--min-throughput", "-1"), "--min-throughput: got -1.0, expected a number above zero"),
        (("--max-latency", "1"), "--max-latency: got '1', expected a unit"),
        (("--delay", "5"), "--delay: got '5', expected a unit"),
        (("--rtt", "5"), "--rtt: got '5', expected a unit"),
        (("--control-delay", "5"), "--control-delay: got '5', expected a unit"),
        (("--link", "5mbit,200"), "link delay: got '200', expected a unit"),
        (("--link", "5mbit,20ms,jitter=2"), "link jitter: got '2', expected a unit"),
        (("--max-latency", "0s"), "max_latency_s: got 0.0"),
        (("--control-delay", "-1s"), "--control-delay: got '-1s'"),
        (("--devices", "one"), "--devices: got 'one', expected two names such as rpi4b,rtx4090"),
        (("--devices", "one,two,one"), "--devices: got 'one,two,one', expected two names"),
        (("--devices", "one,twp"), "device: got 'twp', expected one of one, "),
        (("--devices", "one,../devices/two"), "device: got '../devices/two', expected one of"),
        (("--model", "../models/toy"), "model: got '../models/toy', expected one of alexnet"),
        (("--model", "toyy"), "did you mean 'toy'?"),
        (("--model", "vgg16"), "timing: none of 'vgg16' on 'one'"),
        (("--timing", "one"), "--timing: got 'one', expected DEVICE=FILE.csv"),
        (("--timing", "one=gone.csv"), "gone.csv: cannot be read"),
        (("--profiles", "gone"), "profile directory: gone does not exist"),
        (("--plot", "gone/a.svg"), "gone does not exist; make it first"),
        (("--plot", "a.txt"), "--plot: got 'a.txt', expected a file ending in .svg, .png, .pdf"),
    ],
)
def test_bad_input_is_2_and_one_clear_line_on_stderr(command: Command, options: tuple[str, ...], said: str) -> None:
    code, out, err = command(*PREDICT, *options)
    assert (code, out) == (2, "")
    assert err.startswith("paretosim: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_timing_of_an_absent_device_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("b0,1\nb1,2\n")
    code, _, err = command(*PREDICT, "--timing", f"three={tmp_path / 'mine.csv'}")
    assert code == 2
    assert "--timing: got a timing of three, which is not in --devices one,two; expected one of one or two" in err


@pytest.mark.parametrize(
    "options",
    [("--json", "--csv"), ("--batch", "many"), ("--batch", "1.5"), ("--fps", "fast"), ("--mode", "shut"),
     ("--splits", "some"), ("--source", "x"), ("--sink", "x"), ("--nosuch",), ("--dev", "one,two"), ("--bw",)],
)  # fmt: skip
def test_bad_usage_is_2_with_the_usage(command: Command, options: tuple[str, ...]) -> None:
    code, out, err = command(*PREDICT, *options)
    assert (code, out) == (2, "")
    assert err.startswith("usage: paretosim predict")


def test_a_model_is_asked_for(command: Command) -> None:
    code, _, err = command("predict")
    assert code == 2
    assert "the following arguments are required: --model" in err


def test_a_broken_profile_is_named(command: Command, profiles: Path) -> None:
    path = profiles / "timings" / "two" / "toy.json"
    path.write_text(path.read_text()[:50])
    code, out, err = command(*PREDICT)
    assert (code, out) == (2, "")
    assert err.startswith(f"paretosim: {path}: not whole JSON")


def test_a_number_that_json_does_not_have_is_shown_where_it_stands(command: Command, profiles: Path) -> None:
    path = profiles / "timings" / "two" / "toy.json"
    path.write_text(re.sub(r'"value_s": ?[0-9.e-]+', '"value_s": NaN', path.read_text(), count=1))
    code, _, err = command(*PREDICT)
    assert code == 2
    assert re.search(r"\(byte \d+\), in '.*\"value_s\": NaN.*', and JSON has no such number\)", err)


def test_list_shows_what_is_known(command: Command) -> None:
    code, out, err = command("list")
    assert (code, err) == (0, "")
    for said in ("models", "devices", "timings", "links", "toy", "vgg16", "138,357,544", "one", "rpi4b",
                 "reconstructed", "measured", "5.0%", "ethernet-1g", "1gbit, 100us", "1.0 GB"):  # fmt: skip
        assert said in out


def test_list_shows_calibrations_and_what_they_say(command: Command, profiles: Path) -> None:
    found = Calibration(
        schema_version=2,
        name="desk",
        backend="rpc",
        dispatch_s=1e-3,
        framing_bytes=96,
        title="a desk",
        fitted_on=("r1",),
    )
    write_profile(profiles / "calibrations" / "desk.json", found)
    code, out, _ = command("list")
    assert code == 0
    assert re.search(r"desk +rpc +framing, dispatch +r1 +a desk", out)
    assert re.search(r"local-testbed-tcp +tcp +overhead,.* 10 runs +the local testbed over", out)


def test_list_as_json(command: Command) -> None:
    code, out, _ = command("list", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"models", "devices", "timings", "links", "calibrations"}
    assert {"one", "two", "rpi4b", "rtx4090"} <= set(found["devices"])
    assert {"device": "one", "model": "toy", "kind": "measured"} in found["timings"]


def test_list_names_a_broken_profile(command: Command, profiles: Path) -> None:
    (profiles / "links").mkdir()
    (profiles / "links" / "mine.json").write_text("{")
    code, _, err = command("list")
    assert code == 2
    assert "links/mine.json: not whole JSON" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--max-latency", "1us"), "No split meets latency ≤ 1 us"), (("--rate", "1000"), "No split keeps up with 1000")],
)
def test_that_no_split_will_do_is_an_answer(command: Command, options: tuple[str, ...], said: str) -> None:
    mode = ("--mode", "open") if "--rate" in options else ()
    recommended = _json(command, *mode, *options)["recommended"]
    assert recommended.pop("verdict").startswith(said)
    assert set(recommended.values()) == {None}
    code, out, _ = command(*PREDICT, *mode, *options)
    assert (code, f"Verdict: {said}" in out, "K knee: no split qualifies" in out) == (0, True, True)
