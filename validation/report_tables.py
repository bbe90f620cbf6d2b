"""The report's tables as plain headings and strings, so that terminal, Markdown and HTML show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretosim.units import format_bytes, format_duration, format_rate
from validation.assessment import Assessment, ConditionAssessment, percent
from validation.fronts import Regret
from validation.join import Comparison
from validation.measured import Quantity
from validation.order import RankAgreement
from validation.scores import ErrorScore

NONE = "–"
ONE_REPEAT = "†"
ALL_CELLS = "all cells"


@dataclass(frozen=True)
class Table:
    """A title, headings, rows of text, and a note below; columns named in `text_columns` hold words."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    text_columns: frozenset[str] = frozenset()


def duration(seconds: float | None) -> str:
    """Seconds to four digits, in the unit that suits."""
    if seconds is None:
        return NONE
    # Differences may be negative, and what is below a nanosecond is nothing.
    sign = "−" if seconds < 0 else ""
    return sign + format_duration(float(f"{abs(seconds):.4g}")) if abs(seconds) >= 1e-9 else "0s"


def signed(error: float | None) -> str:
    """A signed relative error in per cent, two digits where it is below ten."""
    if error is None:
        return NONE
    digits = 1 if abs(error) >= 0.1 else 2
    return f"{round(error * 100, digits) + 0.0:+.{digits}f} %"  # + 0.0: no negative zero


def floor(quantity: Quantity) -> str:
    """A noise floor, marked where it comes from within a single repeat."""
    if quantity.noise_floor is None:
        return "unknown"
    return percent(quantity.noise_floor, 2) + (f" {ONE_REPEAT}" if quantity.noise_basis == "within one repeat" else "")


def score_tables(assessment: Assessment) -> tuple[Table, ...]:
    """Errors of the prediction, and of the simpler models beside it, for the run and each condition."""
    rows, simpler = [], []
    subjects = [(ALL_CELLS, assessment.scores), *((str(c.joined.condition), c.scores) for c in assessment.conditions)]
    for label, scores in subjects:
        shaped = assessment.shaped_transfer if label == ALL_CELLS else None
        for name, found in (
            ("latency", scores.latency),
            ("throughput", scores.throughput),
            ("transfer phase", scores.transfer),
            ("transfer phase, shaped links", shaped),
        ):
            if found is not None:
                rows.append((label, name, *_score_cells(found), percent(found.noise_floor, 2)))
        for name, found, ours in (
            ("additive: latency", scores.additive_latency, scores.latency),
            ("additive: throughput", scores.additive_throughput, scores.throughput),
            ("max(compute, communication): throughput", scores.overlap_throughput, scores.throughput),
        ):
            if found is not None and ours is not None:
                simpler.append((label, name, *_score_cells(found), percent(ours.mape)))
    headings = ("cells of", "quantity", "cells", "MAPE", "P90 of |error|", "median error", "within ±10 %")
    words = frozenset({"cells of", "quantity"})
    return (
        Table("Scores", (*headings, "noise floor"), tuple(rows), _floor_note(assessment), words),
        Table(
            "Simpler models on the same cells",
            (*headings, "ours, MAPE"),
            tuple(simpler),
            "additive: stages and payload·8/rate summed, without delay, framing or overlap (throughput: batch over that"
            " sum). max(compute, communication), as in PipeEdge: batch over the longest of the stages and"
            " payload·8/rate.",
            words,
        ),
    )


def _score_cells(found: ErrorScore) -> tuple[str, ...]:
    return (str(found.cells), percent(found.mape), percent(found.p90), signed(found.bias), percent(found.within, 0))


def _floor_note(assessment: Assessment) -> str:
    bases = {
        quantity.noise_basis
        for comparison in assessment.joined.comparisons
        for quantity in (comparison.latency, comparison.throughput)
    }
    notes = []
    if "between repeats" in bases:
        notes.append("half the range over repeats, relative to their median")
    if "within one repeat" in bases:
        notes.append("in cells measured once, the spread of their batches (scaled median absolute deviation)")
    if "unknown" in bases:
        notes.append("unknown where a single repeat holds fewer than three batches, or a burst whose batches queue")
    return f"noise floor: {'; '.join(notes)}"


