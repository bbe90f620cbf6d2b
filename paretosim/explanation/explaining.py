"""Why a split takes as long as it does: one batch term by term, what binds, and what would make something else bind.

A station's time is affine in the inverse of a link's rate, and in a device's block times, between the points where a
round of slow start stops stalling, the window starts to cap the rate, or a transfer gets longer than the computing
beside it. So the point at which another station binds is computed exactly, from the ends of those pieces
(`crossing.py`, also where full buffers hold stations up). In the size of a message it is a staircase of segments, and
found among whole bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from paretosim.chain import Hop, stage_times_s
from paretosim.explanation.crossing import fewer_bytes, first_crossing
from paretosim.hop_terms import HopTerms, copied_s, hop_terms, hops_of_setting, link_of_hop
from paretosim.in_effect import control_s, holds_several, link_in_effect, terms_in_effect
from paretosim.line import Line, line_of
from paretosim.mode import Arrivals
from paretosim.prediction import Prediction, Row
from paretosim.queueing import intervals_s
from paretosim.resting import rested
from paretosim.setting import Setting
from paretosim.stage_terms import StageTerms, stage_terms
from paretosim.transfer_time import segments, slow_start_rounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Source = Literal["profile", "link", "calibration", "setting", "mode"]
Quantity = Literal["rate_bps", "return_rate_bps", "message_bytes", "stage1_factor", "stage2_factor"]

# A rate beyond every network; up to there a link may have to be faster.
FASTEST_BPS = 1e15
SLOWEST_BPS = 1.0
# A device may have to be this many times faster or slower; beyond, it is no answer.
FACTOR = 1e3


class TermTime(msgspec.Struct, frozen=True, kw_only=True):
    """What a term adds to one batch at `station`, its share of L₀, and what it is from."""

    station: str
    term: str
    seconds: float
    share: float
    source: Source


class StationTime(msgspec.Struct, frozen=True, kw_only=True):
    """When a station is taken by an unloaded batch, seconds after its dispatch, and how much of the binding time it is.

    A call's answer comes once the batch has gone on, so that the next station may start before this one ends.
    """

    station: str
    start_s: float
    end_s: float
    of_binding: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity and the value above or below which `then` binds, everything else as it is.

    `quantity` is a rate, the tensors' bytes in a message of link1, or a factor on a stage's block times.
    """

    quantity: Quantity
    now: float
    threshold: float
    direction: Literal["above", "below"]
    then: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One split, term by term. `unloaded_s` is L₀, the sum of all terms but the mode's waiting.

    `binds` is the station of the longest time, t* = `slowest_s`, `second` the next one, None where there is none.
    `limit` is what sets the interval between batches: that station, the window, arrivals, or the batch itself where
    there is but one at a time.
    """

    setting: Setting
    row: Row
    terms: tuple[TermTime, ...]
    stations: tuple[StationTime, ...]
    unloaded_s: float
    binds: str
    slowest_s: float
    second: str | None
    second_s: float
    limit: Literal["station", "window", "arrivals", "batch"]
    changes: tuple[Change, ...]

    @property
    def interval_s(self) -> float:
        """Between completions while the pipeline is full; a burst's period is that of filling and emptying it too."""
        batches = self.setting.mode.batches
        if batches is None or batches == 1:
            return self.row.period_s
        return (batches * self.row.period_s - self.unloaded_s) / (batches - 1)

    @property
    def slack_s(self) -> float:
        """How much longer the binding station takes than the next one."""
        return self.slowest_s - self.second_s

    @property
    def window_to_bind(self) -> int:
        """The smallest window with which the station binds and not the window."""
        return math.ceil(self.unloaded_s / self.slowest_s * (1 - 1e-12))


class _Chain(msgspec.Struct, frozen=True):
    """One split's hops with what stages and hops take: arrays of one plan."""

    hops: tuple[Hop, ...]
    stages: StageTerms
    transfers: HopTerms

    def line(self, setting: Setting) -> Line:
        """Its stations in chain order."""
        return line_of(
            self.stages.total_s, self.transfers, self.hops, setting.link, control_s(setting),
            workers=setting.operation.workers,
        )  # fmt: skip

    def intervals_s(self, setting: Setting) -> Array:
        """(stations,) how often each can take a batch, what holds it up included."""
        found: Array = intervals_s(self.line(setting), setting.operation)[0]
        return found


