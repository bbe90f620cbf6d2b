"""Explanations: terms sum up, what is said to bind does, and beyond a stated threshold something else does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from paretosim.calibration import Calibration, DeviceTerms, MessageCost, Relay, Resting
from paretosim.errors import BadInputError
from paretosim.explanation.explaining import Explanation, explain
from paretosim.explanation.text import sentences, show
from paretosim.link import shaped
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.predicting import predict_splits
from paretosim.prediction import predict
from paretosim.profiles import write_profile
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming

OUTPUTS = (50, 10)
FULL = Calibration(
    schema_version=2, name="toy", backend="tcp",
    devices={
        "one": DeviceTerms(
            gamma=1.2, overhead_s=0.01, kappa=0.3, sending=MessageCost(message_s=0.003, bytes_per_s=1e6),
            receiving=MessageCost(message_s=0.002),
        ),
        "two": DeviceTerms(
            gamma=0.9, overhead_s=0.02, kappa=0.2, sending=MessageCost(message_s=0.001),
            receiving=MessageCost(message_s=0.004, bytes_per_s=2e6),
        ),
    },
    framing_bytes=80, rpc_round_trips=1.5, rpc_s=0.001, relay=Relay(rate_bps=1e7, delay_s=0.001),
    resting=Resting(later_s=0.004, half_s=0.3),
)  # fmt: skip
ENDS: list[dict[str, Any]] = [{}, {"source": "sink"}, {"sink": "first"}]


def _explained(setting: Setting, split: int) -> Explanation:
    return explain(predict(setting), split)


def _with_blocks_times(setting: Setting, stage: int, factor: float) -> Setting:
    """The setting with all blocks of one device that many times as long."""
    timing = setting.timings[stage]
    blocks = tuple(BlockTiming(name=b.name, value_s=b.seconds * factor) for b in timing.batches[0].blocks)
    changed = msgspec.structs.replace(timing, batches=(BatchTiming(batch=8, blocks=blocks),))
    timings = (changed, setting.timings[1]) if stage == 0 else (setting.timings[0], changed)
    return msgspec.structs.replace(setting, timings=timings)


@pytest.mark.parametrize("ends", ENDS, ids=str)
@pytest.mark.parametrize("mode", [Mode.named("single"), Mode.named("paced")], ids=str)
@pytest.mark.parametrize("operation", [Operation(), Operation(workers="serial"), Operation(slots=1)], ids=str)
def test_terms_sum_up_to_the_latency(toy: Any, ends: dict[str, Any], mode: Mode, operation: Operation) -> None:
    link = toy.link(1e6, 0.05, return_delay_s=0.02, header_bytes=90, wmax_bytes=5000)
    setting = toy.setting(
        outputs=OUTPUTS, inputs=3000, link=link, mode=mode, operation=operation, tcp_state="cold", calibration=FULL,
        control_delay_s=0.007, **ends,
    )  # fmt: skip
    for split in range(3):
        found = _explained(setting, split)
        total = sum(term.seconds for term in found.terms)
        assert total == pytest.approx(found.row.latency_s, rel=1e-11)
        assert found.unloaded_s == pytest.approx(found.row.latency_s, rel=1e-11)
        assert sum(term.share for term in found.terms) == pytest.approx(1)
        by_station = {station.station: station.end_s - station.start_s for station in found.stations}
        inside: dict[str, float] = dict.fromkeys(by_station, 0.0)
        for term in found.terms:
            if term.term not in ("delay", "control delay", "resting"):
                inside[term.station] += term.seconds
        assert inside == pytest.approx(by_station)


def test_waiting_is_what_the_mode_adds(toy: Any) -> None:
    setting = toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), mode=Mode.named("burst", batches=3))
    terms = {(t.station, t.term): t for t in _explained(setting, 1).terms}
    assert terms["queues", "waiting"].seconds == pytest.approx(0.4)
    assert terms["queues", "waiting"].source == "mode"
    assert sum(t.seconds for t in terms.values()) == pytest.approx(predict(setting).row(1).latency_s)


def test_a_burst_is_full_in_between_and_its_station_binds(toy: Any) -> None:
    setting = toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), mode=Mode.named("burst", batches=3))
    found = _explained(setting, 1)
    assert found.row.period_s > found.interval_s == pytest.approx(0.4)
    assert sentences(found)[0].startswith("stage2 binds: a batch every 400 ms.")
    assert _explained(msgspec.structs.replace(setting, mode=Mode.named("burst", batches=1)), 1).limit == "batch"


def test_terms_of_a_toy_by_hand(toy: Any) -> None:
    calibration = Calibration(
        schema_version=2, name="toy", backend="tcp", framing_bytes=400,
        devices={"one": DeviceTerms(gamma=1.5, overhead_s=0.02, kappa=0.5)},
    )  # fmt: skip
    # 2000 bytes in 2 segments; a window of 5000 bytes a round trip of 0.05 s is 0.8 Mbit/s.
    link = toy.link(1e6, 0.05, header_bytes=100, wmax_bytes=5000)
    found = _explained(toy.setting(outputs=OUTPUTS, link=link, calibration=calibration), 1)
    occupied = 2200 * 8 / 0.8e6
    assert {(t.station, t.term): t.seconds for t in found.terms} == {
        ("stage1", "blocks"): pytest.approx(0.1), ("stage1", "scale"): pytest.approx(0.05),
        ("stage1", "overhead"): 0.02, ("stage1", "contention"): pytest.approx(0.5 * occupied),
        ("link1", "payload"): pytest.approx(0.0128), ("link1", "framing"): pytest.approx(0.0032),
        ("link1", "headers"): pytest.approx(0.0016), ("link1", "window cap"): pytest.approx(occupied - 0.0176),
        ("link1", "delay"): 0.05, ("stage2", "blocks"): pytest.approx(0.4),
    }  # fmt: skip
    assert {t.source for t in found.terms} == {"profile", "link", "calibration"}


def test_what_binds_and_by_how_much(toy: Any) -> None:
    found = _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05)), 1)
    assert (found.binds, found.second, found.limit) == ("stage2", "stage1", "station")
    assert (found.slowest_s, found.second_s, found.slack_s) == pytest.approx((0.4, 0.1, 0.3))
    changes = {change.quantity: change for change in found.changes}
    assert changes["rate_bps"].threshold == pytest.approx(12800 / 0.4)
    assert changes["rate_bps"].then == "link1"
    assert [changes[f"stage{k}_factor"].threshold for k in (1, 2)] == pytest.approx([4, 0.25])
    assert [changes[f"stage{k}_factor"].then for k in (1, 2)] == ["stage1", "stage1"]
    assert sentences(found)[0].startswith("stage2 binds: a batch every 400 ms.")


def test_a_link_stops_binding_with_fewer_bytes(toy: Any) -> None:
    found = _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e4)), 1)  # 1.28 s for 1600 bytes
    changes = {change.quantity: change for change in found.changes}
    assert (changes["message_bytes"].threshold, changes["message_bytes"].then) == (499, "stage2")  # 500 take 0.4 s
    assert changes["rate_bps"].threshold == pytest.approx(12800 / 0.4)
    assert "shrinks to 499 B (499 bytes, now 1.6 kB); then stage2 is" in " ".join(sentences(found))


def test_the_window_arrivals_or_one_batch_may_bind(toy: Any) -> None:
    def found(mode: Mode) -> Explanation:
        return _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 2.0), mode=mode), 1)

    by_window = found(Mode.named("closed", window=2))
    assert (by_window.limit, by_window.window_to_bind) == ("window", 7)  # 2.5128 / 0.4
    assert "from window 7 on stage2 would" in sentences(by_window)[0]
    assert found(Mode.named("closed", window=7)).limit == "station"
    assert found(Mode.named("closed", window=6)).limit == "window"
    assert found(Mode.named("single")).limit == "batch"
    assert "no station binds" in sentences(found(Mode.named("single")))[0]
    assert found(Mode.named("open", arrivals=Arrivals(rate_per_s=1))).limit == "arrivals"
    overrun = found(Mode.named("open", arrivals=Arrivals(rate_per_s=10)))
    assert overrun.limit == "station"
    assert all(term.term != "waiting" for term in overrun.terms)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(3.5, 7.5), st.sampled_from([0.0, 0.003, 0.2]), st.sampled_from(["warm", "cold"]),
    st.sampled_from([None, FULL]), st.sampled_from(ENDS), st.integers(0, 2), st.booleans(),
    st.sampled_from(
        [
            Operation(), Operation(slots=0), Operation(slots=1), Operation(workers="serial"),
            Operation(workers="serial", send_buffer_bytes=700, receive_buffer_bytes=900),
        ]
    ),
)  # fmt: skip
def test_beyond_a_stated_threshold_another_station_binds(
    toy: Any, exponent: float, delay: float, tcp_state: Any, calibration: Calibration | None, ends: dict[str, Any],
    split: int, capped: bool, operation: Operation,
) -> None:  # fmt: skip
    link = toy.link(
        10**exponent, delay, return_delay_s=delay / 2, header_bytes=90, wmax_bytes=30_000 if capped else 10**9
    )
    setting = toy.setting(
        outputs=OUTPUTS, inputs=5000, link=link, tcp_state=tcp_state, calibration=calibration,
        operation=operation, **ends,
    )  # fmt: skip
    found = _explained(setting, split)
    for change in found.changes:
        if change.quantity == "message_bytes":
            continue  # by hand above: a model's own cuts are not of any number of bytes
        gained = 1 if change.direction == "above" else -1
        before, after = (change.threshold * (1 + side * gained * 1e-6) for side in (-1, 1))
        bound = []
        for value in (before, after):
            if change.quantity.endswith("_bps"):
                other = msgspec.structs.replace(link, **{change.quantity: value})
                moved = msgspec.structs.replace(setting, link=other)
            else:
                moved = _with_blocks_times(setting, int(change.quantity[5]) - 1, value)
            bound.append(predict(moved).row(split).bottleneck)
        assert bound == [found.binds, change.then], change


def test_a_shipped_model_turns_over_at_the_stated_rate() -> None:
    words: dict[str, Any] = {"delay": "20ms", "tcp_state": "cold"}
    found = explain(predict_splits("vgg16", bw="50mbit", **words), 13)
    change = next(change for change in found.changes if change.quantity == "rate_bps")
    base = found.setting
    for factor, binds in ((1 + 1e-6, "stage1"), (1 - 1e-6, "link1")):
        link = shaped(base.link, rate_bps=change.threshold * factor)
        assert predict(msgspec.structs.replace(base, link=link)).row(13).bottleneck == binds


def test_a_relay_in_memory_has_no_wire_that_takes_time(toy: Any) -> None:
    calibration = msgspec.structs.replace(FULL, relay=Relay())
    found = _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), calibration=calibration), 1)
    assert [t.seconds for t in found.terms if t.station == "relay" and t.term != "sending"] == [0.0]
    assert found.row.links_s[1] == 0.0


def test_what_serial_workers_wait_for_is_part_of_what_binds(toy: Any) -> None:
    # 0.1 s, a message of x, 0.4 s, no buffers: the first is held 0.1 s + x, the second x + 0.4 s.
    operation = Operation(workers="serial", send_buffer_bytes=0, receive_buffer_bytes=0)
    found = _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e5, 0.0), operation=operation), 1)
    changes = {change.quantity: change for change in found.changes}
    assert found.binds == "stage2"
    assert (changes["stage1_factor"].threshold, changes["stage1_factor"].then) == (pytest.approx(4), "stage1")
    assert "rate_bps" not in changes  # both wait for the same message, whatever its rate
    assert "stage1 binds when its blocks take more than 4 times as long." in sentences(found)


def test_serial_workers_are_told_apart(toy: Any) -> None:
    setting = toy.setting(
        outputs=OUTPUTS, link=toy.link(1e6, 0.05), operation=Operation(workers="serial"), calibration=FULL
    )
    found = _explained(setting, 1)
    stations = {t.term: t.station for t in found.terms if t.term in ("sending", "receiving", "RPC round trips")}
    assert stations["RPC round trips"] == "stage1"
    assert [s.station for s in found.stations] == ["stage1", "link1", "master", "relay", "stage2"]


def test_the_terminal_shows_terms_both_timelines_and_what_binds(toy: Any) -> None:
    found = _explained(toy.setting(outputs=OUTPUTS, link=toy.link(1e5, 0.0), calibration=FULL), 1)
    console = Console(width=120, record=True, file=io.StringIO())
    show(found, console)
    text = console.export_text()
    for words in ("one batch, L₀", "contention", "one batch, 0 to", "steady state, a batch every", "link1.receive"):
        assert words in text
    rows = {line.split("|")[0].strip(): line.split("|")[1] for line in text.splitlines() if line.count("|") == 2}
    # The last ones are those of the steady state: what binds never rests.
    assert " " not in rows[found.binds]
    assert " " in rows["stage1"]


def test_the_command_prints_and_encodes_an_explanation(
    command: Callable[..., tuple[int, str, str]], profiles: Path
) -> None:
    write_profile(profiles / "mine.json", msgspec.structs.replace(FULL, name="mine"))
    words = ("predict", "--profiles", profiles, "--model", "toy", "--devices", "one,two", "--explain", 1)
    code, text, _ = command(*words, "--calibration", profiles / "mine.json")
    assert code == 0
    assert "calibration mine" in text
    code, output, _ = command(*words, "--calibration", profiles / "mine.json", "--json")
    found = json.loads(output)
    assert code == 0
    assert sum(term["seconds"] for term in found["terms"]) == pytest.approx(found["row"]["latency_s"])
    assert found["binding"]["station"] == found["row"]["bottleneck"]
    assert found["calibration"]["name"] == "mine"
    assert found["stations"][0]["station"] == "stage1"


def test_the_command_refuses_what_cannot_be_explained(
    command: Callable[..., tuple[int, str, str]], profiles: Path, toy: Any
) -> None:
    words = ("predict", "--profiles", profiles, "--model", "toy", "--devices", "one,two", "--explain")
    code, _, error = command(*words, 1, "--csv")
    assert (code, "--explain: explains one split of one setting, got it with --csv" in error) == (2, True)
    code, _, error = command(*words, 9)
    assert (code, "split: got 9, expected one of 0 … 2" in error) == (2, True)
    with pytest.raises(BadInputError, match="split: got 9"):
        _explained(toy.setting(), 9)
