"""Tables of scores: errors, simpler models, terms, fronts and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from validation.assessment import Assessment, ConditionAssessment
from validation.fronts import FrontAgreement, Regret
from validation.order import RankAgreement
from validation.report.tables import Table
from validation.scores import ErrorScore, Scores
from validation.wording import NONE, percent, percent_range, signed

ALL_CELLS = "all"
_OF = "cells of"
_HEADINGS = (_OF, "quantity", "cells", "MAPE", "interval", "P90 of |error|", "interval", "median error", "within ±10 %")
_WORDS = frozenset({_OF, "quantity"})


def score_table(assessment: Assessment) -> Table:
    """Errors of the prediction: of each basis as a whole, then of each condition."""
    rows = []
    for found in assessment.bases:
        label = f"{ALL_CELLS}, {found.basis}"
        rows += [*_error_rows(label, found.scores), *_row(label, "transfer phase, shaped links", found.shaped_transfer)]
    for fold in assessment.folds:
        rows += _error_rows(f"{ALL_CELLS}, predicted {fold.name}", fold.scores)
    for condition in assessment.conditions:
        label = str(condition.joined.condition)
        rows += _error_rows(f"{label} ({condition.basis})", condition.scores)
    return Table(
        "Scores",
        (*_HEADINGS, "noise floor"),
        tuple(rows),
        f"{_interval_note(assessment)}. {_floor_note(assessment)}.",
        _WORDS,
    )


def _error_rows(label: str, scores: Scores) -> list[tuple[str, ...]]:
    named = (("latency", scores.latency), ("throughput", scores.throughput), ("transfer phase", scores.transfer))
    return [row for name, found in named for row in _row(label, name, found)]


def _row(label: str, name: str, found: ErrorScore | None) -> list[tuple[str, ...]]:
    return [] if found is None else [(label, name, *_score_cells(found), percent(found.noise_floor, 2))]


def _score_cells(found: ErrorScore) -> tuple[str, ...]:
    return (
        str(found.cells),
        percent(found.mape, 2),
        percent_range(found.intervals.get("mape"), 2) or NONE,
        percent(found.p90, 2),
        percent_range(found.intervals.get("p90"), 2) or NONE,
        signed(found.bias),
        percent(found.within),
    )


def simpler_table(assessment: Assessment) -> Table:
    """Errors of simpler models on the same cells."""
    rows = []
    for basis in assessment.bases:
        scores = basis.scores
        for name, found, ours in (
            ("additive: latency", scores.additive_latency, scores.latency),
            ("additive: throughput", scores.additive_throughput, scores.throughput),
            ("max(compute, communication): throughput", scores.overlap_throughput, scores.throughput),
        ):
            if found is not None and ours is not None:
                rows.append((f"{ALL_CELLS}, {basis.basis}", name, *_score_cells(found), percent(ours.mape, 2)))
    return Table(
        "Simpler models on the same cells",
        (*_HEADINGS, "this model, MAPE"),
        tuple(rows),
        "additive: stages and payload·8/rate summed, without delay, framing or overlap (throughput: batch over that"
        " sum). max(compute, communication), as in PipeEdge: batch over the longest of the stages and"
        " payload·8/rate.",
        _WORDS,
    )


def ablation_table(assessment: Assessment) -> Table:
    """Every term with its error on and off."""
    rows = []
    for entry in assessment.ablation:
        cells = f"{entry.cells}" if entry.cells else "changes none"
        pairs = [
            _mape(entry.with_term, entry.without_term, name) for name in ("latency", "throughput", "transfer")
        ]  # fmt: skip
        rows.append((entry.term, cells, *(value for pair in pairs for value in pair)))
    left_out = sum(entry.left_out for entry in assessment.ablation)
    return Table(
        "Terms of the model, each off in turn",
        (
            "term",
            "cells it changes",
            "latency MAPE with",
            "without",
            "throughput with",
            "without",
            "transfer with",
            "without",
        ),
        tuple(rows),
        "over the cells that the term changes, all else as it was: nothing is fitted again."
        + (f" Predictions without a term could not be made in {left_out} cases." if left_out else ""),
        frozenset({"term"}),
    )


def _mape(with_term: Scores | None, without_term: Scores | None, name: str) -> tuple[str, str]:
    one: ErrorScore | None = getattr(with_term, name, None)
    other: ErrorScore | None = getattr(without_term, name, None)
    return (NONE, NONE) if one is None or other is None else (percent(one.mape, 2), percent(other.mape, 2))


def front_table(assessment: Assessment) -> Table:
    """Fronts over each other: which plans, how far they agree, what following the prediction costs."""
    rows = []
    headings = (
        "condition", "predicted", "measured", "precision", "recall", "F1", "F1, tolerant", "decision hypervolume",
        "IGD⁺", "ε", "regret, latency", "regret, throughput", "regret, knee",
    )  # fmt: skip
    for found in assessment.conditions:
        front = found.front
        label = f"{found.joined.condition} ({found.basis})"
        if front is None:
            rows.append((label, "needs two splits or more", *[NONE] * (len(headings) - 2)))
            continue
        strict, tolerant = front.strict, front.tolerant
        rows.append(
            (
                label,
                ", ".join(front.predicted),
                ", ".join(front.measured),
                *(
                    _share(front, name, value)
                    for name, value in (("precision", strict.precision), ("recall", strict.recall))
                ),
                _share(front, "f1", strict.f1),
                _share(front, "tolerant_f1", tolerant.f1),
                _number(front.decision_hypervolume, front.intervals.get("decision_hypervolume")),
                _number(front.igd_plus, front.intervals.get("igd_plus")),
                _number(front.epsilon, front.intervals.get("epsilon")),
                _regret(front.latency, front.intervals.get("latency_regret")),
                _regret(front.throughput, front.intervals.get("throughput_regret")),
                _regret(front.knee, front.intervals.get("knee_regret")),
            )
        )
    return Table(
        "Fronts, predicted and measured",
        headings,
        tuple(rows),
        "over the measured splits; tolerant: a split counts if it is on the front once improved by"
        f" {percent(assessment.tolerance, 0)}. Decision hypervolume, IGD⁺ and ε: the predicted front's splits, as"
        " measured, against the measured front; nothing is lost at 1, 0 and 1. Regret: measured loss of the"
        " recommended split (that split, its true rank) against the measured best; of the knee, by how much another"
        f" split is better in both objectives at once. In brackets: {_interval_note(assessment)}.",
        frozenset({"condition", "predicted", "measured"}),
    )


def _share(front: FrontAgreement, name: str, value: float) -> str:
    interval = front.intervals.get(name)
    return percent(value, 0) + (f" [{percent_range(interval, 0)}]" if interval and interval[0] != interval[1] else "")


def _number(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (
        f" [{interval[0]:.3f}–{interval[1]:.3f}]" if interval and interval[0] != interval[1] else ""
    )


def _regret(regret: Regret, interval: tuple[float, float] | None) -> str:
    known = f" [{percent_range(interval)}]" if interval and interval[0] != interval[1] else ""
    return f"{percent(regret.regret)}{known} ({regret.recommended}, rank {regret.true_rank})"


def order_table(assessment: Assessment) -> Table:
    """Kendall's τ-b of each condition and quantity, and the pairs in the wrong order by name."""
    rows = []
    for found in assessment.conditions:
        ranks = (
            ("latency", found.latency_rank),
            ("throughput", found.throughput_rank),
            ("transfer phase", found.transfer_rank),
        )
        for name, rank in ranks:
            if rank.pairs + rank.pairs_overlapping:
                rows.append((f"{found.joined.condition} ({found.basis})", name, *_order_cells(rank)))
    return Table(
        "Order of splits",
        (
            "condition",
            "quantity",
            "τ-b",
            "separable pairs",
            "not separable",
            "inverted",
            "which (larger > smaller as measured)",
        ),
        tuple(rows),
        "over pairs whose measured ranges do not overlap: of the others no order is wrong. τ-b has no interval over"
        " repeats: all repeats of one side of a separable pair lie above all of the other.",
        frozenset({"condition", "quantity", "which (larger > smaller as measured)"}),
    )


