"""The verdict: what a comparison came to, in a few sentences, and what keeps it from saying more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from validation.assessment import Assessment, BasisScores, ConditionAssessment, fronts_of
from validation.scores import ErrorScore
from validation.wording import count, percent

# How each basis is called in a sentence.
_SPOKEN = {
    "uncalibrated": "predicted without calibration",
    "held out": "predicted by a calibration that never saw them",
    "fitted": "among those that the calibration was fitted on",
}


@dataclass(frozen=True)
class Verdict:
    """The one sentence, what else was found, and what keeps it from saying more."""

    headline: str
    findings: tuple[str, ...]
    cautions: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.headline, *self.findings, *self.cautions))


def verdict(assessment: Assessment) -> Verdict:
    """What the comparison came to, in a few sentences."""
    findings, doubts = [], []
    if assessment.bases:
        findings = [
            *_by_fold(assessment),
            _decisions(assessment.headline_conditions),
            *map(_aside, assessment.bases[1:]),
        ]
        doubts = cautions(assessment)
    doubts += [counted] if (counted := _uncounted(assessment)) else []
    return Verdict(headline(assessment), tuple(findings), tuple(doubts))


def headline(assessment: Assessment) -> str:
    """The one sentence."""
    found = assessment.headline
    if found is None:
        return "No cell could be joined, so nothing was compared."
    ways = {"cells": ", a fifth of all combinations held out in turn", None: ""}
    held_out = ways.get(assessment.held_out, f", each {assessment.held_out} held out in turn")
    return (
        f"{count(found.cells, 'cell')} ({count(found.records, 'record')}), {_SPOKEN[found.basis]}{held_out}:"
        f" {_errors(found)}."
    )


def _by_fold(assessment: Assessment) -> list[str]:
    """Each fold's error, since one that fails would hide behind, or hide, the others."""
    told = [
        f"{fold.name} {percent(fold.scores.latency.mape)} and {percent(fold.scores.throughput.mape)}"
        for fold in assessment.folds
        if fold.scores.latency is not None and fold.scores.throughput is not None
    ]
    return [f"Fold by fold (latency and throughput MAPE): {', '.join(told)}."] if told else []


def _aside(found: BasisScores) -> str:
    return f"Apart from these, {count(found.cells, 'cell')} {_SPOKEN[found.basis]}: {_errors(found)}."


def _errors(found: BasisScores) -> str:
    parts = [f"latency {_score(found.scores.latency)}", f"throughput {_score(found.scores.throughput)}"]
    if found.shaped_transfer is not None:
        parts.append(f"transfer phase over shaped links {_score(found.shaped_transfer)}")
    return ", ".join(parts)


def _score(score: ErrorScore | None) -> str:
    if score is None:
        return "not compared"
    known = "unknown" if score.noise_floor is None else percent(score.noise_floor)
    once = ", of batches within single repeats" if score.noise_bases == ("within one repeat",) else ""
    return f"MAPE {percent(score.mape)} (noise floor {known}{once})"


def _decisions(conditions: Sequence[ConditionAssessment]) -> str:
    """How the fronts, the recommended plans and the order came out."""
    fronts = fronts_of(conditions)
    if not fronts:
        return "No condition of these cells alone has two splits or more, so that there is no front."
    values = [front.decision_hypervolume for front in fronts]
    worst = max(max(front.latency.regret, front.throughput.regret) for front in fronts)
    best = sum(front.latency.true_rank == 1 and front.throughput.true_rank == 1 for front in fronts)
    pairs = sum(found.latency_rank.pairs + found.throughput_rank.pairs for found in conditions)
    inverted = sum(len(found.inversions) for found in conditions)
    lost = "which lost nothing" if worst == 0 else f"losing {percent(worst)} at most"
    order = f"{inverted or 'none'} of {pairs} separable pairs in the wrong order" if pairs else "no pair separable"
    return (
        f"Fronts agree in {sum(front.agrees for front in fronts)} of {len(fronts)}, and the predicted ones keep"
        f" {percent(min(values))} of the measured ones' hypervolume or more; both recommended splits were the measured"
        f" best in {best}, {lost}; {order}."
    )


def cautions(assessment: Assessment) -> list[str]:
    """What keeps these numbers from saying more than they do."""
    joined = assessment.joined
    found = []
    if joined.manifest.emulated:
        speed = joined.manifest.speed
        fast = "" if speed == 1 else f" at {speed:g} times their speed"
        found.append(
            f"Devices are emulated{fast}: stage times are the prediction's own inputs, so only transfer, queueing and"
            " overheads are news."
        )
    kinds = {
        (device.name, kind)
        for condition in joined.conditions
        for device, kind in zip(condition.inputs.devices, condition.inputs.timing_kinds, strict=True)
        if kind != "measured"
    }
    if kinds:
        found.append(f"Timings not measured: {', '.join(f'{device} {kind}' for device, kind in sorted(kinds))}.")
    repeats = [repeat for comparison in joined.comparisons for repeat in comparison.repeats]
    if overruns := sum(repeat.overruns for repeat in repeats):
        runs = sum(repeat.stage_runs for repeat in repeats)
        found.append(f"The host was too slow for its targets in {overruns} of {runs} stage runs.")
    if unequal := sum(r.output_check is not None and not r.output_check.bitwise_equal for r in repeats):
        found.append(f"The output differed from the unsplit model's in {unequal} records.")
    if lossy := sum(bool(repeat.retransmits) for repeat in repeats):
        found.append(
            f"TCP sent segments again on connections of {lossy} of {len(repeats)} records; the prediction has no loss."
        )
    if any(check.flags for condition in joined.conditions for check in condition.link_checks):
        found.append("A link as probed was not what was asked for (see the links table).")
    return found


def _uncounted(assessment: Assessment) -> str:
    joined = assessment.joined
    counts = [
        f"{number} {status}"
        for status in ("skipped", "failed", "refused", "not joined")
        if (number := sum(entry.status == status for entry in joined.unjoined))
    ]
    counts += [f"{joined.missing} planned but not recorded"] if joined.missing else []
    dropped = sum(run.dropped_lines for run in joined.runs)
    counts += [f"{count(dropped, 'unreadable line')} of cells.jsonl"] if dropped else []
    return f"Not in these numbers: {', '.join(counts)}." if counts else ""
