"""Objectives of a line that the closed forms over L₀ and t* are not of: serial workers, buffers, finite runs, `open`.

Steady states come from the line's saturated period, which has a closed form; `burst` and finite runs from the
recursion. Poisson arrivals have an exact wait where services are fixed and nothing bounds the queues, and are sampled
through the recursion elsewhere (docs/model.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim import recursion, serial_workers
from paretosim.line import Line
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.pipeline import significant
from paretosim.recursion import Run
from paretosim.serial_workers import WireTimes, Worker

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PERCENTILES = (50, 95, 99)
# Stationary Poisson figures: independent runs, each with as many batches first that do not count.
POISSON_RUNS, POISSON_WARMUP, POISSON_BATCHES = 16, 1000, 2000


class Queued(msgspec.Struct, frozen=True):
    """Objectives of each plan, (plans,), and the station that binds it.

    A latency is infinite where batches arrive faster than they can leave. `percentiles_s` (3, plans) exist in `open`.
    """

    latency_s: Array
    period_s: Array
    binding: NDArray[np.intp]
    latency_from_start_s: Array | None = None
    percentiles_s: Array | None = None


def intervals_s(line: Line, operation: Operation) -> Array:
    """How often each station can take a batch in a line that is never short of them, (plans, stations)."""
    if operation.workers == "serial":
        return serial_workers.intervals_s(line.serial_stations(operation)).T
    return recursion.intervals_s(line.occupied_s, line.delays_s, _slots(line, operation))


def saturated_period_s(line: Line, operation: Operation) -> tuple[Array, NDArray[np.intp]]:
    """Interval (plans,) of a line that is never short of batches, and the station that sets it."""
    intervals = intervals_s(line, operation)
    return intervals.max(axis=1), significant(intervals).argmax(axis=1)  # the first of equals


def run(line: Line, operation: Operation, arrivals_s: Array, window: int | None = None) -> Run:
    """All batches through the line: times (…, plans, batches) from arrivals (…, batches) that all plans share."""
    plans = len(line.services_s)
    shared = arrivals_s[..., np.newaxis, :]
    if operation.workers == "overlapped":
        return recursion.run(
            (line.services_s + line.stalls_s)[:, np.newaxis, :],
            line.delays_s,
            shared,
            control_delay_s=line.control_delay_s,
            held_s=line.held_s,
            slots=_slots(line, operation),
            window=window,
            started_at=line.stage1,
        )
    stations = [
        station.as_wire() if isinstance(station, WireTimes) else _worker(station)
        for station in line.serial_stations(operation)
    ]
    return serial_workers.run(
        stations,
        shared,
        (*arrivals_s.shape[:-1], plans),
        control_delay_s=line.control_delay_s,
        window=window,
        started_at=line.stage1,
    )


def objectives(line: Line, mode: Mode, operation: Operation) -> Queued:
    """Latency and period of every plan, as docs/model.md defines them for the mode.

    Of a finite run, latency is the mean over all its batches and the period the mean interval of completions.
    """
    period, binding = saturated_period_s(line, operation)
    unloaded = line.unloaded_s
    if isinstance(mode.arrivals, Arrivals):
        return _open(line, mode.arrivals, operation, period, binding)
    if mode.batches is not None:
        done = run(line, operation, np.zeros(mode.batches))
        latency, makespan = done.latencies_s.mean(axis=-1), done.returned_s[..., -1]
        from_start = significant((done.returned_s - done.started_s).mean(axis=-1))
        judged = from_start if operation.clock == "stage1" else significant(latency)
        return Queued(judged, significant(makespan / mode.batches), binding, from_start)
    if mode.window is not None:
        if operation.batches is not None:
            done = run(line, operation, np.zeros(operation.batches), mode.window)
            return Queued(
                significant(done.latencies_s.mean(axis=-1)), significant(completion_interval_s(done)), binding
            )
        latency = np.maximum(unloaded, mode.window * period)
        return Queued(significant(latency), significant(np.maximum(period, unloaded / mode.window)), binding)
    return Queued(significant(unloaded), significant(unloaded if mode.name == "single" else period), binding)


def completion_interval_s(done: Run) -> Array:
    """Mean interval of completions; the latency where there is but one batch."""
    batches = done.returned_s.shape[-1]
    if batches == 1:
        return done.latencies_s[..., 0]
    return np.asarray((done.returned_s[..., -1] - done.returned_s[..., 0]) / (batches - 1))


def arrival_times_s(arrivals: Arrivals, batches: int, generator: np.random.Generator, runs: int | None = None) -> Array:
    """When batches arrive, (batches,) or (runs, batches) seconds, the first at 0 (or after a first Poisson gap)."""
    shape = (batches,) if runs is None else (runs, batches)
    if arrivals.process == "deterministic":
        return np.broadcast_to(np.arange(batches) / arrivals.rate_per_s, shape)
    return np.cumsum(generator.exponential(1.0, shape), axis=-1) / arrivals.rate_per_s


def _open(
    line: Line, arrivals: Arrivals, operation: Operation, saturated_s: Array, binding: NDArray[np.intp]
) -> Queued:
    """Arrivals at a given rate. The same draws for every plan, so that plans differ by nothing else."""
    interval_s = 1 / arrivals.rate_per_s
    generator = np.random.default_rng(operation.seed)
    if operation.batches is not None:
        done = run(line, operation, arrival_times_s(arrivals, operation.batches, generator))
        return _sampled(done.latencies_s, significant(completion_interval_s(done)), binding)
    # At exactly the saturated rate, evenly spaced batches still never queue; random ones do so without end.
    deterministic = arrivals.process == "deterministic"
    room = significant(saturated_s)
    keeps_up = room <= significant(np.array([interval_s])) if deterministic else room < interval_s
    period = np.where(keeps_up, interval_s, significant(saturated_s))
    if deterministic:
        latency = np.where(keeps_up, significant(line.unloaded_s), np.inf)
        return Queued(latency, period, binding, percentiles_s=np.stack([latency] * len(PERCENTILES)))
    if operation.is_plain:
        return _waiting_exactly(line.unloaded_s, period, saturated_s, keeps_up, binding)
    batches = POISSON_WARMUP + POISSON_BATCHES
    done = run(line, operation, arrival_times_s(arrivals, batches, generator, POISSON_RUNS))
    latencies = np.moveaxis(done.latencies_s[..., POISSON_WARMUP:], 0, 1).reshape(len(period), -1)
    return _sampled(np.where(keeps_up[:, np.newaxis], latencies, np.inf), period, binding)


def _waiting_exactly(
    unloaded_s: Array, period_s: Array, slowest_s: Array, keeps_up: NDArray[np.bool_], binding: NDArray[np.intp]
) -> Queued:
    """Random arrivals at fixed services without bounds: all waiting is that before the slowest station alone."""
    from paretosim.random_wait import mean_wait, wait_percentile

    waits = np.full((1 + len(PERCENTILES), len(period_s)), np.inf)
    for plan in np.flatnonzero(keeps_up):
        load = float(slowest_s[plan] / period_s[plan])
        waits[0, plan] = mean_wait(load)
        waits[1:, plan] = [wait_percentile(load, percent / 100) for percent in PERCENTILES]
    waits[:, keeps_up] *= slowest_s[keeps_up]
    latencies = significant(unloaded_s + waits)
    return Queued(latencies[0], period_s, binding, percentiles_s=latencies[1:])


def _sampled(latencies_s: Array, period_s: Array, binding: NDArray[np.intp]) -> Queued:
    """Mean and percentiles of latencies (plans, samples)."""
    finite = np.isfinite(latencies_s).all(axis=1)
    percentiles = np.full((len(PERCENTILES), len(latencies_s)), np.inf)
    percentiles[:, finite] = np.percentile(latencies_s[finite], PERCENTILES, axis=1)
    return Queued(
        significant(latencies_s.mean(axis=1)),
        period_s,
        binding,
        percentiles_s=significant(percentiles),
    )


def _slots(line: Line, operation: Operation) -> tuple[int | None, ...]:
    return (operation.slots,) * (len(line.names) - 1)


def _worker(computing_s: Array) -> Worker:
    return Worker(lambda _, start: start + computing_s)
