"""Split × batch × window as one space, under latency, throughput, energy, memory and bytes on the wire."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.decision.as_json import as_json
from paretosim.decision.hypervolume import hypervolume
from paretosim.decision.space import MAX_CHOICES, across, explore
from paretosim.decision.tables import choice_table
from paretosim.decision.verdict import decision_verdict
from paretosim.device import Device, NetworkPower
from paretosim.energy import energy_j
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.mode import Mode
from paretosim.objectives import OBJECTIVES, Objective, contrast, costs_of, objectives_named
from paretosim.pareto import is_nondominated
from paretosim.prediction import predict
from paretosim.profiles import ProfileStore, identity, read_profile, write_profile
from paretosim.setting import Setting
from paretosim.setting_words import split_setting
from paretosim.timing import BatchTiming, BlockTiming

Command = Callable[..., tuple[int, str, str]]
ALL = tuple(objective.name for objective in OBJECTIVES)


def powered(toy: Any, name: str, idle_w: float, busy_w: float, **options: Any) -> Device:
    device: Device = toy.device(name, **options)
    return msgspec.structs.replace(device, idle_power_w=idle_w, busy_power_w=busy_w)


@pytest.fixture(scope="module")
def setting(toy: Any) -> Callable[..., Setting]:
    """A toy setting of two devices that draw 2 to 5 W and 10 to 50 W."""

    def build(*times: Sequence[float], **options: Any) -> Setting:
        devices = (powered(toy, "one", 2.0, 5.0), powered(toy, "two", 10.0, 50.0))
        made: Setting = toy.setting(*times, devices=devices, **options)
        return made

    return build


# --- energy ---


def test_a_device_draws_idle_power_all_along_and_the_rest_while_it_computes(toy: Any) -> None:
    devices = (powered(toy, "one", 2.0, 5.0), powered(toy, "two", 10.0, 50.0))
    # One interval of 1 s: 0.25 s at 5 W and 0.75 s at 2 W; 0.5 s at 50 W and 0.5 s at 10 W.
    assert energy_j(devices, [0.25, 0.5], 1.0) == pytest.approx(1.25 + 1.5 + 25 + 5)


def test_energy_an_image_is_over_the_modes_own_interval(setting: Callable[..., Setting]) -> None:
    # Split 1: 0.1 s, 8·2·4 bytes at 1 Mbit/s = 0.512 ms, 0.4 s. Paced, the interval is 0.4 s.
    (choice,) = [c for c in explore([setting()], ["energy"]).choices if c.row.split == 1]
    busy_j = 0.1 * 5 + 0.4 * 50
    assert choice.figures.energy_j_per_image == pytest.approx((busy_j + 0.3 * 2) / 8)
    (choice,) = [c for c in explore([setting(mode=Mode.named("single"))], ["energy"]).choices if c.row.split == 1]
    assert choice.figures.energy_j_per_image == pytest.approx((busy_j + 0.400512 * 2 + 0.100512 * 10) / 8)


def test_a_camera_slower_than_the_pipeline_sets_the_interval(setting: Callable[..., Setting]) -> None:
    (choice,) = [c for c in explore([setting(frame_rate_per_s=4)], ["energy"]).choices if c.row.split == 1]
    assert choice.figures.energy_j_per_image == pytest.approx((0.1 * 5 + 0.4 * 50 + 1.9 * 2 + 1.6 * 10) / 8)
    faster = explore([setting(frame_rate_per_s=1e6)], ["energy"])
    assert faster.choices[0].figures.energy_j_per_image == pytest.approx(
        explore([setting()], ["energy"]).choices[0].figures.energy_j_per_image
    )


def test_a_device_alone_draws_for_itself_only(setting: Callable[..., Setting]) -> None:
    space = explore([setting()], ["energy"])
    assert [one.figures.energy_j_per_image for one in space.alone] == pytest.approx([0.4 * 5 / 8, 0.6 * 50 / 8])


def networked(device: Device, sent: float, received: float, transfer_w: float = 0.0) -> Device:
    power = NetworkPower(sent_j_per_byte=sent, received_j_per_byte=received, transfer_w=transfer_w)
    return msgspec.structs.replace(device, network_power=power)


def test_what_networks_add_is_for_every_byte_on_the_wire_and_while_they_pass(
    toy: Any, setting: Callable[..., Setting]
) -> None:
    plain = setting(batch=1, sink="first", link=toy.link(1e4, header_bytes=10, mss_bytes=100))
    one, two = plain.devices
    known = msgspec.structs.replace(plain, devices=(networked(one, 0.5, 0.25, 2.0), networked(two, 0.0, 0.125)))
    before, after = (explore([each], ["energy"]).choices for each in (plain, known))
    # Split 1: 8 + 10 bytes there and 4 + 10 back, at 10 kbit/s. The first device sends and receives, 2 W all the while.
    expected = 18 * (0.5 + 0.125) + 14 * 0.25 + 2.0 * (18 + 14) * 8 / 1e4
    figures = after[1].figures
    assert figures.network_j_per_image == pytest.approx(expected)
    assert figures.energy_j_per_image == pytest.approx(before[1].figures.energy_j_per_image + expected)
    assert (before[1].figures.network_j_per_image, after[2].figures.network_j_per_image) == (0.0, 0.0)  # nothing sent
    assert all(one.figures.network_j_per_image == 0 for one in explore([known], ["energy"]).alone)


def test_the_networks_share_is_stated_or_said_to_be_unknown(setting: Callable[..., Setting]) -> None:
    plain = setting()
    one, two = plain.devices
    said = decision_verdict(explore([plain], ["energy"]))
    assert "idle time included; what radio or NIC add is not known and not in it." in said
    half = msgspec.structs.replace(plain, devices=(networked(one, 0.01, 0.01), two))
    space = explore([half], ["energy"])
    best = space.best("energy")
    assert best is not None
    assert best.figures.network_j_per_image is not None
    assert f"is in it: {best.figures.network_j_per_image:.3g} J an image (" in decision_verdict(space)
    assert "%) of the least; that of two is not known and not in it." in decision_verdict(space)
    found = json.loads(as_json(space))
    assert found["network_power_unknown"] == ["two"]
    assert found["rows"][best.row.split]["network_j_per_image"] == best.figures.network_j_per_image
    both = msgspec.structs.replace(plain, devices=(networked(one, 0.01, 0.01), networked(two, 0.01, 0.01)))
    assert "not known and not in it" not in decision_verdict(explore([both], ["energy"]))


def test_a_device_without_the_figure_is_hashed_and_written_as_one_that_never_had_the_field(toy: Any) -> None:
    device = powered(toy, "one", 2.0, 5.0)
    assert b"network" not in msgspec.json.encode(device)
    assert identity(device) != identity(networked(device, 1e-6, 1e-6))
    again = msgspec.json.decode(msgspec.json.encode(networked(device, 1e-6, 2e-6, 0.1)), type=Device)
    assert again.network_power == NetworkPower(sent_j_per_byte=1e-6, received_j_per_byte=2e-6, transfer_w=0.1)
    with pytest.raises(BadInputError, match=r"network_power.received_j_per_byte: got -1.0, expected 0 or more"):
        networked(device, 0.0, -1.0)


def test_the_shipped_devices_are_who_they_were() -> None:
    # Results name their inputs by these: a field that is not there must not change them.
    store = ProfileStore()
    known = {"rpi4b": "19c6e558c8ed49b2", "rtx4090": "eb4aaab7918b0e6b"}
    assert {name: identity(store.device(name)) for name in known} == known


def test_unknown_power_refuses_energy_by_the_devices_name(toy: Any) -> None:
    with pytest.raises(
        BadInputError, match=r"energy needs idle_power_w and busy_power_w of one, not known; expected fig"
    ):
        explore([toy.setting()], ["latency", "energy"])
    half = msgspec.structs.replace(toy.device("two"), idle_power_w=1.0)
    devices = (powered(toy, "one", 1, 1), half)
    with pytest.raises(BadInputError, match=r"energy needs busy_power_w of two"):
        explore([toy.setting(devices=devices)], ["energy"])


def test_a_device_never_draws_less_when_it_is_busy(toy: Any) -> None:
    with pytest.raises(BadInputError, match=r"busy_power_w: got 1.0, expected idle_power_w or more"):
        powered(toy, "one", 2.0, 1.0)


times = st.lists(st.floats(min_value=1e-4, max_value=10), min_size=1, max_size=5)
modes = st.sampled_from([Mode.named("single"), Mode.named("paced"), Mode.named("closed"), Mode.named("burst")])


@given(data=st.data(), first=times, mode=modes, idle=st.floats(min_value=0.1, max_value=50))
@settings(max_examples=40)
def test_energy_is_between_all_idle_and_all_busy(
    toy: Any, data: st.DataObject, first: list[float], mode: Mode, idle: float
) -> None:
    second = data.draw(st.lists(st.floats(1e-4, 10), min_size=len(first), max_size=len(first)))
    devices = (powered(toy, "one", idle, 3 * idle), powered(toy, "two", 1.0, 20.0))
    space = explore([toy.setting(first, second, devices=devices, mode=mode)], ["energy"])
    for choice in space.choices:
        energy = choice.figures.energy_j_per_image
        assert energy is not None
        assert (idle + 1.0) * choice.row.period_s * (1 - 1e-9) <= energy * 8
        assert energy * 8 <= (3 * idle + 20.0) * choice.row.period_s * (1 + 1e-9)


# --- memory and bytes ---


def test_memory_is_that_of_the_fuller_device(setting: Callable[..., Setting]) -> None:
    space = explore([setting(weights=1000)], ["memory"])
    for choice in space.choices:
        assert choice.figures.peak_memory_bytes == max(choice.row.memory_bytes)


def test_bytes_on_the_wire_are_payload_and_headers_of_all_hops_an_image(toy: Any) -> None:
    link = toy.link(header_bytes=10, mss_bytes=100)
    space = explore([toy.setting(link=link, batch=1, inputs=100)], ["bytes"])
    # Split 0: 400 bytes in 4 segments; split 1: 2 · 4 bytes in one, split 2: 4 bytes.
    assert [choice.figures.wire_bytes_per_image for choice in space.choices] == [440, 18, 14]
    back = explore([toy.setting(link=link, batch=1, inputs=100, sink="first")], ["bytes"])
    assert [choice.figures.wire_bytes_per_image for choice in back.choices] == [440 + 14, 18 + 14, 0]
    batched = explore([toy.setting(link=link, batch=8, inputs=100)], ["bytes"])
    assert [choice.figures.wire_bytes_per_image for choice in batched.choices] == [440, (64 + 10) / 8, (32 + 10) / 8]


def test_a_split_that_does_not_fit_says_where_it_lacks_what(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=7000, reserved_bytes=10), toy.device("two"))
    space = explore([toy.setting(devices=devices, weights=6000)], ["memory"])
    assert [choice.misfits for choice in space.choices[:1]] == [()]
    (why,) = space.choices[2].misfits
    assert why.startswith("stage1 needs 1")
    assert why.endswith("kB, one has 7.0 kB usable")
    assert not space.choices[2].on_front


# --- the front of any objectives ---


@given(data=st.data(), first=times)
@settings(max_examples=30)
def test_the_front_is_brute_forces_and_more_objectives_lose_no_distinct_point(
    toy: Any, data: st.DataObject, first: list[float]
) -> None:
    count = len(first)
    second = data.draw(st.lists(st.floats(1e-4, 10), min_size=count, max_size=count))
    outputs = data.draw(st.lists(st.integers(1, 10**5), min_size=count, max_size=count))
    devices = (powered(toy, "one", 2.0, 5.0), powered(toy, "two", 10.0, 50.0))
    base = toy.setting(first, second, outputs=outputs, devices=devices, mode=Mode.named("closed"))
    spread = across(base, [1, 8], [1, 3])
    fewer = data.draw(st.sampled_from([names for n in (1, 2, 3) for names in combinations(ALL, n)]))
    more = (*fewer, data.draw(st.sampled_from([name for name in ALL if name not in fewer])))
    few, many = explore(spread, fewer), explore(spread, more)
    points = [tuple(line) for line in costs_of([c.figures for c in few.choices], few.objectives).tolist()]

    def beaten(point: tuple[float, ...]) -> bool:
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    assert [choice.on_front for choice in few.choices] == [not beaten(point) for point in points]
    # What leads in fewer objectives still leads in more, but for ties that the new objective breaks.
    still = {point for point, choice in zip(points, many.choices, strict=True) if choice.on_front}
    assert {point for point, choice in zip(points, few.choices, strict=True) if choice.on_front} <= still


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=1, max_size=25),
)
@settings(max_examples=40)
def test_in_any_number_of_dimensions_dominance_agrees_with_moocore(points: list[tuple[int, ...]]) -> None:
    moocore = pytest.importorskip("moocore")
    costs = np.array(points, dtype=np.float64)
    expected = moocore.is_nondominated(costs, keep_weakly=True)
    assert is_nondominated(costs).tolist() == expected.tolist()


def test_one_setting_has_the_front_and_the_best_that_predict_has(setting: Callable[..., Setting]) -> None:
    found, space = predict(setting()), explore([setting()])
    assert [choice.row for choice in space.choices if choice.on_front] == [row for row in found.rows if row.on_front]
    best = {name: space.best(name) for name in ("latency", "throughput")}
    assert {name: one and one.row.split for name, one in best.items()} == {
        "latency": found.recommended.latency, "throughput": found.recommended.throughput,
    }  # fmt: skip


def test_a_batch_that_a_camera_fills_late_is_later(setting: Callable[..., Setting]) -> None:
    spread = across(setting(frame_rate_per_s=2), [1, 8])
    for choice in explore(spread).choices:
        waited = 0 if choice.batch == 1 else 3.5
        assert choice.figures.image_latency_s == pytest.approx(choice.row.latency_s + waited)


def test_the_best_of_all_batches_and_windows_ties_to_the_other_objectives(setting: Callable[..., Setting]) -> None:
    space = explore(across(setting(mode=Mode.named("closed")), [8, 4], [1, 2, 4]))
    assert len(space.choices) == 3 * 6
    busiest = space.best("throughput")
    assert busiest is not None
    top = max(choice.figures.throughput_per_s for choice in space.choices)
    alike = [choice for choice in space.choices if choice.figures.throughput_per_s == top]
    assert busiest.figures.image_latency_s == min(choice.figures.image_latency_s for choice in alike)
    with pytest.raises(BadInputError, match=r"objective: got 'energy', expected one of latency, throughput"):
        space.best("energy")


def test_the_front_comes_from_the_best_in_the_first_objective_on(setting: Callable[..., Setting]) -> None:
    space = explore(across(setting(mode=Mode.named("closed")), [1, 8], [1, 2, 4]), ["throughput", "latency"])
    rates = [choice.figures.throughput_per_s for choice in space.front]
    assert rates == sorted(rates, reverse=True)
    assert len(rates) > 1


def test_unlike_settings_are_not_compared(setting: Callable[..., Setting]) -> None:
    with pytest.raises(UnlikeConditionsError, match=r"batch 4, mode paced differs from the first in more than"):
        explore([setting(), setting(batch=4, sink="first")])
    with pytest.raises(UnlikeConditionsError, match="differs from the first"):
        explore([setting(), setting(batch=4, error=0.5)])
    with pytest.raises(BadInputError, match="same batch and window twice"):
        explore([setting(), setting()])
    with pytest.raises(BadInputError, match="settings: got none"):
        explore([])
    with pytest.raises(BadInputError, match="batch: got 2, 2, expected each once"):
        across(setting(), [2, 2])


def test_too_many_choices_are_refused(setting: Callable[..., Setting]) -> None:
    spread = across(setting([0.1] * 100, [0.1] * 100, mode=Mode.named("closed")), [8], range(1, MAX_CHOICES // 101 + 2))
    with pytest.raises(BadInputError, match=rf"expected {MAX_CHOICES} at most"):
        explore(spread)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["latancy"], r"got 'latancy', expected any of latency, .* did you mean 'latency'\?"),
        ([], "got none, expected one or more"),
        (["energy", "energy"], "got energy, energy, expected one or more, each once"),
    ],
)
def test_objectives_are_checked_by_name(names: list[str], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        objectives_named(names)


def test_the_hypervolume_is_the_share_of_the_box_that_a_front_dominates() -> None:
    pytest.importorskip("moocore")
    # In the box (0, 0) … (4, 4): (1, 2) and (2, 1) dominate 3·2 + 2·3 − 2·2 of 16; the ends nothing.
    found = hypervolume(np.array([[0, 4], [1, 2], [2, 1], [4, 0], [4, 4]], dtype=np.float64))
    assert found is not None
    assert found.share == pytest.approx(8 / 16)
    assert (found.ideal, found.reference) == ((0, 0), (4, 4))
    assert hypervolume(np.array([[1.0, 2.0], [1.0, 3.0]])) is None


def test_in_a_notebook_a_space_shows_its_front_with_every_name_escaped(toy: Any) -> None:
    model = toy.model((2, 1), name="<toy>")
    timings = tuple(toy.timing((0.1, 0.3), device=name, model="<toy>") for name in ("one", "two"))
    devices = (toy.device("one"), toy.device("two"))
    one = Setting(model=model, devices=devices, timings=timings, link=toy.link(), mode=Mode.named("closed"))
    space = explore(across(one, [1, 8], [1, 2]))
    html = space._repr_html_()
    assert html.count("<tr>") == 1 + len(space.front)
    assert "&lt;toy&gt;" in html
    assert "<toy>" not in html


def test_a_narrow_terminal_leaves_columns_out_and_says_so(setting: Callable[..., Setting]) -> None:
    space = explore([setting()], ALL)
    table = choice_table(space, list(space.choices), 60).plain
    assert (
        "(too narrow for: after block, bottleneck; widen the terminal, or use --csv; first, second: that device alone)"
        in table
    )


# --- the command ---


@pytest.fixture
def asked(profiles: Path) -> tuple[object, ...]:
    """`predict` over toy devices of known power."""
    for name in ("one", "two"):
        path = profiles / "devices" / f"{name}.json"
        device = msgspec.structs.replace(read_profile(path, Device), idle_power_w=1.0, busy_power_w=3.0)
        write_profile(path, device)
    return ("predict", "--profiles", profiles, "--model", "toy", "--devices", "one,two")


def test_lists_of_batches_and_windows_are_one_space_in_json(command: Command, asked: tuple[object, ...]) -> None:
    code, out, err = command(*asked, "--batch", "1,8", "--mode", "closed", "--window", "1,2,4", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["batches"], found["windows"], found["objectives"]) == ([1, 8], [1, 2, 4], ["latency", "throughput"])
    assert [(row["split"], row["batch"], row["window"]) for row in found["rows"][:7]] == [
        (0, 1, 1), (0, 1, 2), (0, 1, 4), (0, 8, 1), (0, 8, 2), (0, 8, 4), (1, 1, 1),
    ]  # fmt: skip
    assert found["timing_kinds"] == {"1": ["extrapolated"] * 2, "8": ["measured"] * 2}
    assert set(found["recommended"]["latency"]) == {"split", "batch", "window"}
    assert len(found["baselines"]["first_device"]) == 6
    assert "energy_j_per_image" not in found["rows"][0]


def test_rows_of_a_space_are_those_of_predict_at_that_batch_and_window(
    command: Command, asked: tuple[object, ...]
) -> None:
    space = json.loads(command(*asked, "--batch", "4,8", "--mode", "closed", "--window", "1,2", "--json")[1])
    single = json.loads(command(*asked, "--batch", 4, "--mode", "closed", "--window", 2, "--json")[1])
    rows = [row for row in space["rows"] if (row["batch"], row["window"]) == (4, 2)]
    for row, expected in zip(rows, single["rows"], strict=True):
        assert {name: row[name] for name in expected if name != "on_front"} == {
            name: value for name, value in expected.items() if name != "on_front"
        }


def test_objectives_put_their_figures_in_rows_table_and_csv(command: Command, asked: tuple[object, ...]) -> None:
    wanted = ("--objectives", "latency,energy,memory,bytes")
    code, out, err = command(*asked, *wanted)
    assert (code, err) == (0, "")
    for said in (
        "energy\n",
        "J/image",
        "memory of the",
        "on the wire",
        "E least energy: split",
        "what radio or NIC add",
    ):
        assert said.strip() in out
    rows = list(csv.DictReader(io.StringIO(command(*asked, *wanted, "--csv")[1])))
    assert [row["split"] for row in rows] == ["0", "1", "2"]
    assert all(float(row["energy_j_per_image"]) > 0 for row in rows)
    assert float(rows[1]["wire_bytes_per_image"]) > 200
    assert int(rows[1]["peak_memory_bytes"]) == max(int(rows[1][f"memory_bytes[{stage}]"]) for stage in (1, 2))
    assert {row["window"] for row in rows} == {""}


def test_the_table_shows_the_front_and_all_on_request(command: Command, asked: tuple[object, ...]) -> None:
    options = (*asked, "--batch", "1,2,4,8", "--objectives", "latency,throughput")
    short, whole = command(*options)[1], command(*options, "--all")[1]
    assert "choices off the front are not shown; --all shows them" in short
    assert "not shown" not in whole
    assert len(whole.splitlines()) > len(short.splitlines())
    assert "Timings at batch 1, 2, 4 are extrapolated: from a single profiled size" in short


def test_the_hypervolume_names_its_reference_point(command: Command, asked: tuple[object, ...]) -> None:
    pytest.importorskip("moocore")
    out = command(
        *asked, "--batch", "1,8", "--mode", "closed", "--window", "1,4", "--objectives", "latency,throughput"
    )[1]
    assert "hypervolume of the front: " in out
    assert "to the reference point (" in out


def test_what_choices_rest_on_is_said_as_for_one_prediction(command: Command, asked: tuple[object, ...]) -> None:
    out = command(*asked, "--batch", "1,8", "--workers", "serial", "--fps", 5)[1]
    assert "serial workers, sockets of" in out
    assert "latency is from a batch's first image at 5 frames/s, filling included" in out
    assert "batch 8: timing on one: measured, error 5.0% (by hand)" in out


def test_a_single_batch_and_window_print_what_they_always_did(command: Command, asked: tuple[object, ...]) -> None:
    assert command(*asked)[1].splitlines()[0] == "toy over one → two, batch 8, mode paced, source stage1, sink last"
    assert json.loads(command(*asked, "--json", "--batch", 8)[1])["batch"] == 8


def test_a_figure_draws_the_first_two_objectives_and_names_the_others(
    command: Command, asked: tuple[object, ...], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "space.svg"
    options = ("--batch", "1,8", "--mode", "closed", "--window", "1,4", "--objectives", "energy,latency,memory")
    code, out, err = command(*asked, *options, "--fps", "5", "--json", "--plot", path)
    assert (code, err) == (0, f"figure: {path}\n")
    json.loads(out)
    drawn = path.read_text()
    for said in (
        "energy, J an image",
        "latency, s, filled at 5 frames/s",
        "front under memory too",
        "batch 1, window 4",
    ):
        assert said in drawn
    code, _, err = command(*asked, "--mode", "closed", "--window", "1,2,3,4,5,6,7,8,9", "--plot", path)
    assert (code, err) == (2, "paretosim: --plot: got 9 windows, expected 8 at most, a shape each\n")


def test_moocore_is_imported_for_a_hypervolume_alone(asked: tuple[object, ...]) -> None:
    arguments = [str(argument) for argument in asked]
    code = f"import sys; from paretosim.cli import main; main({arguments!r}); sys.exit('moocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "1,1"], "batch: got 1, 1, expected each once"),
        (["--batch", "1,0"], "--batch: got 0, expected 1 or more"),
        (["--batch", "1,x"], "argument --batch: got '1,x', expected a whole number, or a list"),
        (["--window", "1,2"], "--window: has no meaning in mode paced"),
        (["--mode", "closed", "--window", "1,0"], "got a window of 0, expected 1 to"),
        (["--objectives", "speed"], "objectives: got 'speed', expected any of"),
        (["--objectives", "energy", "--plot", "a.svg"], "--plot: got one objective, energy, expected two or more"),
        (["--batch", "1,2", "--plot", "a.gif"], "--plot: got 'a.gif', expected a file ending in .svg"),
        (["--batch", "1,2", "--rate", "1"], "several batch sizes are several loads; expected one size"),
    ],
)
def test_the_command_refuses_what_means_nothing(
    command: Command, asked: tuple[object, ...], options: list[str], said: str
) -> None:
    code, out, err = command(*asked, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_what_cannot_keep_up_or_be_met_is_said(command: Command, asked: tuple[object, ...]) -> None:
    out = command(*asked, "--batch", "1,8", "--max-latency", "1us")[1]
    assert "L lowest latency: no choice qualifies" in out
    assert "Verdict: No choice meets what is wanted" in out
    out = command(*asked, "--objectives", "latency,energy", "--rate", "1000")[1]
    assert "front: 0 of 3 choices" in out
    assert "Nothing that fits keeps up with what arrives in mode open(rate=1000/s, deterministic)" in out


def test_a_model_that_fits_nowhere_says_where_it_lacks_what(
    command: Command, asked: tuple[object, ...], profiles: Path
) -> None:
    for name in ("one", "two"):
        path = profiles / "devices" / f"{name}.json"
        write_profile(path, msgspec.structs.replace(read_profile(path, Device), memory_bytes=500))
    out = command(*asked, "--batch", "8,16")[1]
    assert "Verdict: Nothing fits. For split 0 at batch 8, stage1 needs 6.4 kB, one has 500 B usable" in out
    assert "✗ batch 8: stage1 of splits 0–2 does not fit on one: 5.1 kB to 6.4 kB needed, 500 B usable" in out
    rows = json.loads(command(*asked, "--batch", "8,16", "--json")[1])["rows"]
    assert all(not row["fits"] and not row["on_front"] for row in rows)
    assert all(row["why_not"].startswith("stage1 needs") for row in rows)


@given(
    st.sampled_from(OBJECTIVES), st.floats(1e-6, 1e12), st.sampled_from([0.0, 1e-12, 2e-9, 1e-6, 1e-4, 1e-3, 0.1, 2.0])
)
def test_two_values_are_told_apart_or_said_to_be_equal(objective: Objective, value: float, more: float) -> None:
    values = (value, value * (1 + more))
    if objective.name in ("memory", "bytes"):  # to the byte
        values = (1e9 + round(value), (1e9 + round(value)) + round(value * more))
    said = contrast(objective, *values)
    first, against, second = said.partition(" against ")
    if math.isclose(*values, rel_tol=1e-9):
        assert said.endswith(" for both")
    else:
        assert against
        assert first != second


def test_a_device_alone_that_is_as_good_is_said_to_be(setting: Callable[..., Setting], toy: Any) -> None:
    times = (1.0, 0.56)
    for rate_bps, expected in ((1e15, "latency 1.56 s for both"), (1e6, r"latency 1.560\d+ s against 1.56 s")):
        said = decision_verdict(explore([setting(times, times, link=toy.link(rate_bps))], ["latency"]))
        assert re.match(f"No better than one alone: {expected}", said)


def test_batches_beyond_several_profiled_ones_are_not_said_to_come_from_one() -> None:
    store = ProfileStore()
    one = store.timing("rpi4b", "resnet18")
    (entry,) = one.batches
    half = BatchTiming(batch=4, blocks=tuple(BlockTiming(name=b.name, value_s=b.seconds * 0.6) for b in entry.blocks))
    several = msgspec.structs.replace(one, batches=(half, entry))
    verdicts = []
    for timing in (one, several):
        settings = [
            split_setting("resnet18", batch=batch, extrapolate=True, timings={"rpi4b": timing}) for batch in (8, 16)
        ]
        verdicts.append(decision_verdict(explore(settings, ["latency", "throughput"])))
    assert "Timings at batch 16 are extrapolated: from a single profiled size" in verdicts[0]
    assert "line through" not in verdicts[0]
    assert "Timings at batch 16 are extrapolated along the line through the nearest two profiled sizes" in verdicts[1]
    assert "single profiled size" not in verdicts[1]