def front_table(assessment: Assessment) -> Table:
    """Fronts over each other: which splits, how far they agree, what following the prediction costs."""
    rows = []
    for found in assessment.conditions:
        front = found.front
        if front is None:
            rows.append((str(found.joined.condition), "needs two splits or more", *[NONE] * 10))
            continue
        rows.append(
            (
                str(found.joined.condition),
                _splits(front.predicted),
                _splits(front.measured),
                *(percent(value, 0) for value in (front.strict.precision, front.strict.recall, front.strict.f1)),
                percent(front.tolerant.f1, 0),
                NONE if front.decision_hypervolume is None else f"{front.decision_hypervolume:.3f}",
                _regret(front.latency),
                _regret(front.throughput),
                _tau(found.latency_rank),
                _tau(found.throughput_rank),
            )
        )
    tolerance = next((c.front.tolerance for c in assessment.conditions if c.front), None)
    return Table(
        "Fronts, predicted and measured",
        (
            "condition",
            "predicted",
            "measured",
            "precision",
            "recall",
            "F1",
            "F1, tolerant",
            "decision hypervolume",
            "regret, latency",
            "regret, throughput",
            "τ-b, latency",
            "τ-b, throughput",
        ),
        tuple(rows),
        "over the measured splits; tolerant: a split counts if it is on the front once improved by"
        f" {percent(tolerance, 0)}. Regret: measured loss of the split recommended for that objective against"
        " the best measured one (that split, its true rank). τ-b: over pairs whose measured ranges do not overlap.",
        frozenset({"condition", "predicted", "measured"}),
    )


def _splits(splits: Sequence[str]) -> str:
    return ", ".join(splits)


def _regret(regret: Regret) -> str:
    return f"{percent(regret.regret)} ({regret.recommended}, rank {regret.true_rank})"


def _tau(rank: RankAgreement) -> str:
    return f"{NONE if rank.tau is None else f'{rank.tau:.2f}'} ({rank.pairs})"


def cell_table(found: ConditionAssessment) -> Table:
    """Every split of a condition: measured, predicted, error and the noise floor under it."""
    rows = [
        (
            str(cell.split), _front_mark(found, cell.label), str(len(cell.repeats)),
            duration(cell.latency.measured), duration(cell.latency.predicted), signed(cell.latency.error),
            floor(cell.latency),
            f"{cell.throughput.measured:.4g}", f"{cell.throughput.predicted:.4g}", signed(cell.throughput.error),
            floor(cell.throughput),
            signed(cell.transfer.error if cell.transfer else None),
            _output(cell), _overruns(cell), found.joined.condition.origin,
        )
        for cell in found.joined.comparisons
    ]  # fmt: skip
    once = any(len(cell.repeats) == 1 for cell in found.joined.comparisons)
    return Table(
        str(found.joined.condition),
        (
            "split",
            "front",
            "repeats",
            "latency measured",
            "predicted",
            "error",
            "noise floor",
            "images/s measured",
            "predicted",
            "error",
            "noise floor",
            "transfer error",
            "output",
            "overruns",
            "stages",
        ),
        tuple(rows),
        " ".join(
            [
                "error = (predicted − measured) / measured; front: ◆ predicted and measured, ◇ predicted only,"
                " ● measured only; output equal: bit for bit that of the unsplit model.",
                *([f"{ONE_REPEAT} one repeat: the spread of its batches, not between repeats."] if once else []),
                _basis(found),
            ]
        ),
        frozenset({"front", "output", "overruns", "stages"}),
    )


def _front_mark(found: ConditionAssessment, label: str) -> str:
    if found.front is None:
        return NONE
    marks = {(True, True): "◆", (True, False): "◇", (False, True): "●", (False, False): ""}
    return marks[label in found.front.predicted, label in found.front.measured]


def _output(cell: Comparison) -> str:
    checks = [repeat.output_check for repeat in cell.repeats if repeat.output_check is not None]
    if not checks:
        return "not checked"
    if all(check.bitwise_equal for check in checks):
        return "equal"
    return f"off by {max(check.relative_difference for check in checks):.1e}"


def _overruns(cell: Comparison) -> str:
    return f"{cell.overruns} of {sum(repeat.stage_runs for repeat in cell.repeats)}" if cell.overruns else "none"


def _basis(found: ConditionAssessment) -> str:
    """What the prediction of a condition rests on."""
    prediction = found.joined.prediction
    kinds = {d.name: kind for d, kind in zip(prediction.setting.devices, prediction.timing_kinds, strict=True)}
    errors = {
        timing.device: "unknown" if timing.error is None else percent(timing.error.relative)
        for timing in prediction.setting.timings
    }
    stated = ", ".join(f"{device} {kind} (error {errors[device]})" for device, kind in kinds.items())
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in found.joined.notes)
    return f"Timings: {stated}.{notes}"


