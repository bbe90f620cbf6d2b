"""A simulation as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.

The format is the Trace Event Format's JSON object: complete events (`ph` X) with `ts` and `dur` in microseconds, and
metadata events (M) that name processes and threads. One thread is one station, in chain order.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.line import HOP_NAMES
from paretosim.simulation.simulating import Simulation

_PROCESS = 1


def as_chrome_trace(simulation: Simulation) -> bytes:
    """The timeline of all batches as a JSON object with a final newline."""
    devices = [device.name for device in simulation.setting.devices]
    title = f"{simulation.setting.model.name}, split {simulation.split}, {simulation.setting.mode}"
    events: list[dict[str, Any]] = [_named("process_name", 0, {"name": title})]
    for j, name in enumerate(simulation.stations):
        label = f"{name}: {devices[int(name[5:]) - 1]}" if name.startswith("stage") else name
        events.append(_named("thread_name", j + 1, {"name": label}))
        events.append(_named("thread_sort_index", j + 1, {"sort_index": j}))
    for n, passage in enumerate(simulation.passages):
        for j, name in enumerate(simulation.stations):
            start, end, freed = (float(t[j]) for t in (passage.starts_s, passage.ends_s, passage.freed_s))
            category = "compute" if name.startswith("stage") else "link" if name in HOP_NAMES else "message"
            events.append(_event(f"batch {n}", category, j, start, end, n))
            if freed > end:  # served, and held: by a full buffer, by sending, or until a call is answered
                events.append(_event(f"batch {n} held", "held", j, end, freed, n))
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms"}) + b"\n"


def _named(what: str, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": _PROCESS, "tid": thread, "args": arguments}


def _event(name: str, category: str, station: int, start_s: float, end_s: float, batch: int) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": _PROCESS, "tid": station + 1,
        "ts": start_s * 1e6, "dur": max(0.0, end_s - start_s) * 1e6, "args": {"batch": batch},
    }  # fmt: skip