def explain(prediction: Prediction, split: int) -> Explanation:
    """The split of a prediction term by term.

    Raises
    ------
    BadInputError : the prediction has no such split.
    """
    setting, row = prediction.setting, prediction.row(split)
    chain = _chain(setting, split)
    line = chain.line(setting)
    times = line.occupied_s[0]
    unloaded = float(line.unloaded_s[0])
    # What binds is what the prediction says; with serial workers and buffers it is not always the longest time.
    binding = line.names.index(row.bottleneck)
    others = [place for place in np.argsort(-times, kind="stable").tolist() if place != binding]
    second = others[0] if others and times[others[0]] > 0 else None
    return Explanation(
        setting=setting,
        row=row,
        terms=_terms(setting, row, chain, unloaded),
        stations=_stations(setting, line, times, float(times[binding])),
        unloaded_s=unloaded,
        binds=row.bottleneck,
        slowest_s=float(times[binding]),
        second=None if second is None else line.names[second],
        second_s=0.0 if second is None else float(times[second]),
        limit=_limit(setting, row, float(times[binding]), unloaded),
        changes=_changes(setting, split, chain, binding),
    )


def _chain(
    setting: Setting, split: int, *, factors: tuple[float, float] = (1.0, 1.0), message_bytes: int | None = None
) -> _Chain:
    """The split with block times multiplied, or with a message of another size over link1."""
    splits = np.array([split])
    block_s = [timing.at_batch(setting.batch)[0] for timing in setting.timings]
    hops = hops_of_setting(setting, splits)
    if message_bytes is not None:
        size = np.array([message_bytes])
        hops = tuple(Hop(h.name, size, h.crossed) if h.name in ("link1", "relay") else h for h in hops)
    transfers = hop_terms(setting, hops)
    blocks_s = stage_times_s(block_s, splits, setting.speed) * np.array(factors)
    stages = stage_terms(setting, splits, blocks_s, hops, transfers)
    return _Chain(hops, stages, rested(setting, stages.total_s, transfers, hops))


def _limit(
    setting: Setting, row: Row, slowest_s: float, unloaded_s: float
) -> Literal["station", "window", "arrivals", "batch"]:
    mode = setting.mode
    if not holds_several(mode, setting.operation):
        return "batch"
    above = row.period_s > slowest_s * (1 + 1e-9)
    if isinstance(mode.arrivals, Arrivals):
        return "arrivals" if above and math.isclose(row.period_s, 1 / mode.arrivals.rate_per_s) else "station"
    turns = mode.window is not None and math.isclose(row.period_s * mode.window, unloaded_s, rel_tol=1e-9)
    return "window" if above and turns else "station"


