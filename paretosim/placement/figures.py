"""Fronts over several devices as a figure, for a file. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.placement.verdict import stages_of
from paretosim.show.axis_scale import is_logarithmic
from paretosim.show.figures import new_figure, plain_ticks, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from paretosim.placement.placing import Placement

# One colour for each number of devices, as in a table of Okabe and Ito that colour-blind people tell apart.
_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000")


def plot(placement: Placement, path: Path) -> None:
    """Write the front as a staircase, its plans coloured by how many devices they use, and devices alone beside it.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (8, 5))
    setting = placement.setting
    axes = figure.subplots()
    _draw_front(axes, placement)
    _draw_alone(axes, placement)
    points = [(row.latency_s, row.throughput_per_s) for row in placement.rows]
    points += [(alone.latency_s, alone.throughput_per_s) for alone in placement.alone if alone.fits]
    if points:
        latencies, throughputs = map(list, zip(*points, strict=True))
        for axis, values, rescale in (
            (axes.xaxis, latencies, axes.set_xscale), (axes.yaxis, throughputs, axes.set_yscale),
        ):  # fmt: skip
            if is_logarithmic(values):
                rescale("log")
                plain_ticks(axis)
        axes.legend(frameon=False, fontsize=8)
    if not placement.rows:
        axes.text(0.5, 0.5, "no placement is possible", ha="center", transform=axes.transAxes)
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.25)
    error = "unknown" if placement.profile_error is None else f"{placement.profile_error:.1%}"
    kinds = " and ".join(sorted(set(placement.timing_kinds)))
    axes.set_xlabel(f"latency, s\ntimings: {kinds}; error of stage times {error}", fontsize=9)
    axes.set_ylabel("throughput, images/s")
    names = ", ".join(device.name for device in setting.devices)
    order = "any order" if setting.order == "any" else "in this order"
    axes.set_title(
        f"{setting.model.name} over {names} ({order}), {setting.links.every.name}, {setting.mode},"
        f" batch {setting.batch}",
        fontsize=10,
    )
    save(figure, path)


def _draw_front(axes: Axes, placement: Placement) -> None:
    rows = placement.rows
    latencies, throughputs = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    axes.plot(latencies, throughputs, drawstyle="steps-post", color="#8a9bb0", linewidth=1.2, zorder=1)
    for count in sorted({len(row.positions) for row in rows}):
        kept = [row for row in rows if len(row.positions) == count]
        axes.scatter(
            [row.latency_s for row in kept], [row.throughput_per_s for row in kept], s=34, zorder=2,
            color=_COLOURS[min(count, len(_COLOURS)) - 1], label=f"{count} device{'s' if count > 1 else ''}",
        )  # fmt: skip
    best = placement.recommended
    named = {id(row): row for row in (best.latency, best.knee, best.throughput) if row is not None}
    for place, row in enumerate(named.values()):  # the fastest below its point, the others above theirs
        offset, side = ((8, -12), "left") if place == 0 else ((-8, 8), "right")
        axes.annotate(
            stages_of(row), (row.latency_s, row.throughput_per_s), textcoords="offset points", xytext=offset,
            fontsize=7, horizontalalignment=side,
        )  # fmt: skip


def _draw_alone(axes: Axes, placement: Placement) -> None:
    alone = {baseline.device: baseline for baseline in placement.alone if baseline.fits}
    if alone:
        axes.scatter(
            [one.latency_s for one in alone.values()], [one.throughput_per_s for one in alone.values()], marker="^",
            s=40, facecolors="none", edgecolors="#303030", label="one device alone, no link",
        )  # fmt: skip
    for one in alone.values():
        axes.annotate(
            one.device, (one.latency_s, one.throughput_per_s), textcoords="offset points", xytext=(7, -3), fontsize=7
        )
