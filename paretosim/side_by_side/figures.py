"""Predictions side by side as one figure: a panel for each model, a row of panels or more for each condition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.show.basis import conditions, devices_and_link, load, timings
from paretosim.show.figures import draw_splits, label_front, new_figure, save
from paretosim.side_by_side.panels import SideBySide
from paretosim.side_by_side.tables import paper_note
from paretosim.side_by_side.verdict import is_one_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from paretosim.prediction import Prediction

PANELS_ABREAST = 3
PANEL_INCHES = (3.9, 3.1)
TITLE_INCHES = 7.0
# Of a panel's width, left of its points, for the labels of the front's left end.
LABEL_ROOM = 0.18


def plot(found: SideBySide, path: Path) -> None:
    """Write a panel for each prediction, as SVG, PNG or PDF: the front as a staircase labelled with its splits.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    several = len(found.conditions) > 1
    # A condition starts a new line, unless each has one panel only: those stand side by side too.
    runs = found.conditions if any(len(panels) > 1 for panels in found.conditions) else (found.panels,)
    lines = [
        panels[start : start + PANELS_ABREAST] for panels in runs for start in range(0, len(panels), PANELS_ABREAST)
    ]
    abreast = max(map(len, lines))
    figure = new_figure(path, (max(PANEL_INCHES[0] * abreast, TITLE_INCHES), PANEL_INCHES[1] * len(lines) + 0.8))
    grid = figure.subplots(len(lines), abreast, squeeze=False)
    for axes_line, panels in zip(grid, lines, strict=True):
        for axes in axes_line[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(axes_line, panels, strict=False):
            _draw(axes, panel, named_conditions=several)
    shared = load(found.panels[0]) if several else conditions(found.panels[0])
    figure.suptitle(f"{found.title}\n{shared}", fontsize=11)
    legend = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)  # the same words in every panel
    }
    note = None if found.figure is None else paper_note(found)
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=len(legend), frameon=False, fontsize=8,
        title=note, title_fontsize=7,
    )  # fmt: skip
    figure.draw_without_rendering()  # places are only final then
    for axes_line, panels in zip(grid, lines, strict=True):
        for axes, panel in zip(axes_line, panels, strict=False):
            label_front(axes, panel.front)
    save(figure, path)


def _draw(axes: Axes, panel: Prediction, *, named_conditions: bool) -> None:
    draw_splits(axes, panel)
    axes.margins(x=0.06, y=0.14)
    axes.autoscale_view()
    at_margin = axes.transAxes.transform((-LABEL_ROOM, 0.0))
    axes.set_xlim(left=axes.transData.inverted().transform(at_margin)[0])
    where = f"\n{devices_and_link(panel)}" if named_conditions else ""
    axes.set_title(f"{panel.setting.model.name}{where}", fontsize=8 if named_conditions else 9)
    basis = timings(panel).replace("; ", ";\n")  # in one line it is wider than a panel
    axes.set_xlabel(f"latency, s\n{basis}", fontsize=8)
    axes.set_ylabel("throughput, images/s", fontsize=8)
    axes.tick_params(labelsize=8)
    if not panel.front:
        axes.text(0.5, 0.5, "no split fits", transform=axes.transAxes, ha="center", color="#b04040", fontsize=8)
    elif is_one_point(panel):
        axes.text(0.97, 0.95, "one-point front", transform=axes.transAxes, ha="right", va="top", fontsize=8)