def _terms(setting: Setting, row: Row, chain: _Chain, unloaded_s: float) -> tuple[TermTime, ...]:
    """In chain order; terms of no time are left out, but for blocks and payload."""
    found: list[tuple[str, str, float, Source]] = [
        ("dispatch", "control delay", setting.control_delay_s, "setting"),
        ("dispatch", "dispatch", terms_in_effect(setting).dispatch_s, "calibration"),
    ]
    stages, hops = chain.stages, chain.transfers
    last_forward = max(j for j, hop in enumerate(chain.hops) if hop.name in ("link1", "relay"))

    def stage(k: int) -> list[tuple[str, str, float, Source]]:
        named: list[tuple[str, Array, Source]] = [
            ("blocks", stages.blocks_s, "profile"), ("scale", stages.scale_s, "calibration"),
            ("overhead", stages.overhead_s, "calibration"), ("launch", stages.launch_s, "calibration"),
            ("copies", stages.copies_s, "calibration"), ("contention", stages.contention_s, "calibration"),
        ]  # fmt: skip
        return [(f"stage{k + 1}", term, float(times[0, k]), source) for term, times, source in named]

    for j, hop in enumerate(chain.hops):
        if hop.forward:
            found += stage(0)
        found += _on_wire(setting, hop, float(hops.serialisation_s[0, j]))
        found += [
            (hop.name, "slow start", float(hops.stalls_s[0, j]), "link"),
            (_sender(setting, chain, j), "sending", float(hops.sending_s[0, j]), "calibration"),
            (_sender(setting, chain, j), "RPC round trips", float(hops.rpc_s[0, j]), "calibration"),
            (hop.name, "copying", float(hops.copying_s[0, j]), "calibration"),
            (hop.name, "delay", float(hops.delays_s[0, j]), "calibration" if hop.name == "relay" else "link"),
            (_receiver(setting, chain, j), "receiving", float(hops.receiving_s[0, j]), "calibration"),
            (hop.name, "handover", float(hops.handover_s[0, j] - hops.resting_s[0, j]), "calibration"),
            (hop.name, "resting", float(hops.resting_s[0, j]), "calibration"),
        ]
        if j == last_forward:
            found += stage(1)
    found.append(("result", "returning", float(hops.last_s[0, 0]), "calibration"))
    if math.isfinite(row.latency_s):
        waited = row.latency_s - unloaded_s
        found.append(("queues", "waiting", waited if abs(waited) > 1e-11 * unloaded_s else 0.0, "mode"))
    return tuple(
        TermTime(station=station, term=term, seconds=seconds, share=seconds / unloaded_s, source=source)
        for station, term, seconds, source in found
        if seconds or term in ("blocks", "payload")
    )


def _sender(setting: Setting, chain: _Chain, j: int) -> str:
    """The station that sending over hop j is time of: the link, or the serial worker before it."""
    name = chain.hops[j].name
    if setting.operation.workers == "overlapped":
        return name
    return {"input": "input.send", "link1": "stage1", "relay": "master", "return": "stage2"}[name]


def _receiver(setting: Setting, chain: _Chain, j: int) -> str:
    """The station that receiving from hop j is time of: one of its own, or the serial worker behind it."""
    name = chain.hops[j].name
    if setting.operation.workers == "overlapped" or name == "return":
        return f"{name}.receive"
    relayed = any(hop.name == "relay" for hop in chain.hops)
    return {"input": "stage1", "link1": "master" if relayed else "stage2", "relay": "stage2"}[name]


def _on_wire(setting: Setting, hop: Hop, serialisation_s: float) -> list[tuple[str, str, float, Source]]:
    """Serialisation by what is serialised, at the link's rate, and what the window takes from that."""
    if not serialisation_s:  # nothing crosses it, or memory and no wire
        return [(hop.name, "payload", 0.0, "link")]
    link = link_of_hop(setting, hop)
    framing_bytes = terms_in_effect(setting).framing_bytes * bool(hop.crossed[0])
    size = int(hop.payload_bytes[0])
    header_bytes = link.header_bytes * float(segments(size, link.mss_bytes))
    payload, framing, headers = (
        8 * count / link.rate_bps for count in (size - framing_bytes, framing_bytes, header_bytes)
    )
    capped = serialisation_s - payload - framing - headers
    source: Source = "calibration" if hop.name == "relay" else "link"
    return [
        (hop.name, "payload", payload, source),
        (hop.name, "framing", framing, "calibration"),
        (hop.name, "headers", headers, source),
        (hop.name, "window cap", capped if capped > 1e-12 * serialisation_s else 0.0, source),
    ]


def _stations(setting: Setting, line: Line, times: Array, binding_s: float) -> tuple[StationTime, ...]:
    at, found = control_s(setting), []
    # A batch goes on before the answer to its call frees the station.
    onward = (line.services_s + line.stalls_s + line.delays_s)[0]
    for name, seconds, next_s in zip(line.names, times.tolist(), onward.tolist(), strict=True):
        share = seconds / binding_s if binding_s else 0.0
        found.append(StationTime(station=name, start_s=at, end_s=at + seconds, of_binding=share))
        at += next_s
    return tuple(found)


