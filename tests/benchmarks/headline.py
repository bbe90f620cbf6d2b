"""The paper's headline on this code: same split, same window, tcp against serial workers and against rpc.

Latency (a batch alone) and throughput (a window kept full) side by side, interleaved: a round runs every variant, in an
order of its own, and what is compared is paired by round. First with stages that compute, whose time varies by itself
more than transports differ; then with stages that take exactly as long as those did, so that what is left between
variants is what carries the batches.

The interval of a ratio is from the second least to the second most of the rounds: with ten, it holds the median with
probability 0.979, however the rounds are distributed (1 − 2·(1 + 10)/2¹⁰, by order statistics). Two variants whose
interval holds 1 are said not to be told apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.stage_rounds import BATCH, MODEL, WINDOW, Round, Variant, bench, over_rounds

_ROUNDS, _BATCHES = 10, 6
_MEANS = (("tcp", "overlapped"), ("tcp", "serial"), ("rpc", "overlapped"))


@dataclass(frozen=True)
class Headline:
    """Rounds of all variants, computing and timed. Nothing to meet: an order, where there is one."""

    split: int
    activation_bytes: int
    rounds: dict[Variant, tuple[Round, ...]]
    targets_s: tuple[float, ...]

    met = True

    def __str__(self) -> str:
        lines = [
            f"the paper's headline: {MODEL} at split {self.split}, batch {BATCH}, {self.activation_bytes / 1e6:.2f} MB,"
            f" window {WINDOW}; medians of {_ROUNDS} rounds, ratios paired by round with their interval:"
        ]
        for timed in (False, True):
            took = " and ".join(f"{target_s * 1e3:.1f}" for target_s in self.targets_s)
            lines.append(f"    stages that take {took} ms:" if timed else "    stages that compute:")
            variants = [variant for variant in self.rounds if variant.timed is timed]
            first = self.rounds[variants[0]]
            for variant in variants:
                own = self.rounds[variant]
                lines.append(
                    f"        {variant!s:15} latency {over_rounds(own, lambda r: r.latency_s) * 1e3:7.2f} ms (beyond"
                    f" computing {over_rounds(own, lambda r: r.beyond_s) * 1e3:5.2f}), throughput"
                    f" {over_rounds(own, _throughput_per_s):7.2f} images/s, latency then"
                    f" {over_rounds(own, lambda r: r.full_latency_s) * 1e3:.1f} ms"
                )
                if own is not first:
                    latency = _ratio(own, first, lambda r: r.latency_s)
                    throughput = _ratio(own, first, _throughput_per_s)
                    lines.append(f"            over {variants[0]}: latency {latency}; throughput {throughput}")
        return "\n".join(lines)


def _throughput_per_s(one: Round) -> float:
    return BATCH / one.period_s


def _ratio(own: Sequence[Round], other: Sequence[Round], figure: Callable[[Round], float]) -> str:
    ratios = sorted(figure(one) / figure(two) for one, two in zip(own, other, strict=True))
    low, high = ratios[1], ratios[-2]
    said = "cannot be told apart" if low <= 1 <= high else "more" if low > 1 else "less"
    return f"{statistics.median(ratios):.3f}× ({low:.3f}–{high:.3f}): {said}"


def headline() -> Headline:
    """Measure all variants."""
    computing, timed = ([Variant(*means, timed=timed) for means in _MEANS] for timed in (False, True))
    with bench() as stages:
        rounds = stages.rounds(computing, _ROUNDS, _BATCHES)
        alone = rounds[computing[0]]
        targets_s = (
            over_rounds(alone, lambda r: r.stages_alone_s[0]),
            over_rounds(alone, lambda r: r.stages_alone_s[1]),
        )
        rounds |= stages.rounds(timed, _ROUNDS, _BATCHES, targets_s)
        return Headline(stages.split, stages.activation_bytes, rounds, targets_s)


if __name__ == "__main__":
    print(headline())
