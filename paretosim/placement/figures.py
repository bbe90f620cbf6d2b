"""Fronts over several devices as a figure, for a file. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.objectives import DEFAULT_OBJECTIVES, Objective, objectives_named
from paretosim.placement.verdict import stages_of
from paretosim.show.axis_scale import is_logarithmic
from paretosim.show.figures import new_figure, plain_ticks, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from paretosim.placement.placing import Placement
    from paretosim.placement.rows import PlacementRow

# One colour for each number of devices, as in a table of Okabe and Ito that colour-blind people tell apart.
_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000")


_AXES = {
    "latency": "latency, s",
    "throughput": "throughput, images/s",
    "energy": "energy, J an image",
    "memory": "peak memory, bytes",
    "bytes": "sent, bytes an image",
}


def plot(placement: Placement, path: Path) -> None:
    """Write the front, its plans coloured by how many devices they use, in its first two objectives.

    In latency and throughput that is a staircase, and devices alone stand beside it; in other objectives it is the
    shadow of a front of more dimensions, or of one.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (8, 5))
    setting = placement.setting
    axes = figure.subplots()
    x, y = _shown(placement)
    points = [_place(placement, row) for row in placement.rows]
    if not placement.in_others:
        axes.plot(*zip(*points, strict=True) if points else ((), ()), drawstyle="steps-post", color="#8a9bb0", zorder=1)
        points += _draw_alone(axes, placement)
    _draw_plans(axes, placement)
    if points:
        for axis, values, rescale in zip(
            (axes.xaxis, axes.yaxis), zip(*points, strict=True), (axes.set_xscale, axes.set_yscale), strict=True
        ):
            if is_logarithmic(list(values)):
                rescale("log")
                plain_ticks(axis)
        axes.legend(frameon=False, fontsize=8)
    if not placement.rows:
        axes.text(0.5, 0.5, "no placement is possible", ha="center", transform=axes.transAxes)
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.25)
    error = "unknown" if placement.profile_error is None else f"{placement.profile_error:.1%}"
    kinds = " and ".join(sorted(set(placement.timing_kinds)))
    axes.set_xlabel(f"{_AXES[x.name]}\ntimings: {kinds}; error of stage times {error}", fontsize=9)
    axes.set_ylabel(_AXES[y.name])
    names = ", ".join(device.name for device in setting.devices)
    order = "any order" if setting.order == "any" else "in this order"
    front_in = f", front in {', '.join(o.name for o in placement.objectives)}" if placement.in_others else ""
    axes.set_title(
        f"{setting.model.name} over {names} ({order}), {setting.links.every.name}, {setting.mode},"
        f" batch {setting.batch}{front_in}",
        fontsize=10,
        wrap=True,
    )
    save(figure, path)


def _shown(placement: Placement) -> tuple[Objective, Objective]:
    """The objectives on both axes: latency against throughput, or the first two; one alone against another of those."""
    both = objectives_named(DEFAULT_OBJECTIVES)
    if not placement.in_others:
        return both[0], both[1]
    first, *others = placement.objectives
    return first, others[0] if others else next(one for one in both if one.name != first.name)


def _place(placement: Placement, row: PlacementRow) -> tuple[float, float]:
    figures = placement.figures(row)
    x, y = _shown(placement)
    return x.of(figures), y.of(figures)


def _draw_plans(axes: Axes, placement: Placement) -> None:
    for count in sorted({len(row.positions) for row in placement.rows}):
        kept = [_place(placement, row) for row in placement.rows if len(row.positions) == count]
        xs, ys = zip(*kept, strict=True)
        axes.scatter(
            xs, ys, s=34, zorder=2, color=_COLOURS[min(count, len(_COLOURS)) - 1],
            label=f"{count} device{'s' if count > 1 else ''}",
        )  # fmt: skip
    best = placement.recommended
    rows = [best.latency, best.knee, best.throughput]
    if placement.in_others:
        rows = [placement.best(objective) for objective in _shown(placement)]
    named = {id(row): row for row in rows if row is not None}
    for place, row in enumerate(named.values()):  # the first below its point, the others above theirs
        offset, side = ((8, -12), "left") if place == 0 else ((-8, 8), "right")
        axes.annotate(
            stages_of(row), _place(placement, row), textcoords="offset points", xytext=offset, fontsize=7,
            horizontalalignment=side,
        )  # fmt: skip


def _draw_alone(axes: Axes, placement: Placement) -> list[tuple[float, float]]:
    """Devices that hold the model alone; where they are is returned."""
    alone = {one.device: (one.latency_s, one.throughput_per_s) for one in placement.alone if one.fits}
    if alone:
        xs, ys = zip(*alone.values(), strict=True)
        axes.scatter(
            xs, ys, marker="^", s=40, facecolors="none", edgecolors="#303030",
            label="one device alone, no link",
        )  # fmt: skip
    for device, point in alone.items():
        # Above: what crosses a link takes longer, so points of the front are often just right of it.
        axes.annotate(
            device, point, textcoords="offset points", xytext=(0, 7), fontsize=7, horizontalalignment="center"
        )
    return list(alone.values())
