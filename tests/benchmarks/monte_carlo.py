"""How long a thousand samples of every split of vgg16 take through the recursion, block times drawn for each batch."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from paretosim import recursion, serial_workers
from paretosim.mode import Mode
from paretosim.operation import SEND_BUFFER_BYTES
from paretosim.serial_workers import WireTimes, Worker
from paretosim.setting_words import split_setting
from paretosim.transfer_time import serialisation_s
from tests.benchmarks.seconds import Seconds, runs_s

SAMPLES, BATCHES = 1000, 8
SPREAD = 0.1
SETTING = split_setting("vgg16", bw="50mbit", delay="10ms", mode="burst")
PAYLOAD_BYTES = np.array(SETTING.model.cut_bytes(), dtype=np.float64) * SETTING.batch
DELAYS_S = np.array([0.0, SETTING.link.one_way_delay_s, 0.0])


def _random_services() -> NDArray[np.float64]:
    """(samples, splits, batches, stations) seconds: stage 1, link, stage 2."""
    generator = np.random.default_rng(0)
    blocks = len(SETTING.model.blocks)
    factors = np.exp(SPREAD * generator.standard_normal((2, SAMPLES, BATCHES, blocks)))
    means = np.array([timing.at_batch(SETTING.batch)[0] for timing in SETTING.timings])[:, np.newaxis, np.newaxis]
    done = np.zeros((2, SAMPLES, BATCHES, blocks + 1))
    np.cumsum(factors * means, axis=-1, out=done[..., 1:])
    link = np.broadcast_to(serialisation_s(PAYLOAD_BYTES, SETTING.link), done.shape[1:])
    services = np.stack([done[0], link, done[1][..., -1:] - done[1]], axis=-1)
    return np.moveaxis(services, 1, 2)


def _percentiles() -> NDArray[np.float64]:
    done = recursion.run(_random_services(), DELAYS_S, np.zeros(BATCHES))
    return np.percentile(done.latencies_s.mean(axis=-1), (50, 95, 99), axis=0)


def _serially(services: NDArray[np.float64]) -> None:
    none = np.zeros(len(PAYLOAD_BYTES))
    delay, back = (np.full(len(none), value) for value in (SETTING.link.one_way_delay_s, SETTING.link.return_delay_s))
    shares = (SEND_BUFFER_BYTES / PAYLOAD_BYTES, SETTING.link.wmax_bytes / PAYLOAD_BYTES)
    wire = WireTimes(services[0, :, 0, 1], none, delay, back, *shares).as_wire()
    stages = [Worker(lambda n, start, j=j: start + services[:, :, n, j]) for j in (0, 2)]
    serial_workers.run([stages[0], wire, stages[1]], np.zeros(BATCHES), services.shape[:2])


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
    services = _random_services()
    delays = DELAYS_S.tolist()
    start = time.perf_counter()
    for sample in range(50):
        for split in range(services.shape[1]):
            _plain_loop(services[sample, split], delays)
    loop_s = (time.perf_counter() - start) * SAMPLES / 50
    start = time.perf_counter()
    recursion.run(services, DELAYS_S, np.zeros(BATCHES))
    recursion_s = time.perf_counter() - start
    start = time.perf_counter()
    _serially(services)
    serial_s = time.perf_counter() - start
    return Seconds(
        f"Monte Carlo of {SAMPLES} samples × {services.shape[1]} splits of vgg16, {Mode.named('burst')}",
        runs,
        1.0,
        notes=(
            f"peak {peak_bytes / 2**20:.0f} MiB",
            f"the recursion alone {recursion_s:.3f} s; a plain Python loop (of 50 samples): {loop_s / recursion_s:.0f}×"
            " that",
            f"the same with serial workers {serial_s:.3f} s",
        ),
    )
