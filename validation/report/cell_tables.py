"""Tables of single cells: measured, predicted, error and noise floor; phase by phase; their links."""

from __future__ import annotations

from paretosim.units import format_bytes, format_rate
from validation.assessment import Assessment, ConditionAssessment, basis_of
from validation.comparing import Comparison
from validation.measured import Quantity
from validation.report.labels import Labels
from validation.report.score_tables import membership
from validation.report.tables import Column, Table
from validation.wording import NONE, duration, percent, signed

ONE_REPEAT = "†"


def floor(quantity: Quantity) -> str:
    """A noise floor, marked where it comes from within a single repeat."""
    if quantity.noise_floor is None:
        return "unknown"
    return percent(quantity.noise_floor, 2) + (f" {ONE_REPEAT}" if quantity.noise_basis == "within one repeat" else "")


def cell_table(found: ConditionAssessment) -> Table:
    """Every plan of a condition: measured, predicted, error and the noise floor under it."""
    on_front = membership(found)
    rows = [
        (
            cell.label, _front_mark(found, cell.label), percent(on_front.get(cell.label), 0), str(len(cell.repeats)),
            duration(cell.latency.measured), duration(cell.latency.predicted), signed(cell.latency.error),
            floor(cell.latency),
            f"{cell.throughput.measured:.4g}", f"{cell.throughput.predicted:.4g}", signed(cell.throughput.error),
            floor(cell.throughput),
            ", ".join(signed(transfer.error) for transfer in cell.transfers) or NONE,
            cell.predicted.bottleneck, _output(cell), _overruns(cell), found.joined.condition.origin, basis_of(cell),
        )
        for cell in found.joined.comparisons
    ]  # fmt: skip
    once = any(len(cell.repeats) == 1 for cell in found.joined.comparisons)
    return Table(
        str(found.joined.condition),
        (
            Column("split"), Column("front", words=True), Column("p(front)", priority=3),
            Column("repeats", priority=6, once=True),
            Column("measured", "latency"), Column("predicted", "latency", priority=2), Column("error", "latency"),
            Column("noise floor", "latency", priority=1),
            Column("measured", "images/s"), Column("predicted", "images/s", priority=2), Column("error", "images/s"),
            Column("noise floor", "images/s", priority=1),
            Column("transfer error", priority=4, once=True),
            Column("predicted to bind", words=True, priority=5, once=True),
            Column("output", words=True, priority=7, once=True), Column("overruns", words=True, priority=8, once=True),
            Column("stages", words=True, priority=9, once=True),
            Column("prediction", words=True, priority=9, once=True),
        ),
        tuple(rows),
        (*_rests_on(found), *([f"{ONE_REPEAT} one repeat: the spread of its batches, not between repeats."] * once)),
        "Error = (predicted − measured) / measured; front: ◆ predicted and measured, ◇ predicted only, ● measured"
        " only; p(front): share of resamples with the split on the measured front; output equal: bit for bit that of"
        " the unsplit model.",
    )  # fmt: skip


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


def _rests_on(found: ConditionAssessment) -> tuple[str, ...]:
    """What the prediction of a condition rests on."""
    inputs = found.joined.inputs
    kinds = {device.name: kind for device, kind in zip(inputs.devices, inputs.timing_kinds, strict=True)}
    errors = {
        timing.device: "unknown" if timing.error is None else percent(timing.error.relative)
        for timing in inputs.timings
    }
    stated = ", ".join(f"{device} {kind} (error {errors[device]})" for device, kind in kinds.items())
    calibrated = sorted(
        {c.inputs.calibration.name for c in found.joined.comparisons if c.inputs.calibration is not None}
    )
    return (
        f"Timings: {stated}.",
        *([f"Calibration: {', '.join(calibrated)}."] if calibrated else []),
        *(f"{note[0].upper()}{note[1:]}." for note in found.joined.notes),
    )


def phase_table(found: ConditionAssessment) -> Table:
    """Where the time goes, phase by phase: medians of the batches that the latency was taken of."""
    stages = len(found.joined.condition.devices)
    columns = [Column("split"), Column("sent a batch")]
    for k in range(stages):
        columns += [Column(what, f"stage {k + 1}") for what in ("measured", "predicted", "error")]
        if k < stages - 1:
            hop = "transfer" if stages == 2 else f"transfer {k + 1}"
            columns += [Column(what, hop, once=True) for what in ("measured", "predicted", "error", "noise floor")]
    rows = []
    for cell in found.joined.comparisons:
        row = [cell.label, ", ".join(format_bytes(size) for size in cell.predicted.activation_bytes)]
        for k in range(stages):
            row += _phase(cell.stages[k])
            if k < stages - 1:
                transfer = cell.transfers[k] if k < len(cell.transfers) else None
                row += [*_phase(transfer), NONE if transfer is None else floor(transfer)]
        rows.append((*row, duration(cell.rest_s)))
    control_s = found.joined.inputs.control_delay_s
    return Table(
        f"Phases: {found.joined.condition}",
        (*columns, Column("rest", once=True)),
        tuple(rows),
        (f"The control delay alone is {duration(control_s)}.",),
        "Transfer: from a stage starting to send until the next one holds the last byte, predicted as serialisation +"
        " stalls of a cold connection + one-way delay + what a calibration says of messages. rest: latency that neither"
        " stages nor transfers explain (dispatch, hand-over, the result's way back).",
    )


def _phase(quantity: Quantity | None) -> tuple[str, str, str]:
    if quantity is None:
        return (NONE, NONE, NONE)
    return (duration(quantity.measured), duration(quantity.predicted), signed(quantity.error))


def link_table(assessment: Assessment) -> Table:
    """Links as asked for, as probed, and as predicted with."""
    rows = []
    labels = Labels.of(assessment.conditions)
    for found in assessment.conditions:
        joined = found.joined
        for hop, (check, link) in enumerate(zip(joined.link_checks, joined.inputs.links, strict=True), start=1):
            rows.append(
                (
                    labels[found], str(hop), ", ".join(check.media) or "not probed", str(check.probes),
                    _rate(check.goodput_asked_bps), _rate(check.goodput_measured_bps), signed(check.goodput_deviation),
                    duration(check.rtt_asked_s), duration(check.rtt_measured_s), signed(check.rtt_deviation),
                    f"{_rate(link.rate_bps)}, {duration(link.one_way_delay_s)}, {link.header_bytes} B headers"
                    f" ({joined.link_origin})",
                    NONE if check.goodput_asked_bps is None else ", ".join(check.flags) or "none",
                )
            )  # fmt: skip
    return Table(
        "Links, asked for and probed",
        (
            Column("condition", words=True), Column("hop", once=True), Column("medium", words=True), Column("probes"),
            *(Column(what, of) for of in ("goodput", "round trip") for what in ("asked", "probed", "off by")),
            Column("predicted with", words=True), Column("misses by more than 5 %", words=True),
        ),
        tuple(rows),
        (
            *labels.notes,
            "Goodput asked for is the rate less headers; probed values are medians over the probes of the cells. Within"
            " one machine an unshaped link is predicted with the probes' echo of messages where that is faster.",
        ),
    )  # fmt: skip


def _rate(rate_bps: float | None) -> str:
    return NONE if rate_bps is None else format_rate(float(f"{rate_bps:.4g}"))