def _order_cells(rank: RankAgreement) -> tuple[str, ...]:
    named = "; ".join(
        f"{i.larger} > {i.smaller} ({i.measured[0]:.4g} > {i.measured[1]:.4g}, predicted {i.predicted[0]:.4g} <"
        f" {i.predicted[1]:.4g})"
        for i in rank.inversions
    )
    tau = NONE if rank.tau is None else f"{rank.tau:.3f}"
    return (tau, str(rank.pairs), str(rank.pairs_overlapping), str(len(rank.inversions)), named or "none")


def membership(found: ConditionAssessment) -> Mapping[str, float]:
    """Probability of each plan to be on the measured front; empty where it is not known."""
    return {} if found.front is None else found.front.membership


def _interval_note(assessment: Assessment) -> str:
    how = assessment.resampling
    if assessment.draws == "nothing":
        return "no intervals, as every cell was measured once"
    runs = len(assessment.joined.runs)
    over = (
        f"whole runs, of which there are {runs}" + (" (few: such intervals are coarse)" if runs < 5 else "")
        if assessment.draws == "runs"
        else "the repeats of each cell, as not every cell was measured in two runs or more"
    )
    covered = percent(how.confidence, 0)
    return f"intervals cover {covered} of {how.resamples} bootstrap resamples of {over} (seed {how.seed})"


def _floor_note(assessment: Assessment) -> str:
    bases = {
        quantity.noise_basis
        for comparison in assessment.joined.comparisons
        for quantity in (comparison.latency, comparison.throughput)
    }
    notes = []
    if "between repeats" in bases:
        notes.append("half the range over repeats, relative to their median")
    if "within one repeat" in bases:
        notes.append("in cells measured once, the spread of their batches (scaled median absolute deviation)")
    if "unknown" in bases:
        notes.append("unknown where a single repeat holds fewer than three batches, or a burst whose batches queue")
    return f"Noise floor: {'; '.join(notes)}"


def overall(table: Table) -> Table:
    """The rows of all cells alone."""
    rows: Sequence[tuple[str, ...]] = [row for row in table.rows if row[0].startswith(f"{ALL_CELLS},")]
    return Table(table.title, table.headings, tuple(rows), table.note, table.text_columns)
