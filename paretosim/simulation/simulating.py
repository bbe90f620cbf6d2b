"""One split run batch by batch: random stage times, links that change, connections that remember.

The recursions are those of predictions; only what a service takes may depend on when it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from paretosim import recursion, serial_workers
from paretosim.chain import Hop, stage_times_s
from paretosim.errors import BadInputError
from paretosim.hop_terms import copied_s, hop_terms, hops_of_setting, link_of_hop
from paretosim.in_effect import control_s, holds_several, terms_in_effect
from paretosim.line import line_of
from paretosim.link import Link
from paretosim.mode import MAX_BATCHES, Arrivals
from paretosim.queueing import arrival_times_s
from paretosim.recursion import Passage
from paretosim.resting import rested
from paretosim.setting import Setting
from paretosim.simulation.link_trace import LinkTrace
from paretosim.simulation.slow_start import RememberingConnection
from paretosim.stage_terms import contention_s, hops_beside, stage_terms
from paretosim.tabular import Tabular
from paretosim.transfer_time import cold_stall_s, effective_rate_bps, segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SimulatedTcpState = Literal["warm", "cold", "idle"]
# Paced batches come at this share of the saturated rate, as hwrun feeds them.
PACE = 0.95


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation adds to a setting.

    `jitter` is the coefficient of variation of a stage's time, lognormal around its mean, drawn for each batch.
    `trace` replaces rate and delay of the forward link. `idle` connections remember (`slow_start`).
    """

    batches: int
    jitter: float = 0.0
    trace: LinkTrace | None = None
    tcp_state: SimulatedTcpState = "warm"

    def __post_init__(self) -> None:
        if not 1 <= self.batches <= MAX_BATCHES:
            raise BadInputError(f"batches: got {self.batches}, expected 1 to {MAX_BATCHES}")
        if not 0 <= self.jitter < 100:
            raise BadInputError(f"jitter: got {self.jitter}, expected a share such as 0.05, of 0 or more and below 100")


