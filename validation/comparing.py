"""Comparisons: one plan under one condition, with all its repeats, measured beside predicted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwrun.records import Cell
from paretosim.plan import Plan
from validation.measured import Quantity, Repeat, quantity, repeat_of
from validation.predicting import Cuts, Inputs, PredictedPlan


@dataclass(frozen=True)
class Baselines:
    """What simpler models predict of the same cell.

    Additive: stages and payload·8/rate summed, no delay, no framing, no overlap. `overlap_throughput_per_s`
    is PipeEdge's view: the largest of the computations and the communication sets the pace.
    """

    additive_latency_s: float
    additive_throughput_per_s: float
    overlap_throughput_per_s: float


@dataclass(frozen=True)
class Comparison:
    """One plan under one condition: measured beside predicted.

    `transfers` are of the hops between stages, empty where the ends of a hop share no clock or batches queue for it.
    `fitted` says that the calibration of its prediction was fitted on a run that these cells stand in.
    """

    cuts: Cuts
    plan: str
    repeats: tuple[Repeat, ...]
    latency: Quantity
    throughput: Quantity
    stages: tuple[Quantity, ...]
    transfers: tuple[Quantity, ...]
    predicted: PredictedPlan
    inputs: Inputs
    baselines: Baselines
    fitted: bool = False

    @property
    def label(self) -> str:
        """The plan's name within its condition: where it is cut."""
        return "|".join(map(str, self.cuts))

    @property
    def activation_bytes(self) -> int:
        """Payload of a batch over all hops between stages."""
        return sum(self.predicted.activation_bytes)

    @property
    def imbalance(self) -> float:
        """The longest stage's share of all computing as predicted: 1/k in balance, 1 where one stage has all."""
        return max(self.predicted.stages_s) / sum(self.predicted.stages_s)

    @property
    def rest_s(self) -> float | None:
        """Latency that neither computing nor transfers explain: dispatch, handing over, the result's way back."""
        if not self.transfers:
            return None
        explained = (*self.stages, *self.transfers)
        return self.latency.measured - sum(phase.measured for phase in explained)

    @property
    def overruns(self) -> int:
        """Stage runs in which an emulated stage's host was slower than its target."""
        return sum(repeat.overruns for repeat in self.repeats)

    def under(self, predicted: PredictedPlan) -> Comparison:
        """The same measurements beside another prediction."""
        pairs = zip(self.stages, predicted.stages_s, strict=True)
        return replace(
            self,
            predicted=predicted,
            latency=replace(self.latency, predicted=predicted.latency_s),
            throughput=replace(self.throughput, predicted=predicted.throughput_per_s),
            stages=tuple(replace(stage, predicted=value) for stage, value in pairs),
            transfers=tuple(
                replace(q, predicted=value) for q, value in zip(self.transfers, predicted.transfers_s, strict=False)
            ),
        )


def compare(
    inputs: Inputs, predicted: PredictedPlan, cells: Sequence[tuple[str, Cell]], *, transfers_seen: bool, fitted: bool
) -> Comparison:
    """The comparison of one plan's done cells, each with the run that it stands in."""
    ordered = sorted(cells, key=lambda entry: (entry[0], entry[1].repeat))
    repeats = tuple(repeat_of(cell, run_id, transfers_seen=transfers_seen) for run_id, cell in ordered)
    # Batches of a burst wait for those before them, so that their latencies differ without any noise.
    samples_s = () if inputs.mode.name == "burst" else repeats[0].latency_samples_s
    pacing_s = repeats[0].interval_samples_s
    plan = Plan.parse(ordered[0][1].plan)
    computing_s = sum(predicted.stages_s)
    wires_s = predicted.wires_s
    return Comparison(
        cuts=plan.cuts,
        plan=ordered[0][1].plan,
        repeats=repeats,
        latency=quantity([r.latency_s for r in repeats], samples_s, predicted.latency_s),
        throughput=quantity([r.throughput_per_s for r in repeats], pacing_s, predicted.throughput_per_s),
        stages=tuple(
            _of_medians([r.compute_samples_s[k] for r in repeats], value)
            for k, value in enumerate(predicted.stages_s)
        ),
        transfers=_transfers(repeats, predicted),
        predicted=predicted,
        inputs=inputs,
        baselines=Baselines(
            additive_latency_s=computing_s + sum(wires_s),
            additive_throughput_per_s=inputs.batch / (computing_s + sum(wires_s)),
            overlap_throughput_per_s=inputs.batch / max(*predicted.stages_s, *wires_s),
        ),
        fitted=fitted,
    )  # fmt: skip


def _transfers(repeats: Sequence[Repeat], predicted: PredictedPlan) -> tuple[Quantity, ...]:
    """Of the hops that every repeat saw; none of any where one repeat saw none."""
    seen = [r.transfer_samples_s for r in repeats if r.transfer_samples_s is not None]
    if len(seen) < len(repeats):
        return ()
    return tuple(
        _of_medians([of_repeat[hop] for of_repeat in seen], predicted.transfers_s[hop])
        for hop in range(min(map(len, seen)))
    )


def _of_medians(samples_s: Sequence[Sequence[float]], predicted_s: float) -> Quantity:
    """Of a phase: per repeat the median over its batches."""
    return quantity([statistics.median(of_repeat) for of_repeat in samples_s], samples_s[0], predicted_s)
