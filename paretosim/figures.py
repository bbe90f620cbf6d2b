"""Figures of a prediction, for a file. Needs matplotlib, which only this module imports."""

from __future__ import annotations

from pathlib import Path

from paretosim.errors import BadInputError
from paretosim.prediction import Prediction

SUFFIXES = (".svg", ".png", ".pdf")


def plot(prediction: Prediction, path: Path) -> None:
    """Write latency against throughput of every split, its front drawn through, as SVG, PNG or PDF.

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
    setting = prediction.setting
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
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
        "o-", color="#c8401a", markersize=6, linewidth=1.4, label="Pareto front",
    )  # fmt: skip
    for row in front:
        axes.annotate(
            str(row.split),
            (row.latency_s, row.throughput_per_s),
            textcoords="offset points",
            xytext=(6, -9),
            fontsize=8,
        )
    kinds = ", ".join(
        f"{device.name} {kind}" for device, kind in zip(setting.devices, prediction.timing_kinds, strict=True)
    )
    doubt = "unknown" if prediction.profile_error is None else f"{prediction.profile_error:.1%}"
    axes.set_xlabel(f"latency, s\ntimings: {kinds}; error of stage times {doubt}", fontsize=9)
    axes.set_ylabel("throughput, images/s")
    axes.set_title(
        f"{setting.model.name}, {' → '.join(device.name for device in setting.devices)}, {setting.link.name},"
        f" {setting.mode}, batch {setting.batch}",
        fontsize=10,
    )
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
