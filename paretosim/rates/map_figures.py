"""The regions of a map as a figure: best splits over rate and delay for latency, for throughput and at the knee."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paretosim.in_effect import link_in_effect
from paretosim.rates.map_text import rate_text
from paretosim.rates.rate_map import QUESTIONS, RateMap, Regions
from paretosim.show.figures import new_figure, save
from paretosim.units import format_bytes, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A region narrower or lower than these shares of the picture has no room for its number.
_LABELLED_WIDTH, _LABELLED_HEIGHT = 0.03, 0.05


def plot(found: RateMap, path: Path) -> None:
    """Write the regions of best latency, best throughput and the knee as SVG, PNG or PDF.

    Raises
    ------
    BadInputError : another suffix, a path that cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(path, (15.5, 5.2))
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    regions, setting = found.regions, found.setting
    splits = sorted(set().union(*(np.unique(regions.of(question)).tolist() for question in QUESTIONS)))
    # Half white, so that numbers and lines stay readable on them; neighbours in split are neighbours in hue.
    shades = (colormaps["turbo"](np.linspace(0.08, 0.92, max(len(splits), 2))) + 1) / 2
    colours = {split: tuple(shades[rank]) for rank, split in enumerate(splits)}
    panels = figure.subplots(1, len(QUESTIONS), sharey=True)
    for axes, question in zip(panels, QUESTIONS, strict=True):
        _panel(axes, found, regions.of(question), colours)
        axes.set_title("knee of the front" if question == "knee" else f"best {question}", fontsize=11)
    panels[0].set_ylabel("one-way delay (forward)")
    legend = [Patch(facecolor=colours[split], edgecolor="#555555", label=_name(found, split)) for split in splits]
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles=[*legend, *handles], labels=[*(str(p.get_label()) for p in legend), *labels],
        loc="outside lower center", ncols=min(len(legend) + len(handles), 7), fontsize=8, frameon=False,
    )  # fmt: skip
    kinds = dict.fromkeys(
        f"{device.name} {timing.at_batch(setting.batch)[1]}"
        + ("" if timing.error is None else f" ±{timing.error.relative:.1%}")
        for device, timing in zip(setting.devices, setting.timings, strict=True)
    )
    calibrated = "" if setting.calibration is None else f"; calibration {setting.calibration.name}"
    without = f"; without {', '.join(setting.without)}" if setting.without else ""
    figure.suptitle(
        f"{setting.model.name}, {' → '.join(device.name for device in setting.devices)}, {setting.mode}, batch"
        f" {setting.batch}, source {setting.source}, sink {setting.sink}, TCP {setting.tcp_state}"
        f"\ntimings: {', '.join(kinds)}{calibrated}{without}; regions sampled on {len(regions.rates_bps)} ×"
        f" {len(regions.delays_s)} links",
        fontsize=10,
    )
    save(figure, path)


def _panel(axes: Axes, found: RateMap, picture: NDArray[np.int64], colours: Mapping[int, tuple[float, ...]]) -> None:
    regions, (link, _) = found.regions, link_in_effect(found.setting)
    image = np.array([[colours[split] for split in row] for row in picture.tolist()])
    axes.pcolormesh(regions.rates_bps, regions.delays_s, image, shading="nearest", rasterized=True)
    for split in np.unique(picture)[:-1]:  # the last one has the borders of the others
        inside = (picture == split).astype(np.float64)
        axes.contour(regions.rates_bps, regions.delays_s, inside, levels=[0.5], colors="#444444", linewidths=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if regions.delays_s[0] <= link.one_way_delay_s <= regions.delays_s[-1]:
        axes.axhline(
            link.one_way_delay_s, color="black", linewidth=1.2, linestyle="--",
            label=f"delay of the exact intervals, {format_duration(link.one_way_delay_s, gap=' ')}",
        )  # fmt: skip
    capped = 8 * link.wmax_bytes / (regions.delays_s + link.return_delay_s)
    shown = (regions.rates_bps[0] <= capped) & (capped <= regions.rates_bps[-1])
    if shown.any():
        axes.plot(
            capped[shown], regions.delays_s[shown], color="black", linewidth=1, linestyle=":",
            label=f"right of it a window of {format_bytes(link.wmax_bytes)} caps the rate",
        )  # fmt: skip
    axes.set_xlim(regions.rates_bps[0], regions.rates_bps[-1])
    axes.set_ylim(regions.delays_s[0], regions.delays_s[-1])
    axes.set_xlabel("rate")
    axes.xaxis.set_major_formatter(lambda rate, _: rate_text(rate))
    axes.yaxis.set_major_formatter(lambda delay, _: format_duration(delay, digits=2, gap=" "))
    axes.tick_params(labelsize=8)
    _number(axes, regions, picture)


def _number(axes: Axes, regions: Regions, picture: NDArray[np.int64]) -> None:
    """Write each region's split in the middle of the row that halves its area, where that row has room."""
    for split in np.unique(picture).tolist():
        inside = picture == split
        area = inside.sum(axis=1).cumsum()
        row = int(np.searchsorted(area, area[-1] / 2))
        ends = np.flatnonzero(np.diff(np.concatenate([[False], inside[row], [False]]).astype(np.int8)))
        start, end = max(zip(ends[::2], ends[1::2], strict=True), key=lambda run: int(run[1] - run[0]))
        tall = np.ptp(np.flatnonzero(inside[:, (start + end) // 2])) / len(inside)
        if (end - start) / picture.shape[1] >= _LABELLED_WIDTH and tall >= _LABELLED_HEIGHT:
            at = regions.rates_bps[(start + end) // 2], regions.delays_s[row]
            behind = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.6}
            axes.annotate(str(split), at, ha="center", va="center", fontsize=9, fontweight="bold", bbox=behind)


def _name(found: RateMap, split: int) -> str:
    setting = found.setting
    if split == 0:
        return f"0: all on {setting.devices[1].name}"
    if split == len(setting.model.blocks):
        return f"{split}: all on {setting.devices[0].name}"
    return f"{split}: after {setting.model.blocks[split - 1].name}"
