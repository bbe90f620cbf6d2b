"""The join: every measured cell of a run beside the prediction of the same plan, mode, link and parameters.

A comparison is one split under one condition, with all its repeats. Where a link was shaped, the prediction is
made for the link that was asked for (its probe is shown beside); an unshaped link is predicted as it was probed.
All splits of a condition share one prediction, so that they share one link and can be compared as a front.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwrun.errors import RecordError
from hwrun.records import Cell, Manifest, Run
from paretosim.plan import Plan
from paretosim.prediction import Prediction, Row, Setting, predict
from paretosim.profiles import ProfileStore
from validation import conditions
from validation.conditions import Condition, LinkCheck
from validation.measured import Quantity, Repeat, quantity, repeat_of


@dataclass(frozen=True)
class Baselines:
    """What simpler models predict of the same cell.

    Additive: stages and payload·8/rate summed, no delay, no framing, no overlap. `overlap_throughput_per_s`
    is PipeEdge's view: the largest of the computations and the communication sets the pace.
    """

    additive_latency_s: float
    additive_throughput_per_s: float
    overlap_throughput_per_s: float


@dataclass(frozen=True)
class Comparison:
    """One split under one condition: measured beside predicted."""

    split: int
    plan: str
    activation_bytes: int
    repeats: tuple[Repeat, ...]
    latency: Quantity
    throughput: Quantity
    stages: tuple[Quantity, ...]
    transfer: Quantity | None
    row: Row
    baselines: Baselines

    @property
    def label(self) -> str:
        """The plan's name within its condition."""
        return str(self.split)

    @property
    def rest_s(self) -> float | None:
        """Latency that neither computing nor the transfer explains: dispatch, handing over, the result's way back."""
        if self.transfer is None:
            return None
        return self.latency.measured - sum(stage.measured for stage in self.stages) - self.transfer.measured

    @property
    def overruns(self) -> int:
        """Stage runs in which an emulated stage's host was slower than its target."""
        return sum(repeat.overruns for repeat in self.repeats)


