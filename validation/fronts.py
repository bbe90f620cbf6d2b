"""Fronts: whether the prediction names the plans that are best when measured, and what following it costs.

Both fronts are taken over the measured plans of one condition, with the project's one dominance test. Memory
plays no part here: every plan compared has run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paretosim.pareto import are_nondominated, is_nondominated, knee
from validation.comparing import Comparison
from validation.front_indicators import decision_hypervolume, igd_plus, multiplicative_epsilon
from validation.resampling import Draws

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Indicator = Callable[[Array, Mask, Mask], float]
Objective = Literal["latency", "throughput", "knee"]
# A plan this close to the front counts as on it in the tolerant scores.
DEFAULT_TOLERANCE = 0.02


@dataclass(frozen=True)
class SetAgreement:
    """Of the predicted front's plans the share that is on the measured front, and the other way round."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return _harmonic_mean(self.precision, self.recall)


@dataclass(frozen=True)
class Regret:
    """What following a recommendation costs when measured, relative to the best; 0 and rank 1 where it is the best.

    Of latency and throughput: against the best measured plan in that objective, and the rank is in it. Of the knee:
    by how much the measured plan that beats it most is better in both objectives at once, and the rank counts fronts:
    1 is on the measured front, 2 on what is left without that front, and so on.
    """

    recommended: str
    measured_best: str
    regret: float
    true_rank: int


@dataclass(frozen=True)
class FrontAgreement:
    """Predicted front over measured front of one condition, plans by their labels.

    `decision_hypervolume`, `igd_plus` and `epsilon` compare the predicted front's plans, as measured, with the
    measured front (`front_indicators`). `membership` is the share of resamples in which a plan is on the measured
    front, empty where nothing could be drawn. `intervals` are those of the bootstrap, by the score's name.
    """

    predicted: tuple[str, ...]
    measured: tuple[str, ...]
    strict: SetAgreement
    tolerant: SetAgreement
    tolerance: float
    decision_hypervolume: float
    igd_plus: float
    epsilon: float
    latency: Regret
    throughput: Regret
    knee: Regret
    membership: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """The same plans."""
        return self.predicted == self.measured


def front_agreement(
    comparisons: Sequence[Comparison], tolerance: float = DEFAULT_TOLERANCE, draws: Draws | None = None
) -> FrontAgreement | None:
    """Agreement over the plans of one condition; None where fewer than two were measured.

    Parameters
    ----------
    tolerance : relative; in the tolerant scores a plan counts as on a front if improving it by this much in both
        objectives puts it there.
    draws : of those very cells.
    """
    if len(comparisons) < 2:
        return None
    labels = [comparison.label for comparison in comparisons]
    measured = _objectives(comparisons, "measured")
    predicted = _objectives(comparisons, "predicted")
    choice = _Choice(
        on_front=_on_front(predicted),
        nearly=_nearly_on_front(predicted[np.newaxis], tolerance)[0],
        recommended=_recommended(predicted),
    )
    strict, tolerant = _agreements(choice, measured[np.newaxis], tolerance)
    best = _on_front(measured)
    found = FrontAgreement(
        predicted=_chosen(labels, choice.on_front),
        measured=_chosen(labels, best),
        strict=SetAgreement(float(strict[0][0]), float(strict[1][0])),
        tolerant=SetAgreement(float(tolerant[0][0]), float(tolerant[1][0])),
        tolerance=tolerance,
        decision_hypervolume=decision_hypervolume(measured, choice.on_front, best),
        igd_plus=igd_plus(measured, choice.on_front, best),
        epsilon=multiplicative_epsilon(measured, choice.on_front, best),
        latency=_regret(labels, measured, choice, "latency"),
        throughput=_regret(labels, measured, choice, "throughput"),
        knee=_regret(labels, measured, choice, "knee"),
    )
    return found if draws is None else _with_intervals(found, comparisons, choice, draws)


@dataclass(frozen=True)
class _Choice:
    """What the prediction says: its front, what is nearly on it, and the place of each recommended plan."""

    on_front: Mask
    nearly: Mask
    recommended: Mapping[Objective, int]


def _objectives(comparisons: Sequence[Comparison], kind: Literal["measured", "predicted"]) -> Array:
    """(plans, 2): latency and throughput."""
    return np.array([[getattr(c.latency, kind), getattr(c.throughput, kind)] for c in comparisons])


def _on_front(objectives: Array) -> Mask:
    return is_nondominated(objectives * [1, -1])


def _chosen(labels: Sequence[str], mask: Mask) -> tuple[str, ...]:
    return tuple(label for label, chosen in zip(labels, mask.tolist(), strict=True) if chosen)


def _recommended(predicted: Array) -> dict[Objective, int]:
    """Ties go to the better other objective, then to the first plan, as in `paretosim predict`."""
    latency, throughput = predicted.T
    front = np.flatnonzero(_on_front(predicted))
    return {
        "latency": int(np.lexsort((-throughput, latency))[0]),
        "throughput": int(np.lexsort((latency, -throughput))[0]),
        "knee": int(front[knee(latency[front], throughput[front])]),
    }


