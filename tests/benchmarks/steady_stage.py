"""What fixing the allocator is worth to a stage, a stage over the plain unsplit forward, and what a sampler uses.

Each process computes the same passes of MobileNetV2 at batch 8 on one core: as a worker's stage of all its blocks with
the steady environment and without it, and as the plain model, called as anybody would. They run in turn.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hwrun.machine.sampling import INTERVAL_S, Sampler, no_gpus
from hwrun.machine.steady import steady_environment
from tests.benchmarks.ratio import Ratio

_ROUNDS = 3
_PASSES = 8
_SAMPLES = 200
# A few thousandths of a core.
_SAMPLER_BAR = 0.005

_CHILD = f"""
import sys, time, statistics, torch
torch.set_num_threads(1)
from hwrun.models.catalogue import build_model, sample_input
from hwrun.models.cut import BlockChain
model = build_model("mobilenet_v2")
run = model if sys.argv[1] == "plain" else BlockChain.of("mobilenet_v2", model).stage(0, 21)
x = sample_input("mobilenet_v2", 8)
times = []
with torch.inference_mode():
    for number in range({_PASSES} + 2):
        start_s = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start_s)
print(statistics.median(times[2:]))
"""


def _pass_s(kind: str, environment: Mapping[str, str]) -> float:
    """Median seconds of a pass in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, kind], env={**kept, **environment}, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


@functools.cache
def _rounds() -> tuple[tuple[float, float, float], ...]:
    """Seconds of a pass: of a steady stage, of one with glibc's defaults, of the plain model; in turn."""
    steady = steady_environment(1)
    threads_alone = {name: value for name, value in steady.items() if not name.startswith("MALLOC_")}
    return tuple(
        (_pass_s("stage", steady), _pass_s("stage", threads_alone), _pass_s("plain", threads_alone))
        for _ in range(_ROUNDS)
    )


def _shown(place: int) -> str:
    return f"{statistics.median(times[place] for times in _rounds()) * 1e3:.0f} ms"


def allocator_gain() -> Ratio:
    """A stage's compute time with the allocator fixed over the same with glibc's defaults."""
    return Ratio(
        f"a stage's compute time with freed memory kept ({_shown(0)}) over glibc's defaults ({_shown(1)})",
        tuple(steady_s / default_s for steady_s, default_s, _ in _rounds()),
        # It must not make a stage slower; how much faster depends on what a page fault costs the machine.
        bar=1.05,
    )


def stage_over_plain() -> Ratio:
    """A steady stage of all blocks over the plain unsplit forward, as anybody would call it."""
    return Ratio(
        f"a steady stage of all blocks ({_shown(0)}) over the plain unsplit forward ({_shown(2)})",
        tuple(steady_s / plain_s for steady_s, _, plain_s in _rounds()),
        bar=1.05,
    )


@dataclass(frozen=True)
class Share:
    """Processor time as a share of a core, against a bar."""

    name: str
    share: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether it is within the bar."""
        return self.share <= self.bar

    def __str__(self) -> str:
        word = "met" if self.met else "MISSED"
        return f"{self.name}: {self.share * 1e3:.2f} ‰ of a core, bar {self.bar * 1e3:g} ‰: {word}"


def sampler_share() -> Share:
    """Processor time of a worker's sampler, as a share of a core at its own interval."""
    sampler = Sampler(no_gpus, interval_s=0.002, most=10**9)
    used_s = time.process_time()
    sampler.start()
    while len(sampler._samples) < _SAMPLES:
        time.sleep(0.05)
    count = len(sampler.stop())
    share = (time.process_time() - used_s) / count / INTERVAL_S
    return Share("a worker's sampler", share, _SAMPLER_BAR)
