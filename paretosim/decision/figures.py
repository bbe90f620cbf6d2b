"""A space of decisions as a figure: its first two objectives, batch as colour, window as shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.decision.space import Choice, DecisionSpace
from paretosim.errors import BadInputError
from paretosim.show.axis_scale import is_logarithmic
from paretosim.show.basis import devices_and_link, timings
from paretosim.show.figures import LABEL_FONT_POINTS, LABEL_SPACING_POINTS, new_figure, plain_ticks, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AXIS_NAMES = {
    "latency": "latency, s", "throughput": "throughput, images/s", "energy": "energy, J an image",
    "memory": "memory of the fuller device, bytes", "bytes": "on the wire, bytes an image",
}  # fmt: skip
MARKERS = "osD^v<>P"


def plot(space: DecisionSpace, path: Path) -> None:
    """Write all comparable choices along the first two objectives, those on the front filled and numbered by split.

    Raises
    ------
    BadInputError : fewer than two objectives, nothing to draw, more windows than shapes, another suffix, a path that
        cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (8, 5))
    if len(space.objectives) < 2:
        raise BadInputError(f"--plot: got one objective, {space.objectives[0].name}, expected two or more to draw")
    shown = [choice for choice in space.choices if choice.comparable]
    if not shown:
        raise BadInputError("--plot: no choice fits and keeps up, so there is nothing to draw")
    windows = list(dict.fromkeys(choice.window for choice in space.choices))
    if len(windows) > len(MARKERS):
        raise BadInputError(f"--plot: got {len(windows)} windows, expected {len(MARKERS)} at most, a shape each")
    axes = figure.subplots()
    _draw(axes, space, shown, dict(zip(windows, MARKERS, strict=False)))
    first = space.predictions[0]
    others = ", ".join(objective.name for objective in space.objectives[2:])
    axes.set_title(
        f"{first.setting.model.name}, {devices_and_link(first)}, mode {first.setting.mode.name}"
        + (f"\nfront under {others} too, not on the axes" if others else ""),
        fontsize=10,
    )
    filled = (
        "" if first.setting.frame_rate_per_s is None else f", filled at {first.setting.frame_rate_per_s:g} frames/s"
    )
    x, y = (
        _AXIS_NAMES[objective.name] + (filled if objective.name == "latency" else "")
        for objective in space.objectives[:2]
    )
    axes.set_xlabel(f"{x}\n{_timings(space)}", fontsize=9)
    axes.set_ylabel(y)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.draw_without_rendering()  # places are only final then
    _label(axes, space)
    save(figure, path)


def _draw(axes: Axes, space: DecisionSpace, shown: list[Choice], markers: dict[int | None, str]) -> None:
    from matplotlib import colormaps

    batches = sorted({choice.batch for choice in space.choices})
    colours = colormaps["viridis"].resampled(len(batches) + 1)  # without its last, too pale on white
    for index, batch in enumerate(batches):
        for window, marker in markers.items():
            group = [choice for choice in shown if (choice.batch, choice.window) == (batch, window)]
            kept = [choice for choice in group if choice.on_front]
            named = f"batch {batch}" + ("" if window is None else f", window {window}")
            colour = colours(index)
            axes.scatter(*_places(space, group), s=14, marker=marker, facecolors="none", edgecolors=[colour], alpha=0.5)
            axes.scatter(*_places(space, kept), s=40, marker=marker, color=[colour], edgecolors="black", label=named)
    for axis, values, set_scale in zip(
        (axes.xaxis, axes.yaxis), _places(space, shown), (axes.set_xscale, axes.set_yscale), strict=True
    ):
        if is_logarithmic(values):
            set_scale("log")
            plain_ticks(axis)
    axes.grid(alpha=0.25)


def _places(space: DecisionSpace, choices: list[Choice]) -> tuple[list[float], list[float]]:
    x, y = space.objectives[:2]
    return [x.of(choice.figures) for choice in choices], [y.of(choice.figures) for choice in choices]


def _label(axes: Axes, space: DecisionSpace) -> None:
    """Split numbers beside the front's points, but for those that would lie over another's."""
    spacing = LABEL_SPACING_POINTS * axes.figure.dpi / 72
    labelled: list[tuple[float, float]] = []
    for choice, x, y in zip(space.front, *_places(space, list(space.front)), strict=True):
        across, up = axes.transData.transform((x, y)).tolist()
        if all(max(abs(across - a), abs(up - b)) >= spacing for a, b in labelled):
            labelled.append((across, up))
            axes.annotate(
                str(choice.row.split), (x, y), textcoords="offset points", xytext=(5, 4), fontsize=LABEL_FONT_POINTS
            )


def _timings(space: DecisionSpace) -> str:
    """What the timings are, each wording once."""
    return "\n".join(dict.fromkeys(timings(prediction) for prediction in space.predictions))
