"""A prediction as the table, scatter and sentences that a person reads in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from paretosim.calibration import ANY_DEVICE
from paretosim.device import Device
from paretosim.in_effect import Termed, terms_in_effect
from paretosim.prediction import Baseline, Prediction, Row
from paretosim.profiles import identity
from paretosim.setting import Setting
from paretosim.show.columns import NAMES, Column, aligned, fitting_named, too_narrow
from paretosim.show.scatter import scatter
from paretosim.show.verdict import split_runs, verdict
from paretosim.timing import EXTRAPOLATED_FROM, Timing
from paretosim.units import format_bytes, format_duration, format_number, format_rate

if TYPE_CHECKING:
    from paretosim.uncertainty.sampling import Uncertainty


def show(prediction: Prediction, console: Console, uncertainty: Uncertainty | None = None) -> None:
    """Print everything about a prediction: what it rests on, every split, the scatter and the verdict."""
    basis, columns, doubts = _basis(prediction), [], None
    if uncertainty is not None:
        from paretosim.uncertainty.text import basis_lines, doubt_sentences, interval_columns

        basis += basis_lines(prediction, uncertainty)
        columns = interval_columns(uncertainty, blank=len(_ORDER))
        doubts = doubt_sentences(prediction, uncertainty)
    for line in basis:
        console.print(line, soft_wrap=True)
    console.print(split_table(prediction, console.width, columns), soft_wrap=True)
    for line in _memory_notes(prediction):
        console.print(line, soft_wrap=True)
    console.print(scatter(prediction, width=min(64, console.width - 12)), soft_wrap=True)
    for line in _recommendations(prediction):
        console.print(line, soft_wrap=True)
    console.print(Text(f"Verdict: {verdict(prediction, doubts)}", style="bold"))


def _basis(prediction: Prediction) -> list[Text]:
    setting, link = prediction.setting, prediction.setting.link
    one, two = setting.devices
    lines = [
        Text.assemble(
            (f"{setting.model.name}", "bold"),
            f" over {one.name} → {two.name}, batch {setting.batch}, mode {setting.mode}, source {setting.source},"
            f" sink {setting.sink}",
        ),
        Text(
            f"link {link.name}: {format_rate(link.rate_bps)} and {format_duration(link.one_way_delay_s)} forward,"
            f" {format_rate(link.return_rate_bps)} and {format_duration(link.return_delay_s)} back;"
            f" TCP {setting.tcp_state}"
        ),
    ]
    lines += timing_lines(setting)
    lines += operation_lines(prediction)
    lines += calibration_lines(setting)
    if setting.speed != 1:
        lines.append(Text(f"emulated: all stage times divided by {setting.speed:g}", style="yellow"))
    unmoved = (
        setting.has_closed_form
        and setting.sink == "last"
        and setting.mode.name in ("paced", "burst")
        and setting.source == "stage1"
    )
    if unmoved and setting.tcp_state == "warm":
        lines.append(
            Text("(on a warm link delay shifts every split alike and so moves no front; the rate does)", style="dim")
        )
    return lines


def timing_lines(setting: Setting) -> list[Text]:
    """What each device's timing is and how far it is known to be off; one line where both are the same."""
    lines = [
        _timing_line(device, timing, timing.at_batch(setting.batch)[1], setting.batch)
        for device, timing in zip(setting.devices, setting.timings, strict=True)
    ]
    return lines[:1] if setting.devices[0] == setting.devices[1] else lines


def operation_lines(prediction: Prediction) -> list[Text]:
    """How the pipeline is operated where that is not the default."""
    operation, mode = prediction.setting.operation, prediction.setting.mode
    words = []
    if operation.workers == "serial":
        received = operation.receive_buffer_bytes
        room = prediction.setting.link.wmax_bytes if received is None else received
        words.append(f"serial workers, sockets of {operation.send_buffer_bytes} and {room} bytes")
    if operation.slots is not None:
        words.append(f"{operation.slots} batches may wait before each station")
    if operation.batches is not None:
        words.append(f"a run of {operation.batches} batches from an empty pipeline")
    if operation.clock == "stage1":
        words.append("latency from the start of stage 1")
    lines = [Text("; ".join(words))] if words else []
    if operation.draws(mode):
        lines.append(Text(f"latencies are sampled, seed {operation.seed}", style="dim"))
    return lines


