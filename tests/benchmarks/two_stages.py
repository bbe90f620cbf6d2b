"""Two stages that compute for real, over loopback: what a pipeline costs beyond its stages.

What is compared is of one run, and of the same batches: a batch's latency with what its own two stages computed and a
bare transfer (medians of quantities that vary do not add up), and the period with the slower stage's mean compute time
while both computed. What two stages on neighbouring cores cost each other, caches and memory that they share, is in
both sides of that, and stands apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.stage_rounds import BATCH, MODEL, Round, Variant, bench, over_rounds
from tests.benchmarks.transport_rounds import bare_s

PERIOD_BAR, LATENCY_BAR = 1.05, 1.03
_ROUNDS, _BATCHES = 8, 10


@dataclass(frozen=True)
class TwoStages:
    """Rounds of tcp with overlapped workers, and what a bare transfer of the same activation takes."""

    split: int
    activation_bytes: int
    transfer_s: float
    rounds: tuple[Round, ...]

    @property
    def period_ratio(self) -> float:
        """Period over the slower stage's compute time in that run."""
        return over_rounds(self.rounds, _period_ratio)

    @property
    def latency_ratio(self) -> float:
        """Latency over the batch's own stages and a bare transfer."""
        return over_rounds(self.rounds, lambda r: r.over(self.transfer_s))

    @property
    def met(self) -> bool:
        """Whether both bars are."""
        return self.period_ratio <= PERIOD_BAR and self.latency_ratio <= LATENCY_BAR

    def __str__(self) -> str:
        words = [
            "met" if ok else "MISSED" for ok in (self.period_ratio <= PERIOD_BAR, self.latency_ratio <= LATENCY_BAR)
        ]
        periods, latencies = (
            _range(self.rounds, ratio) for ratio in (_period_ratio, lambda r: r.over(self.transfer_s))
        )
        alone, full = (
            [statistics.median(of_stages[k] for of_stages in stages_s) * 1e3 for k in (0, 1)]
            for stages_s in ([r.stages_alone_s for r in self.rounds], [r.stages_full_s for r in self.rounds])
        )
        beyond_s = over_rounds(self.rounds, lambda r: r.beyond_s)
        return "\n".join(
            [
                f"{MODEL} at split {self.split}, batch {BATCH}, two stages over loopback"
                f" ({self.activation_bytes / 1e6:.2f} MB), medians of {len(self.rounds)} rounds (and their range):",
                f"    period over the slower stage: {self.period_ratio:.3f}× ({periods}),"
                f" bar {PERIOD_BAR:g}×: {words[0]}",
                f"    latency over the batch's own stages and a bare transfer: {self.latency_ratio:.3f}× ({latencies}),"
                f" bar {LATENCY_BAR:g}×: {words[1]};",
                f"        beyond computing {beyond_s * 1e3:.2f} ms, of which a bare transfer is"
                f" {self.transfer_s * 1e3:.2f} ms",
                f"    what the stages cost each other: {full[0]:.1f} and {full[1]:.1f} ms beside each other,"
                f" {alone[0]:.1f} and {alone[1]:.1f} ms alone: {full[0] / alone[0]:.3f}× and {full[1] / alone[1]:.3f}×",
            ]
        )


def _period_ratio(one: Round) -> float:
    return one.period_s / max(one.stages_full_s)


def _range(rounds: Sequence[Round], figure: Callable[[Round], float]) -> str:
    found = [figure(one) for one in rounds]
    return f"{min(found):.3f}–{max(found):.3f}"


def two_stages() -> TwoStages:
    """Measure it."""
    tcp = Variant("tcp", "overlapped")
    with bench() as stages:
        rounds = stages.rounds([tcp], _ROUNDS, _BATCHES)[tcp]
        return TwoStages(stages.split, stages.activation_bytes, bare_s(stages.activation_bytes), rounds)


if __name__ == "__main__":
    print(two_stages())
