"""Predictions side by side as a person reads them in a terminal: for each panel its front, in a few lines."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from paretosim.mode import DEFAULT_BURST_BATCHES
from paretosim.prediction import Baseline, Prediction, Row
from paretosim.show.basis import conditions, timings
from paretosim.show.columns import Column, aligned, fitting
from paretosim.show.tables import calibration_lines
from paretosim.show.verdict import split_runs
from paretosim.side_by_side.panels import SideBySide
from paretosim.side_by_side.verdict import front_verdict
from paretosim.units import format_number

OBJECTIVES = {"latency": "best latency", "knee": "knee", "throughput": "best throughput"}


def show(found: SideBySide, console: Console) -> None:
    """Print every panel under its conditions: front splits, recommended splits, and what it means in a line."""
    console.print(Text(found.title, style="bold"), soft_wrap=True)
    if found.figure is not None:
        console.print(Text(paper_note(found), style="dim"), soft_wrap=True)
    for panels in found.conditions:
        console.print(Text(f"\n{conditions(panels[0])}"), soft_wrap=True)
        for line in calibration_lines(panels[0].setting):
            console.print(line, soft_wrap=True)
        for panel in panels:
            console.print()
            console.print(_heading(panel), soft_wrap=True)
            if panel.recommended.knee is not None:
                console.print(recommended_table(panel, console.width), soft_wrap=True)
            console.print(Text(f"  {front_verdict(panel)}"), soft_wrap=True)


def paper_note(found: SideBySide) -> str:
    """How the paper's own numbers of this figure came about, as against these."""
    mode, operation = found.panels[0].setting.mode, found.panels[0].setting.operation
    if (mode.batches, operation.workers, operation.clock) == (DEFAULT_BURST_BATCHES, "serial", "stage1"):
        return (
            f"(predicted as the paper's programs run: bursts of {DEFAULT_BURST_BATCHES} batches through serial workers,"
            " clock from the start of stage 1)"
        )
    queueing = "" if mode.batches is not None else " and hold queueing"
    return (
        f"(predicted in mode {mode} with {operation.workers} workers; the paper's own numbers are of bursts of"
        f" {DEFAULT_BURST_BATCHES} batches through serial workers{queueing}: --paper predicts those)"
    )


def recommended_table(prediction: Prediction, width: int) -> Text:
    """The recommended splits, one line each with what it is best in, under either device alone without a link."""
    best: dict[int, list[str]] = {}
    for objective, name in OBJECTIVES.items():
        best.setdefault(getattr(prediction.recommended, objective), []).append(name)
    lines = [_baseline_cells(*pair) for pair in zip(("first alone", "second alone"), prediction.baselines, strict=True)]
    lines += [(f"  {', '.join(names)}", *_cells(prediction, prediction.row(split))) for split, names in best.items()]
    cells = list(zip(*lines, strict=True))
    columns = [
        Column(heading="", cells=cells[0], align="left"),
        Column(heading="split", cells=cells[1]),
        Column(heading="after block", cells=cells[2], align="left", priority=2),
        Column(heading="latency s", cells=cells[3]),
        Column(heading="images/s", cells=cells[4]),
        Column(heading="bottleneck", cells=cells[5], align="left", priority=1),
    ]
    kept, _ = fitting(columns, width)
    return aligned(kept, ["dim"] * len(prediction.baselines) + [""] * len(best))


def _heading(panel: Prediction) -> Text:
    front = split_runs(tuple(sorted(row.split for row in panel.front))) or "none"
    unfit = [row.split for row in panel.rows if not row.fits]
    return Text.assemble(
        (panel.setting.model.name, "bold"),
        ": front ",
        (front, "green"),
        f" ({len(panel.front)} of {len(panel.rows)} splits)",
        (f"; do not fit: {split_runs(tuple(unfit))}" if unfit else "", "red"),
        (f"  {timings(panel)}", "dim"),
    )


def _cells(prediction: Prediction, row: Row) -> tuple[str, ...]:
    return (
        str(row.split),
        prediction.setting.model.cut_name(row.split),
        format_number(row.latency_s, 4),
        format_number(row.throughput_per_s, 4),
        row.bottleneck,
    )


def _baseline_cells(name: str, baseline: Baseline) -> tuple[str, ...]:
    latency, throughput = (format_number(value, 4) for value in (baseline.latency_s, baseline.throughput_per_s))
    return f"  {name}", "–", baseline.device, latency, throughput, "" if baseline.fits else "does not fit"
