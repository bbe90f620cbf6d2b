"""A measured cell as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.

The format is the Trace Event Format's JSON object. The orchestrator and each host of a stage is a process of it. What
one thread does in turn are complete events (`ph` X): receiving, computing and sending of a stage. What overlaps are
asynchronous pairs (`b`, `e`): a batch on its way, from dispatch to return, and the transfer of a hop, from the first
byte out to the last one in. Times are microseconds since the earliest of the cell.

Every process has a clock of its own. On one machine all are the same clock. Across hosts each worker's times are put on
the orchestrator's by the clock exchanges of the probes, before and after, between which the offset is taken to drift
evenly; how wrong that can be is stated in the file, and is no smaller than half the shortest round trip.

A monotonic clock begins anew when its host does, and a run may go on after that. So probes are held against the cell's
own batches: nothing that a host did for a batch was before its dispatch or after its return, which makes of each batch
an exchange of clocks, if one that is long under way. A probe that says otherwise is of another boot. Where none is
left, or none was made since nothing is crossed within a host, the batches alone say by how much times are moved, and
how wrong that can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from hwrun.errors import RecordError
from hwrun.records import BatchRecord, Cell, ClockExchange, Phases, Run, Scalar, clock_offset
from paretosim.plan import Plan

_ORCHESTRATOR = 1
_RECEIVE, _COMPUTE, _SEND, _LINK = 1, 2, 3, 4
_THREADS = {_RECEIVE: "receive", _COMPUTE: "compute", _SEND: "send"}
# Seconds a second: the kernel bends a clock by no more (adjtimex(2)), and crystals differ by less than a fifth of it.
_MOST_DRIFT = 500e-6
# From when a cell or a probe is said to have begun to its first exchange: weights are sent meanwhile, and links filled.
_LONGEST_BEGINNING_S = 3600.0
_ONE_MACHINE = ("local", "memory")


@dataclass(frozen=True)
class AlignedClock:
    """A host's clock beside the orchestrator's while a cell ran; `source` says how it is known.

    `offset_s` is what the host's reads more at `at_s` of the orchestrator's; that grows by `drift` seconds a second.
    """

    offset_s: float
    error_s: float
    source: str
    at_s: float = 0.0
    drift: float = 0.0

    def offset_at_s(self, time_s: float) -> float:
        """What the host's clock reads more at a time of the orchestrator's."""
        return self.offset_s + self.drift * (time_s - self.at_s)

    def __str__(self) -> str:
        return f"{self.offset_s:+.6f} s to the orchestrator's, wrong by at most {self.error_s:.6f} s ({self.source})"


@dataclass(frozen=True)
class _Comparison:
    """What a host's clock read more than the orchestrator's when that read `at_s`."""

    at_s: float
    offset_s: float
    error_s: float

    @classmethod
    def of(cls, exchanges: Sequence[ClockExchange]) -> _Comparison:
        """By exchanges right behind each other, as far as the clocks may have drifted meanwhile."""
        found = clock_offset(exchanges)
        start_s, end_s = exchanges[0].sent_s, exchanges[-1].returned_s
        return cls(start_s, found.offset_s, max(0.0, found.error_s) + _MOST_DRIFT * (end_s - start_s))

    def error_at_s(self, time_s: float) -> float:
        """How wrong the offset can be at another time."""
        return self.error_s + _MOST_DRIFT * abs(time_s - self.at_s)


def as_chrome_trace(run: Run, cell: Cell) -> bytes:
    """The timeline of all batches of a done cell, warm-ups too, as a JSON object with a final newline.

    Raises
    ------
    RecordError : the cell was not measured.
    """
    clocks = aligned_clocks(run, cell)
    batches = [(sub.name, batch) for sub in cell.subruns for batch in (*sub.warmup, *sub.batches)]
    hosts = _stage_hosts(cell)
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


def aligned_clocks(run: Run, cell: Cell) -> dict[str, AlignedClock]:
    """The clock of each host that computes in a done cell, by its name.

    Raises
    ------
    RecordError : the cell was not measured.
    """
    if cell.status != "done":
        raise RecordError(f"cell {cell.cell_id}: is {cell.status}, expected one that is done to show its timeline")
    return {host: _aligned_clock(run, cell, host) for host in dict.fromkeys(_stage_hosts(cell))}


def _aligned_clock(run: Run, cell: Cell, host: str) -> AlignedClock:
    if run.manifest.testbed.get("kind") in _ONE_MACHINE:
        return AlignedClock(0.0, 0.0, "one machine: its processes share a clock")
    batches, hosts = _batches(cell), _stage_hosts(cell)
    start_s, end_s = batches[0].dispatched_s, batches[-1].returned_s
    middle_s = (start_s + end_s) / 2
    own = min((_Comparison.of([_exchange(batch, hosts, host)]) for batch in batches), key=lambda one: one.error_s)
    probed = _probed(run, host, own, _boot_utc_s(cell.started_utc, start_s))
    before = [compared for compared in probed if compared.at_s <= middle_s][-1:]
    after = [compared for compared in probed if compared.at_s > middle_s][:1]
    if before and after:
        (first,), (second,) = before, after
        moved_s = second.offset_s - first.offset_s
        if abs(moved_s) <= first.error_at_s(second.at_s) + second.error_s:
            drift = moved_s / (second.at_s - first.at_s)
            offset_s = first.offset_s + drift * (middle_s - first.at_s)
            error_s = max(first.error_s, second.error_s)
            return AlignedClock(offset_s, error_s, "between two comparisons of clocks", middle_s, drift)
        before = after = []  # one of them is of another boot, so shortly that the batches do not tell which
    sources = dict.fromkeys((*before, *after), "one comparison of clocks")
    sources[own] = "the cell's own batches"
    errors_s = {compared: max(compared.error_at_s(start_s), compared.error_at_s(end_s)) for compared in sources}
    best = min(sources, key=lambda compared: errors_s[compared])
    return AlignedClock(best.offset_s, errors_s[best], sources[best], best.at_s)


def _probed(run: Run, host: str, own: _Comparison, boot_utc_s: float) -> list[_Comparison]:
    """Comparisons of the boots in which a cell was measured, of host and orchestrator, as they were made.

    Parameters
    ----------
    own : what the cell's batches say.
    boot_utc_s : of the orchestrator's clock, about.
    """
    found = []
    for probe in run.probes:
        for clock in probe.clocks:
            if clock.worker != host or not clock.exchanges:
                continue
            one = _Comparison.of(clock.exchanges)
            if (
                abs(one.offset_s - own.offset_s) <= one.error_s + own.error_at_s(one.at_s)
                and abs(_boot_utc_s(probe.started_utc, one.at_s) - boot_utc_s) <= _LONGEST_BEGINNING_S
            ):
                found.append(one)
    return sorted(found, key=lambda one: one.at_s)


def _exchange(batch: BatchRecord, hosts: Sequence[str], host: str) -> ClockExchange:
    """A batch as an exchange of clocks with a host: what that did for it was after its dispatch, before its return."""
    own = [phases for phases, where in zip(batch.stages, hosts, strict=True) if where == host]
    began = own[0].receive_start_s
    return ClockExchange(
        sent_s=batch.dispatched_s,
        arrived_s=own[0].compute_start_s if began is None else began,
        answered_s=own[-1].send_start_s,  # a result may be there before its sender knows that all has been sent
        returned_s=batch.returned_s,
    )


def _boot_utc_s(started_utc: str | None, at_s: float) -> float:
    """When the orchestrator's clock began, if it read `at_s` then; nothing equals it where that is not known."""
    return datetime.fromisoformat(started_utc).timestamp() - at_s if started_utc else math.nan


def _batches(cell: Cell) -> list[BatchRecord]:
    return [batch for sub in cell.subruns for batch in (*sub.warmup, *sub.batches)]


def _stage_hosts(cell: Cell) -> tuple[str, ...]:
    stages = len(_batches(cell)[0].stages)
    return cell.hosts[:stages] or tuple("AB"[:stages])


def _on_one_clock(batch: BatchRecord, hosts: Sequence[str], clocks: dict[str, AlignedClock]) -> BatchRecord:
    def moved(phases: Phases, offset_s: float) -> Phases:
        times = {
            name: None if value is None else value - offset_s
            for name, value in msgspec.structs.asdict(phases).items()
            if name.endswith(("_start_s", "_end_s"))
        }
        return msgspec.structs.replace(phases, **times)

    stages = tuple(
        moved(phases, clocks[host].offset_at_s(batch.dispatched_s))
        for phases, host in zip(batch.stages, hosts, strict=True)
    )
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
        found[f"clock of {host}"] = str(clock)
    return found


def _process(position: int) -> int:
    return _ORCHESTRATOR + 1 + position


def _metadata(what: str, process: int, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": arguments}