def _nearly_on_front(objectives: Array, tolerance: float) -> Mask:
    """Which plans no other dominates once they alone are made better by `tolerance` in both objectives.

    Parameters
    ----------
    objectives : (problems, plans, 2).
    """
    better = objectives * [1 / (1 + tolerance), 1 + tolerance]
    columns = []
    for plan in range(objectives.shape[1]):
        changed = objectives.copy()
        changed[:, plan] = better[:, plan]
        columns.append(are_nondominated(changed[..., 0].T, -changed[..., 1].T)[plan])
    return np.stack(columns, axis=1)


def _agreements(choice: _Choice, measured: Array, tolerance: float) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Strict and tolerant precision and recall of each problem; `measured` is (problems, plans, 2)."""
    best = are_nondominated(measured[..., 0].T, -measured[..., 1].T).T
    nearly = _nearly_on_front(measured, tolerance)

    def of(accepted: Mask, accepted_as_predicted: Mask) -> tuple[Array, Array]:
        precision = (accepted & choice.on_front).sum(axis=1) / choice.on_front.sum()
        return precision, (best & accepted_as_predicted).sum(axis=1) / best.sum(axis=1)

    return of(best, choice.on_front), of(nearly, choice.nearly)


def _regret(labels: Sequence[str], measured: Array, choice: _Choice, objective: Objective) -> Regret:
    chosen = choice.recommended[objective]
    regret, rank, best = _regrets(measured[np.newaxis], chosen, objective)
    return Regret(labels[chosen], labels[int(best[0])], float(regret[0]), int(rank[0]))


def _regrets(measured: Array, chosen: int, objective: Objective) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Regret, true rank and the best plan's place, of each problem; `measured` is (problems, plans, 2)."""
    latency, throughput = measured[..., 0], measured[..., 1]
    own_latency, own_throughput = latency[:, [chosen]], throughput[:, [chosen]]
    if objective == "latency":
        best = np.lexsort((-throughput, latency), axis=1)[:, 0]
        return own_latency[:, 0] / latency.min(axis=1) - 1, (latency < own_latency).sum(axis=1) + 1, best
    if objective == "throughput":
        best = np.lexsort((latency, -throughput), axis=1)[:, 0]
        return 1 - own_throughput[:, 0] / throughput.max(axis=1), (throughput > own_throughput).sum(axis=1) + 1, best
    gains = np.minimum(own_latency / latency, throughput / own_throughput)
    gains[:, chosen] = 1.0
    largest = gains.max(axis=1)
    best = np.where(largest > 1, gains.argmax(axis=1), chosen).astype(np.int64)
    return largest - 1, _front_ranks(measured)[:, chosen], best


def _front_ranks(measured: Array) -> NDArray[np.int64]:
    """Which front each plan is on once those before it are taken away, from 1; (problems, plans)."""
    costs = np.stack([measured[..., 0].T, -measured[..., 1].T])
    ranks = np.zeros(costs.shape[1:], dtype=np.int64)
    left = np.ones_like(ranks, dtype=np.bool_)
    rank = 0
    while left.any():
        rank += 1
        # What is gone is infinitely bad, so that it dominates nothing that is left.
        on_front = are_nondominated(*np.where(left, costs, np.inf)) & left
        ranks[on_front] = rank
        left &= ~on_front
    return ranks.T


def _with_intervals(
    found: FrontAgreement, comparisons: Sequence[Comparison], choice: _Choice, draws: Draws
) -> FrontAgreement:
    """`found` with what resamples say of it; those that hold no repeat of some plan are left out."""
    if draws.level == "nothing":
        return found
    medians = [draws.medians([getattr(c, name).values for c in comparisons]) for name in ("latency", "throughput")]
    drawn = np.stack(medians, axis=2)
    drawn = drawn[~np.isnan(drawn).any(axis=(1, 2))]
    if not len(drawn):
        return found
    best = are_nondominated(drawn[..., 0].T, -drawn[..., 1].T).T
    strict, tolerant = _agreements(choice, drawn, found.tolerance)
    scores = {
        "precision": strict[0],
        "recall": strict[1],
        "f1": _harmonic_means(*strict),
        "tolerant_precision": tolerant[0],
        "tolerant_recall": tolerant[1],
        "tolerant_f1": _harmonic_means(*tolerant),
        "decision_hypervolume": _each(decision_hypervolume, drawn, choice, best),
        "igd_plus": _each(igd_plus, drawn, choice, best),
        "epsilon": _each(multiplicative_epsilon, drawn, choice, best),
    }
    for objective, place in choice.recommended.items():
        regret, rank, _ = _regrets(drawn, place, objective)
        scores |= {f"{objective}_regret": regret, f"{objective}_true_rank": rank.astype(np.float64)}
    labels = [comparison.label for comparison in comparisons]
    return replace(
        found,
        membership=dict(zip(labels, best.mean(axis=0).tolist(), strict=True)),
        intervals=draws.intervals(scores),
    )


def _each(indicator: _Indicator, drawn: Array, choice: _Choice, best: Mask) -> Array:
    """That indicator of every resample; equal resamples are worked out once."""
    _, first, inverse = np.unique(drawn.reshape(len(drawn), -1), axis=0, return_index=True, return_inverse=True)
    values = [indicator(drawn[place], choice.on_front, best[place]) for place in first]
    return np.array(values)[inverse.ravel()]


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _harmonic_means(a: Array, b: Array) -> Array:
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)
