"""Intervals and front probabilities over a figure of a prediction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from paretosim.prediction import Prediction
from paretosim.uncertainty.sampling import SHARE_THAT_COUNTS, Uncertainty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INTERVAL_COLOUR = "#6a7a90"


def draw_intervals(axes: Axes, prediction: Prediction, found: Uncertainty) -> None:
    """Draw 5–95% bars of the splits that may be on the front, and colour these by the share of samples they are.

    Bars of splits that are on it in fewer samples than count are left out: forty of them would hide the others.
    """
    shown = [
        (row, split)
        for row, split in zip(prediction.rows, found.splits, strict=True)
        if row.fits and math.isfinite(row.latency_s) and (row.on_front or split.front_probability >= SHARE_THAT_COUNTS)
    ]
    if not shown:
        return
    for row, split in shown:
        # At times it may not keep up: then there is no upper end.
        slowest_s = split.latency_p95_s if math.isfinite(split.latency_p95_s) else row.latency_s
        across = ([split.latency_p05_s, slowest_s], [row.throughput_per_s] * 2)
        along = ([row.latency_s] * 2, [split.throughput_p05_per_s, split.throughput_p95_per_s])
        for bar in (across, along):
            opacity = 0.25 + 0.5 * split.front_probability
            axes.plot(*bar, color=INTERVAL_COLOUR, alpha=opacity, linewidth=1.0, zorder=1)
    points = axes.scatter(
        [row.latency_s for row, _ in shown], [row.throughput_per_s for row, _ in shown],
        c=[split.front_probability for _, split in shown], cmap="YlOrRd", vmin=0.0, vmax=1.0, s=46, zorder=3,
        edgecolors="#402018", linewidths=0.6,
    )  # fmt: skip
    key = axes.figure.colorbar(points, ax=axes, shrink=0.8, pad=0.02)
    key.set_label(f"share of {found.doubts.samples:,} samples on the front (bars: 5–95%)", fontsize=8)
    key.ax.tick_params(labelsize=8)
