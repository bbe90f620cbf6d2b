"""Fronts: whether the prediction names the splits that are best when measured, and what following it costs.

Both fronts are taken over the measured splits of one condition, with the project's one dominance test. Memory
plays no part here: every split compared has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paretosim.pareto import is_nondominated
from validation.join import Comparison

Array = NDArray[np.float64]
# A split this close to the front counts as on it in the tolerant scores.
DEFAULT_TOLERANCE = 0.02
# The reference point lies this much of the measured range beyond the worst of each objective.
REFERENCE_MARGIN = 0.1


@dataclass(frozen=True)
class SetAgreement:
    """Of the predicted front's splits the share that is on the measured front, and the other way round."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Regret:
    """What following the prediction costs in one objective: the measured loss against the measured best.

    `regret` is relative to the best; `true_rank` is 1 where the recommended split is the measured best.
    """

    recommended: int
    measured_best: int
    regret: float
    true_rank: int


@dataclass(frozen=True)
class FrontAgreement:
    """Predicted front over measured front of one condition.

    `decision_hypervolume` is what the predicted front's splits dominate when measured, over what the measured
    front dominates; 1 where the decision loses nothing, None where all splits measure alike in an objective.
    """

    predicted: tuple[int, ...]
    measured: tuple[int, ...]
    strict: SetAgreement
    tolerant: SetAgreement
    tolerance: float
    decision_hypervolume: float | None
    latency: Regret
    throughput: Regret

    @property
    def agrees(self) -> bool:
        """The same splits."""
        return self.predicted == self.measured


def front_agreement(comparisons: Sequence[Comparison], tolerance: float = DEFAULT_TOLERANCE) -> FrontAgreement | None:
    """Agreement over the splits of one condition; None where fewer than two were measured.

    Parameters
    ----------
    tolerance : relative; in the tolerant scores a split counts as on a front if improving it by this much in both
        objectives puts it there.
    """
    if len(comparisons) < 2:
        return None
    splits = [comparison.split for comparison in comparisons]
    measured = _costs([c.latency.measured for c in comparisons], [c.throughput.measured for c in comparisons])
    predicted = _costs([c.latency.predicted for c in comparisons], [c.throughput.predicted for c in comparisons])
    on_measured, on_predicted = is_nondominated(measured), is_nondominated(predicted)
    return FrontAgreement(
        predicted=_chosen(splits, on_predicted),
        measured=_chosen(splits, on_measured),
        strict=_agreement(on_predicted, on_measured, on_predicted, on_measured),
        tolerant=_agreement(
            on_predicted, on_measured, _nearly_on_front(predicted, tolerance), _nearly_on_front(measured, tolerance)
        ),
        tolerance=tolerance,
        decision_hypervolume=decision_hypervolume(measured, on_predicted, on_measured),
        latency=_regret(comparisons, "latency"),
        throughput=_regret(comparisons, "throughput"),
    )


def _costs(latencies: Sequence[float], throughputs: Sequence[float]) -> Array:
    """(splits, 2), both columns minimised."""
    return np.array([latencies, [-value for value in throughputs]], dtype=np.float64).T


def _chosen(splits: Sequence[int], mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(split for split, chosen in zip(splits, mask.tolist(), strict=True) if chosen)


def _agreement(
    predicted: NDArray[np.bool_],
    measured: NDArray[np.bool_],
    accepted_as_predicted: NDArray[np.bool_],
    accepted_as_measured: NDArray[np.bool_],
) -> SetAgreement:
    return SetAgreement(
        precision=float(accepted_as_measured[predicted].mean()), recall=float(accepted_as_predicted[measured].mean())
    )


def _nearly_on_front(costs: Array, tolerance: float) -> NDArray[np.bool_]:
    """Which rows no other dominates once they alone are made better by `tolerance` in both objectives."""
    better = costs * np.array([1 / (1 + tolerance), 1 + tolerance])
    others = [np.delete(costs, index, axis=0) for index in range(len(costs))]
    return np.array([is_nondominated(np.vstack([row, rest]))[0] for row, rest in zip(better, others, strict=True)])


def decision_hypervolume(costs: Array, decided: NDArray[np.bool_], best: NDArray[np.bool_]) -> float | None:
    """Area that the `decided` rows dominate over the area that the `best` rows do.

    Both objectives are scaled to 0 … 1 over all rows; the reference point is 0.1 beyond the worst.

    Parameters
    ----------
    costs : (n, 2), both columns minimised.
    decided, best : (n,) masks, `best` that of the front.
    """
    span = np.ptp(costs, axis=0)
    if (span == 0).any():
        return None
    scaled = (costs - costs.min(axis=0)) / span
    return hypervolume(scaled[decided], 1 + REFERENCE_MARGIN) / hypervolume(scaled[best], 1 + REFERENCE_MARGIN)


def hypervolume(costs: Array, reference: float) -> float:
    """Area between the staircase under (n, 2) costs and the point (reference, reference).

    >>> hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), 2.0)
    3.0
    """
    area, ceiling = 0.0, reference
    for x, y in sorted(costs.tolist()):
        if y < ceiling and x < reference:
            area += (reference - x) * (ceiling - y)
            ceiling = y
    return area


def _regret(comparisons: Sequence[Comparison], objective: Literal["latency", "throughput"]) -> Regret:
    """Ties go to the better other objective, then to the lower split, as in `paretosim predict`."""

    def key(comparison: Comparison, field: Literal["measured", "predicted"]) -> tuple[float, float, int]:
        latency, throughput = getattr(comparison.latency, field), -getattr(comparison.throughput, field)
        return (*((latency, throughput) if objective == "latency" else (throughput, latency)), comparison.split)

    chosen = min(comparisons, key=lambda c: key(c, "predicted"))
    ranked = sorted(comparisons, key=lambda c: key(c, "measured"))
    best = ranked[0]
    if objective == "latency":
        regret = chosen.latency.measured / best.latency.measured - 1
    else:
        regret = 1 - chosen.throughput.measured / best.throughput.measured
    better = sum(key(c, "measured")[0] < key(chosen, "measured")[0] for c in comparisons)
    return Regret(recommended=chosen.split, measured_best=best.split, regret=regret, true_rank=better + 1)
