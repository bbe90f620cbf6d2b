"""Tables of scores: errors, simpler models, terms, fronts and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from validation.assessment import Assessment, ConditionAssessment, fronts_of
from validation.fronts import FrontAgreement, Regret
from validation.order import RankAgreement
from validation.phase_errors import summaries
from validation.report.labels import Labels
from validation.report.tables import Column, Table
from validation.scores import ErrorScore, Scores
from validation.wording import NONE, count, duration, percent, percent_range, signed

ALL_CELLS = "all"
_OF = Column("cells of", words=True)
_QUANTITY = Column("quantity", words=True)
_SCORES = (
    Column("cells"),
    Column("MAPE"),
    Column("MAPE interval", priority=3),
    Column("P90"),
    Column("P90 interval", priority=4),
    Column("median error", priority=2),
    Column("within ±10 %", priority=1),
)


def score_table(assessment: Assessment) -> Table:
    """Errors of the prediction: of each basis as a whole, then of each condition."""
    rows = []
    for found in assessment.bases:
        label = f"{ALL_CELLS}, {found.basis}"
        rows += [*_error_rows(label, found.scores), *_row(label, "transfer phase, shaped links", found.shaped_transfer)]
    for fold in assessment.folds:
        rows += _error_rows(f"{ALL_CELLS}, predicted {fold.name}", fold.scores)
    labels = Labels.of(assessment.conditions)
    for condition in assessment.conditions:
        rows += _error_rows(labels[condition], condition.scores)
    return Table(
        "Scores",
        (_OF, _QUANTITY, *_SCORES, Column("noise floor")),
        tuple(rows),
        (*labels.notes, f"{_interval_note(assessment)}.", f"{_floor_note(assessment)}."),
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
                rows.append((basis.basis, name, *_score_cells(found), percent(ours.mape, 2)))
    return Table(
        "Simpler models on the same cells",
        (Column("prediction", words=True, once=True), _QUANTITY, *_SCORES, Column("this model's MAPE")),
        tuple(rows),
        (
            "Additive: stages and payload·8/rate summed, without delay, framing or overlap (throughput: batch over that"
            " sum).",
            "max(compute, communication), as in PipeEdge: batch over the longest of the stages and payload·8/rate.",
        ),
    )


def ablation_table(assessment: Assessment) -> Table:
    """Every term that changes a prediction, with the error on and off."""
    rows = []
    for entry in assessment.ablation:
        if entry.cells:
            pairs = [_mape(entry.with_term, entry.without_term, n) for n in ("latency", "throughput", "transfer")]
            rows.append((entry.term, str(entry.cells), *(value for pair in pairs for value in pair)))
    idle = [entry.term for entry in assessment.ablation if not entry.cells and not entry.left_out]
    left_out = sum(entry.left_out for entry in assessment.ablation)
    notes = ["Over the cells that the term changes, all else as it was: nothing is fitted again."]
    notes += [f"Of these cells no prediction depends on {', '.join(idle)}."] if idle else []
    notes += [f"Predictions without a term could not be made in {left_out} cases."] if left_out else []
    return Table(
        "Terms of the model, each off in turn",
        (
            Column("term", words=True),
            Column("cells"),
            *(Column(side, of) for of in ("latency MAPE", "throughput", "transfer") for side in ("with", "without")),
        ),
        tuple(rows),
        tuple(notes),
    )


def phase_error_table(assessment: Assessment) -> Table:
    """How far each phase of a batch's way is off, in time, beside what its repeats differ by."""
    return Table(
        "Phases, predicted less measured",
        (
            Column("phase", words=True), Column("plans"), Column("measured"), Column("error"), Column("size of error"),
            Column("half the range over repeats"),
        ),
        tuple(
            (
                found.phase, str(found.cells), duration(found.measured_s), duration(found.error_s),
                duration(found.error_size_s), duration(found.noise_s),
            )
            for found in summaries(assessment.phases)
        ),
        ("Medians over plans and conditions, of which each is the median over its repeats.",),
        "What each phase is: docs/calibration.md.",
    )  # fmt: skip


def _mape(with_term: Scores | None, without_term: Scores | None, name: str) -> tuple[str, str]:
    one: ErrorScore | None = getattr(with_term, name, None)
    other: ErrorScore | None = getattr(without_term, name, None)
    return (NONE, NONE) if one is None or other is None else (percent(one.mape, 2), percent(other.mape, 2))