def phase_table(found: ConditionAssessment) -> Table:
    """Where the time goes, phase by phase: medians of the batches that the latency was taken of."""
    rows = [
        (
            str(cell.split), format_bytes(cell.activation_bytes),
            *_phase(cell.stages[0]), *_phase(cell.transfer),
            NONE if cell.transfer is None else floor(cell.transfer),
            *_phase(cell.stages[1]), duration(cell.rest_s),
        )
        for cell in found.joined.comparisons
    ]  # fmt: skip
    control_s = found.joined.prediction.setting.control_delay_s
    return Table(
        f"Phases: {found.joined.condition}",
        (
            "split",
            "sent a batch",
            "stage 1 measured",
            "predicted",
            "error",
            "transfer measured",
            "predicted",
            "error",
            "noise floor",
            "stage 2 measured",
            "predicted",
            "error",
            "rest",
        ),
        tuple(rows),
        "transfer: from stage 1 starting to send until stage 2 holds the last byte, predicted as serialisation +"
        " stalls of a cold connection + one-way delay. rest: latency that neither stage nor transfer explains"
        " (dispatch, hand-over, the result's way back); predicted is the control delay alone,"
        f" {duration(control_s)}.",
    )


def _phase(quantity: Quantity | None) -> tuple[str, str, str]:
    if quantity is None:
        return (NONE, NONE, NONE)
    return (duration(quantity.measured), duration(quantity.predicted), signed(quantity.error))


def link_table(assessment: Assessment) -> Table:
    """Links as asked for, as probed, and as predicted with."""
    rows = []
    for found in assessment.conditions:
        check, link = found.joined.link_check, found.joined.prediction.setting.link
        rows.append(
            (
                str(found.joined.condition), ", ".join(check.media) or "not probed", str(check.probes),
                _rate(check.goodput_asked_bps), _rate(check.goodput_measured_bps), signed(check.goodput_deviation),
                duration(check.rtt_asked_s), duration(check.rtt_measured_s), signed(check.rtt_deviation),
                f"{_rate(link.rate_bps)}, {duration(link.one_way_delay_s)}, {link.header_bytes} B headers"
                f" ({found.joined.link_origin})",
                NONE if check.goodput_asked_bps is None else ", ".join(check.flags) or "none",
            )
        )  # fmt: skip
    return Table(
        "Links, asked for and probed",
        (
            "condition",
            "medium",
            "probes",
            "goodput asked",
            "probed",
            "off by",
            "RTT asked",
            "probed",
            "off by",
            "predicted with",
            "misses by more than 5 %",
        ),
        tuple(rows),
        "goodput asked is the rate less headers; probed values are medians over the probes of the cells.",
        frozenset({"condition", "medium", "predicted with", "misses by more than 5 %"}),
    )


def _rate(rate_bps: float | None) -> str:
    return NONE if rate_bps is None else format_rate(float(f"{rate_bps:.4g}"))


def unjoined_table(assessment: Assessment) -> Table:
    """Cells that are not compared, each with its reason and remedy."""
    rows = tuple(
        (entry.status, entry.plan, entry.mode, entry.link_name, str(entry.repeat), entry.reason, entry.remedy)
        for entry in assessment.joined.unjoined
    )
    headings = ("status", "plan", "mode", "link", "repeat", "reason", "what to do")
    return Table("Cells not compared", headings, rows, text_columns=frozenset(headings) - {"repeat"})


def provenance_table(assessment: Assessment) -> Table:
    """What the run ran on, flattened from its manifest."""
    joined, manifest = assessment.joined, assessment.joined.run.manifest
    rows: list[tuple[str, str]] = [
        ("run", manifest.run_id),
        ("created (UTC)", manifest.created_utc),
        ("command line", " ".join(manifest.command_line)),
        ("stages", "real" if not manifest.emulated else f"emulated, speed ×{manifest.speed:g}"),
        ("seed", str(manifest.seed)),
        ("cells planned", str(manifest.cells_planned)),
        ("cells recorded", str(len(joined.run.cells))),
        ("earlier attempts left out", str(joined.superseded)),
        ("planned but not recorded", str(joined.missing)),
        ("half-written lines dropped", str(joined.run.dropped_lines)),
    ]
    for label, values in (
        ("testbed", manifest.testbed),
        ("host", manifest.host),
        ("version", manifest.versions),
        ("timing", manifest.timings),
        ("sysctl", manifest.sysctls),
    ):
        rows += [(f"{label}: {key}", str(value)) for key, value in sorted(values.items())]
    for number, worker in enumerate(manifest.workers, start=1):
        rows.append((f"worker {number}", ", ".join(f"{key}={value}" for key, value in sorted(worker.items()))))
    rows.append(("qdisc", manifest.qdisc or "none recorded"))
    return Table("Provenance", ("what", "value"), tuple(rows), text_columns=frozenset({"what", "value"}))
