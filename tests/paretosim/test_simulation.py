"""Simulations: predictions where nothing is random, and by hand where links change or connections remember."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.calibration import Calibration, DeviceTerms, MessageCost, Relay
from paretosim.errors import BadInputError
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.prediction import predict
from paretosim.profiles import write_profile
from paretosim.simulation.link_trace import LinkTrace
from paretosim.simulation.simulating import Conditions, simulate
from paretosim.simulation.slow_start import RememberingConnection
from paretosim.simulation.timeline import as_chrome_trace
from paretosim.transfer_time import cold_stall_s
from tests.paretosim.random_settings import random_setting

MODES = (
    Mode.named("single"), Mode.named("paced"), Mode.named("closed"), Mode.named("burst"),
    Mode.named("open", arrivals=Arrivals(rate_per_s=1.0)),
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("workers", ["overlapped", "serial"])
@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
def test_without_chance_or_change_it_is_the_prediction(toy: Any, mode: Mode, workers: Any, tcp_state: Any) -> None:
    operation = Operation(workers=workers, send_buffer_bytes=400, receive_buffer_bytes=900)
    for places in ({}, {"source": "sink"}, {"sink": "first"}):
        setting = toy.setting(
            link=toy.link(6400.0, 0.05, return_delay_s=0.02, wmax_bytes=100_000), outputs=(10, 4), mode=mode,
            operation=operation, tcp_state=tcp_state, control_delay_s=0.01, **places,
        )  # fmt: skip
        for row in predict(setting).rows:
            batches = mode.batches or 60
            found = simulate(setting, row.split, Conditions(batches=batches, tcp_state=tcp_state))
            steady = found.latencies_s if mode.batches else found.latencies_s[-40:]
            if np.isfinite(row.latency_s):
                assert steady.mean() == pytest.approx(row.latency_s)
            if mode.name != "closed":
                assert found.period_s == pytest.approx(row.period_s, rel=0.05 if mode.name == "open" else 1e-9)


FULL = Calibration(
    schema_version=2, name="toy", backend="tcp", framing_bytes=8, rpc_round_trips=1.5, rpc_s=0.001,
    devices={
        "one": DeviceTerms(
            gamma=1.2, overhead_s=0.01, kappa=0.3, sending=MessageCost(message_s=0.003, bytes_per_s=1e4),
            receiving=MessageCost(message_s=0.002),
        ),
        "two": DeviceTerms(
            gamma=0.9, kappa=0.2, sending=MessageCost(message_s=0.001),
            receiving=MessageCost(message_s=0.3, bytes_per_s=1e4),
        ),
    },
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("operation", [Operation(), Operation(workers="serial"), Operation(slots=1)], ids=str)
@pytest.mark.parametrize("relay", [None, Relay(), Relay(rate_bps=3e4, delay_s=0.02)], ids=str)
def test_every_term_of_a_calibration_is_as_in_the_prediction(
    toy: Any, mode: Mode, operation: Operation, relay: Relay | None
) -> None:
    calibration = msgspec.structs.replace(FULL, relay=relay)
    link = toy.link(6400.0, 0.05, return_delay_s=0.02, wmax_bytes=500, header_bytes=20)
    for places, without in (
        ({}, ()), ({"source": "sink"}, ("headers", "delay")),
        ({"sink": "first"}, ("window-cap", "slow-start", "contention")),
    ):  # fmt: skip
        setting = toy.setting(
            link=link, outputs=(10, 4), mode=mode, operation=operation, tcp_state="cold", calibration=calibration,
            without=without, **places,
        )  # fmt: skip
        for row in predict(setting).rows:
            found = simulate(setting, row.split, Conditions(batches=mode.batches or 60, tcp_state="cold"))
            steady = found.latencies_s if mode.batches else found.latencies_s[-40:]
            if np.isfinite(row.latency_s):
                assert steady.mean() == pytest.approx(row.latency_s)
            if mode.name not in ("closed", "open"):
                assert found.period_s == pytest.approx(row.period_s, rel=1e-9)
            assert row.bottleneck in found.stations


def test_transfers_slow_a_stage_by_the_rate_when_it_starts(toy: Any) -> None:
    # 320 bytes: 0.05 s at first and 5 s from 0.1 s on, when the second batch begins; stages of 0.1 and 0.4 s.
    calibration = Calibration(schema_version=2, name="toy", backend="tcp", devices={"*": DeviceTerms(kappa=0.5)})
    setting = toy.setting(
        link=toy.link(51200.0), outputs=(10, 1), mode=Mode.named("closed", window=2), calibration=calibration
    )
    trace = LinkTrace(times_s=(0.0, 0.1), rates_bps=(51200.0, 512.0), delays_s=(0.0, 0.0))
    first, second = simulate(setting, 1, Conditions(batches=2, trace=trace)).passages
    assert float(first.ends_s[0]) == pytest.approx(0.1 + 0.5 * 0.05)
    assert float(second.ends_s[0] - second.starts_s[0]) == pytest.approx(0.1 + 0.5 * 0.1)
    assert float(second.ends_s[2] - second.starts_s[2]) == pytest.approx(0.4 + 0.5 * 0.4)
    assert float(simulate(setting, 1, Conditions(batches=1)).passages[0].ends_s[0]) == pytest.approx(0.1)  # alone


def test_a_trace_of_one_row_is_that_link(toy: Any) -> None:
    setting = toy.setting(link=toy.link(6400.0, 0.05), outputs=(10, 1), mode=Mode.named("burst"))
    trace = LinkTrace(times_s=(0.0,), rates_bps=(6400.0,), delays_s=(0.05,))
    plain, traced = (simulate(setting, 1, Conditions(batches=8, trace=given)) for given in (None, trace))
    assert np.array_equal(plain.latencies_s, traced.latencies_s)


def test_a_link_that_slows_down_halfway_is_served_so(toy: Any) -> None:
    # 320 bytes, 2560 bits: from 0.1 s at 6400 bit/s for 0.2 s, then the other half at 640 bit/s for 2 s.
    setting = toy.setting(link=toy.link(6400.0, 0.05), outputs=(10, 1), mode=Mode.named("single"))
    trace = LinkTrace(times_s=(0.0, 0.3), rates_bps=(6400.0, 640.0), delays_s=(0.05, 0.5))
    found = simulate(setting, 1, Conditions(batches=2, trace=trace))
    first, second = found.passages
    assert float(first.departures_s[1]) == pytest.approx(2.3)
    assert float(first.returned_s) == pytest.approx(2.3 + 0.5 + 0.4)
    assert float(second.returned_s - second.dispatched_s) == pytest.approx(0.1 + 4.0 + 0.5 + 0.4)
    # Split 2 sends 32 bytes from 0.4 s on, all at the lower rate.
    assert simulate(setting, 2, Conditions(batches=1, trace=trace)).latencies_s[0] == pytest.approx(0.4 + 0.4 + 0.5)


def test_a_new_connection_is_cold_and_a_used_one_remembers() -> None:
    connection = RememberingConnection(mss_bytes=1000, wmax_bytes=10**6)
    cold = float(cold_stall_s(100, 0.1, 0.5, mss_bytes=1000, wmax_bytes=10**6))
    assert connection.stall_s(0.0, 100, 0.001, 0.5) == pytest.approx(cold)
    connection.sent(1.0)
    # The window has grown to 110. A timeout is 0.7 s; within it nothing is forgotten: one round is enough.
    assert connection.stall_s(1.6, 100, 0.001, 0.5) == 0
    connection.sent(2.0)
    # Two timeouts later the window is 210 / 4 = 52.5: one more round, which waits 0.5 − 51.5 ms.
    assert connection.stall_s(3.5, 100, 0.001, 0.5) == pytest.approx(0.5 - 0.0515)
    connection.sent(4.0)
    assert connection.stall_s(1e6, 100, 0.001, 0.5) == pytest.approx(cold)  # never below ten segments


def test_idle_connections_make_rare_batches_slow_and_frequent_ones_fast(toy: Any) -> None:
    link = toy.link(1e6, 0.1, return_delay_s=0.1, wmax_bytes=10**6)

    def latencies(rate: float) -> Any:
        mode = Mode.named("open", arrivals=Arrivals(rate_per_s=rate))
        setting = toy.setting((0.001, 0.001), (0.001, 0.001), link=link, outputs=(1000, 1), mode=mode)
        return simulate(setting, 1, Conditions(batches=30, tcp_state="idle")).latencies_s

    often, rarely = latencies(3.0), latencies(0.1)
    assert often[0] == pytest.approx(rarely[0])  # both begin anew
    assert often[-1] < rarely[-1] - 0.15
    assert rarely[-1] == pytest.approx(rarely[0])


def test_seeds_draw_the_same_times_around_the_mean(toy: Any) -> None:
    setting = toy.setting(mode=Mode.named("single"), operation=Operation(seed=5))
    one, same = (simulate(setting, 2, Conditions(batches=4000, jitter=0.2)) for _ in range(2))
    assert np.array_equal(one.latencies_s, same.latencies_s)
    computed = np.array([float(p.ends_s[0] - p.starts_s[0]) for p in one.passages])
    assert computed.mean() == pytest.approx(0.4, rel=0.02)
    assert computed.std() / computed.mean() == pytest.approx(0.2, rel=0.1)
    other = toy.setting(mode=Mode.named("single"), operation=Operation(seed=6))
    assert not np.array_equal(simulate(other, 2, Conditions(batches=4000, jitter=0.2)).latencies_s, one.latencies_s)


@pytest.mark.parametrize("workers", ["overlapped", "serial"])
def test_the_timeline_is_a_trace_event_file(toy: Any, workers: Any) -> None:
    operation = Operation(workers=workers, slots=0 if workers == "overlapped" else None, send_buffer_bytes=0)
    setting = toy.setting(link=toy.link(6400.0, 0.05), outputs=(10, 1), mode=Mode.named("burst"), operation=operation)
    simulation = simulate(setting, 1, Conditions(batches=8))
    found = json.loads(as_chrome_trace(simulation))
    assert set(found) == {"traceEvents", "displayTimeUnit"}
    assert found["displayTimeUnit"] in ("ms", "ns")
    metadata = [event for event in found["traceEvents"] if event["ph"] == "M"]
    events = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert len(metadata) + len(events) == len(found["traceEvents"])
    names = {event["tid"]: event["args"]["name"] for event in metadata if event["name"] == "thread_name"}
    assert names == {1: "stage1: one", 2: "link1", 3: "stage2: two"}
    assert [event["args"]["name"] for event in metadata if event["name"] == "process_name"] == [
        "toy, split 1, burst(batches=8)"
    ]
    for event in events:
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid"} <= set(event)
        assert event["dur"] >= 0
        assert event["pid"] == 1
        assert event["tid"] in names
    assert any(event["cat"] == "held" for event in events)
    for track in names:  # complete events of one thread must nest; a station's do not even touch
        spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["tid"] == track)
        assert all(before[1] <= after[0] + 1e-3 for before, after in pairwise(spans))
    last = max(event["ts"] + event["dur"] for event in events)
    assert last == pytest.approx(simulation.makespan_s * 1e6)  # microseconds


@pytest.mark.parametrize(
    ("split", "fields", "said"),
    [(3, {}, "split: got 3, expected 0 to 2"), (-1, {}, "split: got -1"), (1, {"batches": 0}, "batches: got 0"),
     (1, {"jitter": -0.1}, "jitter: got -0.1"), (1, {"jitter": float("nan")}, "jitter: got nan")],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(toy: Any, split: int, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        simulate(toy.setting(), split, Conditions(**{"batches": 1, **fields}))


Command = Callable[..., tuple[int, str, str]]
SIMULATE = ("simulate", "--model", "toy", "--devices", "one,two", "--split", "1")


class TestCommand:
    """`paretosim simulate` as typed."""

    @pytest.fixture(autouse=True)
    def _profiles(self, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))

    def test_percentiles_throughput_and_stations_are_printed(self, command: Command) -> None:
        code, out, err = command(*SIMULATE, "--jitter", "0.1", "--batches", 20)
        assert (code, err) == (0, "")
        for said in (
            "toy split 1 over one → two",
            "mean ",
            "p50 ",
            "p95 ",
            "p99 ",
            "images/s",
            "stage1",
            "link1",
            "stage2",
        ):
            assert said in out

    def test_json_has_the_rows_and_the_conditions(self, command: Command, tmp_path: Path) -> None:
        trace, timeline = tmp_path / "trace.csv", tmp_path / "timeline.json"
        trace.write_text("0,1mbit,10ms\n0.2,10mbit,1ms\n")
        code, out, err = command(
            *SIMULATE, "--rate", 2, "--arrivals", "poisson", "--seed", 3, "--batches", 12, "--trace", trace,
            "--tcp-state", "idle", "--timeline", timeline, "--json",
        )  # fmt: skip
        assert (code, err) == (0, f"timeline: {timeline}; open it in ui.perfetto.dev\n")
        found = json.loads(out)
        assert [found[name] for name in ("mode", "rate_per_s", "arrivals", "seed", "batches", "tcp_state")] == [
            "open", 2, "poisson", 3, 12, "idle",
        ]  # fmt: skip
        assert found["trace"]["rates_bps"] == [1e6, 1e7]
        assert len(found["rows"]) == 12
        latencies = [row["returned_s"] - row["dispatched_s"] for row in found["rows"]]
        assert found["latency"]["p95_s"] == pytest.approx(np.percentile(latencies, 95))
        assert json.loads(timeline.read_text())["traceEvents"]

    def test_a_calibration_is_named_and_its_stations_are_shown(self, command: Command, tmp_path: Path) -> None:
        path, timeline = tmp_path / "mine.json", tmp_path / "timeline.json"
        write_profile(path, FULL)
        options = ("--calibration", path, "--without", "scale", "--batches", 3)
        code, out, _ = command(*SIMULATE, *options, "--timeline", timeline)
        assert code == 0
        assert "calibration toy (" in out
        assert "terms switched off: scale" in out
        assert "link1.receive" in out
        events = json.loads(timeline.read_text())["traceEvents"]
        assert {event["cat"] for event in events if event["ph"] == "X"} >= {"compute", "link", "message"}
        found = json.loads(command(*SIMULATE, *options, "--json")[1])
        assert found["calibration"]["terms"] == [
            "overhead", "contention", "framing", "sending", "receiving", "rpc",
        ]  # fmt: skip
        assert (found["without"], found["backend"]) == (["scale"], "tcp")

    def test_a_burst_is_as_many_batches(self, command: Command) -> None:
        for options in (("--burst", 5), ("--batches", 5)):
            code, out, _ = command(*SIMULATE, "--mode", "burst", *options, "--json")
            assert code == 0
            assert len(json.loads(out)["rows"]) == 5

    def test_what_sets_the_way_forward_beside_a_trace_is_refused(self, command: Command, tmp_path: Path) -> None:
        delayed, plain = tmp_path / "delayed.csv", tmp_path / "plain.csv"
        delayed.write_text("0,1mbit,10ms\n")
        plain.write_text("0,1mbit\n")
        for options, said in (
            (
                ("--trace", plain, "--bw", "5mbit"),
                "--bw: sets the rate forward, and so does --trace; expected one of them",
            ),
            (("--trace", delayed, "--delay", "5ms"), f"--delay: sets the delay forward, and so does {delayed}, line 1"),
            (("--trace", delayed, "--rtt", "5ms"), "--rtt: sets the delay forward"),
        ):
            code, out, err = command(*SIMULATE, *options)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert said in err
        code, out, _ = command(*SIMULATE, "--trace", plain, "--rtt", "50ms", "--json")
        assert (code, json.loads(out)["trace"]["delays_s"]) == (0, [0.025])
        code, out, _ = command(*SIMULATE, "--trace", delayed, "--link", "5mbit,0s")
        assert code == 0
        assert "forward by a trace of 1 rows, 5mbit and 100us back, headers of 66 bytes" in out

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--trace", "gone.csv"), "--trace: gone.csv cannot be read"),
            (("--timeline", "gone/a.json"), "--timeline: gone/a.json cannot be written"),
            (("--batches", "0"), "batches: got 0"),
            (("--jitter", "-1"), "jitter: got -1.0"),
            (("--mode", "open"), "--rate: got none in mode open"),
        ],
    )
    def test_bad_input_is_2_and_one_clear_line(self, command: Command, options: tuple[str, ...], said: str) -> None:
        code, out, err = command(*SIMULATE, *options)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert said in err


def test_random_settings_with_every_term_run_as_predicted_batch_by_batch(toy: Any) -> None:
    draw = Random(12)
    for _ in range(80):
        operated = draw.choice([{}, {"slots": draw.choice([0, 1])}, {"workers": "serial"}])
        mode = draw.choice([Mode.named("burst", batches=4), Mode.named("single"), Mode.named("closed", window=2)])
        batches = {"burst": 4, "single": 1, "closed": 6}[mode.name]
        finite = {"batches": batches} if mode.name == "closed" else {}
        setting = random_setting(draw, toy, mode=mode, operation=Operation(**operated, **finite))
        rows = predict(setting).rows
        for row in (rows[0], rows[-1]):
            found = simulate(setting, row.split, Conditions(batches=batches, tcp_state=setting.tcp_state))
            assert found.latencies_s.mean() == pytest.approx(row.latency_s, rel=1e-9)
