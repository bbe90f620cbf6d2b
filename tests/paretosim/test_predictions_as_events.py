"""Predictions of every mode, operation and place against SimPy processes: from terms of a row to its objectives."""

from __future__ import annotations

from random import Random
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.prediction import Prediction, Row, predict
from paretosim.queueing import arrival_times_s
from paretosim.setting import Setting
from tests.paretosim import event_lines as events
from tests.paretosim.random_settings import random_calibration, random_setting

Times = list[tuple[float, float, float]]


class _Line:
    """The stations of one split as lists of numbers, in chain order, from what a row says of it."""

    def __init__(self, found: Prediction, row: Row) -> None:
        setting = found.setting
        hops = len(found.hops)
        none = (0.0,) * hops
        sending, receiving, answering = row.sending_s or none, row.receiving_s or none, row.answering_s or none
        dispatch_s, *handovers = row.handovers_s or (0.0,) * (hops + 2)
        self.control_s = setting.control_delay_s + dispatch_s
        self.stage1 = 0
        self.services: list[float] = []
        self.delays: list[float] = []
        self.held: list[float] = []
        last_forward = found.hops.index("relay" if "relay" in found.hops else "link1")
        for place, name in enumerate(found.hops):
            if name == "link1":
                self.stage1 = len(self.services)
                self._add(row.stages_s[0])
            carried_s = row.links_s[place] + row.stalls_s[place] + sending[place]
            self._add(carried_s, row.delays_s[place] + handovers[place], answering[place])
            if row.receiving_s is not None:
                self._add(receiving[place])
            if place == last_forward:
                self._add(row.stages_s[1])
        self.delays[-1] += handovers[-1]
        self.unloaded_s = self.control_s + sum(self.services) + sum(self.delays)

    def _add(self, service_s: float, delay_s: float = 0.0, held_s: float = 0.0) -> None:
        self.services.append(service_s)
        self.delays.append(delay_s)
        self.held.append(held_s)

    def run(self, arrivals: Any, slots: int | None = None, window: int | None = None) -> Times:
        """(dispatched, started at the first station, returned) of each batch."""
        return events.overlapped(
            [self.services] * len(arrivals), self.delays, list(arrivals), [slots] * (len(self.services) - 1), window,
            self.control_s, self.held,
        )  # fmt: skip


def _latencies(times: Times) -> list[float]:
    return [returned - dispatched for dispatched, _, returned in times]


def _interval_s(times: Times, over: int) -> float:
    return (times[-1][2] - times[-1 - over][2]) / over


def _settings(toy: Any, seed: int, count: int, **fields: Any) -> list[tuple[Prediction, Row, _Line]]:
    """Predictions of random settings, half of them calibrated, each with one of its splits and its line."""
    draw = Random(seed)
    found = []
    for index in range(count):
        made = {name: value(draw) if callable(value) else value for name, value in fields.items()}
        plain = {"calibration": None} if index % 2 else {}
        setting = random_setting(draw, toy, **made, **plain)
        prediction = predict(setting)
        row = prediction.rows[draw.choice([0, len(prediction.rows) - 1, draw.randrange(len(prediction.rows))])]
        found.append((prediction, row, _Line(prediction, row)))
    return found


def _slots(draw: Random) -> Operation:
    return Operation(slots=draw.choice([None, 0, 1, 3]))


def test_one_batch_alone_takes_what_single_says(toy: Any) -> None:
    for _, row, line in _settings(toy, 1, 150, mode=Mode.named("single"), operation=_slots):
        assert _latencies(line.run([0.0])) == pytest.approx([row.latency_s], rel=1e-9)
        assert row.period_s == row.latency_s


def test_batches_sent_at_the_paced_period_never_wait_and_any_faster_they_queue(toy: Any) -> None:
    for found, row, line in _settings(toy, 2, 150, mode=Mode.named("paced"), operation=_slots):
        slots = found.setting.operation.slots
        spaced = line.run(np.arange(12) * row.period_s * (1 + 1e-9), slots)
        assert _latencies(spaced) == pytest.approx([row.latency_s] * 12, rel=1e-7)
        # Saturated, completions are a period apart once the line has filled: a circuit spans few batches.
        assert _interval_s(line.run([0.0] * 96, slots), 48) == pytest.approx(row.period_s, rel=1e-9)


def test_windows_turn_into_what_closed_says(toy: Any) -> None:
    def mode(draw: Random) -> Mode:
        return Mode.named("closed", window=draw.choice([1, 2, 3, 5]))

    for found, row, line in _settings(toy, 3, 150, mode=mode, operation=_slots):
        window = found.setting.mode.window or 0
        times = line.run([0.0] * 48 * window, found.setting.operation.slots, window)
        assert _interval_s(times, 12 * window) == pytest.approx(row.period_s, rel=1e-9)
        assert fmean(_latencies(times)[-12 * window :]) == pytest.approx(row.latency_s, rel=1e-9)


