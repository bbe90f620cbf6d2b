"""Figures of a prediction, for a file. Needs matplotlib, which only the modules of figures import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.errors import BadInputError
from paretosim.prediction import Prediction, Row
from paretosim.show.axis_scale import is_logarithmic
from paretosim.show.basis import timings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from paretosim.uncertainty.sampling import Uncertainty

SUFFIXES = (".svg", ".png", ".pdf")
# Points of the front closer than this share a label: their numbers would lie over each other.
LABEL_SPACING_POINTS = 14.0
LABEL_FONT_POINTS = 8.0
MAX_LABEL_SPLITS = 3
LABEL_OFFSET_POINTS = (-4.0, 4.0)
# Of a character over its height, with a gap beside it; digits of common fonts have 0.55 to 0.64.
_CHARACTER_WIDTH = 0.68


def new_figure(path: Path, size_inches: tuple[float, float]) -> Figure:
    """An empty figure that can be saved at `path`.

    Raises
    ------
    BadInputError : another suffix, a folder that does not exist, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"--plot: got {path.name!r}, expected a file ending in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise BadInputError(f"--plot: the folder {path.absolute().parent} does not exist; make it first")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadInputError("--plot: matplotlib is not installed; pip install 'paretosim[report]'") from error
    return Figure(figsize=size_inches, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write the figure.

    Raises
    ------
    BadInputError : a path that cannot be written.
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInputError(f"--plot: {path} cannot be written: {error.strerror}; choose another place") from error


def plot(prediction: Prediction, path: Path, uncertainty: Uncertainty | None = None) -> None:
    """Write latency against throughput of every split, its front drawn as a staircase, as SVG, PNG or PDF.

    Where `uncertainty` is given, with intervals, and coloured by how probably each split is on the front.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (7, 4.6))
    setting = prediction.setting
    axes = figure.subplots()
    draw_splits(axes, prediction)
    if uncertainty is not None:
        from paretosim.uncertainty.figures import draw_intervals

        draw_intervals(axes, prediction, uncertainty)
    axes.margins(x=0.13, y=0.1)  # room for the labels
    figure.draw_without_rendering()  # places are only final then
    label_front(axes, prediction.front)
    axes.set_xlabel(f"latency, s\n{timings(prediction)}", fontsize=9)
    axes.set_ylabel("throughput, images/s")
    axes.set_title(
        f"{setting.model.name}, {' → '.join(device.name for device in setting.devices)}, {setting.link.name},"
        f" {setting.mode}, batch {setting.batch}",
        fontsize=10,
    )
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def draw_splits(axes: Axes, prediction: Prediction) -> None:
    """Draw every split, what does not fit crossed, and the front as a staircase, on suitable scales."""
    fitting = [row for row in prediction.rows if row.fits and math.isfinite(row.latency_s)]
    others = [row for row in fitting if not row.on_front]
    unfit = [row for row in prediction.rows if not row.fits and math.isfinite(row.latency_s)]
    axes.scatter(
        [r.latency_s for r in others], [r.throughput_per_s for r in others], s=22, color="#8a9bb0", label="split"
    )
    if unfit:
        axes.scatter(
            [r.latency_s for r in unfit], [r.throughput_per_s for r in unfit], s=26, marker="x", color="#b04040",
            label="does not fit in memory",
        )  # fmt: skip
    front = prediction.front
    axes.plot(
        [r.latency_s for r in front], [r.throughput_per_s for r in front],
        "o-", drawstyle="steps-post", color="#c8401a", markersize=6, linewidth=1.4, label="Pareto front",
    )  # fmt: skip
    _scale(axes, [*fitting, *unfit])
    axes.grid(alpha=0.25)


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Logarithmic axes where a linear one would press the front into a corner, as in the terminal's scatter."""
    latencies, throughputs = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    if is_logarithmic(latencies):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    if is_logarithmic(throughputs):
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Write a logarithmic axis's ticks as numbers, at 1, 2 and 5 of each power."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def label_front(axes: Axes, front: Sequence[Row]) -> None:
    """Write split numbers above and left of the front's points, where no split can be; close points share one.

    The figure must have been laid out before: only then are places final.
    """
    point = axes.figure.dpi / 72
    groups: list[list[Row]] = []
    for row in front:
        groups.append([row])
        while len(groups) > 1 and _too_close(axes, groups[-2], groups[-1], point):
            last = groups.pop()
            groups[-1] += last
    for group in groups:
        axes.annotate(
            _label(group),
            (group[0].latency_s, group[0].throughput_per_s),
            textcoords="offset points",
            xytext=LABEL_OFFSET_POINTS,
            horizontalalignment="right",
            fontsize=LABEL_FONT_POINTS,
        )


def _label(group: Sequence[Row]) -> str:
    """Splits in the front's order; only where they are many, or all of a run, the first and the last."""
    splits = [row.split for row in group]
    run = splits == list(range(splits[0], splits[-1] + 1))
    if len(splits) > MAX_LABEL_SPLITS or (run and len(splits) > 2):
        return f"{splits[0]} … {splits[-1]}"
    return ", ".join(map(str, splits))


def _too_close(axes: Axes, before: Sequence[Row], after: Sequence[Row], point: float) -> bool:
    """Whether two labels would touch, or their points are nearly one; `point` is in pixels."""
    places = [axes.transData.transform((group[0].latency_s, group[0].throughput_per_s)) for group in (before, after)]
    apart = abs(places[1] - places[0]) / point
    # A label ends at its own point, so the later one reaches back over the earlier one's end.
    reach = len(_label(after)) * LABEL_FONT_POINTS * _CHARACTER_WIDTH
    touching = apart[0] < reach and apart[1] < LABEL_FONT_POINTS
    return bool(touching or max(apart) < LABEL_SPACING_POINTS)
