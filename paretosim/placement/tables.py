"""A front over several devices as the table and sentences that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from paretosim.link import Link
from paretosim.objectives import Objective
from paretosim.placement.placing import Placement
from paretosim.placement.rows import PlacementRow
from paretosim.placement.verdict import placement_verdict
from paretosim.show.columns import Column, aligned, fitting
from paretosim.show.tables import calibration_lines
from paretosim.units import format_bytes, format_duration, format_rate

# Of rows with equal plans; more of them would bury the verdict.
SHOWN_TIES = 8
# Headings and ways to write what a front in other objectives has.
_ASKED: dict[str, tuple[str, Callable[[float], str]]] = {
    "energy_j_per_image": ("energy\nJ/image", lambda value: f"{value:.3g}"),
    "peak_memory_bytes": ("peak\nmemory", format_bytes),
    "wire_bytes_per_image": ("sent\nan image", format_bytes),
}


def show_placement(placement: Placement, console: Console) -> None:
    """Print everything about it: what it rests on, the front, devices alone, and the verdict."""
    for line in _basis(placement):
        console.print(line, soft_wrap=True)
    if placement.rows:
        console.print(front_table(placement, console.width))
    for line in (*_ties(placement), *_alone(placement)):
        console.print(line, soft_wrap=True)
    console.print(Text(f"Verdict: {placement_verdict(placement)}", style="bold"), soft_wrap=True)


def front_table(placement: Placement, width: int) -> Text:
    """The front from the lowest latency up: L, T, E, M and B best in an objective, K the knee, – outside the limits."""
    rows = placement.rows
    columns = [
        Column(heading="", cells=tuple(_marks(placement, row) for row in rows), align="left"),
        Column(heading="latency\ns", cells=tuple(f"{row.latency_s:.4g}" for row in rows)),
        Column(heading="throughput\nimages/s", cells=tuple(f"{row.throughput_per_s:.4g}" for row in rows)),
        Column(heading="period\ns", cells=tuple(f"{row.period_s:.4g}" for row in rows), priority=2),
        Column(heading="bottleneck", cells=tuple(_bottleneck(row) for row in rows), align="left", priority=3),
        Column(heading="plan", cells=tuple(str(row.plan) for row in rows), align="left"),
        Column(
            heading="stages\ns",
            cells=tuple(" + ".join(f"{x:.3g}" for x in row.stages_s) for row in rows),
            align="left",
            priority=1,
        ),
        Column(
            heading="links\ns",
            cells=tuple(" + ".join(f"{x:.3g}" for x in _occupied_s(row)) or "none" for row in rows),
            align="left",
            priority=5,
        ),
        Column(
            heading="memory",
            cells=tuple(" + ".join(map(format_bytes, row.memory_bytes)) for row in rows),
            align="left",
            priority=4,
        ),
        Column(heading="equal\nplans", cells=tuple(str(row.ties) if row.ties else "" for row in rows)),
    ]
    if not any(row.ties for row in rows):
        columns.pop()
    columns[3:3] = [
        _figure_column(placement, objective) for objective in placement.objectives if objective.field in _ASKED
    ]
    kept, left_out = fitting(columns, width)
    text = aligned(kept, ["green" if row.meets_constraints else "dim" for row in rows])
    if left_out:
        names = ", ".join(column.heading.replace("\n", " ") for column in left_out)
        text.append(f"(too narrow for: {names}; widen the terminal, or use --csv)\n", "dim")
    return text


def _figure_column(placement: Placement, objective: Objective) -> Column:
    heading, shown = _ASKED[objective.field]
    values = [objective.of(placement.figures(row)) for row in placement.rows]
    return Column(heading=heading, cells=tuple(map(shown, values)))


def _basis(placement: Placement) -> list[Text]:
    setting = placement.setting
    names = [device.name for device in setting.devices]
    order = "in this order" if setting.order == "given" else "in any order"
    most = "" if setting.max_devices is None else f", at most {setting.max_devices} at once"
    lines = [
        Text.assemble(
            (setting.model.name, "bold"),
            f" over {', '.join(names)} {order}{most}; batch {setting.batch}, mode {setting.mode},"
            f" source {setting.source}, sink {setting.sink}",
        ),
        Text(_where(placement)),
        Text(f"every hop: {_link(setting.links.every)}; TCP {setting.tcp_state}"),
    ]
    lines += [
        Text(f"hop {names[one]} ({one + 1}) > {names[two]} ({two + 1}): {_link(link)}")
        for (one, two), link in setting.links.own.items()
    ]
    lines += calibration_lines(setting)
    shown = set()
    for device, timing, kind in zip(setting.devices, setting.timings, placement.timing_kinds, strict=True):
        if device.name in shown:
            continue
        shown.add(device.name)
        error = "error unknown"
        if timing.error is not None:
            error = f"error {timing.error.relative:.1%} ({timing.error.meaning})"
        memory = "memory unknown, so nothing is ruled out by it"
        if device.memory_bytes is not None:
            memory = f"{format_bytes(device.usable_bytes)} of {format_bytes(device.memory_bytes)} usable"
        lines.append(
            Text.assemble(
                f"timing on {device.name}: ",
                (kind, "green" if kind == "measured" else "yellow"),
                f", {error}; {memory}",
            )
        )
    return lines


def _where(placement: Placement) -> str:
    setting = placement.setting
    first, last = setting.devices[0].name, setting.devices[-1].name
    if setting.ends == "free":
        return (
            "inputs are at the device that a chain begins with, results are wanted at the one it"
            f" {'ends' if setting.sink == 'last' else 'begins'} with (--ends fixed: {first}"
            f"{f' and {last}' if setting.sink == 'last' else ''})"
        )
    if setting.sink == "first":
        return f"chains begin at {first}, where inputs are and results come back to (--ends free: at any device)"
    return f"chains go from {first} to {last}, where results are wanted (--ends free: between any devices)"


def _link(link: Link) -> str:
    return (
        f"{link.name}, {format_rate(link.rate_bps)} and {format_duration(link.one_way_delay_s)} forward,"
        f" {format_rate(link.return_rate_bps)} and {format_duration(link.return_delay_s)} back"
    )


def _marks(placement: Placement, row: PlacementRow) -> str:
    best = placement.recommended
    letters = [("L", best.latency), ("T", best.throughput), ("K", best.knee)]
    letters += [(o.name[0].upper(), placement.best(o)) for o in placement.objectives if o.field in _ASKED]
    marks = "".join(letter for letter, chosen in letters if chosen is row)
    return marks if row.meets_constraints else "–"


def _bottleneck(row: PlacementRow) -> str:
    if not row.bottleneck.startswith("stage"):
        return row.bottleneck
    return f"{row.bottleneck} {row.plan.stages[int(row.bottleneck.removeprefix('stage')) - 1].device}"


def _occupied_s(row: PlacementRow) -> list[float]:
    none = (0.0,) * len(row.links_s)
    times = zip(row.links_s, row.stalls_s, row.sending_s or none, row.answering_s or none, strict=True)
    return [sum(parts) for parts in times]


def _ties(placement: Placement) -> list[Text]:
    lines = []
    tied = [row for row in placement.rows if row.ties]
    if len(tied) > SHOWN_TIES:
        return [Text(f"{len(tied)} of the {len(placement.rows)} have equal plans, which --json names", style="dim")]
    for row in tied:
        more = row.ties - len(row.tied)
        shown = ", ".join(str(plan) for plan in row.tied) + (f" and {more} more" if more else "")
        lines.append(Text(f"equal to {row.plan}: {shown}", style="dim"))
    return lines


def _alone(placement: Placement) -> list[Text]:
    lines = []
    for baseline in {baseline.device: baseline for baseline in placement.alone}.values():
        fits = "" if baseline.fits else "; ✗ does not fit in its memory"
        lines.append(
            Text(
                f"alone, no link: {baseline.device}: {baseline.latency_s:.4g} s, {baseline.throughput_per_s:.4g}"
                f" images/s, {format_bytes(baseline.memory_bytes)}{fits}",
                style="" if baseline.fits else "red",
            )
        )
    return lines