def test_a_window_beyond_the_run_is_no_window(toy: Any) -> None:
    for _, row, line in _settings(toy, 4, 30, mode=Mode.named("closed", window=2**20), operation=Operation(batches=9)):
        times = line.run([0.0] * 9)
        assert fmean(_latencies(times)) == pytest.approx(row.latency_s, rel=1e-9)
        assert _interval_s(times, 8) == pytest.approx(row.period_s, rel=1e-9, abs=1e-12)


def test_bursts_take_as_long_as_said_on_both_clocks(toy: Any) -> None:
    def mode(draw: Random) -> Mode:
        return Mode.named("burst", batches=draw.choice([1, 2, 8, 13]))

    def operation(draw: Random) -> Operation:
        return Operation(slots=draw.choice([None, 0, 1, 3]), clock=draw.choice(["dispatch", "stage1"]))

    for found, row, line in _settings(toy, 5, 200, mode=mode, operation=operation):
        batches = found.setting.mode.batches or 0
        times = line.run([0.0] * batches, found.setting.operation.slots)
        # The simulation knows when the first station starts; stage 1 is that, or starts when an input has arrived.
        if line.stage1 == 0:
            from_start = fmean(returned - started for _, started, returned in times)
            assert row.latency_from_start_s == pytest.approx(from_start, rel=1e-9)
        expected = row.latency_from_start_s if found.setting.operation.clock == "stage1" else fmean(_latencies(times))
        assert row.latency_s == pytest.approx(expected, rel=1e-9)
        assert row.period_s == pytest.approx(times[-1][2] / batches, rel=1e-9)


def test_finite_runs_and_random_arrivals_are_followed_batch_by_batch(toy: Any) -> None:
    def mode(draw: Random) -> Mode:
        process = draw.choice(["deterministic", "poisson"])
        arrivals = Arrivals(rate_per_s=10 ** draw.uniform(-2, 1), process=process)
        return draw.choice([Mode.named("closed", window=draw.randint(1, 4)), Mode.named("open", arrivals=arrivals)])

    def operation(draw: Random) -> Operation:
        return Operation(slots=draw.choice([None, 0, 2]), batches=draw.randint(2, 12), seed=draw.randint(0, 9))

    for found, row, line in _settings(toy, 6, 200, mode=mode, operation=operation):
        setting, operated = found.setting, found.setting.operation
        batches = operated.batches or 0
        arrivals: Any = np.zeros(batches)
        if isinstance(setting.mode.arrivals, Arrivals):
            arrivals = arrival_times_s(setting.mode.arrivals, batches, np.random.default_rng(operated.seed))
        times = line.run(arrivals.tolist(), operated.slots, setting.mode.window)
        assert row.latency_s == pytest.approx(fmean(_latencies(times)), rel=1e-9)
        assert row.period_s == pytest.approx(_interval_s(times, batches - 1), rel=1e-9, abs=1e-12)
        if row.latency_p95_s is not None:
            assert row.latency_p95_s == pytest.approx(np.percentile(_latencies(times), 95), rel=1e-9)


def test_even_arrivals_wait_nowhere_as_long_as_the_split_keeps_up(toy: Any) -> None:
    kept_up = 0

    def mode(draw: Random) -> Mode:
        return Mode.named("open", arrivals=Arrivals(rate_per_s=10 ** draw.uniform(-2, 1)))

    for found, row, line in _settings(toy, 7, 100, mode=mode, operation=_slots):
        assert isinstance(found.setting.mode.arrivals, Arrivals)
        gap_s = 1 / found.setting.mode.arrivals.rate_per_s
        latencies = _latencies(line.run([gap_s * n for n in range(60)], found.setting.operation.slots))
        if np.isfinite(row.latency_s):
            kept_up += 1
            assert latencies == pytest.approx([row.latency_s] * 60, rel=1e-7)
        else:
            assert latencies[-1] > latencies[29] > latencies[0]
    assert 20 < kept_up < 80


# Serial workers move bytes: here in chunks of 32, an element of a batch, so that what fits in a buffer is exact. Of a
# send buffer 5/6 count: of 192 bytes five chunks.


