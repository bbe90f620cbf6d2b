"""A scatter of latency against throughput in the terminal."""

from __future__ import annotations

import math

from rich.text import Text

from paretosim.prediction import Prediction
from paretosim.show.axis_scale import fractions, is_logarithmic
from paretosim.units import format_number

WIDTH, HEIGHT = 64, 16


def scatter(prediction: Prediction, width: int = WIDTH, height: int = HEIGHT) -> Text:
    """Every split that fits, as a dot; the front's are marked with their numbers."""
    rows = [row for row in prediction.rows if row.fits and math.isfinite(row.latency_s)]
    text = Text(no_wrap=True)
    if not rows:
        return text
    xs, ys = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    columns, x_scale = _places(xs, width)
    lines, y_scale = _places(ys, height)
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for row, column, line in sorted(zip(rows, columns, lines, strict=True), key=lambda entry: entry[0].on_front):
        cells[line, column] = ("●", "bold green") if row.on_front else ("·", "dim")
    for row, column, line in zip(rows, columns, lines, strict=True):
        if row.on_front:
            _label(cells, line, column, str(row.split))
    text.append(f"throughput, images/s{y_scale}   ● front, with its split   · other splits\n", "bold")
    top, bottom = format_number(max(ys), 3), format_number(min(ys), 3)
    margin = max(len(top), len(bottom))
    for line in reversed(range(height)):
        tick = top if line == height - 1 else bottom if line == 0 else ""
        text.append(f"{tick:>{margin}} │", "dim")
        for column in range(width + 4):
            text.append(*cells.get((line, column), (" ", "")))
        text.append("\n")
    low, high = format_number(min(xs), 3), format_number(max(xs), 3)
    text.append(" " * (margin + 1) + "└" + "─" * width + "\n", "dim")
    text.append(" " * (margin + 2) + low + f"{high:>{max(width - len(low), len(high) + 1)}}", "dim")
    text.append(f"  latency, s{x_scale}\n", "bold")
    return text


def _places(values: list[float], size: int) -> tuple[list[int], str]:
    """Cell of each value on an axis of `size` cells, and a word where the axis is logarithmic."""
    scale = " (log)" if is_logarithmic(values) else ""
    return [round(fraction * (size - 1)) for fraction in fractions(values)], scale


def _label(cells: dict[tuple[int, int], tuple[str, str]], line: int, column: int, label: str) -> None:
    """Write a split's number beside its dot, on the first side where it hides nothing."""
    right = [(line, column + 1 + offset) for offset in range(len(label))]
    left = [(line, column - len(label) + offset) for offset in range(len(label))]
    above = [(line + 1, column + offset) for offset in range(len(label))]
    below = [(line - 1, column + offset) for offset in range(len(label))]
    for places in (right, above, below, left):
        if all(at[0] >= 0 and at[1] >= 0 and at not in cells for at in places):
            cells |= {at: (digit, "green") for at, digit in zip(places, label, strict=True)}
            return