def calibration_lines(setting: Termed) -> list[Text]:
    """What the prediction takes from a calibration, and which terms it leaves out."""
    lines = []
    if setting.calibration is not None:
        found = setting.calibration
        fitted = f", fitted on {', '.join(found.fitted_on)}" if found.fitted_on else ""
        terms = ", ".join(terms_in_effect(setting).active_terms()) or "none that says anything"
        unknown = [name for name in dict.fromkeys(d.name for d in setting.devices) if name not in found.devices]
        names = " and ".join(unknown)
        if unknown:
            terms += f"; {names} as any device" if ANY_DEVICE in found.devices else f"; nothing of {names} itself"
        lines.append(Text(f"calibration {found.name} ({identity(found)}, {found.backend}{fitted}): {terms}", "cyan"))
    if setting.without:
        lines.append(Text(f"terms switched off: {', '.join(setting.without)}", "yellow"))
    return lines


def _timing_line(device: Device, timing: Timing, kind: str, batch: int) -> Text:
    profiled = ", ".join(str(entry.batch) for entry in timing.batches)
    scaled = ""
    if kind == "extrapolated" != timing.kind:
        scaled = f" (scaled linearly from batch {profiled} to {batch})"
    elif EXTRAPOLATED_FROM in timing.conditions:
        scaled = f" (affine from batches {timing.conditions[EXTRAPOLATED_FROM]} to {batch})"
    elif all(entry.batch != batch for entry in timing.batches):
        scaled = " (between batches {} and {})".format(*(entry.batch for entry in timing.neighbours(batch)))
    error = "error unknown"
    if timing.error is not None:
        error = f"error {timing.error.relative:.1%} ({timing.error.meaning})"
    return Text.assemble(
        f"timing on {device.name}: ",
        (kind, "green" if kind == "measured" else "yellow"),
        f"{scaled}, {error}",
    )


def split_table(prediction: Prediction, width: int, more: Sequence[Column] = ()) -> Text:
    """Every split with its objectives, where its time goes and what it needs; the front is marked.

    Columns that do not fit in `width` characters are left out, and said to be. `more` columns, with a cell for each
    baseline and split, come behind the objectives.
    """
    setting = prediction.setting
    one, two = (
        f"{order}: {device.name}\n({kind}) s"
        for order, device, kind in zip(_ORDER, setting.devices, prediction.timing_kinds, strict=True)
    )
    lines = [_baseline_cells(baseline, order) for baseline, order in zip(prediction.baselines, _ORDER, strict=True)]
    lines += [_cells(prediction, row) for row in prediction.rows]
    cells = list(zip(*lines, strict=True))
    columns = [
        Column(heading="split", cells=cells[0]),
        Column(heading="", cells=cells[1], align="left"),
        Column(heading=NAMES, cells=cells[2], align="left", priority=2),
        Column(heading="latency\ns", cells=cells[3]),
        Column(heading="throughput\nimages/s", cells=cells[4]),
        Column(heading="bottleneck", cells=cells[5], align="left", priority=4),
        Column(heading=one, cells=cells[6], priority=1),
        Column(heading="links\ns", cells=cells[7], priority=1),
        Column(heading=two, cells=cells[8], priority=1),
        Column(heading="sent\na batch", cells=cells[9], priority=3),
        Column(heading="memory\nfirst + second", cells=cells[10], priority=5),
    ]
    if setting.mode.name == "open":
        percentiles = [
            Column(heading=f"p{percent}\ns", cells=("", "", *(_number(value) for value in values)), priority=2)
            for percent, values in zip(
                (50, 95, 99),
                zip(*((r.latency_p50_s, r.latency_p95_s, r.latency_p99_s) for r in prediction.rows), strict=True),
                strict=True,
            )
        ]
        columns[4:4] = percentiles
    if setting.mode.name == "burst":
        columns.insert(4, Column(heading="from start\ns", cells=cells[11]))
    behind = next(place for place, column in enumerate(columns) if column.heading == "bottleneck")
    columns[behind:behind] = more
    kept, left_out = fitting_named(columns, width, _ORDER)
    text = aligned(kept, ["dim"] * len(_ORDER) + [_style(row) for row in prediction.rows])
    text.append(too_narrow(left_out), "dim")
    return text


