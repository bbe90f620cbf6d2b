"""A prediction: every split of a model over two devices, its objectives, memory and place on the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from paretosim import pareto, pipeline
from paretosim.chain import Hop, splits_of, stage_times_s
from paretosim.device import Device
from paretosim.errors import BadInputError
from paretosim.hop_terms import HopTerms, hop_terms, hops_of_setting
from paretosim.in_effect import control_s
from paretosim.memory import all_stages_memory_bytes
from paretosim.resting import rested
from paretosim.setting import AnySetting, Setting
from paretosim.stage_terms import lone_s, services_in_order, stage_terms
from paretosim.tabular import Tabular, fields_of, flat
from paretosim.timing import Kind

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on one device with the data already there and the result kept there: no link at all."""

    device: str
    latency_s: float
    throughput_per_s: float
    memory_bytes: int
    fits: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One split, its times in chain order (`Prediction.hops` names those of links).

    A link is occupied for its `links_s`, which is serialisation alone, and its `stalls_s`, slow start on a cold
    connection; after that comes its delay. Latency is on the setting's clock, the mean where it differs between
    batches, and infinite where batches arrive faster than they can leave. Percentiles exist in `open`. With a
    calibration, `stages_s` holds its terms, `sending_s` (round trips of RPC and copying among it) occupies a link too,
    and `receiving_s` is a station behind it. `handovers_s` hold nothing: what a batch waits at its dispatch, beside the
    delay of each hop, and behind the last station. `answering_s` occupies a link and no batch waits
    for it. `resting_s`, by hop, is the part of `handovers_s` that
    is there since hosts have rested. None where there is no such term.
    """

    split: int
    latency_s: float
    throughput_per_s: float
    period_s: float
    bottleneck: str
    stages_s: tuple[float, ...]
    links_s: tuple[float, ...]
    stalls_s: tuple[float, ...]
    delays_s: tuple[float, ...]
    activation_bytes: tuple[int, ...]
    memory_bytes: tuple[int, ...]
    fits: bool
    meets_constraints: bool
    on_front: bool
    latency_from_start_s: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    sending_s: tuple[float, ...] | None = None
    receiving_s: tuple[float, ...] | None = None
    handovers_s: tuple[float, ...] | None = None
    answering_s: tuple[float, ...] | None = None
    resting_s: tuple[float, ...] | None = None


class Recommended(msgspec.Struct, frozen=True):
    """Splits that are best in one objective, and the knee of the front; None where no split qualifies."""

    latency: int | None
    throughput: int | None
    knee: int | None


class Prediction(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What `predict` found. `hops` names the entries of each row's `links_s`, `stalls_s` and `delays_s`."""

    setting: Setting
    timing_kinds: tuple[Kind, Kind]
    hops: tuple[str, ...]
    baselines: tuple[Baseline, Baseline]
    rows: tuple[Row, ...]
    recommended: Recommended

    def row(self, split: int) -> Row:
        """The row of that split."""
        for row in self.rows:
            if row.split == split:
                return row
        raise BadInputError(f"split: got {split}, expected one of {self.rows[0].split} … {self.rows[-1].split}")

    @property
    def front(self) -> tuple[Row, ...]:
        """Rows that no other row dominates, from the lowest latency up."""
        return tuple(sorted((r for r in self.rows if r.on_front), key=lambda r: (r.latency_s, r.split)))

    @property
    def profile_error(self) -> float | None:
        """The larger relative error of the two timings; None where one is unknown."""
        errors = [timing.error.relative for timing in self.setting.timings if timing.error is not None]
        return max(errors) if len(errors) == len(self.setting.timings) else None

    def records(self) -> list[dict[str, Any]]:
        """The rows as flat dictionaries of plain values, their names those of the columns of `--csv`."""
        return [flat(fields_of(row)) for row in self.rows]


