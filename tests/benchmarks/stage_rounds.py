"""Two stages of mobilenet_v2 on neighbouring cores, run again and again by different means, for comparison in one run.

The split is the one that the shipped x86-core profile calls most even; a worker a core. A round runs each variant in an
order of its own: one batch at a time, then a window kept full.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

MODEL, BATCH, WINDOW = "mobilenet_v2", 8, 4


@dataclass(frozen=True)
class Variant:
    """What carries batches and how workers work; `timed` stages take exactly the times they are given."""

    backend: BackendName
    workers: WorkerKind
    timed: bool = False

    def __str__(self) -> str:
        return f"{self.backend} {self.workers}"


@dataclass(frozen=True)
class Round:
    """One variant's batches of one round, seconds: each one's latency and its stages' compute times, alone and full."""

    alone: tuple[tuple[float, tuple[float, ...]], ...]
    full: tuple[tuple[float, tuple[float, ...]], ...]
    period_s: float

    @property
    def latency_s(self) -> float:
        """Median latency of a batch alone."""
        return statistics.median(latency_s for latency_s, _ in self.alone)

    @property
    def full_latency_s(self) -> float:
        """Median latency with the window full."""
        return statistics.median(latency_s for latency_s, _ in self.full)

    @property
    def beyond_s(self) -> float:
        """Median of what a batch alone takes beyond its own stages' computing."""
        return statistics.median(latency_s - sum(stages_s) for latency_s, stages_s in self.alone)

    @property
    def stages_alone_s(self) -> tuple[float, ...]:
        """Median compute time of each stage while no other computes."""
        return tuple(map(statistics.median, zip(*(stages_s for _, stages_s in self.alone), strict=True)))

    @property
    def stages_full_s(self) -> tuple[float, ...]:
        """Mean compute time of each stage with the window full: a period is a mean, so what it is held against is."""
        return tuple(map(statistics.fmean, zip(*(stages_s for _, stages_s in self.full), strict=True)))

    def over(self, transfer_s: float) -> float:
        """Median of a batch's latency over its own stages' computing and a transfer."""
        return statistics.median(latency_s / (sum(stages_s) + transfer_s) for latency_s, stages_s in self.alone)


class Bench:
    """Two workers, and the model in two stages."""

    def __init__(self, workers: LocalWorkers, reference: Reference) -> None:
        self._workers, self._reference = workers, reference
        model = ProfileStore().model(MODEL)
        block_s, _ = ProfileStore().timing("x86-core", MODEL).at_batch(BATCH)
        self.split = min(range(1, len(block_s)), key=lambda cut: max(sum(block_s[:cut]), sum(block_s[cut:])))
        self.activation_bytes = model.cut_bytes()[self.split] * BATCH
        self._stages = (Stage("x86-core", 0, self.split), Stage("x86-core", self.split, len(block_s)))

    def rounds(
        self, variants: Sequence[Variant], rounds: int, batches: int, targets_s: tuple[float, ...] | None = None
    ) -> dict[Variant, tuple[Round, ...]]:
        """Each variant once a round, in an order of its own.

        Parameters
        ----------
        batches : of each variant in a round, alone, and about as many with the window full.
        targets_s : of timed stages.
        """
        found: dict[Variant, list[Round]] = {variant: [] for variant in variants}
        order = random.Random(0)
        for _ in range(rounds):
            for variant in order.sample(list(variants), len(variants)):
                found[variant].append(self._round(variant, batches, targets_s if variant.timed else None))
        return {variant: tuple(of) for variant, of in found.items()}

    def _round(self, variant: Variant, batches: int, targets_s: tuple[float, ...] | None) -> Round:
        path = DataPath(("A", "B"), (None,), "B", None, variant.backend)
        deployment = Deployment(
            model=MODEL,
            stages=self._stages,
            targets_s=targets_s,
            compute_each=False,
            digests=self._reference.digests,
            inputs=self._reference.inputs,
            input_at_sink=False,
            batch=BATCH,
            seed=0,
            limit_bytes=max(self.activation_bytes, self._reference.inputs[0].nbytes),
            queue_depth=2,
            backend=variant.backend,
            workers=variant.workers,
        )
        clients = [self._workers.client(host) for host in path.hosts]
        with Pipeline(clients, self._workers.ends(path), deployment, 300) as pipeline:
            require_equal(compare(pipeline.prime(), self._reference.outputs))
            pipeline.collect()
            (alone,) = feed(pipeline, Mode.named("single"), batches)
            alone_phases = pipeline.collect().phases
            (full,) = feed(pipeline, Mode.named("closed", window=WINDOW), batches)
            full_phases = pipeline.collect().phases
        returned_s = [fed.returned_s for fed in full.batches]
        return Round(
            alone=_batches(alone.batches, alone_phases),
            full=_batches(full.batches, full_phases),
            period_s=(returned_s[-1] - returned_s[0]) / (len(returned_s) - 1),
        )


def _batches(
    batches: Sequence[Fed], phases: dict[int, tuple[Phases, ...]]
) -> tuple[tuple[float, tuple[float, ...]], ...]:
    return tuple(
        (
            fed.returned_s - fed.dispatched_s,
            tuple(stage.compute_end_s - stage.compute_start_s for stage in phases[fed.sequence]),
        )
        for fed in batches
    )


@contextmanager
def bench() -> Iterator[Bench]:
    """Two workers, each on a core of its own where there are two."""
    with (
        LocalTestbed(shaped=False) as testbed,
        LocalWorkers(testbed, threads=1, log_folder=None) as workers,
    ):
        yield Bench(workers, References(workers.store, 1, 0).of(MODEL, BATCH))


def over_rounds(rounds: Sequence[Round], figure: Callable[[Round], float]) -> float:
    """Median over rounds."""
    return statistics.median(map(figure, rounds))
