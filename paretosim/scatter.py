"""A scatter of latency against throughput in the terminal."""

from __future__ import annotations

from rich.text import Text

from paretosim.prediction import Prediction

WIDTH, HEIGHT = 64, 16


def scatter(prediction: Prediction, width: int = WIDTH, height: int = HEIGHT) -> Text:
    """Every split that fits, as a dot; the front's are marked with their numbers."""
    rows = [row for row in prediction.rows if row.fits]
    text = Text()
    if not rows:
        return text
    xs, ys = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    (left, right), (bottom, top) = (min(xs), max(xs)), (min(ys), max(ys))
    canvas: dict[tuple[int, int], str] = {}
    labels: dict[tuple[int, int], str] = {}
    for row in sorted(rows, key=lambda r: r.on_front):
        column = round((row.latency_s - left) / ((right - left) or 1) * (width - 1))
        line = round((row.throughput_per_s - bottom) / ((top - bottom) or 1) * (height - 1))
        canvas[line, column] = "●" if row.on_front else "·"
        if row.on_front:
            labels[line, column] = str(row.split)
    cells: dict[tuple[int, int], tuple[str, str]] = {
        position: (mark, "bold green" if mark == "●" else "dim") for position, mark in canvas.items()
    }
    for (line, column), label in labels.items():
        places = [(line, column + 1 + offset) for offset in range(len(label))]
        if not any(place in cells for place in places):
            cells |= {place: (digit, "green") for place, digit in zip(places, label, strict=True)}
    text.append("throughput, images/s (● front with its split, · other splits)\n", "bold")
    margin = max(len(f"{value:.3g}") for value in (top, bottom))
    for line in reversed(range(height)):
        tick = f"{top:.3g}" if line == height - 1 else f"{bottom:.3g}" if line == 0 else ""
        text.append(f"{tick:>{margin}} │", "dim")
        for column in range(width + 3):
            mark, style = cells.get((line, column), (" ", ""))
            text.append(mark, style)
        text.append("\n")
    low, high = f"{left:.3g}", f"{right:.3g}"
    text.append(" " * (margin + 1) + "└" + "─" * width + "\n", "dim")
    text.append(" " * (margin + 2) + low + f"{high:>{width - len(low)}}", "dim")
    text.append("  latency, s\n", "bold")
    return text