def _serial_line(found: Prediction, row: Row) -> list[float | events.ByteWire]:
    setting = found.setting
    operation, link = setting.operation, setting.link
    received = operation.receive_buffer_bytes
    assert received is not None
    # Workers send and receive themselves; at a host without a stage it is all that a worker there does.
    none = (0.0,) * len(found.hops)
    got, handed = row.receiving_s or none, row.handovers_s or (0.0, *none, 0.0)
    sent, answered = row.sending_s or none, row.answering_s or none
    line: list[float | events.ByteWire] = []
    for place, name in enumerate(found.hops):
        forward = name == "link1"
        if forward:
            line.append(row.stages_s[0] + sent[place] + (got[place - 1] if place else 0.0))
        elif name == "input":
            line.append(sent[place])
        payload = row.activation_bytes[0] if forward else _ends_bytes(setting, name)
        chunks = payload // 32 if row.links_s[place] else 0
        line.append(
            events.ByteWire(
                chunks, row.links_s[place] / chunks if chunks else 0.0, 0.0, row.delays_s[place],
                link.return_delay_s if forward else link.one_way_delay_s, operation.send_buffer_bytes // 192 * 5,
                received // 32, answered[place],
            )
        )  # fmt: skip
        if forward:
            more_s = sent[place + 1] if place + 1 < len(found.hops) else 0.0
            line.append(row.stages_s[1] + got[place] + more_s + handed[-1])
        elif name == "return":
            line.append(got[place])
    return line


def _ends_bytes(setting: Setting, name: str) -> int:
    cuts = setting.model.cut_bytes()
    return (cuts[0] if name == "input" else cuts[-1]) * setting.batch


def _random_serial(draw: Random, toy: Any) -> Setting:
    received, sent = draw.randint(2, 30), 5 * draw.randint(1, 4)
    rate_bps = 10 ** draw.uniform(2.5, 4)
    # The window's cap on the rate is in the link's serialisation: no round trip longer than it allows, nor than the
    # send buffer can keep the link busy.
    half_s = draw.choice([0.0, draw.uniform(0, (min(sent, received) - 1) * 256 / rate_bps / 2)])
    mode = draw.choice([Mode.named("burst", batches=draw.choice([2, 8])), Mode.named("paced"), Mode.named("closed")])
    blocks = draw.randint(2, 4)
    # Bytes of framing and relays are no chunks, and dispatches are at once here.
    calibration = random_calibration(draw).without("framing", "copying", "dispatch", "rpc", "relay")
    return random_setting(
        draw, toy, mode=mode, calibration=draw.choice([None, calibration]), tcp_state="warm", control_delay_s=0.0,
        speed=1.0, outputs=[draw.randint(1, 12) for _ in range(blocks)], inputs=draw.randint(1, 12), blocks=blocks,
        link=toy.link(rate_bps, half_s, return_delay_s=half_s),
        operation=Operation(
            workers="serial", send_buffer_bytes=sent // 5 * 192, receive_buffer_bytes=32 * received, clock="dispatch",
        ),
    )  # fmt: skip


def test_serial_workers_hold_their_batches_as_a_simulation_of_bytes_says(toy: Any) -> None:
    draw = Random(8)
    for _ in range(80):
        setting = _random_serial(draw, toy)
        found = predict(setting)
        row = draw.choice([row for row in found.rows if row.links_s[found.hops.index("link1")]])
        line = _serial_line(found, row)
        mode = setting.mode
        if mode.batches is not None:
            times = events.serial(line, [0.0] * mode.batches, None)
            assert row.latency_s == pytest.approx(fmean(_latencies(times)), rel=1e-9)
            assert row.period_s == pytest.approx(times[-1][2] / mode.batches, rel=1e-9)
            continue
        times = events.serial(line, [0.0] * 96, mode.window)
        assert _interval_s(times, 48) == pytest.approx(row.period_s, rel=1e-9)
        if mode.window is None:
            spaced = events.serial(line, [n * row.period_s * (1 + 1e-9) for n in range(8)], None)
            assert _latencies(spaced) == pytest.approx([row.latency_s] * 8, rel=1e-6)
        else:
            assert fmean(_latencies(times)[-48:]) == pytest.approx(row.latency_s, rel=1e-9)


def test_the_papers_preset_is_serial_workers_on_the_clock_of_stage_1(toy: Any) -> None:
    draw = Random(9)
    for _ in range(60):
        setting = _random_serial(draw, toy)
        operation = msgspec.structs.replace(setting.operation, clock="stage1")
        paper = msgspec.structs.replace(
            setting, mode=Mode.named("burst"), operation=operation, splits="interior", source="stage1"
        )
        found = predict(paper)
        for row in found.rows:
            assert row.latency_s == row.latency_from_start_s
            line = _serial_line(found, row)
            times = events.serial(line, [0.0] * 8, None)
            assert row.latency_s == pytest.approx(fmean(back - start for _, start, back in times), rel=1e-9)
