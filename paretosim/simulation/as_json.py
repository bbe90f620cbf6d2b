"""A simulation as a JSON object (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from paretosim.indented_json import indented_json
from paretosim.show.prediction_json import operation_object
from paretosim.show.result_json import calibration_object
from paretosim.simulation.simulating import Simulation

SCHEMA_VERSION = 1


def as_json(simulation: Simulation) -> bytes:
    """The simulation as one JSON object, indented, with a final newline."""
    return indented_json(as_object(simulation))


def as_object(simulation: Simulation) -> dict[str, Any]:
    """The simulation as plain dictionaries, lists and numbers."""
    setting, conditions = simulation.setting, simulation.conditions
    return {
        "schema_version": SCHEMA_VERSION,
        "model": setting.model.name,
        "split": simulation.split,
        "devices": [device.name for device in setting.devices],
        "timing_kinds": [timing.at_batch(setting.batch)[1] for timing in setting.timings],
        "mode": setting.mode.name,
        "batch": setting.batch,
        "window": setting.mode.window,
        "burst_batches": setting.mode.batches,
        **operation_object(setting),
        "batches": conditions.batches,
        "backend": setting.backend,
        "calibration": calibration_object(setting),
        **({"without": list(setting.without)} if setting.without else {}),
        "source": setting.source,
        "sink": setting.sink,
        "tcp_state": conditions.tcp_state,
        "link": msgspec.to_builtins(setting.link),
        "trace": None if conditions.trace is None else msgspec.to_builtins(conditions.trace),
        "jitter": conditions.jitter,
        "seed": setting.operation.seed,
        "latency": latency_figures(simulation),
        "throughput_per_s": throughput_per_s(simulation),
        "period_s": simulation.period_s,
        "makespan_s": simulation.makespan_s,
        "saturated_period_s": simulation.saturated_period_s,
        "stations": [
            {"name": name, "busy_share": simulation.busy_share(j)} for j, name in enumerate(simulation.stations)
        ],
        "rows": [
            {
                "dispatched_s": float(passage.dispatched_s),
                "starts_s": [float(time) for time in passage.starts_s],
                "ends_s": [float(time) for time in passage.ends_s],
                "departures_s": [float(time) for time in passage.departures_s],
                "freed_s": [float(time) for time in passage.freed_s],
                "returned_s": float(passage.returned_s),
                "latency_s": latency,
            }
            for passage, latency in zip(simulation.passages, simulation.latencies_s.tolist(), strict=True)
        ],
    }


def latency_figures(simulation: Simulation) -> dict[str, float]:
    """Mean, percentiles and extremes of the latencies, in seconds."""
    latencies = simulation.latencies_s
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).tolist()
    return {
        "mean_s": float(latencies.mean()), "p50_s": p50, "p95_s": p95, "p99_s": p99,
        "min_s": float(latencies.min()), "max_s": float(latencies.max()),
    }  # fmt: skip


def throughput_per_s(simulation: Simulation) -> float | None:
    """Images per second; None where everything takes no time, so that there is no rate."""
    period_s = simulation.period_s
    return simulation.setting.batch / period_s if period_s > 0 else None