def predict(setting: Setting) -> Prediction:
    """Objectives of every split, its memory, the front and the recommended splits.

    Source: docs/model.md. A split that does not fit in a device's memory is kept, marked, and off the front.
    """
    model, batch = setting.model, setting.batch
    blocks = len(model.blocks)
    splits = splits_of(blocks, setting.splits)
    block_s, kinds = zip(*(timing.at_batch(batch) for timing in setting.timings), strict=True)
    cut_bytes = np.array(model.cut_bytes(), dtype=np.int64) * batch
    hops = hops_of_setting(setting, splits)
    transfers = hop_terms(setting, hops)
    stages_s = stage_terms(setting, splits, stage_times_s(block_s, splits, setting.speed), hops, transfers).total_s
    transfers = rested(setting, stages_s, transfers, hops)
    dispatch_s = np.full((len(splits), 1), control_s(setting) - setting.control_delay_s)
    handovers_s = np.hstack([dispatch_s, transfers.handover_s, transfers.last_s])
    found, stations, bottlenecks, percentiles_s = objectives_of(setting, stages_s, transfers, hops)
    if bottlenecks is None:
        services_s, _ = services_in_order(stages_s, transfers, hops)
        bottlenecks = pipeline.significant(services_s).argmax(axis=1)  # the first of equals
    keeps_up = np.isfinite(found.latency_s) if setting.mode.name == "open" else np.ones(len(splits), dtype=np.bool_)
    _check_finite(setting, found.latency_s[keeps_up], found.period_s)
    every_stage_bytes = all_stages_memory_bytes(model, batch)
    ends_bytes = np.stack([every_stage_bytes[0, splits], every_stage_bytes[splits, blocks]], axis=1)
    memory_bytes, whole_bytes = [tuple(need) for need in ends_bytes.tolist()], int(every_stage_bytes[0, blocks])
    fits = np.array([_fits(need, setting.devices) for need in memory_bytes])
    throughputs = batch / found.period_s
    meets = setting.is_met(found.latency_s, throughputs) & keeps_up
    eligible = fits & meets
    on_front = np.zeros(len(splits), dtype=np.bool_)
    if (compared := fits & keeps_up).any():
        on_front[compared] = pareto.is_nondominated(np.stack([found.latency_s, -throughputs], axis=1)[compared])
    rows = tuple(
        Row(
            split=split,
            latency_s=float(found.latency_s[i]),
            throughput_per_s=float(throughputs[i]),
            period_s=float(found.period_s[i]),
            bottleneck=stations[bottlenecks[i]],
            stages_s=tuple(stages_s[i].tolist()),
            links_s=tuple(transfers.serialisation_s[i].tolist()),
            stalls_s=tuple(transfers.stalls_s[i].tolist()),
            delays_s=tuple(transfers.delays_s[i].tolist()),
            activation_bytes=(int(cut_bytes[split]),),
            memory_bytes=memory_bytes[i],
            fits=bool(fits[i]),
            meets_constraints=bool(meets[i]),
            on_front=bool(on_front[i]),
            latency_from_start_s=None if found.latency_from_start_s is None else float(found.latency_from_start_s[i]),
            **_percentiles(percentiles_s, i),
            sending_s=_unless_zero(transfers.sender_s, i),
            receiving_s=_unless_zero(transfers.receiving_s, i),
            handovers_s=_unless_zero(handovers_s, i),
            answering_s=_unless_zero(transfers.answering_s, i),
            resting_s=_unless_zero(transfers.resting_s, i),
        )
        for i, split in enumerate(splits.tolist())
    )
    return Prediction(
        setting=setting,
        timing_kinds=kinds,
        hops=tuple(hop.name for hop in hops),
        baselines=(_baseline(setting, block_s, 0, whole_bytes), _baseline(setting, block_s, 1, whole_bytes)),
        rows=rows,
        recommended=_recommend([row for row, ok in zip(rows, eligible, strict=True) if ok]),
    )


class Judged(NamedTuple):
    """Objectives of plans of one chain, and the names of its stations.

    `binding` (plans,) are the stations that bind and `percentiles_s` (3, plans) those of latency in `open`; both None
    where the closed forms hold.
    """

    objectives: pipeline.Objectives
    stations: tuple[str, ...]
    binding: NDArray[np.intp] | None
    percentiles_s: NDArray[np.float64] | None


def objectives_of(
    setting: Setting,
    stages_s: NDArray[np.float64],
    transfers: HopTerms,
    hops: Sequence[Hop],
) -> Judged:
    """Objectives of plans of a setting, by its mode and operation alone.

    Parameters
    ----------
    stages_s : (plans, 2) seconds, all terms included.
    transfers : what every hop takes, (plans, hops) each.
    hops : their arrays are of shape (plans,).
    """
    delays_s = transfers.waits_s
    services_s, stations = services_in_order(stages_s, transfers, hops)
    if setting.has_closed_form:
        return Judged(in_closed_form(setting, services_s, delays_s, stations, hops), stations, None, None)
    # Imported here, as most predictions never need it.
    from paretosim.line import line_of
    from paretosim.queueing import objectives

    _check_finite(setting, services_s, delays_s)
    line = line_of(stages_s, transfers, hops, setting.link, control_s(setting), workers=setting.operation.workers)
    queued = objectives(line, setting.mode, setting.operation)
    found = pipeline.Objectives(queued.latency_s, queued.period_s, queued.latency_from_start_s)
    return Judged(found, line.names, queued.binding, queued.percentiles_s)


