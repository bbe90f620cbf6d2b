"""`paretosim plan` as a user types it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paretosim.calibration import Calibration, DeviceTerms, MessageCost
from paretosim.placement.limits import Forbid, Pin, parse_forbid, parse_pin
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore, write_profile

Command = Callable[..., tuple[int, str, str]]
OUTPUTS = (50, 40, 30, 10)
PLAN = ("plan", "--model", "toy", "--devices", "one,two,two")


@pytest.fixture(autouse=True)
def folder(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile directory with four blocks on two devices, that every command here finds."""
    written: Path = toy.write_profiles(tmp_path / "toys", outputs=OUTPUTS)
    monkeypatch.setenv("PARETOSIM_PROFILES", str(written))
    return written


def _json(command: Command, *options: object, devices: str = "one,two,two") -> dict[str, Any]:
    code, out, err = command("plan", "--model", "toy", "--devices", devices, "--json", *options)
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def _stages(row: dict[str, Any]) -> str:
    return str(row["plan"]).removeprefix("toy@").partition("/")[0]


def test_the_front_ends_in_a_verdict_against_one_device_and_two(command: Command) -> None:
    code, out, err = command(*PLAN)
    assert (code, err) == (0, "")
    assert out.startswith(
        "toy over one, two, two in this order; batch 8, mode paced, source stage1, sink last\n"
        "chains go from one to two, where results are wanted (--ends free: between any devices)\n"
        "every hop: ethernet-1g, 1gbit and 100us forward, 1gbit and 100us back; TCP warm\n"
        "timing on one: measured, error 5.0% (by hand); 1.0 GB of 1.0 GB usable\n"
        "timing on two: measured, error 5.0% (by hand)"
    )
    assert "toy@one[0:1]+two[1:3]+two[3:4]/b8/w-/tcp/f32" in out  # 0.1 + 0.25 + 0.2 s
    assert "alone, no link: one: 1 s, 8 images/s" in out
    verdict = out.partition("Verdict: ")[2]
    assert "× one alone, where the inputs are (8 images/s)" in verdict
    assert "the best single device, two, would do 16 images/s if the data were there" in verdict
    assert "The best plan of two devices, " in verdict
    assert "5.0% error" in verdict


def test_two_devices_give_the_front_that_predict_gives(command: Command) -> None:
    for options in (("--bw", "5mbit", "--delay", "200ms"), ("--mode", "burst", "--sink", "first")):
        found = _json(command, *options, devices="one,two")
        _, out, _ = command("predict", "--model", "toy", "--devices", "one,two", "--json", *options)
        predicted = json.loads(out)
        front = sorted((row for row in predicted["rows"] if row["on_front"]), key=lambda row: row["latency_s"])
        assert [row["latency_s"] for row in found["rows"]] == pytest.approx([row["latency_s"] for row in front])
        assert [row["bottleneck"] for row in found["rows"]] == [row["bottleneck"] for row in front]
        for objective in ("latency", "throughput", "knee"):
            plan = Plan.parse(found["recommended"][objective])
            assert plan.stages[0].last == predicted["recommended"][objective]
        if "--mode" in options:
            assert [row["latency_from_start_s"] for row in found["rows"]] == pytest.approx(
                [row["latency_from_start_s"] for row in front]
            )


