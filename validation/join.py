"""The join: every measured cell of some runs beside the prediction of the same plan, mode, links and parameters.

A comparison is one plan under one condition, with all its repeats, of all runs. Where a link was shaped, the prediction
is made for the link that was asked for (its probe is shown beside); an unshaped link is predicted as it was probed.
All plans of a condition share one link, so that they can be compared as a front.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwrun.errors import RecordError
from hwrun.records import Cell, LinkMeasured, Manifest, Run
from paretosim.calibration import Backend, Calibration
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.operation import SEND_BUFFER_BYTES, Operation
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from validation import conditions
from validation.comparing import Comparison, compare
from validation.conditions import Condition, LinkCheck
from validation.likeness import check_alike
from validation.predicting import Inputs
from validation.probed import probed_copying

# A cell with the run that it stands in.
Found = tuple[Run, Cell]
UnjoinedStatus = Literal["skipped", "failed", "refused", "not joined"]


@dataclass(frozen=True)
class JoinedCondition:
    """A condition's comparisons by their cuts, what its predictions rest on, and how its links are known.

    `link_checks` are of the hops between stages.
    """

    condition: Condition
    inputs: Inputs
    link_origin: Literal["asked", "probed", "memory"]
    link_checks: tuple[LinkCheck, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Unjoined:
    """A cell that is not compared, with the reason and what to do about it."""

    run_id: str
    plan: str
    mode: str
    link_name: str
    repeat: int
    status: UnjoinedStatus
    reason: str
    remedy: str


@dataclass(frozen=True)
class Joined:
    """Runs joined. `superseded` counts earlier attempts at cells that were tried again."""

    runs: tuple[Run, ...]
    conditions: tuple[JoinedCondition, ...]
    unjoined: tuple[Unjoined, ...]
    superseded: int

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Of all conditions."""
        return tuple(comparison for joined in self.conditions for comparison in joined.comparisons)

    @property
    def manifest(self) -> Manifest:
        """Of the first run; the others are alike in what matters (`likeness`)."""
        return self.runs[0].manifest

    @property
    def missing(self) -> int:
        """Planned cells of which there is no record: a sweep was interrupted."""
        recorded = sum(len(run.cells) for run in self.runs) - self.superseded
        return max(0, sum(run.manifest.cells_planned for run in self.runs) - recorded)


def join(runs: Sequence[Run], store: ProfileStore, calibrations: Mapping[Backend, Calibration] | None = None) -> Joined:
    """Every done cell of `runs` beside its prediction, and every other one with its reason.

    Parameters
    ----------
    calibrations : by the backend that they are of.

    Raises
    ------
    UnlikeConditionsError : runs differ in what has to be alike, or a cell contradicts itself, its manifest or the
        profiles found now.
    """
    check_alike(runs)
    found: list[Found] = []
    superseded = 0
    for run in runs:
        latest = run.latest_cells()
        superseded += len(run.cells) - len(latest)
        found += [(run, cell) for cell in latest]
    unjoined = [_unjoined(entry) for entry in found if entry[1].status != "done"]
    groups: dict[Condition, list[Found]] = {}
    for run, cell in found:
        if cell.status != "done":
            continue
        if refusal := conditions.unpredictable(cell):
            unjoined.append(_unjoined((run, cell), "refused", *refusal))
            continue
        condition = conditions.condition_of(cell, run.manifest)
        if problem := _unusable(cell):
            remedy = "give the sweep more batches a cell, and measure it again"
            unjoined.append(_unjoined((run, cell), "not joined", problem, remedy))
            continue
        groups.setdefault(condition, []).append((run, cell))
    joined = []
    for condition in sorted(groups, key=order_of):
        result = _join_condition(condition, groups[condition], store, calibrations or {})
        if isinstance(result, JoinedCondition):
            joined.append(result)
        else:
            unjoined += [_unjoined(entry, *result) for entry in groups[condition]]
    unjoined.sort(key=lambda e: (e.status, e.run_id, e.plan, e.mode, e.link_name, e.repeat))
    return Joined(runs=tuple(runs), conditions=tuple(joined), unjoined=tuple(unjoined), superseded=superseded)


def order_of(condition: Condition) -> tuple[str, str, str, float, float, str]:
    """By model, devices, mode and then from the fastest link (unshaped ones first) to the slowest."""
    link = condition.link_asked
    rate_bps, delay_s = (math.inf, 0.0) if link is None else (link.rate_bps, link.one_way_delay_s)
    devices = "+".join(condition.devices)
    return (condition.model, devices, str(condition.mode), -rate_bps, delay_s, str(condition))


