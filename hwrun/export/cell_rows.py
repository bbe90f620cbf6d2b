"""A run as a table: a row a cell, its conditions and the statistics of its raw samples. Computed from records alone."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence

from hwrun.records import Cell, Run, Scalar
from paretosim.plan import Plan

# Names and kinds of the columns, in their order. Units are in the names.
COLUMNS: dict[str, type] = {
    "run_id": str, "cell_id": str, "model": str, "cuts": str, "plan": str, "devices": str, "hosts": str, "batch": int,
    "backend": str, "workers": str, "tcp_state": str, "mode": str, "source": str, "sink": str, "link": str,
    "rate_bps": float, "one_way_delay_s": float, "return_rate_bps": float, "return_delay_s": float, "repeat": int,
    "emulated": bool, "speed": float, "status": str, "reason": str, "started_utc": str,
    "latency_s": float, "latency_min_s": float, "latency_max_s": float, "latency_samples": int,
    "throughput_per_s": float, "overruns": int, "probed_rtt_s": float, "probed_goodput_bps": float,
    "control_delay_s": float, "bitwise_equal": bool, "relative_difference": float, "top1_correct": int,
    "top1_images": int, "unsplit_top1_correct": int, "unsplit_top1_images": int, "retransmits": int,
    "cpu_cores_mean": float, "rss_max_bytes": int, "held_back": str,
}  # fmt: skip


def cell_rows(run: Run) -> list[dict[str, Scalar]]:
    """The latest record of each cell, in the order they were measured, as rows of COLUMNS."""
    return [_row(run.manifest.run_id, cell) for cell in run.latest_cells()]


def _row(run_id: str, cell: Cell) -> dict[str, Scalar]:
    plan = Plan.parse(cell.plan)
    link, check, probed = cell.link_asked, cell.output_check, cell.link_measured
    seen = cell.accuracy
    is_done = cell.status == "done"
    latencies = cell.latencies_s() if is_done else []
    samples = [sample for watch in cell.watched for sample in watch.samples]
    held_back = dict.fromkeys(f"{watch.host}: {what}" for watch in cell.watched for what in watch.held_back)
    row: dict[str, Scalar] = {
        "run_id": run_id,
        "cell_id": cell.cell_id,
        "model": plan.model,
        "cuts": "+".join(map(str, plan.cuts)),
        "plan": cell.plan,
        "devices": ",".join(stage.device for stage in plan.stages),
        "hosts": ",".join(cell.hosts),
        "batch": plan.batch,
        "backend": plan.backend,
        "workers": cell.workers,
        "tcp_state": cell.tcp_state,
        "mode": str(cell.mode),
        "source": cell.source,
        "sink": cell.sink,
        "link": cell.link_name,
        "rate_bps": None if link is None else link.rate_bps,
        "one_way_delay_s": None if link is None else link.one_way_delay_s,
        "return_rate_bps": None if link is None else link.return_rate_bps,
        "return_delay_s": None if link is None else link.return_delay_s,
        "repeat": cell.repeat,
        "emulated": cell.emulated,
        "speed": cell.speed,
        "status": cell.status,
        "reason": cell.reason,
        "started_utc": cell.started_utc,
        "latency_s": cell.latency_s() if is_done else None,
        "latency_min_s": min(latencies, default=None),
        "latency_max_s": max(latencies, default=None),
        "latency_samples": len(latencies),
        "throughput_per_s": cell.throughput_per_s() if is_done else None,
        "overruns": sum(phase.overrun for sub in cell.subruns for batch in sub.batches for phase in batch.stages),
        "probed_rtt_s": statistics.median(probed.rtt_samples_s) if probed and probed.rtt_samples_s else None,
        "probed_goodput_bps": None if probed is None else probed.goodput_bps,
        "control_delay_s": cell.control_delay_s,
        "bitwise_equal": None if check is None else check.bitwise_equal,
        "relative_difference": None if check is None else check.relative_difference,
        "top1_correct": None if seen is None else seen.correct,
        "top1_images": None if seen is None else seen.images,
        "unsplit_top1_correct": None if seen is None else seen.unsplit_correct,
        "unsplit_top1_images": None if seen is None else seen.unsplit_images,
        "retransmits": _retransmits(cell),
        "cpu_cores_mean": statistics.fmean(sample.cpu_cores for sample in samples) if samples else None,
        "rss_max_bytes": max((sample.rss_bytes for sample in samples), default=None),
        "held_back": "; ".join(held_back) if cell.watched else None,
    }
    assert row.keys() == COLUMNS.keys()
    return row


def _retransmits(cell: Cell) -> int | None:
    counts = [count for info in cell.tcp_info if isinstance(count := info.get("retransmits"), int)]
    return sum(counts) if counts else None


def as_csv(rows: Sequence[dict[str, Scalar]]) -> str:
    """The rows as CSV with a heading; None is empty, true and false are spelled so."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _spelled(value) for name, value in row.items()})
    return text.getvalue()


def _spelled(value: Scalar) -> Scalar:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value
