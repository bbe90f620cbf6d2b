"""Ablation: what each term of the model is worth, by switching it off and predicting the same cells again.

A term is judged over the cells that it changes, with and without it on the very same ones; over all cells a term of
few would drown. Nothing is fitted again: an error without a term is that of the same calibration, less the term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretosim.calibration import LINK_TERMS, TERMS, Term
from paretosim.errors import BadInputError
from validation.comparing import Comparison
from validation.predicting import Cuts, Inputs, PredictedPlan
from validation.scores import Scores, score


@dataclass(frozen=True)
class Ablation:
    """A term, how many cells it changes, and their scores with it and without it; None where it changes none.

    `left_out` counts cells of which no prediction without the term can be made.
    """

    term: Term
    cells: int
    left_out: int
    with_term: Scores | None
    without_term: Scores | None


def ablate(comparisons: Sequence[Comparison]) -> tuple[Ablation, ...]:
    """Each term of the link, and each that some cell's calibration says something of, off in turn."""
    spoken = {
        term
        for inputs in {id(c.inputs): c.inputs for c in comparisons}.values()
        if inputs.calibration is not None
        for term in inputs.calibration.active_terms()
    }
    return tuple(_ablate(comparisons, term) for term in TERMS if term in spoken or term in LINK_TERMS)


def _ablate(comparisons: Sequence[Comparison], term: Term) -> Ablation:
    groups: dict[int, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(id(comparison.inputs), []).append(comparison)
    before: list[Comparison] = []
    after: list[Comparison] = []
    left_out = 0
    for group in groups.values():
        predicted = _without(group[0].inputs, [c.cuts for c in group], term)
        if predicted is None:
            left_out += len(group)
            continue
        for comparison in group:
            if predicted[comparison.cuts] != comparison.predicted:
                before.append(comparison)
                after.append(comparison.under(predicted[comparison.cuts]))
    if not before:
        return Ablation(term, 0, left_out, None, None)
    return Ablation(term, len(before), left_out, score(before), score(after))


def _without(inputs: Inputs, plans: Sequence[Cuts], term: Term) -> dict[Cuts, PredictedPlan] | None:
    try:
        return inputs.less(term).predict(plans)
    except BadInputError:
        return None
