"""Watching workers while a cell runs: each samples itself, and says before and after how its clock is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hwrun.machine.clock_state import held_back
from hwrun.records import WorkerSample, WorkerWatch
from hwrun.wire import control
from hwrun.worker_client import WorkerClient


class Watching:
    """Begins when it is made. A worker that fails meanwhile is its pipeline's matter, and raises here as there.

    Parameters
    ----------
    computed_on : host of each stage, and what it computes on, as Deployed says it: what happens to an accelerator that
        none of them uses holds nothing back.
    """

    def __init__(self, workers: Sequence[WorkerClient], computed_on: Sequence[tuple[str, str | None]] = ()) -> None:
        self._workers = tuple(workers)
        self._computed_on = frozenset(computed_on)
        self._before = [_asked(worker, ending=False) for worker in self._workers]

    def end(self) -> tuple[WorkerWatch, ...]:
        """Stop, and what each worker saw."""
        after = [_asked(worker, ending=True) for worker in self._workers]
        return tuple(
            WorkerWatch(
                host=worker.name,
                before=begun.clock,
                after=ended.clock,
                held_back=(
                    *held_back(begun.clock, ended.clock, _seen(ended.samples)),
                    *dict.fromkeys(self._gpu_causes(worker.name, ended.samples)),
                ),
                samples=ended.samples,
            )
            for worker, begun, ended in zip(self._workers, self._before, after, strict=True)
        )

    def _gpu_causes(self, host: str, samples: Sequence[WorkerSample]) -> Iterator[str]:
        """What lowered the clock of an accelerator in use; of several of one name, of them all."""
        for sample in samples:
            for gpu in sample.gpus:
                if (host, f"cuda: {gpu.name}") in self._computed_on:
                    yield from (f"{gpu.title}: {cause}, in between" for cause in gpu.held_back_by)


def _asked(worker: WorkerClient, *, ending: bool) -> control.Watched:
    return worker.request(control.Watch(ending=ending), control.Watched)


def _seen(samples: Sequence[WorkerSample]) -> frozenset[str]:
    return frozenset(cause for sample in samples for cause in sample.held_back)
