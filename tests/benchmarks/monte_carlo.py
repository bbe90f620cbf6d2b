"""How long a thousand samples of every split of vgg16 take through the recursion, block times drawn for each batch."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from paretosim import recursion
from paretosim.chain import hops_of, splits_of
from paretosim.line import line_of
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.prediction import transfers_s
from paretosim.queueing import Line, run
from paretosim.setting_words import split_setting
from tests.benchmarks.seconds import Seconds, runs_s

SAMPLES, BATCHES = 1000, 8
SPREAD = 0.1


def _random_services() -> tuple[NDArray[np.float64], Line]:
    """(samples, splits, batches, stations) seconds, and the line that they are around."""
    setting = split_setting("vgg16", bw="50mbit", delay="10ms", mode="burst")
    blocks = len(setting.model.blocks)
    splits = splits_of(blocks, "all")
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    hops = hops_of(cut_bytes, splits, source="stage1", sink="last")
    generator = np.random.default_rng(0)
    factors = np.exp(SPREAD * generator.standard_normal((2, SAMPLES, BATCHES, blocks)))
    means = np.array([timing.at_batch(setting.batch)[0] for timing in setting.timings])[:, np.newaxis, np.newaxis]
    done = np.zeros((2, SAMPLES, BATCHES, blocks + 1))
    np.cumsum(factors * means, axis=-1, out=done[..., 1:])
    stages = np.stack([done[0], done[1][..., -1:] - done[1]], axis=-1)  # (samples, batches, splits, 2)
    times = transfers_s(setting, hops)
    line = line_of(stages[0, 0], times, hops, setting.link, 0.0)
    link = np.broadcast_to(times[0][:, 0], stages.shape[:-1])
    services = np.stack([stages[..., 0], link, stages[..., 1]], axis=-1)
    return np.moveaxis(services, 1, 2), line


def _percentiles() -> NDArray[np.float64]:
    services, line = _random_services()
    done = recursion.run(services, line.delays_s, np.zeros(BATCHES))
    return np.percentile(done.latencies_s.mean(axis=-1), (50, 95, 99), axis=0)


def _plain_loop(services: NDArray[np.float64], delays: list[float]) -> float:
    """One sample of one split, as a loop over numbers."""
    free = [0.0] * len(delays)
    total = 0.0
    for batch in services.tolist():
        at = 0.0
        for j, took in enumerate(batch):
            free[j] = max(at, free[j]) + took
            at = free[j] + delays[j]
        total += at
    return total / len(services)


def monte_carlo() -> Seconds:
    """Drawing, stage sums, recursion and percentiles of 1,000 samples × 40 splits × 8 batches."""
    runs = runs_s(_percentiles, 7)
    tracemalloc.start()
    _percentiles()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    services, line = _random_services()
    delays = line.delays_s[0].tolist()
    start = time.perf_counter()
    for sample in range(50):
        for split in range(services.shape[1]):
            _plain_loop(services[sample, split], delays)
    loop_s = (time.perf_counter() - start) * SAMPLES / 50
    start = time.perf_counter()
    recursion.run(services, line.delays_s, np.zeros(BATCHES))
    recursion_s = time.perf_counter() - start
    start = time.perf_counter()
    run(line, Operation(workers="serial"), np.zeros((SAMPLES, BATCHES)))
    serial_s = time.perf_counter() - start
    return Seconds(
        f"Monte Carlo of {SAMPLES} samples × {services.shape[1]} splits of vgg16, {Mode.named('burst')}",
        runs,
        1.0,
        notes=(
            f"peak {peak_bytes / 2**20:.0f} MiB",
            f"the recursion alone {recursion_s:.3f} s; a plain Python loop (of 50 samples): {loop_s / recursion_s:.0f}×"
            " that",
            f"serial workers, as many runs of fixed times: {serial_s:.3f} s",
        ),
    )
