"""Lines of stations as SimPy processes: what the recursions are held against, written without them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

Process = Generator[simpy.Event, Any, None]


def overlapped(
    services: Sequence[Sequence[float]], delays: Sequence[float], arrivals: Sequence[float],
    slots: Sequence[int | None], window: int | None, control_delay: float, held: Sequence[float] | None = None,
) -> list[tuple[float, float, float]]:  # fmt: skip
    """(dispatched, started at station 0, returned) of each batch; `services[n][j]`.

    A station takes no other for `held[j]` after a batch has gone on, nor gives its place back before.
    """
    environment = simpy.Environment()
    count, batches = len(delays), len(arrivals)
    queues = [simpy.Store(environment) for _ in range(count)]
    # A place is taken before a batch leaves for a station, and given back when it has left that.
    places = [simpy.Container(environment, init=b + 1) if b is not None else None for b in slots]
    tokens = simpy.Container(environment, init=window) if window else None
    dispatched, started, returned = {}, {}, {}

    def after(delay: float, batch: int, to: int) -> Process:
        yield environment.timeout(delay)
        if to < count:
            yield queues[to].put(batch)
            return
        returned[batch] = environment.now
        if tokens is not None:
            yield tokens.put(1)

    def source() -> Process:
        for batch, arrival in enumerate(arrivals):
            yield environment.timeout(max(0.0, arrival - environment.now))
            if tokens is not None:
                yield tokens.get(1)
            dispatched[batch] = environment.now
            environment.process(after(control_delay, batch, 0))

    def station(j: int) -> Process:
        while True:
            batch = yield queues[j].get()
            if j == 0:
                started[batch] = environment.now
            yield environment.timeout(services[batch][j])
            if j < count - 1 and (ahead := places[j]) is not None:
                yield ahead.get(1)
            environment.process(after(delays[j], batch, j + 1))
            if held is not None:
                yield environment.timeout(held[j])
            if j > 0 and (own := places[j - 1]) is not None:
                yield own.put(1)

    environment.process(source())
    for j in range(count):
        environment.process(station(j))
    environment.run()
    return [(dispatched[n], started[n], returned[n]) for n in range(batches)]


@dataclass(frozen=True)
class ByteWire:
    """A link that carries chunks: `chunks` a message, `chunk_s` each, buffers in chunks at both ends.

    Where there is an answer, the sender waits for the last chunk to leave and for `answer_s` more.
    """

    chunks: int
    chunk_s: float
    stall_s: float
    delay_s: float
    back_s: float
    send_buffer: int
    receive_buffer: int
    answer_s: float = 0.0


class _Wire:
    def __init__(self, environment: simpy.Environment, wire: ByteWire) -> None:
        self.environment, self.wire = environment, wire
        self.room = simpy.Container(environment, init=wire.send_buffer)
        self.written, self.arrived, self.gone = (simpy.Store(environment) for _ in range(3))
        self.credit = simpy.Container(environment, init=wire.receive_buffer)
        environment.process(self._link())

    def send(self) -> Process:
        for chunk in range(self.wire.chunks):
            yield self.room.get(1)
            yield self.written.put(chunk)
        if self.wire.answer_s:
            if self.wire.chunks:
                yield self.gone.get()
            yield self.environment.timeout(self.wire.answer_s)

    def read(self) -> Process:
        for _ in range(self.wire.chunks):
            yield self.arrived.get()
            self.environment.process(self._give_back())

    def _link(self) -> Process:
        while True:
            chunk = yield self.written.get()
            yield self.credit.get(1)
            if chunk == 0:
                yield self.environment.timeout(self.wire.stall_s)
            yield self.environment.timeout(self.wire.chunk_s)
            self.environment.process(self._deliver(chunk))
            if self.wire.answer_s and chunk == self.wire.chunks - 1:
                yield self.gone.put(chunk)

    def _deliver(self, chunk: int) -> Process:
        yield self.environment.timeout(self.wire.delay_s)
        yield self.arrived.put(chunk)
        yield self.environment.timeout(self.wire.back_s)
        yield self.room.put(1)  # acknowledged

    def _give_back(self) -> Process:
        yield self.environment.timeout(self.wire.back_s)
        yield self.credit.put(1)


def serial(
    stations: Sequence[float | ByteWire], arrivals: Sequence[float], window: int | None
) -> list[tuple[float, float, float]]:
    """(dispatched, started, returned) of each batch through serial workers (computing seconds) and wires in turn.

    A batch is started when the first worker begins to compute it.
    """
    environment = simpy.Environment()
    wires = [_Wire(environment, station) if isinstance(station, ByteWire) else None for station in stations]
    control = simpy.Store(environment)
    tokens = simpy.Container(environment, init=window) if window else None
    dispatched, started, returned = {}, {}, {}
    first_worker = next(j for j, station in enumerate(stations) if not isinstance(station, ByteWire))

    def back(batch: int) -> Process:
        returned[batch] = environment.now
        if tokens is not None:
            yield tokens.put(1)

    def source() -> Process:
        for batch, arrival in enumerate(arrivals):
            yield environment.timeout(max(0.0, arrival - environment.now))
            if tokens is not None:
                yield tokens.get(1)
            dispatched[batch] = environment.now
            yield control.put(batch)

    def feeder(wire: _Wire) -> Process:
        while True:
            yield control.get()
            yield from wire.send()

    def worker(j: int, computing: float) -> Process:
        batch = 0
        while True:
            before, behind = wires[j - 1] if j else None, wires[j + 1] if j + 1 < len(wires) else None
            if before is None:
                yield control.get()
            else:
                yield from before.read()
            if j == first_worker:
                started[batch] = environment.now
            yield environment.timeout(computing)
            if behind is None:
                yield from back(batch)
            else:
                yield from behind.send()
            batch += 1

    def sink(wire: _Wire) -> Process:
        batch = 0
        while True:
            yield from wire.read()
            yield from back(batch)
            batch += 1

    environment.process(source())
    if (first := wires[0]) is not None:
        environment.process(feeder(first))
    if (last := wires[-1]) is not None:
        environment.process(sink(last))
    for j, station in enumerate(stations):
        if not isinstance(station, ByteWire):
            environment.process(worker(j, station))
    environment.run()
    return [(dispatched[n], started[n], returned[n]) for n in range(len(arrivals))]