_ORDER = ("first", "second")


def _cells(prediction: Prediction, row: Row) -> tuple[str, ...]:
    marks = "●" if row.on_front else "" if row.fits else "✗"
    if row.fits and not row.meets_constraints:
        marks += "–"
    recommended = prediction.recommended
    for letter, split in (("L", recommended.latency), ("T", recommended.throughput), ("K", recommended.knee)):
        marks += letter if split == row.split else ""
    after = prediction.setting.model.cut_name(row.split)
    from_start = "" if row.latency_from_start_s is None else _number(row.latency_from_start_s)
    return (
        str(row.split), marks, after, _number(row.latency_s), _number(row.throughput_per_s), row.bottleneck,
        _number(row.stages_s[0]), _number(sum(row.links_s) + sum(row.stalls_s) + sum(row.sending_s or ())),
        _number(row.stages_s[1]),
        format_bytes(row.activation_bytes[0]), " + ".join(map(format_bytes, row.memory_bytes)), from_start,
    )  # fmt: skip


def _baseline_cells(baseline: Baseline, order: str) -> tuple[str, ...]:
    fits = "" if baseline.fits else "✗"
    return (
        "–", fits, f"{order} alone: {baseline.device}", _number(baseline.latency_s), _number(baseline.throughput_per_s),
        "", "", "no link", "", "", format_bytes(baseline.memory_bytes), "",
    )  # fmt: skip


def _number(value: float | None) -> str:
    if value is None or math.isinf(value):  # never back: batches arrive faster than they can leave
        return "–"
    return format_number(value, 4)


def _style(row: Row) -> str:
    return "green" if row.on_front else "" if row.fits else "red"


def _memory_notes(prediction: Prediction) -> list[Text]:
    notes = []
    for index, device in enumerate(prediction.setting.devices):
        if device.memory_bytes is None:
            notes.append(Text(f"memory of {device.name}: unknown, so nothing is ruled out by it", style="yellow"))
            continue
        over = [row.split for row in prediction.rows if row.memory_bytes[index] > device.usable_bytes]
        needs = [row.memory_bytes[index] for row in prediction.rows if row.split in over]
        usable = f"{format_bytes(device.usable_bytes)} of {format_bytes(device.memory_bytes)} usable"
        if over:
            needed = " to ".join(dict.fromkeys(map(format_bytes, (min(needs), max(needs)))))
            notes.append(
                Text(
                    f"✗ stage{index + 1} does not fit on {device.name} ({usable}): splits {split_runs(tuple(over))},"
                    f" needing {needed}",
                    style="red",
                )
            )
        elif index == 0 or device != prediction.setting.devices[0]:
            notes.append(Text(f"memory of {device.name}: {usable}; every split fits", style="dim"))
    return notes


def _recommendations(prediction: Prediction) -> list[Text]:
    lines = [Text(f"front: {len(prediction.front)} of {len(prediction.rows)} splits", style="bold")]
    letters = {"latency": "L", "throughput": "T", "knee": "K"}
    for objective, letter in letters.items():
        name = "knee" if objective == "knee" else f"best {objective}"
        split = getattr(prediction.recommended, objective)
        if split is None:
            lines.append(Text(f"{letter} {name}: no split qualifies", style="red"))
            continue
        row = prediction.row(split)
        lines.append(
            Text(
                f"{letter} {name}: split {split}, {_number(row.latency_s)} s,"
                f" {_number(row.throughput_per_s)} images/s, bottleneck {row.bottleneck}"
            )
        )
    return lines