def front_table(assessment: Assessment) -> Table:
    """Fronts over each other: which plans, how far they agree, what following the prediction costs."""
    rows = []
    labels = Labels.of(assessment.conditions)
    alone = sum(found.front is None for found in assessment.conditions)
    columns = (
        Column("condition", words=True),
        Column("predicted", "front", words=True),
        Column("measured", "front", words=True),
        Column("precision", priority=9),
        Column("recall", priority=8),
        Column("F1", priority=3),
        Column("tolerant F1", priority=5),
        Column("decision hypervolume", priority=1),
        Column("IGD⁺", priority=7),
        Column("ε", priority=6),
        Column("latency", "regret", priority=2),
        Column("throughput", "regret", priority=2),
        Column("knee", "regret", priority=4),
    )
    for found in assessment.conditions:
        front = found.front
        if front is None:
            continue
        strict, tolerant = front.strict, front.tolerant
        rows.append(
            (
                labels[found],
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
    note = _interval_note(assessment)
    bracketed = any(low != high for front in fronts_of(assessment.conditions) for low, high in front.intervals.values())
    return Table(
        "Fronts, predicted and measured",
        columns,
        tuple(rows),
        (
            *labels.notes,
            *([f"{count(alone, 'condition')} of one split alone: no front."] if alone else []),
            f"Over the measured splits; tolerant: a split counts if it is on the front once improved by"
            f" {percent(assessment.tolerance, 0)}. Decision hypervolume, IGD⁺ and ε: the predicted front's splits, as"
            " measured, against the measured front; nothing is lost at 1, 0 and 1. Regret: measured loss of the"
            " recommended split (that split, and its true rank unless 1) against the measured best; of the knee, by how"
            " much another split is better in both objectives at once.",
            *([f"In brackets: {note[0].lower()}{note[1:]}."] if bracketed else []),
        ),
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
    rank = "" if regret.true_rank == 1 else f", rank {regret.true_rank}"
    return f"{percent(regret.regret)}{known} ({regret.recommended}{rank})"


def order_table(assessment: Assessment) -> Table:
    """Kendall's τ-b of each condition and quantity, and the pairs in the wrong order by name."""
    rows = []
    labels = Labels.of(assessment.conditions)
    for found in assessment.conditions:
        ranks = (
            ("latency", found.latency_rank),
            ("throughput", found.throughput_rank),
            ("transfer phase", found.transfer_rank),
        )
        for name, rank in ranks:
            if rank.pairs + rank.pairs_overlapping:
                rows.append((labels[found], name, *_order_cells(rank)))
    return Table(
        "Order of splits",
        (
            Column("condition", words=True),
            Column("quantity", words=True),
            Column("τ-b"),
            Column("separable", "pairs"),
            Column("not separable", "pairs"),
            Column("inverted", "pairs"),
            Column("which (larger > smaller as measured)", words=True, once=True),
        ),
        tuple(rows),
        (
            *labels.notes,
            "Over pairs whose measured ranges do not overlap: of the others no order is wrong. τ-b has no"
            " interval over repeats: all repeats of one side of a separable pair lie above all of the other.",
        ),
    )


def _order_cells(rank: RankAgreement) -> tuple[str, ...]:
    named = "; ".join(
        f"{i.larger} > {i.smaller} ({i.measured[0]:.4g} > {i.measured[1]:.4g}, predicted {i.predicted[0]:.4g} <"
        f" {i.predicted[1]:.4g})"
        for i in rank.inversions
    )
    tau = NONE if rank.tau is None else f"{rank.tau:.3f}"
    return (tau, str(rank.pairs), str(rank.pairs_overlapping), str(len(rank.inversions)), named or NONE)


def membership(found: ConditionAssessment) -> Mapping[str, float]:
    """Probability of each plan to be on the measured front; empty where it is not known."""
    return {} if found.front is None else found.front.membership


def _interval_note(assessment: Assessment) -> str:
    how = assessment.resampling
    if not how.resamples:
        return "No intervals, as no resamples were asked for"
    if assessment.draws == "nothing":
        return "No intervals, as every cell was measured once"
    runs = len(assessment.joined.runs)
    over = (
        f"whole runs, of which there are {runs}" + (" (few: such intervals are too short)" if runs < 5 else "")
        if assessment.draws == "runs"
        else "the repeats of each cell, as not every cell was measured in two runs or more"
    )
    covered = percent(how.confidence, 0)
    return f"Intervals cover {covered} of {how.resamples} bootstrap resamples of {over} (seed {how.seed})"


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
    return replace(table, rows=tuple(rows))
