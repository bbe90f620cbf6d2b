"""Two stages that compute for real, over loopback: what a pipeline costs beyond its stages, and the paper's headline.

mobilenet_v2 at the split that the shipped x86-core profile calls most even, a worker a core. Every round runs each
variant in an order of its own: one batch at a time, then a window of four kept full. What is compared is of one run:
the period with the slower stage's own compute time while both computed, the latency with the sum of the stages' while
one did.

A variant's images per second and latencies are nearly all computing, which takes as long as the machine lets it in
those seconds: between variants they say little unless the computing times beside them agree. What a variant itself
costs is what it takes beyond computing, batch by batch, and how far its period is above its slower stage's time.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hwrun.feeding import Fed, feed
from hwrun.local.testbed import LocalTestbed
from hwrun.local.workers import LocalWorkers
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.records import BackendName, Phases, WorkerKind
from hwrun.reference import Reference, References, compare, require_equal
from hwrun.testbed import DataPath
from paretosim.mode import Mode
from paretosim.plan import Stage
from paretosim.profiles import ProfileStore
from tests.benchmarks.transport_rounds import bare_s

MODEL, BATCH, WINDOW = "mobilenet_v2", 8, 4
PERIOD_BAR, LATENCY_BAR = 1.05, 1.03
_ROUNDS, _BATCHES = 4, 10
VARIANTS: tuple[tuple[BackendName, WorkerKind], ...] = (("tcp", "overlapped"), ("tcp", "serial"), ("rpc", "overlapped"))


@dataclass(frozen=True)
class Round:
    """One variant's figures of one round, seconds: medians of its batches, means where the window is full."""

    latency_s: float
    beyond_computing_s: float
    stages_alone_s: tuple[float, ...]
    full_latency_s: float
    period_s: float
    stages_full_s: tuple[float, ...]


@dataclass(frozen=True)
class TwoStages:
    """Rounds by variant, and what a bare transfer of the same activation takes."""

    split: int
    activation_bytes: int
    transfer_s: float
    rounds: dict[tuple[BackendName, WorkerKind], tuple[Round, ...]]

    @property
    def period_ratio(self) -> float:
        """Of tcp: period over the slower stage's compute time in that run."""
        return _period_ratio(self.rounds["tcp", "overlapped"])

    @property
    def latency_ratio(self) -> float:
        """Of tcp: latency over the stages' sum and a bare transfer."""
        return statistics.median(
            r.latency_s / (sum(r.stages_alone_s) + self.transfer_s) for r in self.rounds["tcp", "overlapped"]
        )

    @property
    def met(self) -> bool:
        """Whether both bars are."""
        return self.period_ratio <= PERIOD_BAR and self.latency_ratio <= LATENCY_BAR

    def __str__(self) -> str:
        own = self.rounds["tcp", "overlapped"]
        words = [
            "met" if ok else "MISSED" for ok in (self.period_ratio <= PERIOD_BAR, self.latency_ratio <= LATENCY_BAR)
        ]
        contention = [
            statistics.median(r.stages_full_s[stage] / r.stages_alone_s[stage] for r in own) for stage in (0, 1)
        ]
        lines = [
            f"{MODEL} at split {self.split}, batch {BATCH}, two stages over loopback"
            f" ({self.activation_bytes / 1e6:.2f} MB, bare transfer {self.transfer_s * 1e3:.2f} ms):",
            f"    period over the slower stage: {self.period_ratio:.3f}×, bar {PERIOD_BAR:g}×: {words[0]}",
            f"    latency over stages and transfer: {self.latency_ratio:.3f}×, bar {LATENCY_BAR:g}×: {words[1]}",
            f"    each stage computing beside the other, over alone: {contention[0]:.3f}×, {contention[1]:.3f}×",
        ]
        for (backend, workers), rounds in self.rounds.items():
            single_s = statistics.median(r.latency_s for r in rounds)
            full_s, period_s = (
                statistics.median(getattr(r, n) for r in rounds) for n in ("full_latency_s", "period_s")
            )
            alone, full = (
                " + ".join(f"{statistics.median(values) * 1e3:.1f}" for values in zip(*of_rounds, strict=True))
                for of_rounds in ([r.stages_alone_s for r in rounds], [r.stages_full_s for r in rounds])
            )
            beyond_s = statistics.median(r.beyond_computing_s for r in rounds)
            lines += [
                f"    {backend} {workers}: alone {single_s * 1e3:.1f} ms (computing {alone}); window {WINDOW}:"
                f" {full_s * 1e3:.1f} ms (computing {full}), {BATCH / period_s:.2f} images/s;",
                f"        beyond computing {beyond_s * 1e3:.2f} ms a batch alone, period"
                f" {_period_ratio(rounds):.3f}× the slower stage",
            ]
        return "\n".join(lines)