@dataclass(frozen=True)
class JoinedCondition:
    """A condition's comparisons in split order, the one prediction they share, and how its link is known."""

    condition: Condition
    prediction: Prediction
    link_origin: Literal["asked", "probed"]
    link_check: LinkCheck
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Unjoined:
    """A cell that is not compared, with the reason and what to do about it."""

    plan: str
    mode: str
    link_name: str
    repeat: int
    status: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class JoinedRun:
    """A run joined. `superseded` counts earlier attempts at cells that were tried again."""

    run: Run
    conditions: tuple[JoinedCondition, ...]
    unjoined: tuple[Unjoined, ...]
    superseded: int

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Of all conditions."""
        return tuple(comparison for joined in self.conditions for comparison in joined.comparisons)

    @property
    def missing(self) -> int:
        """Planned cells of which there is no record: the sweep was interrupted."""
        return max(0, self.run.manifest.cells_planned - (len(self.run.cells) - self.superseded))


def join(run: Run, store: ProfileStore) -> JoinedRun:
    """Every done cell of `run` beside its prediction, and every other one with its reason.

    Raises
    ------
    UnlikeConditionsError : a cell was measured under conditions that the prediction does not have.
    """
    cells, superseded = _latest(run.cells)
    unjoined = [_unjoined(cell) for cell in cells if cell.status != "done"]
    groups: dict[Condition, list[Cell]] = {}
    for cell in cells:
        if cell.status != "done":
            continue
        condition = conditions.condition_of(cell, run.manifest)
        if problem := _unusable(cell):
            unjoined.append(_unjoined(cell, problem, "give the sweep more batches a cell, and measure it again"))
            continue
        if cell.link_asked is not None and cell.link_asked.is_random:
            unjoined.append(_unjoined(cell, "its link has jitter or loss, which no prediction knows", "none: measured"))
            continue
        groups.setdefault(condition, []).append(cell)
    joined = []
    for condition in sorted(groups, key=_order):
        found = _join_condition(condition, groups[condition], run.manifest, store)
        if found is not None:
            joined.append(found)
            continue
        reason = "the link is unshaped and the probe could not tell its rate, so there is nothing to predict with"
        unjoined += [_unjoined(c, reason, "measure the cell again, with a probe") for c in groups[condition]]
    unjoined.sort(key=lambda entry: (entry.status, entry.plan, entry.mode, entry.link_name, entry.repeat))
    return JoinedRun(run=run, conditions=tuple(joined), unjoined=tuple(unjoined), superseded=superseded)


def _order(condition: Condition) -> tuple[str, str, float, float, str]:
    """By model, mode and then from the fastest link (unshaped ones first) to the slowest."""
    link = condition.link_asked
    rate_bps, delay_s = (math.inf, 0.0) if link is None else (link.rate_bps, link.one_way_delay_s)
    return (condition.model, str(condition.mode), -rate_bps, delay_s, str(condition))


def _latest(cells: Sequence[Cell]) -> tuple[list[Cell], int]:
    """Of several attempts at a cell the last that is done, or the last; and how many were left out."""
    chosen: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell.cell_id, cell.tcp_state)  # which the identity leaves out
        if key not in chosen or cell.status == "done" or chosen[key].status != "done":
            chosen[key] = cell
    return list(chosen.values()), len(cells) - len(chosen)


def _unjoined(cell: Cell, reason: str | None = None, remedy: str | None = None) -> Unjoined:
    return Unjoined(
        plan=cell.plan,
        mode=str(cell.mode),
        link_name=cell.link_name,
        repeat=cell.repeat,
        status="not joined" if cell.status == "done" else cell.status,
        reason=reason or cell.reason or "none recorded",
        remedy=remedy or cell.remedy or "none recorded",
    )


def _unusable(cell: Cell) -> str | None:
    """Why a done cell has no latency or throughput; None where it has both."""
    try:
        if not cell.latencies_s():
            return "its sub-run holds no batch"
        cell.throughput_per_s()
    except RecordError as error:
        return str(error)
    except ZeroDivisionError:
        return "all its batches returned at one moment, so it has no throughput"
    return None


def _join_condition(
    condition: Condition, cells: Sequence[Cell], manifest: Manifest, store: ProfileStore
) -> JoinedCondition | None:
    """None where the link is unshaped and unknown."""
    check = conditions.check_link(condition.link_asked, [c.link_measured for c in cells if c.link_measured])
    link = condition.link_asked or conditions.probed_link(check)
    if link is None:
        return None
    model = store.model(condition.model)
    one, two = (store.timing(device, model.name) for device in condition.devices)
    notes = [note for timing in (one, two) if (note := conditions.check_timing(condition, timing, manifest.timings))]
    controls = [cell.control_delay_s for cell in cells if cell.control_delay_s is not None]
    prediction = predict(
        Setting(
            model=model,
            devices=(store.device(condition.devices[0]), store.device(condition.devices[1])),
            timings=(one, two),
            link=link,
            batch=condition.batch,
            mode=condition.mode,
            source=condition.source,
            sink=condition.sink,
            tcp_state=condition.tcp_state,
            speed=condition.speed if condition.emulated else 1.0,
            control_delay_s=statistics.median(controls) if controls else 0.0,
        )
    )
    by_split: dict[int, list[Cell]] = {}
    for cell in cells:
        conditions.check_blocks(cell, model)
        split = Plan.parse(cell.plan).split
        conditions.check_stage_times(cell, prediction.row(split))
        by_split.setdefault(split, []).append(cell)
    transfer_seen = manifest.testbed.get("kind") == "local" and condition.mode.name in ("single", "paced")
    notes += _notes(condition, manifest, check, controls)
    return JoinedCondition(
        condition=condition,
        prediction=prediction,
        link_origin="probed" if condition.link_asked is None else "asked",
        link_check=check,
        comparisons=tuple(
            _comparison(prediction, prediction.row(split), by_split[split], manifest.run_id, transfer_seen)
            for split in sorted(by_split)
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _notes(condition: Condition, manifest: Manifest, check: LinkCheck, controls: Sequence[float]) -> list[str]:
    notes = []
    if condition.link_asked is None:
        notes.append("the link is unshaped: predicted with the goodput and half the round trip that its probes found")
    if check.flags:
        notes.append(f"the link as probed misses what was asked for: {', '.join(check.flags)}")
    if manifest.testbed.get("kind") != "local":
        notes.append("no transfer phase: the two ends of the link share no clock")
    elif condition.mode.name not in ("single", "paced"):
        notes.append(f"no transfer phase: in mode {condition.mode} batches queue for the link, and their wait is in it")
    if not controls:
        notes.append("no control delay was recorded: predicted with 0")
    return notes


def _comparison(
    prediction: Prediction, row: Row, cells: Sequence[Cell], run_id: str, transfer_seen: bool
) -> Comparison:
    repeats = tuple(
        repeat_of(cell, run_id, transfer_seen=transfer_seen) for cell in sorted(cells, key=lambda c: c.repeat)
    )
    setting = prediction.setting
    wire_s = row.activation_bytes[0] * 8 / setting.link.rate_bps
    # Batches of a burst wait for those before them, so that their latencies differ without any noise.
    samples_s = () if setting.mode.name == "burst" else repeats[0].latency_samples_s
    latency = quantity([r.latency_s for r in repeats], samples_s, row.latency_s)
    stages = tuple(
        _quantity_of_medians([r.compute_samples_s[k] for r in repeats], predicted_s)
        for k, predicted_s in enumerate(row.stages_s)
    )
    hop = prediction.hops.index("link1")
    transfers = [r.transfer_samples_s for r in repeats if r.transfer_samples_s is not None]
    transfer = None
    if len(transfers) == len(repeats):
        transfer = _quantity_of_medians(transfers, row.links_s[hop] + row.stalls_s[hop] + row.delays_s[hop])
    return Comparison(
        split=row.split,
        plan=cells[0].plan,
        activation_bytes=row.activation_bytes[0],
        repeats=repeats,
        latency=latency,
        throughput=quantity([r.throughput_per_s for r in repeats], repeats[0].interval_samples_s, row.throughput_per_s),
        stages=stages,
        transfer=transfer,
        row=row,
        baselines=Baselines(
            additive_latency_s=sum(row.stages_s) + wire_s,
            additive_throughput_per_s=setting.batch / (sum(row.stages_s) + wire_s),
            overlap_throughput_per_s=setting.batch / max(*row.stages_s, wire_s),
        ),
    )


def _quantity_of_medians(samples_s: Sequence[Sequence[float]], predicted_s: float) -> Quantity:
    """Of a phase: per repeat the median over its batches."""
    return quantity([statistics.median(of_repeat) for of_repeat in samples_s], samples_s[0], predicted_s)