class Simulation(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What `simulate` found: every batch's way through the `stations`, in chain order.

    In `paced`, `saturated_period_s` is that of a run with everything dispatched at once, which sets the pace.
    """

    setting: Setting
    split: int
    conditions: Conditions
    stations: tuple[str, ...]
    passages: tuple[Passage, ...]
    saturated_period_s: float | None = None

    @property
    def latencies_s(self) -> Array:
        """Of each batch, on the setting's clock."""
        stage1 = self.stations.index("stage1")
        on_stage1 = self.setting.operation.clock == "stage1"
        begun = [float(p.starts_s[stage1] if on_stage1 else p.dispatched_s) for p in self.passages]
        return np.asarray(np.array([float(p.returned_s) for p in self.passages]) - np.array(begun))

    def records(self) -> list[dict[str, Any]]:
        """The batches as flat dictionaries: when each was dispatched, at every station, and back."""
        return [
            {
                "batch": n,
                "dispatched_s": float(passage.dispatched_s),
                "latency_s": latency_s,
                "returned_s": float(passage.returned_s),
                **{f"{name}.start_s": float(s) for name, s in zip(self.stations, passage.starts_s, strict=True)},
                **{f"{name}.end_s": float(s) for name, s in zip(self.stations, passage.ends_s, strict=True)},
            }
            for n, (passage, latency_s) in enumerate(zip(self.passages, self.latencies_s.tolist(), strict=True))
        ]

    @property
    def makespan_s(self) -> float:
        """From the first dispatch to the last return."""
        return float(self.passages[-1].returned_s - self.passages[0].dispatched_s)

    @property
    def period_s(self) -> float:
        """Mean interval of completions as the mode defines it (docs/model.md, "Pipeline")."""
        if self.setting.mode.name == "single":
            return float(self.latencies_s.mean())
        if self.saturated_period_s is not None:
            return self.saturated_period_s
        if self.setting.mode.name == "burst":
            return self.makespan_s / len(self.passages)
        return _interval_s(self.passages)

    def busy_share(self, station: int) -> float:
        """Share of the makespan that a station serves in, or waits for the answer to its call."""
        busy = sum(
            float(p.ends_s[station] - p.starts_s[station] + p.freed_s[station] - p.departures_s[station])
            for p in self.passages
        )
        return busy / self.makespan_s if self.makespan_s > 0 else 0.0


class _Wire:
    """One hop as a station whose service depends on when it starts; the first byte waits `sent_s` for its sender.

    Sockets take all bytes in no less than `copied_s`, and who takes the message waits `handover_s` more.
    """

    def __init__(
        self, hop: Hop, link: Link, *, tcp_state: SimulatedTcpState, trace: LinkTrace | None, sent_s: float,
        copied_s: float, handover_s: float, waits: bool,
    ) -> None:  # fmt: skip
        self._size = float(hop.payload_bytes[0])
        self._segments = float(segments(self._size, link.mss_bytes))
        self._bits = 8 * (self._size + link.header_bytes * self._segments)
        self._waits = waits and bool(hop.crossed[0])
        self._link = link
        self._tcp_state = tcp_state
        self._sent_s = sent_s
        self._handover_s = handover_s
        self._trace = (
            LinkTrace(times_s=(0.0,), rates_bps=(effective_rate_bps(link),), delays_s=(link.one_way_delay_s,))
            if trace is None
            else trace.capped(link.wmax_bytes, link.return_delay_s)
        )
        self._wire = self._trace
        if copied_s > 0:
            slowest = (min(rate, self._bits / copied_s) for rate in self._trace.rates_bps)
            self._trace = msgspec.structs.replace(self._trace, rates_bps=tuple(slowest))
        self._connection = RememberingConnection(mss_bytes=link.mss_bytes, wmax_bytes=link.wmax_bytes)
        self._flowing_s = self._arrived_s = 0.0

    def serialisation_s(self, time_s: float) -> float:
        """How long a message takes on the wire at the rate of that time."""
        rate = self._wire.rates_bps[self._wire.piece(time_s)]
        return self._bits / rate if rate > 0 else np.inf

    def stall(self, _: int, start: Array) -> Array:
        """When the first byte leaves."""
        begun = float(start) + self._sent_s
        piece = self._trace.piece(begun)
        rate = self._trace.rates_bps[piece]
        stall = 0.0
        if self._segments and self._tcp_state != "warm" and rate > 0:
            rtt_s = self._trace.delays_s[piece] + self._link.return_delay_s
            segment_s = self._bits / rate / self._segments
            if self._tcp_state == "idle":
                stall = self._connection.stall_s(begun, self._segments, segment_s, rtt_s)
            else:
                stall = float(
                    cold_stall_s(
                        self._segments, self._bits / rate, rtt_s,
                        mss_bytes=self._link.mss_bytes, wmax_bytes=self._link.wmax_bytes,
                    )
                )  # fmt: skip
        self._flowing_s = begun + stall
        return np.asarray(self._flowing_s)

    def flow(self, _: int, start: Array, share: Array | float) -> Array:
        """When that share of the message has left."""
        return np.asarray(self._trace.sent_s(float(start), float(share) * self._bits))

    def serve(self, n: int, start: Array) -> Array:
        """When all of it has."""
        return self.flow(n, self.stall(n, start), 1.0)

    def carry(self, _: int, __: Array, departure: Array) -> Array:
        """When it has arrived; the connection is idle from its departure on."""
        self._connection.sent(float(departure))
        arrived = self._trace.arrived_s(self._flowing_s, float(departure)) if self._waits else float(departure)
        self._arrived_s = max(self._arrived_s, arrived)
        return np.asarray(self._arrived_s + self._handover_s)

    def as_wire(self, setting: Setting, back_s: float, answer_s: float) -> serial_workers.Wire:
        """As what serial workers write to and read from, with that delay of the way back."""
        operation = setting.operation
        received = setting.link.wmax_bytes if operation.receive_buffer_bytes is None else operation.receive_buffer_bytes
        shares = serial_workers.shares_of(np.array(self._size), operation.send_buffer_bytes, received)

        def acknowledged(left: Array) -> Array:
            delay_s = self._trace.delays_s[self._trace.piece(float(left))] if self._waits else 0.0
            return np.asarray(left + delay_s + back_s)

        return serial_workers.Wire(self.stall, self.flow, self.carry, back_s, acknowledged, *shares, answer_s)


def simulate(setting: Setting, split: int, conditions: Conditions) -> Simulation:
    """Run one split of a setting, from an empty pipeline at time 0.

    The seed is the setting's operation's; the same seed draws the same stage times and arrivals.

    Raises
    ------
    BadInputError : no such split, or a trace under which nothing is well defined.
    """
    mode = setting.mode
    blocks = len(setting.model.blocks)
    if not 0 <= split <= blocks:
        raise BadInputError(f"split: got {split}, expected 0 to {blocks}, the blocks of {setting.model.name}")
    arrival_generator, _ = _generators(setting)
    batches = conditions.batches
    window = 1 if mode.name == "single" else mode.window
    saturated_s = None
    arrivals: Array = np.zeros(batches)
    if isinstance(mode.arrivals, Arrivals):
        arrivals = arrival_times_s(mode.arrivals, batches, arrival_generator)
    elif mode.name == "paced":
        stations, passages = _passages(setting, split, conditions, arrivals, None)
        saturated_s = _interval_s(passages)
        arrivals = np.arange(batches, dtype=np.float64) * (saturated_s / PACE)
    stations, passages = _passages(setting, split, conditions, arrivals, window)
    return Simulation(
        setting=setting,
        split=split,
        conditions=conditions,
        stations=stations,
        passages=passages,
        saturated_period_s=saturated_s,
    )


def _generators(setting: Setting) -> tuple[np.random.Generator, np.random.Generator]:
    """Of arrivals, which draw as predictions do, and of stage times, whichever of them there are."""
    seed = setting.operation.seed
    return np.random.default_rng(seed), np.random.default_rng([seed, 1])


def _passages(
    setting: Setting, split: int, conditions: Conditions, arrivals_s: Array, window: int | None
) -> tuple[tuple[str, ...], tuple[Passage, ...]]:
    splits = np.array([split])
    block_s = [timing.at_batch(setting.batch)[0] for timing in setting.timings]
    hops = hops_of_setting(setting, splits)
    transfers = hop_terms(setting, hops)
    stages = stage_terms(setting, splits, stage_times_s(block_s, splits, setting.speed), hops, transfers)
    transfers = rested(setting, stages.total_s, transfers, hops)
    # What stations take beside computing: slow start depends on the time, so a wire works that out itself.
    line = line_of(
        np.zeros((1, 2)), msgspec.structs.replace(transfers, stalls_s=np.zeros_like(transfers.stalls_s)), hops,
        setting.link, control_s(setting), workers=setting.operation.workers,
    )  # fmt: skip
    tcp_state = "warm" if "slow-start" in setting.without else conditions.tcp_state
    wires = [
        _Wire(
            hop,
            link_of_hop(setting, hop),
            tcp_state=tcp_state,
            trace=conditions.trace if hop.forward else None,
            sent_s=float(line.stalls_s[0, line.names.index(hop.name)]),
            copied_s=float(copied_s(setting, hop)[0]),
            # What a line waits behind a hop beside the link's own delay.
            handover_s=float(line.delays_s[0, line.names.index(hop.name)] - transfers.delays_s[0, place]),
            waits="delay" not in setting.without,
        )
        for place, hop in enumerate(hops)
    ]
    wire_at = {line.names.index(hop.name): wire for hop, wire in zip(hops, wires, strict=True)}
    _, generator = _generators(setting)
    spread = np.sqrt(np.log1p(conditions.jitter**2))
    factors = np.exp(spread * generator.standard_normal((len(arrivals_s), 2)) - spread**2 / 2)
    alone_s = (stages.total_s - stages.contention_s)[0] * factors
    several = holds_several(setting.mode, setting.operation) and len(arrivals_s) > 1

    def serve(j: int) -> recursion.Serve:
        """What is no wire: a stage, with transfers beside it, or what a message costs a host."""
        own_s = float(line.services_s[0, j])
        if not line.names[j].startswith("stage"):
            return lambda _, start: start + own_s
        k = int(line.names[j] == "stage2")
        known = terms_in_effect(setting).of(setting.devices[k].name)
        beside = [wires[place] for place in hops_beside(hops)[k]] if several else []

        def computed(n: int, start: Array) -> Array:
            times_s = [np.asarray(wire.serialisation_s(float(start))) for wire in beside]
            own = alone_s[n, k] + contention_s(known, alone_s[n, k], times_s)
            return np.asarray(start + own_s + own)

        return computed

    names = line.names
    if setting.operation.workers == "serial":
        passages = serial_workers.passages(
            [
                wire_at[j].as_wire(setting, float(line.back_s[0, j]), float(line.held_s[0, j - 1]) if j else 0.0)
                if j in wire_at
                else serial_workers.Worker(serve(j))
                for j in range(len(names))
            ],
            arrivals_s,
            (),
            control_delay_s=control_s(setting),
            window=window,
        )
    else:
        passages = recursion.passages(
            [wire_at[j].serve if j in wire_at else serve(j) for j in range(len(names))],
            [wire_at[j].carry if j in wire_at else float(line.delays_s[0, j]) for j in range(len(names))],
            arrivals_s,
            control_delay_s=control_s(setting),
            held_s=line.held_s[0],
            slots=[setting.operation.slots] * (len(names) - 1),
            window=window,
        )
    return names, tuple(passages)


def _interval_s(passages: tuple[Passage, ...]) -> float:
    if len(passages) == 1:
        return float(passages[0].returned_s - passages[0].dispatched_s)
    return float(passages[-1].returned_s - passages[0].returned_s) / (len(passages) - 1)