def _changes(setting: Setting, split: int, chain: _Chain, binding: int) -> tuple[Change, ...]:
    """Each quantity that can make another station bind, alone."""
    names, holding = chain.line(setting).names, held_up(setting)
    found: list[Change] = []

    def add(quantity: Quantity, now: float, crossing: tuple[float, int] | None, *, above: bool) -> None:
        if crossing is not None:
            value, then = crossing
            direction: Literal["above", "below"] = "above" if above else "below"
            found.append(Change(quantity=quantity, now=now, threshold=value, direction=direction, then=names[then]))

    for field in ("rate_bps", "return_rate_bps"):
        hops = [j for j, hop in enumerate(chain.hops) if hop.name != "relay" and hop.forward == (field == "rate_bps")]
        if not hops:
            continue
        now = getattr(setting.link, field)

        def at_rate(inverse: float, field: str = field) -> Array:
            link = msgspec.structs.replace(setting.link, **{field: 1 / inverse})
            moved = msgspec.structs.replace(setting, link=link)
            return _chain(moved, split).intervals_s(moved)

        own = names[binding].split(".")[0] in [chain.hops[j].name for j in hops]
        breaks = [u for j in hops for u in _breaks(setting, chain, j)]
        # A stage that waits for a link may be held up less at a higher rate.
        for above in (True, False) if holding else (own,):
            crossing = first_crossing(at_rate, 1 / now, 1 / (FASTEST_BPS if above else SLOWEST_BPS), breaks, binding)
            add(field, now, None if crossing is None else (1 / crossing[0], crossing[1]), above=above)
    # What a message does not leave in full buffers comes in whole messages: no line, nor one that only falls.
    if not holding and names[binding] in ("link1", "relay", "link1.receive", "relay.receive"):
        framing_bytes = terms_in_effect(setting).framing_bytes
        size = next(int(hop.payload_bytes[0]) for hop in chain.hops if hop.forward)

        def at_size(message_bytes: int) -> Array:
            return _chain(setting, split, message_bytes=message_bytes).intervals_s(setting)

        least = fewer_bytes(at_size, framing_bytes, size, binding)
        if least is not None:
            add("message_bytes", size - framing_bytes, (least[0] - framing_bytes, least[1]), above=False)
    for k in range(2):
        if not chain.stages.blocks_s[0, k]:
            continue

        def at_factor(factor: float, k: int = k) -> Array:
            factors = (factor, 1.0) if k == 0 else (1.0, factor)
            return _chain(setting, split, factors=factors).intervals_s(setting)

        scaled = float(chain.stages.blocks_s[0, k] + chain.stages.scale_s[0, k])
        fixed = sum(float(x[0, k]) for x in (chain.stages.overhead_s, chain.stages.launch_s, chain.stages.copies_s))
        breaks = [(float(x) - fixed) / scaled for x in chain.transfers.serialisation_s[0]]
        own = names[binding] == f"stage{k + 1}"
        crossing = first_crossing(at_factor, 1.0, 0.0 if own else FACTOR, breaks, binding)
        add("stage1_factor" if k == 0 else "stage2_factor", 1.0, crossing, above=not own)
    return tuple(found)


def held_up(setting: Setting) -> bool:
    """Whether stations wait for one another's buffers, so that an interval is more than a station's own time."""
    return setting.operation.workers == "serial" or setting.operation.slots is not None


def _breaks(setting: Setting, chain: _Chain, j: int) -> list[float]:
    """Inverse rates (s/bit) at which a hop's time, or a stage's beside it, turns from one line into another."""
    hop, link = chain.hops[j], link_of_hop(setting, chain.hops[j])
    count = float(segments(int(hop.payload_bytes[0]), link.mss_bytes))
    bits = 8 * (float(hop.payload_bytes[0]) + link.header_bytes * count)
    if not bits:
        return []
    found = [link.rtt_s / (8 * link.wmax_bytes), float(copied_s(setting, hop)[0]) / bits]
    if link_in_effect(setting)[1] == "cold":
        windows, _ = slow_start_rounds(int(count), mss_bytes=link.mss_bytes, wmax_bytes=link.wmax_bytes)
        found += [link.rtt_s / ((window - 1) * bits / count) for window in windows.tolist() if window > 1]
    alone_s = chain.stages.total_s - chain.stages.contention_s
    return [*found, *map(float, alone_s[0] / bits)]
