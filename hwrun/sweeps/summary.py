"""What a sweep's table shows: one row a plan, mode and link, over its repeats. Computed from records alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from hwrun.records import Cell, Scalar
from paretosim.plan import Plan


def summary_rows(cells: Sequence[Cell]) -> list[dict[str, Scalar]]:
    """One row a plan, mode and link: medians over repeats, and why what is missing is.

    `latency_s` and `throughput_per_s` are medians over repeats, `…_spread` half the range over them relative to
    that (None with one repeat); both are None where no repeat was done. `overruns` counts measured batches in
    which an emulated stage was late. `top1` is the share of `top1_images` labelled images that the unsplit model has
    right, None without labels or weights. `held_back` names what slowed a worker's processor or GPU.
    `split` is None of plans over other than two stages; `cuts` has them all.
    """
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        alike = (cell.plan, str(cell.mode), cell.link_name, cell.hosts, cell.workers, cell.tcp_state)
        groups.setdefault(alike, []).append(cell)
    return sorted((_row(group) for group in groups.values()), key=_order)


def _order(row: dict[str, Scalar]) -> tuple[Any, ...]:
    cuts = Plan.parse(str(row["plan"])).cuts
    runs = tuple(str(row[name]) for name in ("backend", "workers", "tcp_state", "hosts"))
    return str(row["model"]), str(row["link"]), str(row["mode"]), len(cuts), cuts, runs


def _row(cells: Sequence[Cell]) -> dict[str, Scalar]:
    plan = Plan.parse(cells[0].plan)
    done = [cell for cell in cells if cell.status == "done"]
    undone = [cell for cell in cells if cell.status != "done"]
    latencies = [cell.latency_s() for cell in done]
    throughputs = [cell.throughput_per_s() for cell in done]
    checks = [cell.output_check for cell in done if cell.output_check is not None]
    return {
        "model": plan.model,
        "split": plan.split if len(plan.stages) == 2 else None,
        "cuts": "+".join(map(str, plan.cuts)),
        "plan": str(plan),
        "hosts": ",".join(cells[0].hosts),
        "backend": plan.backend,
        "workers": cells[0].workers,
        "tcp_state": cells[0].tcp_state,
        "mode": str(cells[0].mode),
        "link": cells[0].link_name,
        "repeats_done": len(done),
        "repeats": len(cells),
        "latency_s": statistics.median(latencies) if done else None,
        "latency_spread": _spread(latencies),
        "throughput_per_s": statistics.median(throughputs) if done else None,
        "throughput_spread": _spread(throughputs),
        "bitwise_equal": all(check.bitwise_equal for check in checks) if checks else None,
        "held_back": "; ".join(
            dict.fromkeys(f"{w.host}: {what}" for cell in done for w in cell.watched for what in w.held_back)
        ),
        "top1": done[-1].accuracy.top1 if done and done[-1].accuracy is not None else None,
        "top1_images": done[-1].accuracy.unsplit_images if done and done[-1].accuracy is not None else None,
        "overruns": sum(
            phases.overrun
            for cell in done
            for subrun in cell.subruns
            for batch in subrun.batches
            for phases in batch.stages
        ),
        "status": "done" if not undone else undone[-1].status,
        "reason": undone[-1].reason if undone else None,
        "remedy": undone[-1].remedy if undone else None,
    }


def _spread(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return (max(values) - min(values)) / 2 / statistics.median(values)