def _unjoined(
    entry: Found, status: UnjoinedStatus | None = None, reason: str | None = None, remedy: str | None = None
) -> Unjoined:
    run, cell = entry
    return Unjoined(
        run_id=run.manifest.run_id,
        plan=cell.plan,
        mode=str(cell.mode),
        link_name=cell.link_name,
        repeat=cell.repeat,
        status=status or ("skipped" if cell.status == "skipped" else "failed"),
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
    condition: Condition, entries: Sequence[Found], store: ProfileStore, calibrations: Mapping[Backend, Calibration]
) -> JoinedCondition | tuple[UnjoinedStatus, str, str]:
    """The condition joined, or why it is not and what to do."""
    cells = [cell for _, cell in entries]
    model = store.model(condition.model)
    timings = tuple(store.timing(device, model.name) for device in condition.devices)
    manifests = list({run.manifest.run_id: run.manifest for run, _ in entries}.values())
    notes = [
        note
        for manifest in manifests
        for timing in timings
        if (note := conditions.check_timing(condition, timing, manifest.timings))
    ]
    checks = _link_checks(condition, cells)
    echo = probed_copying(list({run.manifest.run_id: run for run, _ in entries}.values()))
    links = conditions.predicted_links(
        condition, checks, calibrations.get(condition.backend), 0.0 if echo is None else 1 / echo.per_byte_s
    )
    if links is None:
        reason = "a link is unshaped and the probe could not tell its rate, so there is nothing to predict with"
        return "not joined", reason, "measure the cell again, with a probe"
    controls = [cell.control_delay_s for cell in cells if cell.control_delay_s is not None]
    inputs = Inputs(
        model=model,
        devices=tuple(store.device(device) for device in condition.devices),
        timings=timings,
        links=links,
        way_back=conditions.way_back(condition),
        batch=condition.batch,
        mode=condition.mode,
        source=condition.source,
        sink=condition.sink,
        tcp_state=condition.tcp_state,
        operation=_operation(condition, cells, links[0]),
        backend=condition.backend,
        speed=condition.speed if condition.emulated else 1.0,
        control_delay_s=statistics.median(controls) if controls else 0.0,
        calibration=calibrations.get(condition.backend),
    )
    by_cuts: dict[tuple[int, ...], list[tuple[str, Cell]]] = {}
    for run, cell in entries:
        conditions.check_blocks(cell, model)
        conditions.check_stage_times(cell, inputs)
        by_cuts.setdefault(Plan.parse(cell.plan).cuts, []).append((run.manifest.run_id, cell))
    # Serial workers wait for their sockets, and the kernel tunes a socket to the messages that pass it.
    of_plan = {
        cuts: inputs
        if condition.workers == "overlapped"
        else replace(inputs, operation=_operation(condition, [cell for _, cell in entries_of], links[0]))
        for cuts, entries_of in by_cuts.items()
    }
    try:
        if condition.workers == "overlapped":
            predicted = inputs.predict(by_cuts)
        else:
            predicted = {cuts: own.predict([cuts])[cuts] for cuts, own in of_plan.items()}
    except BadInputError as error:
        return (
            "refused",
            str(error),
            "do as the reason says, or leave it out; what was measured is in: hwrun export RUN",
        )
    one_clock = all(map(conditions.shares_a_clock, manifests))
    transfers_seen = one_clock and condition.mode.name in ("single", "paced")
    notes += _notes(condition, checks, controls, one_clock=one_clock)
    if (note := conditions.segments_note(condition, cells)) is not None:
        notes.append(note)
    return JoinedCondition(
        condition=condition,
        inputs=inputs,
        link_origin=conditions.link_origin(condition),
        link_checks=checks,
        comparisons=tuple(
            compare(
                of_plan[cuts],
                predicted[cuts],
                by_cuts[cuts],
                transfers_seen=transfers_seen,
                fitted=_was_fitted_on(inputs.calibration, by_cuts[cuts]),
            )
            for cuts in sorted(by_cuts)
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _was_fitted_on(calibration: Calibration | None, cells: Sequence[tuple[str, Cell]]) -> bool:
    """Whether a calibration names the run of any of these cells among those that it was fitted on."""
    return calibration is not None and any(run_id in calibration.fitted_on for run_id, _ in cells)


def _link_checks(condition: Condition, cells: Sequence[Cell]) -> tuple[LinkCheck, ...]:
    """Of every hop between stages: asked for, and probed in any cell."""
    checks = []
    for hop in range(len(condition.devices) - 1):
        probes = [probe for cell in cells if (probe := _probe(cell, hop)) is not None]
        asked = condition.links_asked[hop] if hop < len(condition.links_asked) else None
        checks.append(conditions.check_link(asked, probes))
    return tuple(checks)


def _probe(cell: Cell, hop: int) -> LinkMeasured | None:
    found = cell.links_measured
    return found[hop] if hop < len(found) else None


def _operation(condition: Condition, cells: Sequence[Cell], link: Link) -> Operation:
    """The workers of those cells, with the buffers between them where they are serial.

    Those are the kernel's, as the records say. In memory a sender is held until its batch has left and no longer, as
    by a socket with room for just what is under way; and what has arrived waits in any number.
    """
    if condition.workers == "overlapped":
        return Operation()
    if condition.backend == "memory":
        under_way = math.ceil(link.rate_bps * link.rtt_s / 8)
        return Operation(workers="serial", send_buffer_bytes=under_way, receive_buffer_bytes=link.wmax_bytes)
    buffers = [cell.buffers[0] for cell in cells if cell.buffers]
    sent = [found.send_bytes for found in buffers if found.send_bytes is not None]
    received = [found.receive_bytes for found in buffers if found.receive_bytes is not None]
    return Operation(
        workers="serial",
        send_buffer_bytes=round(statistics.median(sent)) if sent else SEND_BUFFER_BYTES,
        receive_buffer_bytes=round(statistics.median(received)) if received else None,
    )


def _notes(
    condition: Condition, checks: Sequence[LinkCheck], controls: Sequence[float], *, one_clock: bool
) -> list[str]:
    notes = []
    if conditions.link_origin(condition) == "probed":
        notes.append(
            "the link is unshaped: predicted with the goodput that its probes found, within one machine with what their"
            " echo of messages says of copying where that is faster, and half the round trip"
        )
    notes += [
        f"the link as probed misses what was asked for: {', '.join(check.flags)}" for check in checks if check.flags
    ]
    if not one_clock:
        notes.append("no transfer phase: the two ends of the link share no clock")
    elif condition.mode.name not in ("single", "paced"):
        notes.append(f"no transfer phase: in mode {condition.mode} batches queue for the link, and their wait is in it")
    if not controls:
        notes.append("no control delay was recorded: predicted with 0")
    return notes
