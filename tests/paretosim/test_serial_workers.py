"""Serial workers against a simulation that moves bytes, their closed forms, and the measured example."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from paretosim import serial_workers
from paretosim.errors import BadInputError
from paretosim.serial_workers import WireTimes, Worker
from tests.paretosim import event_lines as events


def _stations(line: list[np.ndarray | WireTimes]) -> list[Worker | serial_workers.Wire]:
    return [
        part.as_wire() if isinstance(part, WireTimes) else Worker(lambda _, start, took=part: start + took)
        for part in line
    ]  # fmt: skip


def _times(wire: events.ByteWire) -> WireTimes:
    return WireTimes(
        serialisation_s=np.array([wire.chunks * wire.chunk_s]),
        stall_s=np.array([wire.stall_s]),
        delay_s=np.array([wire.delay_s]),
        back_s=np.array([wire.back_s]),
        sent_share=np.array([wire.send_buffer / wire.chunks]),
        read_share=np.array([wire.receive_buffer / wire.chunks]),
        answer_s=np.array([wire.answer_s]),
    )


def _random_wire(draw: random.Random) -> events.ByteWire:
    chunks, chunk_s = draw.randint(1, 6), draw.uniform(0.05, 0.5)
    receive_buffer = draw.choice([1, 2, draw.randint(1, 20)])
    send_buffer = draw.choice([1, draw.randint(1, 15)])
    # The window's cap on the rate is in a link's serialisation already: no round trip longer than it allows. Nor is one
    # longer than the send buffer can keep the link busy.
    half_s = draw.choice([0.0, draw.uniform(0, (min(send_buffer, receive_buffer) - 1) * chunk_s / 2)])
    whole = receive_buffer % chunks == 0
    return events.ByteWire(
        chunks, chunk_s, 0.0 if whole else draw.choice([0.0, draw.uniform(0, 1)]), half_s, half_s,
        send_buffer, receive_buffer, draw.choice([0.0, 0.0, draw.uniform(0, 1)]),
    )  # fmt: skip


def test_lines_run_as_a_simulation_that_moves_bytes_says() -> None:
    draw = random.Random(5)
    for _ in range(400):
        line: list[float | events.ByteWire] = [draw.uniform(0, 2), _random_wire(draw), draw.choice([0.0, 1.0, 3.0])]
        if draw.random() < 0.3:
            line = [dataclasses.replace(_random_wire(draw), answer_s=0.0), *line]  # no worker sends over it
        if draw.random() < 0.4:
            line = [*line, _random_wire(draw)]
            if draw.random() < 0.5:
                line.append(draw.uniform(0, 1))
        batches = draw.randint(1, 8)
        arrivals = np.cumsum([draw.choice([0.0, draw.expovariate(1.0)]) for _ in range(batches)])
        window = draw.choice([None, None, 1, 2, 3])
        expected = np.array(events.serial(line, arrivals.tolist(), window))
        parts = [_times(part) if isinstance(part, events.ByteWire) else np.array([part]) for part in line]
        found = serial_workers.run(_stations(parts), arrivals[np.newaxis], (1,), window=window)
        assert np.allclose(found.dispatched_s[0], expected[:, 0], atol=1e-9)
        assert np.allclose(found.returned_s[0], expected[:, 2], atol=1e-9)


def _random_lines(count: int) -> list[np.ndarray | WireTimes]:
    """Stage, link, stage, link back: `count` of them side by side."""
    generator = np.random.default_rng(3)

    def some(high: float) -> np.ndarray:
        return generator.uniform(0, high, count) * generator.integers(0, 2, count)

    def share() -> np.ndarray:
        values = np.stack(
            [generator.uniform(0, 4, count), np.floor(generator.uniform(0, 4, count)), np.full(count, np.inf)]
        )
        return values[generator.integers(0, 3, count), np.arange(count)]

    def wire() -> WireTimes:
        return WireTimes(generator.uniform(0.01, 3, count), some(1), some(2), some(2), share(), share(), some(1))

    return [some(3), wire(), some(3), wire()]


def test_steady_states_have_the_closed_forms_period() -> None:
    line = _random_lines(200)
    period = serial_workers.intervals_s(line).max(axis=0)
    found = serial_workers.run(_stations(line), np.zeros(240), (200,))
    assert np.allclose((found.returned_s[:, -1] - found.returned_s[:, -1 - 120]) / 120, period)
    unloaded = sum(
        part.serialisation_s + part.stall_s + part.delay_s if isinstance(part, WireTimes) else part for part in line
    )
    paced = serial_workers.run(_stations(line), np.arange(20) * period[:, np.newaxis] * 1.000001, (200,))
    assert np.allclose(paced.latencies_s, np.asarray(unloaded)[:, np.newaxis])
    for window in (1, 3):
        closed = serial_workers.run(_stations(line), np.zeros(240), (200,), window=window)
        bound = np.maximum(period, unloaded / window)
        assert np.allclose((closed.returned_s[:, -1] - closed.returned_s[:, -1 - 120]) / 120, bound)
        assert np.allclose(closed.latencies_s[:, -120:].mean(axis=1), window * bound)


# A blocking pair over a relay at 100 Mbit/s: bytes of a message, delay each way, computing of both, sizes of the
# sockets' buffers (for receiving, what it held at most), and a batch's period as measured.
MEASURED = (
    (8_000_000, 0.0, 0.100, 0.602, 4 * 2**20, 16 * 2**20, 0.6692),
    (4_000_000, 0.0, 0.167, 0.167, 4 * 2**20, 16 * 2**20, 0.3348),
    (8_000_000, 0.0, 0.602, 0.201, 4 * 2**20, 16 * 2**20, 0.9719),
    (8_000_000, 0.01, 0.602, 0.067, 4 * 2**20, 16 * 2**20, 0.9726),
    (8_000_000, 0.05, 0.602, 0.067, 4 * 2**20, 16 * 2**20, 1.0635),
    (4_000_000, 0.0, 0.201, 0.033, 2**20, 16 * 2**20, 0.4611),
    (8_000_000, 0.0, 0.067, 0.803, 4 * 2**20, 16 * 2**20, 0.8099),
    (4_000_000, 0.0, 0.033, 0.301, 4 * 2**20, 658_592, 0.5820),
    (4_000_000, 0.0, 0.033, 0.301, 4 * 2**20, 1_317_344, 0.5283),
    (4_000_000, 0.02, 0.033, 0.301, 4 * 2**20, 1_316_936, 0.5685),
)


@pytest.mark.parametrize("measured", MEASURED, ids=str)
def test_measured_blocking_pairs_are_met(measured: tuple[float, ...]) -> None:
    size, delay_s, sender_s, reader_s, sent, received, period_s = measured
    serialisation = np.array([(size + 66 * np.ceil(size / 1448)) * 8 / 100e6])
    both, none = np.array([delay_s]), np.zeros(1)
    wire = WireTimes(serialisation, none, both, both, *serial_workers.shares_of(np.array([size]), sent, received))
    periods = serial_workers.intervals_s([np.array([sender_s]), wire, np.array([reader_s])])
    assert periods.max() == pytest.approx(period_s, rel=0.03)


def test_a_blocking_pair_is_not_one_station_a_worker() -> None:
    serialisation, none = np.array([0.6692]), np.zeros(1)
    unbuffered = WireTimes(serialisation, none, none, none, none, none)
    assert serial_workers.intervals_s([np.array([0.1]), unbuffered, np.array([0.6])]).max() == pytest.approx(
        1.269, rel=1e-3
    )


def test_buffers_without_bounds_are_overlapped_workers() -> None:
    from paretosim import recursion

    line = _random_lines(50)
    wires = [part for part in line if isinstance(part, WireTimes)]
    for wire in wires:
        wire.sent_share[:] = wire.read_share[:] = np.inf
        wire.answer_s[:] = 0.0  # which holds a worker here, and a link there
    found = serial_workers.run(_stations(line), np.zeros(9), (50,))
    services = [part.serialisation_s + part.stall_s if isinstance(part, WireTimes) else part for part in line]
    delays = [part.delay_s if isinstance(part, WireTimes) else np.zeros(50) for part in line]
    other = recursion.run(np.stack(services, axis=1)[:, np.newaxis], np.stack(delays, axis=1), np.zeros(9))
    assert np.allclose(found.returned_s, other.returned_s)


def test_more_buffer_never_makes_a_batch_later() -> None:
    line = _random_lines(100)
    before = serial_workers.run(_stations(line), np.zeros(12), (100,)).returned_s
    for place in (1, 3):
        for field in ("sent_share", "read_share"):
            wire = line[place]
            assert isinstance(wire, WireTimes)
            values = getattr(wire, field)
            given = values.copy()
            values += 0.3
            after = serial_workers.run(_stations(line), np.zeros(12), (100,)).returned_s
            assert (after <= before + 1e-9).all()
            values[:] = given  # to the last bit: what holds just under a whole message holds one less


def test_a_byte_just_before_the_readers_gate_does_not_wait_for_it() -> None:
    # Of 6 chunks the first may leave early (13 fit at the reader), and it is the one that the sender waits for (5 fit
    # there): 13/6 − 2 and 1 − 5/6 are the same share, but for rounding.
    wire = events.ByteWire(6, 0.1, 0.0, 0.0, 0.0, 5, 13)
    expected = np.array(events.serial([0.0, wire, 3.0], [0.0] * 8, None))
    line = [np.zeros(1), _times(wire), np.array([3.0])]
    found = serial_workers.run(_stations(line), np.zeros((1, 8)), (1,))
    assert np.allclose(found.started_s[0], expected[:, 1], atol=1e-9)


def test_workers_and_links_come_in_turn() -> None:
    with pytest.raises(BadInputError, match="two workers or two links in a row"):
        list(serial_workers.passages([Worker(lambda _, t: t)] * 2, np.zeros(1), ()))
