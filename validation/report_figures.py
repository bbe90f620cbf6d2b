"""The report's figures, as SVG to stand inside its page. Needs matplotlib, which only this module imports.

Text stays text, so that it can be read aloud, searched and scaled. Equal input gives equal bytes: no date, no random
identifiers. Colours are those of Okabe and Ito, told apart without colour vision; markers differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from validation.assessment import Assessment, ConditionAssessment
from validation.join import Comparison
from validation.measured import Quantity

BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#8a8f98"
COLOURS = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
# An axis that spans more than this factor is logarithmic.
LOGARITHMIC_FROM = 10.0
# More splits than this are labelled on the fronts only, or the labels hide each other.
MOST_LABELS = 9
_Pick = Callable[[Comparison], Quantity | None]


def front_figure(found: ConditionAssessment, identifier: str) -> str:
    """Latency against throughput of one condition: measured points and front, predicted ones over them."""
    figure = Figure(figsize=(6.2, 4.4), layout="constrained")
    axes = figure.subplots()
    cells = found.joined.comparisons
    for cell in cells:
        axes.plot(
            [cell.latency.measured, cell.latency.predicted],
            [cell.throughput.measured, cell.throughput.predicted],
            color=GREY, linewidth=0.8, zorder=1,
        )  # fmt: skip
    axes.errorbar(
        [c.latency.measured for c in cells], [c.throughput.measured for c in cells],
        xerr=_bars([c.latency for c in cells]), yerr=_bars([c.throughput for c in cells]),
        fmt="o", color=BLUE, markersize=6, elinewidth=1, capsize=2, label="measured", zorder=2,
    )  # fmt: skip
    axes.plot(
        [c.latency.predicted for c in cells], [c.throughput.predicted for c in cells],
        "D", markerfacecolor="none", color=VERMILION, markersize=8, label="predicted", zorder=3,
    )  # fmt: skip
    front = found.front
    labelled = {cell.label for cell in cells}
    if front is not None:
        _front_line(axes, [c for c in cells if c.label in front.measured], "measured", BLUE, "-")
        _front_line(axes, [c for c in cells if c.label in front.predicted], "predicted", VERMILION, "--")
        if len(cells) > MOST_LABELS:
            labelled = {*front.measured, *front.predicted}
    _logarithmic_where_wide(axes, cells)
    axes.margins(0.12)
    for cell in cells:
        if cell.label in labelled:
            axes.annotate(
                cell.label, (cell.latency.measured, cell.throughput.measured),
                textcoords="offset points", xytext=(7, 6), fontsize=9,
            )  # fmt: skip
    axes.set_xlabel("latency, s")
    axes.set_ylabel("throughput, images/s")
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda index: labels[index])  # each kind beside its front
    figure.legend(
        [handles[i] for i in order], [labels[i] for i in order],
        loc="outside lower center", ncols=4, frameon=False, fontsize=8,
    )  # fmt: skip
    return _svg(figure, identifier)


def _front_line(axes: Axes, cells: Sequence[Comparison], kind: str, colour: str, style: str) -> None:
    points = sorted((getattr(c.latency, kind), getattr(c.throughput, kind)) for c in cells)
    axes.plot(
        [x for x, _ in points], [y for _, y in points],
        style, color=colour, linewidth=1.5, label=f"{kind} front", zorder=2,
    )  # fmt: skip


def _logarithmic_where_wide(axes: Axes, cells: Sequence[Comparison]) -> None:
    latencies = [value for c in cells for value in (c.latency.measured, c.latency.predicted)]
    throughputs = [value for c in cells for value in (c.throughput.measured, c.throughput.predicted)]
    if max(latencies) > LOGARITHMIC_FROM * min(latencies):
        _logarithmic(axes, "x")
    if max(throughputs) > LOGARITHMIC_FROM * min(throughputs):
        _logarithmic(axes, "y")


def parity_figure(assessment: Assessment, identifier: str) -> str:
    """Predicted against measured, latency and throughput, with bands of ±5 and ±10 %."""
    figure = Figure(figsize=(11, 4.9 + _legend_height(assessment)), layout="constrained")
    panels = figure.subplots(1, 2)
    subjects: tuple[tuple[str, _Pick], ...] = (
        ("latency, s", lambda c: c.latency),
        ("throughput, images/s", lambda c: c.throughput),
    )
    for axes, (name, pick) in zip(panels, subjects, strict=True):
        values = [
            value
            for c in assessment.joined.comparisons
            if (q := pick(c)) is not None
            for value in (q.measured, q.predicted)
        ]
        low, high = min(values) / 1.25, max(values) * 1.25
        for share, alpha in ((0.10, 0.10), (0.05, 0.16)):
            axes.fill_between(
                [low, high], [low * (1 - share), high * (1 - share)], [low * (1 + share), high * (1 + share)],
                color=GREY, alpha=alpha, linewidth=0, label=f"±{share:.0%}" if axes is panels[0] else None,
            )  # fmt: skip
        axes.plot([low, high], [low, high], color=GREY, linewidth=1)
        for found, colour, marker in _styled(assessment):
            quantities = [q for c in found.joined.comparisons if (q := pick(c)) is not None]
            axes.errorbar(
                [q.measured for q in quantities], [q.predicted for q in quantities], xerr=_bars(quantities),
                fmt=marker, color=colour, markerfacecolor="none", markersize=7, elinewidth=1,
                label=_text(str(found.joined.condition)) if axes is panels[0] else None,
            )  # fmt: skip
        if high > LOGARITHMIC_FROM * low * 1.25**2:
            _logarithmic(axes, "x")
            _logarithmic(axes, "y")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.set_xlabel(f"measured {name}")
        axes.set_ylabel(f"predicted {name}")
        axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _svg(figure, identifier)


def residual_figure(assessment: Assessment, identifier: str) -> str:
    """Signed relative errors against the bytes sent, one panel a quantity, with each cell's noise floor as a bar."""
    subjects: list[tuple[str, _Pick]] = [("latency", lambda c: c.latency), ("throughput", lambda c: c.throughput)]
    if any(c.transfer is not None for c in assessment.joined.comparisons):
        subjects.append(("transfer phase", lambda c: c.transfer))
    figure = Figure(figsize=(11, 4.0 + _legend_height(assessment)), layout="constrained")
    panels = figure.subplots(1, len(subjects))
    sizes = [c.activation_bytes for c in assessment.joined.comparisons]
    for axes, (name, pick) in zip(panels, subjects, strict=True):
        axes.axhline(0, color=GREY, linewidth=1)
        for found, colour, marker in _styled(assessment):
            points = [
                (c.activation_bytes / 1e6, q.error * 100, (q.noise_floor or 0.0) * 100)
                for c in found.joined.comparisons
                if (q := pick(c)) is not None and q.error is not None
            ]
            label = _text(str(found.joined.condition)) if axes is panels[0] else None
            axes.errorbar(
                [x for x, _, _ in points], [y for _, y, _ in points], yerr=[bar for _, _, bar in points] or None,
                fmt=marker, color=colour, markerfacecolor="none", markersize=7, elinewidth=1, capsize=2, label=label,
            )  # fmt: skip
        if max(sizes) > LOGARITHMIC_FROM * min(sizes):
            _logarithmic(axes, "x")
        axes.margins(0.1)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("sent a batch, MB")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("(predicted − measured) / measured, %")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _svg(figure, identifier)


def _styled(assessment: Assessment) -> Iterable[tuple[ConditionAssessment, str, str]]:
    return zip(assessment.conditions, cycle(COLOURS), cycle(MARKERS), strict=False)


def _legend_height(assessment: Assessment) -> float:
    """Inches that the legend's rows of two take."""
    return 0.18 * (len(assessment.conditions) // 2 + 1)


def _bars(quantities: Sequence[Quantity]) -> list[list[float]]:
    """Range over repeats (or the noise floor of one) below and above the measured value."""
    return [[q.measured - q.low for q in quantities], [q.high - q.measured for q in quantities]]


def _logarithmic(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers, at 1, 2 and 5 of each decade where few are shown."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axes.dataLim.intervalx if which == "x" else axes.dataLim.intervaly
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _text(text: str) -> str:
    """Text from records, kept from being read as a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Figure, identifier: str) -> str:
    """The figure as an <svg> element, its identifiers made unique on the page by `identifier`."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": identifier, "path.simplify": True}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(id)="([^"]+)"', rf'\1="{identifier}-\2"', text)
    text = re.sub(r'(href)="#([^"]+)"', rf'\1="#{identifier}-\2"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{identifier}-\1)", text)