def _period_ratio(rounds: Sequence[Round]) -> float:
    return statistics.median(r.period_s / max(r.stages_full_s) for r in rounds)


def two_stages() -> TwoStages:
    """Measure every variant."""
    model = ProfileStore().model(MODEL)
    block_s, _ = ProfileStore().timing("x86-core", MODEL).at_batch(BATCH)
    split = min(range(1, len(block_s)), key=lambda cut: max(sum(block_s[:cut]), sum(block_s[cut:])))
    activation_bytes = model.cut_bytes()[split] * BATCH
    stages = (Stage("x86-core", 0, split), Stage("x86-core", split, len(block_s)))
    rounds: dict[tuple[BackendName, WorkerKind], list[Round]] = {variant: [] for variant in VARIANTS}
    with (
        LocalTestbed(shaped=False) as testbed,
        LocalWorkers(testbed, threads=1, pinned=True, log_folder=None) as workers,
    ):
        reference = References(workers.store, 1, 0).of(MODEL, BATCH)
        order = random.Random(0)
        for _ in range(_ROUNDS):
            for variant in order.sample(VARIANTS, len(VARIANTS)):
                rounds[variant].append(_round(workers, reference, stages, variant, activation_bytes))
    return TwoStages(
        split, activation_bytes, bare_s(activation_bytes), {variant: tuple(found) for variant, found in rounds.items()}
    )


def _round(
    workers: LocalWorkers,
    reference: Reference,
    stages: tuple[Stage, ...],
    variant: tuple[BackendName, WorkerKind],
    limit_bytes: int,
) -> Round:
    backend, kind = variant
    path = DataPath(("A", "B"), (None,), "B", None, backend)
    deployment = Deployment(
        model=MODEL,
        stages=stages,
        targets_s=None,
        compute_each=False,
        digests=reference.digests,
        inputs=reference.inputs,
        input_at_sink=False,
        batch=BATCH,
        seed=0,
        limit_bytes=max(limit_bytes, reference.inputs[0].nbytes),
        queue_depth=2,
        backend=backend,
        workers=kind,
    )
    clients = [workers.client(host) for host in path.hosts]
    with Pipeline(clients, workers.ends(path), deployment, time.monotonic() + 300) as pipeline:
        require_equal(compare(pipeline.prime(), reference.outputs))
        pipeline.collect()
        (alone,) = feed(pipeline, Mode.named("single"), _BATCHES)
        alone_phases = pipeline.collect().phases
        (full,) = feed(pipeline, Mode.named("closed", window=WINDOW), _BATCHES)
        full_phases = pipeline.collect().phases
    returned_s = [fed.returned_s for fed in full.batches]
    return Round(
        latency_s=_latency_s(alone.batches),
        beyond_computing_s=statistics.median(
            fed.returned_s - fed.dispatched_s - sum(_computing_s(stage) for stage in alone_phases[fed.sequence])
            for fed in alone.batches
        ),
        stages_alone_s=_compute_s(alone.batches, alone_phases, statistics.median),
        full_latency_s=_latency_s(full.batches),
        period_s=(returned_s[-1] - returned_s[0]) / (len(returned_s) - 1),
        # A period is a mean, so what it is held against is one too.
        stages_full_s=_compute_s(full.batches, full_phases, statistics.fmean),
    )


def _latency_s(batches: Sequence[Fed]) -> float:
    return statistics.median(fed.returned_s - fed.dispatched_s for fed in batches)


def _compute_s(
    batches: Sequence[Fed], phases: dict[int, tuple[Phases, ...]], statistic: Callable[[Sequence[float]], float]
) -> tuple[float, ...]:
    """Compute time of each stage."""
    of_batches = [phases[fed.sequence] for fed in batches]
    return tuple(statistic([_computing_s(stage) for stage in stages]) for stages in zip(*of_batches, strict=True))


def _computing_s(stage: Phases) -> float:
    return stage.compute_end_s - stage.compute_start_s


if __name__ == "__main__":
    print(two_stages())
