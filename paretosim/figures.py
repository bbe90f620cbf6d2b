"""Figures of a prediction, for a file. Needs matplotlib, which only the modules of figures import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.axis_scale import is_logarithmic
from paretosim.basis import timings
from paretosim.errors import BadInputError
from paretosim.prediction import Prediction, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")
# Points of the front closer than this share a label: their numbers would lie over each other.
LABEL_SPACING_POINTS = 14.0


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


def plot(prediction: Prediction, path: Path) -> None:
    """Write latency against throughput of every split, its front drawn as a staircase, as SVG, PNG or PDF.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (7, 4.6))
    setting = prediction.setting
    axes = figure.subplots()
    draw_splits(axes, prediction)
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
    fitting = [row for row in prediction.rows if row.fits]
    others = [row for row in fitting if not row.on_front]
    unfit = [row for row in prediction.rows if not row.fits]
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
    _scale(axes, prediction.rows)
    axes.grid(alpha=0.25)


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Logarithmic axes where a linear one would press the front into a corner, as in the terminal's scatter."""
    latencies, throughputs = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    if is_logarithmic(latencies):
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
    if is_logarithmic(throughputs):
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)


def _plain_ticks(axis: Axis) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def label_front(axes: Axes, front: Sequence[Row]) -> None:
    """Write split numbers above and left of the front's points, where no split can be; close points share one."""
    spacing = LABEL_SPACING_POINTS * axes.figure.dpi / 72
    groups: list[list[Row]] = []
    for row in front:
        place = axes.transData.transform((row.latency_s, row.throughput_per_s))
        if groups:
            start = groups[-1][0]
            before = axes.transData.transform((start.latency_s, start.throughput_per_s))
            if max(abs(place - before)) < spacing:
                groups[-1].append(row)
                continue
        groups.append([row])
    for group in groups:
        axes.annotate(
            ", ".join(str(row.split) for row in group) if len(group) < 3 else f"{group[0].split} … {group[-1].split}",
            (group[0].latency_s, group[0].throughput_per_s),
            textcoords="offset points",
            xytext=(-4, 4),
            horizontalalignment="right",
            fontsize=8,
        )