def in_closed_form(
    setting: AnySetting, services_s: NDArray[np.float64], delays_s: NDArray[np.float64], stations: Sequence[str],
    hops: Sequence[Hop],
) -> pipeline.Objectives:  # fmt: skip
    """Objectives of plans whose batches are never held up, over any number of devices.

    Parameters
    ----------
    services_s, delays_s : (plans, …) seconds, without the dispatch.
    stations : names of the services.
    """
    dispatched_s = np.full((len(services_s), 1), control_s(setting))
    before = stations.index("stage1")
    inputs = sum(hop.name == "input" for hop in hops)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is the caller's to refuse
        # Stage 1 starts after the dispatch and, where there is one, the input's hop.
        first_s = dispatched_s[:, 0] + services_s[:, :before].sum(axis=1) + delays_s[:, :inputs].sum(axis=1)
        starts = pipeline.Starts(first_s, services_s[:, : before + 1].max(axis=1))
        return pipeline.objectives(services_s, np.hstack([dispatched_s, delays_s]), setting.mode, starts)


def _percentiles(percentiles_s: NDArray[np.float64] | None, index: int) -> dict[str, float]:
    if percentiles_s is None:
        return {}
    names = ("latency_p50_s", "latency_p95_s", "latency_p99_s")
    return dict(zip(names, percentiles_s[:, index].tolist(), strict=True))


def _check_finite(setting: Setting, *times_s: NDArray[np.float64]) -> None:
    if not all(np.isfinite(values).all() for values in times_s):
        raise BadInputError(
            f"prediction: a latency is too large for a number at {setting.link.rate_bps:g} bit/s and"
            f" {setting.link.one_way_delay_s:g} s; expected a faster link, a shorter delay or shorter block times"
        )


def _unless_zero(times_s: NDArray[np.float64], index: int) -> tuple[float, ...] | None:
    """A plan's entry, None where no plan has any."""
    return tuple(times_s[index].tolist()) if times_s.any() else None


def _fits(memory_bytes: Sequence[int], devices: tuple[Device, Device]) -> bool:
    return all(need <= device.usable_bytes for need, device in zip(memory_bytes, devices, strict=True))


def _baseline(setting: Setting, block_s: Sequence[Sequence[float]], index: int, need_bytes: int) -> Baseline:
    total_s = lone_s(setting, index, np.array([sum(block_s[index]) / setting.speed]))
    latency_s, period_s = alone(setting, total_s)
    device = setting.devices[index]
    return Baseline(
        device=device.name,
        latency_s=float(latency_s[0]),
        throughput_per_s=setting.batch / float(period_s[0]),
        memory_bytes=need_bytes,
        fits=need_bytes <= device.usable_bytes,
    )


def alone(setting: Setting, total_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latency and period of one device that does it all in `total_s`, of shape (plans,) each."""
    if setting.has_closed_form:
        starts = pipeline.Starts(np.zeros(len(total_s)), total_s)
        found = pipeline.objectives(total_s[:, np.newaxis], np.zeros((len(total_s), 1)), setting.mode, starts)
        return found.latency_s, found.period_s
    from paretosim.line import lone_stage
    from paretosim.queueing import objectives

    queued = objectives(lone_stage(total_s), setting.mode, setting.operation)
    return queued.latency_s, queued.period_s


def _recommend(rows: Sequence[Row]) -> Recommended:
    """Best in each objective and the knee, ties to the better other objective, then to the lower split."""
    if not rows:
        return Recommended(None, None, None)
    front = [r for r in rows if r.on_front]  # never empty: what dominates a row meets its constraints too
    middle = front[pareto.knee([r.latency_s for r in front], [r.throughput_per_s for r in front])]
    return Recommended(
        latency=min(rows, key=lambda r: (r.latency_s, -r.throughput_per_s, r.split)).split,
        throughput=min(rows, key=lambda r: (-r.throughput_per_s, r.latency_s, r.split)).split,
        knee=middle.split,
    )
