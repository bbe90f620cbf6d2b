"""A measured cell as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.

The format is the Trace Event Format's JSON object. The orchestrator and each host of a stage is a process of it. What
one thread does in turn are complete events (`ph` X): receiving, computing and sending of a stage. What overlaps are
asynchronous pairs (`b`, `e`): a batch on its way, from dispatch to return, and the transfer of a hop, from the first
byte out to the last one in. Times are microseconds since the earliest of the cell.

Every process has a clock of its own. On one machine all are the same clock. Across hosts each worker's times are put on
the orchestrator's by the clock exchanges of the probes, before and after, between which the offset is taken to drift
evenly; how wrong that can be is stated in the file, and is no smaller than half the shortest round trip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hwrun.errors import RecordError
from hwrun.records import BatchRecord, Cell, ClockOffset, Phases, Run, Scalar, clock_offset
from paretosim.plan import Plan

_ORCHESTRATOR = 1
_RECEIVE, _COMPUTE, _SEND, _LINK = 1, 2, 3, 4
_THREADS = {_RECEIVE: "receive", _COMPUTE: "compute", _SEND: "send"}


@dataclass(frozen=True)
class AlignedClock:
    """A worker's clock beside the orchestrator's while a cell ran; `source` says how it is known."""

    offset_s: float
    error_s: float
    source: str


def as_chrome_trace(run: Run, cell: Cell) -> bytes:
    """The timeline of all batches of a done cell, warm-ups too, as a JSON object with a final newline.

    Raises
    ------
    RecordError : the cell was not measured, or the clocks of its hosts were never compared.
    """
    if cell.status != "done":
        raise RecordError(f"cell {cell.cell_id}: is {cell.status}, expected one that is done to show its timeline")
    batches = [(sub.name, batch) for sub in cell.subruns for batch in (*sub.warmup, *sub.batches)]
    stages = len(batches[0][1].stages)
    hosts = cell.hosts[:stages] or tuple("AB"[:stages])
    middle_s = (batches[0][1].dispatched_s + batches[-1][1].returned_s) / 2
    clocks = {host: aligned_clock(run, host, middle_s) for host in dict.fromkeys(hosts)}
    moved = [(name, _on_one_clock(batch, hosts, clocks)) for name, batch in batches]
    start_s = min(min((batch.dispatched_s, *(p.compute_start_s for p in batch.stages))) for _, batch in moved)
    plan = Plan.parse(cell.plan)
    warm = {id(batch) for sub in cell.subruns for batch in sub.warmup}
    events = [*_names(plan, hosts)]
    for (name, batch), (_, original) in zip(moved, batches, strict=True):
        label = f"batch {batch.index}"
        common: dict[str, Scalar] = {"batch": batch.index, "sub-run": name, "warm-up": id(original) in warm}
        events += _batch_events(batch, hosts, label, common, start_s)
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": _other(run, cell, clocks),
    }
    return msgspec.json.encode(document) + b"\n"


def aligned_clock(run: Run, host: str, near_s: float) -> AlignedClock:
    """The host's clock at a time of the orchestrator's.

    Raises
    ------
    RecordError : no probe of the run compared the two clocks.
    """
    if run.manifest.testbed.get("kind") == "local":
        return AlignedClock(0.0, 0.0, "one machine: its processes share a clock")
    found: list[tuple[float, ClockOffset]] = [
        (clock.exchanges[0].sent_s, clock_offset(clock.exchanges))
        for probe in run.probes
        for clock in probe.clocks
        if clock.worker == host and clock.exchanges
    ]
    if not found:
        raise RecordError(
            f"host {host}: its clock was never compared with the orchestrator's, expected a probe in {run.path};"
            " measure again, or export a cell of another host"
        )
    found.sort(key=lambda entry: entry[0])
    before = max((entry for entry in found if entry[0] <= near_s), key=lambda entry: entry[0], default=found[0])
    after = min((entry for entry in found if entry[0] > near_s), key=lambda entry: entry[0], default=found[-1])
    (t0_s, first), (t1_s, second) = before, after
    if t1_s <= t0_s:
        return AlignedClock(first.offset_s, first.error_s, "one comparison of clocks: drift is not known")
    share = min(1.0, max(0.0, (near_s - t0_s) / (t1_s - t0_s)))
    offset_s = first.offset_s + share * (second.offset_s - first.offset_s)
    return AlignedClock(offset_s, max(first.error_s, second.error_s), "between two comparisons of clocks")


def _on_one_clock(batch: BatchRecord, hosts: Sequence[str], clocks: dict[str, AlignedClock]) -> BatchRecord:
    def moved(phases: Phases, offset_s: float) -> Phases:
        times = {
            name: None if value is None else value - offset_s
            for name, value in msgspec.structs.asdict(phases).items()
            if name.endswith("_s")
        }
        return msgspec.structs.replace(phases, **times)

    stages = tuple(
        moved(phases, clocks[host].offset_s) for phases, host in zip(batch.stages, hosts, strict=True)
    )  # fmt: skip
    return msgspec.structs.replace(batch, stages=stages)


def _names(plan: Plan, hosts: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", _ORCHESTRATOR, 0, {"name": "orchestrator"})
    yield _metadata("process_sort_index", _ORCHESTRATOR, 0, {"sort_index": 0})
    for position, host in enumerate(hosts):
        stage, process = plan.stages[position], _process(position)
        name = f"stage {position + 1} on {host}: {stage.device}, blocks {stage.first} to {stage.last}"
        yield _metadata("process_name", process, 0, {"name": name})
        yield _metadata("process_sort_index", process, 0, {"sort_index": process})
        for thread, what in _THREADS.items():
            yield _metadata("thread_name", process, thread, {"name": what})
            yield _metadata("thread_sort_index", process, thread, {"sort_index": thread})


def _batch_events(
    batch: BatchRecord, hosts: Sequence[str], label: str, common: dict[str, Scalar], start_s: float
) -> Iterator[dict[str, Any]]:
    def at(time_s: float) -> float:
        return round((time_s - start_s) * 1e6, 3)

    def done(position: int, thread: int, begin_s: float, end_s: float, **more: Scalar) -> dict[str, Any]:
        return {
            "ph": "X", "name": label, "cat": _THREADS[thread], "pid": _process(position), "tid": thread,
            "ts": at(begin_s), "dur": round(max(0.0, end_s - begin_s) * 1e6, 3), "args": common | more,
        }  # fmt: skip

    def pair(process: int, thread: int, name: str, what: str, begin_s: float, end_s: float) -> list[dict[str, Any]]:
        shared = {"name": name, "cat": what, "id": f"{what} {batch.index}", "pid": process, "tid": thread}
        begin = {"ph": "b", **shared, "ts": at(begin_s), "args": common}
        return [begin, {"ph": "e", **shared, "ts": at(max(begin_s, end_s))}]

    yield from pair(_ORCHESTRATOR, 0, label, "under way", batch.dispatched_s, batch.returned_s)
    for position, phases in enumerate(batch.stages):
        if phases.receive_start_s is not None and phases.receive_end_s is not None:
            yield done(position, _RECEIVE, phases.receive_start_s, phases.receive_end_s)
        yield done(position, _COMPUTE, phases.compute_start_s, phases.compute_end_s, overrun=phases.overrun)
        yield done(position, _SEND, phases.send_start_s, phases.send_end_s)
        following = batch.stages[position + 1] if position + 1 < len(hosts) else None
        if following is not None and following.receive_end_s is not None:
            hop = f"hop {position + 1}"
            yield from pair(_process(position), _LINK, label, hop, phases.send_start_s, following.receive_end_s)


def _other(run: Run, cell: Cell, clocks: dict[str, AlignedClock]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {
        "run": run.manifest.run_id,
        "cell": cell.cell_id,
        "plan": cell.plan,
        "mode": str(cell.mode),
        "link": cell.link_name,
        "emulated": cell.emulated,
        "kind": "measured",
    }
    for host, clock in clocks.items():
        found[f"clock of {host}"] = (
            f"{clock.offset_s:+.6f} s to the orchestrator's, wrong by at most {clock.error_s:.6f} s ({clock.source})"
        )
    return found


def _process(position: int) -> int:
    return _ORCHESTRATOR + 1 + position


def _metadata(what: str, process: int, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": arguments}