def test_a_calibration_is_named_and_two_devices_are_as_predict_says(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    costs = {"sending": MessageCost(message_s=0.01), "receiving": MessageCost(message_s=0.02)}
    terms = DeviceTerms(gamma=1.3, kappa=0.2, **costs)
    write_profile(path, Calibration(schema_version=2, name="mine", backend="rpc", devices={"*": terms}, rpc_s=0.01))
    options = ("--backend", "rpc", "--calibration", path, "--without", "scale")
    words = ("--model", "alexnet", "--devices", "rpi4b,rpi4b", "--bw", "50mbit")
    code, out, _ = command("plan", *words, *options, "--json")
    assert code == 0
    found, predicted = json.loads(out), json.loads(command("predict", *words, *options, "--json")[1])
    assert (found["calibration"], found["without"]) == (predicted["calibration"], ["scale"])
    figures = {(row["latency_s"], row["period_s"]) for row in predicted["rows"] if row["on_front"]}
    assert {(row["latency_s"], row["period_s"]) for row in found["rows"]} == figures
    assert all(Plan.parse(row["plan"]).backend == "rpc" for row in found["rows"])
    assert found["rows"][0]["receiving_s"] == [pytest.approx(0.02)]
    assert "calibration mine (" in command("plan", *words, *options)[1]
    assert "sending_s[1]" in command("plan", *words, *options, "--csv")[1]
    code, _, err = command("plan", *words, *options, "--without", "gamma")
    assert (code, "--without: got 'gamma', expected a term" in err) == (2, True)
    code, _, err = command("plan", *words, "--calibration", path)
    assert (code, "got one of backend rpc" in err) == (2, True)


def test_every_plan_is_one_that_can_be_run(command: Command) -> None:
    found = _json(command, "--mode", "closed", "--window", "3", "--batch", "16")
    assert {"mode", "window", "batch", "order", "ends", "timing_kinds", "identity", "versions"} <= set(found)
    for row in found["rows"]:
        plan = Plan.parse(row["plan"])
        assert (plan.window, plan.batch, plan.stages[-1].last) == (3, 16, len(OUTPUTS))
        assert len(plan.stages) == len(row["positions"]) == len(row["stages_s"]) == len(row["memory_bytes"])
        assert [stage.device for stage in plan.stages] == [found["devices"][at - 1] for at in row["positions"]]
    assert found["timing_kinds"] == ["extrapolated"] * 3  # profiled at batch 8


def test_any_order_leaves_the_ends_free_and_says_so(command: Command) -> None:
    found = _json(command, "--any-order")
    assert (found["order"], found["ends"]) == ("any", "free")
    assert _stages(found["rows"][0]) == "two[0:4]"  # the faster one alone, no link
    assert _json(command, "--any-order", "--ends", "fixed")["rows"][0]["positions"][0] == 1
    code, out, _ = command(*PLAN, "--any-order")
    assert code == 0
    assert "inputs are at the device that a chain begins with, results are wanted at the one it ends with" in out
    assert "× two alone, the best single device (16 images/s)" in out


def test_pins_forbids_and_a_limit_are_kept(command: Command) -> None:
    for row in _json(command, "--pin", "b1:two", "--pin", "4:3", "--forbid", "one:1-2")["rows"]:
        plan = Plan.parse(row["plan"])
        assert plan.stages[0].last == 0
        assert row["positions"][-1] == 3
        assert plan.stages[-1].first < 4
    assert {len(row["positions"]) for row in _json(command, "--max-devices", "2")["rows"]} == {2}
    without = _json(command, "--forbid", "2")
    assert {2} & {position for row in without["rows"] for position in row["positions"]} == set()
    forbids = without["constraints"]["forbids"]
    assert forbids == [{"devices": [2], "blocks": [f"b{index}" for index in range(4)]}]


def test_a_hop_has_a_link_of_its_own_by_names_or_numbers(command: Command) -> None:
    own = _json(command, "--link", "paper-duress", "--link", "1>2=1gbit,0s", "--link", "two>two=10mbit,5ms")
    assert own["link"]["name"] == "paper-duress"
    assert [(link["from"], link["to"], link["rate_bps"]) for link in own["own_links"]] == [
        (1, 2, 1e9),
        (2, 3, 1e7),
        (3, 2, 1e7),
    ]
    code, out, _ = command(*PLAN, "--link", "one>two=ethernet-100m")
    assert code == 0
    assert out.count("hop one (1) > two (") == 2
    forward = own["rows"][0]
    assert forward["delays_s"][forward["hops"].index("link1")] in (0.0, 0.2)


def test_rows_as_csv_have_the_same_columns_whatever_their_length(command: Command) -> None:
    code, out, _ = command(*PLAN, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    expected = _json(command)["rows"]
    assert code == 0
    assert [row["plan"] for row in rows] == [row["plan"] for row in expected]
    assert [float(row["latency_s"]) for row in rows] == [row["latency_s"] for row in expected]
    assert {len(row["positions"]) for row in expected} == {2, 3}
    assert not any(column.startswith("tied") for column in rows[0])
    assert {"stages_s[3]", "links_s[2]", "memory_bytes[3]", "meets_constraints"} <= set(rows[0])
    assert {row["stages_s[3]"] == "" for row in rows} == {True, False}


def test_other_objectives_have_their_figures_and_what_is_best_in_them(command: Command, tmp_path: Path) -> None:
    options = ("--model", "alexnet", "--devices", "rpi4b,rpi4b,rpi4b", "--objectives", "energy, throughput,bytes")
    code, out, _ = command("plan", *options, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["objectives"] == ["energy", "throughput", "bytes"]
    assert {"energy_j_per_image", "wire_bytes_per_image"} <= found["rows"][0].keys()
    assert "peak_memory_bytes" not in found["rows"][0]
    least = min(found["rows"], key=lambda row: row["energy_j_per_image"])
    assert found["recommended"]["energy"] == least["plan"]
    assert (found["recommended"]["latency"], found["recommended"]["knee"]) == (None, None)
    code, out, _ = command("plan", *options)
    assert code == 0
    assert "energy" in out
    assert "Verdict: " in out
    assert "Least energy: " in out
    drawn = tmp_path / "energy.svg"
    assert command("plan", *options, "--plot", drawn)[0] == 0
    assert "<svg" in drawn.read_text()
    assert "energy_j_per_image" in command("plan", *options, "--csv")[1].splitlines()[0]
    two = (
        "--model",
        "alexnet",
        "--devices",
        "rpi4b,rtx4090",
        "--bw",
        "20mbit",
        "--objectives",
        "latency,energy,memory",
    )
    plans = json.loads(command("plan", *two, "--json")[1])["rows"]
    splits = [row for row in json.loads(command("predict", *two, "--json")[1])["rows"] if row["on_front"]]
    names = ("latency_s", "energy_j_per_image", "peak_memory_bytes")
    assert {tuple(row[name] for name in names) for row in plans} == {
        tuple(row[name] for name in names) for row in splits
    }
    code, _, err = command("plan", *options[:-1], "energy,speed")
    assert (code, "objectives: got 'speed'" in err) == (2, True)


@pytest.mark.parametrize("options", [(), ("--any-order",), ("--pin", "1:3", "--pin", "2:1")], ids=str)
def test_a_figure_is_written_beside_the_answer(command: Command, tmp_path: Path, options: tuple[str, ...]) -> None:
    figure = tmp_path / "plan.svg"
    code, out, err = command(*PLAN, "--plot", figure, "--json", *options)
    assert (code, err) == (0, f"figure: {figure}\n")
    assert json.loads(out)["indistinguishable"].keys() == {"latency", "throughput"}
    drawn = figure.read_text()
    assert "<svg" in drawn
    code, _, err = command(*PLAN, "--plot", tmp_path / "plan.txt")
    assert (code, "--plot: got 'plan.txt', expected a file ending in .svg" in err) == (2, True)


def test_what_no_plan_meets_is_said_with_what_comes_nearest(command: Command) -> None:
    found = _json(command, "--max-latency", "1ms")
    assert found["recommended"]["knee"] is None
    assert found["recommended"]["verdict"].startswith("No placement meets latency ≤ 1 ms: the lowest latency is ")
    assert all(not row["meets_constraints"] for row in found["rows"])
    code, out, _ = command(*PLAN, "--pin", "1:3", "--pin", "2:1")
    assert code == 0
    assert "Verdict: No placement is possible: what stands in the way is pins and forbids." in out
    found = _json(command, "--pin", "1:3", "--pin", "2:1")
    said = found["recommended"].pop("verdict")
    assert (found["rows"], found["obstacle"], set(found["recommended"].values())) == ([], "pins and forbids", {None})
    assert said.startswith("No placement is possible: what stands in the way is pins and forbids.")
    _, out, _ = command(*PLAN, "--pin", "1:3", "--pin", "2:1", "--csv")
    assert out == "plan,latency_s,throughput_per_s\n"


def test_devices_without_room_are_left_to_forward(command: Command, toy: Any, folder: Path) -> None:
    write_profile(folder / "models" / "toy.json", toy.model(OUTPUTS, weights=10_000))
    small = toy.device("one", memory_bytes=7_000)  # two batches of inputs are 6400 bytes
    write_profile(folder / "devices" / "one.json", small)
    found = _json(command)
    assert {Plan.parse(row["plan"]).stages[0].last for row in found["rows"]} == {0}
    assert [baseline["fits"] for baseline in found["baselines"]] == [False, True, True]
    assert "one, where the inputs are, does not hold the model alone" in found["recommended"]["verdict"]


def test_nothing_is_concluded_between_overhead_bound_devices(command: Command) -> None:
    options = ("--model", "resnet18", "--devices", "rtx4090,rtx4090")
    code, out, err = command("plan", *options)
    assert (code, err) == (0, "")
    assert "Verdict: No placement can be judged. No conclusion about sharing blocks out between rtx4090" in out
    code, out, _ = command("plan", "--model", "resnet18", "--devices", "rtx4090,rpi4b,rtx4090", "--any-order", "--json")
    found = json.loads(out)
    assert found["unjudged"] == [[1, 3]]
    assert all(row["plan"].count("rtx4090") <= 1 for row in found["rows"])
    assert "its timing is overhead-bound" in found["recommended"]["verdict"]


def test_a_users_own_times_replace_the_profile(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("block,seconds\n" + "".join(f"b{index},0.001\n" for index in range(4)))
    found = _json(command, "--timing", f"one={mine}")
    assert found["profile_error"] is None
    assert _stages(found["rows"][0]) == "one[0:4]+two[4:4]"
    assert "The error of a timing used here is not known" in found["recommended"]["verdict"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--pin", "b9:one"),
            "--pin: block: got 'b9', expected 1 to 4 or a block of toy (b0, b1, b2, b3); did you mean",
        ),
        (("--pin", "b1:twoo"), "--pin: device: got 'twoo', expected one of one, two or 1 to 3; did you mean 'two'?"),
        (("--pin", "b1"), "--pin: got 'b1', expected BLOCK:DEVICE such as b0:one"),
        (("--pin", "5:one"), "--pin: block: got '5', expected 1 to 4"),
        (("--forbid", "4"), "--forbid: device: got '4', expected one of one, two or 1 to 3"),
        (("--forbid", "one:3-2"), "--forbid: got blocks '3-2', expected the lower number first"),
        (("--forbid", "one:"), "--forbid: got 'one:', expected DEVICE, or DEVICE:BLOCK,BLOCK… such as one:1-3"),
        (("--forbid", "one:b1,b7"), "--forbid: block: got 'b7'"),
        (
            ("--link", "one>two"),
            "--link: got 'one>two', expected a link, or FROM>TO=LINK such as 'one>two=5mbit,200ms'",
        ),
        (("--link", "one>one=ethernet-1g"), "--link: got 'one>one=ethernet-1g', a hop from a device to itself"),
        (("--link", "one>three=ethernet-1g"), "--link: device: got 'three'"),
        (("--link", "one>two=ethernet"), "link: got 'ethernet', expected one of"),
        (
            ("--link", "ethernet-1g", "--link", "lte-uplink"),
            "--link: got ethernet-1g and lte-uplink, expected one link",
        ),
        (("--max-devices", "1"), "--max-devices: got 1, expected 2 or more: chains go from one to two"),
        (("--max-devices", "0", "--any-order"), "--max-devices: got 0, expected 1 or more"),
        (("--window", "2"), "--window: has no meaning in mode paced, expected --mode closed"),
        (("--batch", "0"), "--batch: got 0, expected 1 or more"),
        (("--timing", "one"), "--timing: got 'one', expected DEVICE=FILE.csv"),
        (("--devices", "one,,two"), "--devices: got 'one,,two', expected names such as"),
        (("--devices", "one,tow"), "device: got 'tow', expected one of"),
        (("--model", "toi"), "model: got 'toi', expected one of"),
    ],
)
def test_bad_input_is_named_and_ends_in_code_2(command: Command, options: tuple[str, ...], message: str) -> None:
    code, out, err = command(*PLAN, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_timing_of_a_device_that_is_not_there_is_refused(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("block,seconds\n" + "".join(f"b{index},0.001\n" for index in range(4)))
    code, _, err = command(*PLAN, "--timing", f"three={mine}")
    assert code == 2
    assert "--timing: got a timing of three, which is not in --devices one,two,two; expected one of one or two" in err


def test_blocks_are_named_or_numbered_and_names_come_first() -> None:
    model = ProfileStore().model("toy")
    blocks = [
        msgspec.structs.replace(block, name=name)
        for block, name in zip(model.blocks, ("2", "1-3", "c", "d"), strict=True)
    ]
    odd = msgspec.structs.replace(model, blocks=tuple(blocks))
    assert parse_pin("2:one", odd, ["one", "two"]) == Pin(0, (0,))
    assert parse_pin("3:2", odd, ["one", "two"]) == Pin(2, (1,))
    assert parse_forbid("two:1-3,4", odd, ["one", "two"]) == Forbid((1,), (1, 3))
    assert parse_forbid("two:3-4", odd, ["one", "two", "two"]) == Forbid((1, 2), (2, 3))
