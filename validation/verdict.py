"""The verdict: what a comparison came to, in a few sentences, and what keeps it from saying more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from validation.assessment import Assessment, BasisScores, ConditionAssessment, fronts_of
from validation.conditions import WIRELESS
from validation.scores import ErrorScore
from validation.wording import count, percent

# How each basis is called in a sentence.
_SPOKEN = {
    "uncalibrated": "predicted without calibration",
    "held out": "predicted by a calibration that never saw them",
    "fitted": "that the calibration was fitted on, which makes them no test of it",
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
            *_decisions(assessment.headline_conditions),
            *_furthest_off(assessment.headline_conditions),
            *_by_fold(assessment),
            *map(_aside, assessment.bases[1:]),
        ]
        doubts = cautions(assessment)
    doubts += [counted] if (counted := _uncounted(assessment)) else []
    return Verdict(headline(assessment), tuple(findings), tuple(doubts))


def headline(assessment: Assessment) -> str:
    """The one sentence."""
    found = assessment.headline
    if found is None:
        return "Nothing was compared: no cell that is recorded could be joined with a prediction."
    ways = {"cells": ", a fifth of all combinations held out in turn", None: ""}
    held_out = ways.get(assessment.held_out, f", each {assessment.held_out} held out in turn")
    return f"Predictions are off by {_errors(found)}, on average of {_cells(found)}{held_out}."


def _cells(found: BasisScores) -> str:
    return f"{count(found.cells, 'cell')} ({count(found.records, 'record')}) {_SPOKEN[found.basis]}"


def _by_fold(assessment: Assessment) -> list[str]:
    """Each fold's error, since one that fails would hide behind, or hide, the others."""
    told = [
        f"{percent(fold.scores.latency.mape)} and {percent(fold.scores.throughput.mape)} {fold.name}"
        for fold in assessment.folds
        if fold.scores.latency is not None and fold.scores.throughput is not None
    ]
    return [f"Fold by fold, latency and throughput are off by {', '.join(told)}."] if told else []


def _aside(found: BasisScores) -> str:
    return f"Apart from these they are off by {_errors(found)}, on average of {_cells(found)}."


def _errors(found: BasisScores) -> str:
    """How far each quantity is off, and how far of that the measurement itself may be: its noise floor."""
    named = (
        ("latency", found.scores.latency),
        ("throughput", found.scores.throughput),
        ("transfers over shaped links", found.shaped_transfer),
    )
    *most, last = [_score(name, score) for name, score in named if score is not None] or ["nobody knows what"]
    return f"{', '.join(most)} and {last}" if most else last


def _score(name: str, score: ErrorScore) -> str:
    once = ", by batches of single repeats" if score.noise_bases == ("within one repeat",) else ""
    noise = "noise unknown" if score.noise_floor is None else f"measured to within {percent(score.noise_floor)}{once}"
    return f"{percent(score.mape)} in {name} ({noise})"


def _decisions(conditions: Sequence[ConditionAssessment]) -> list[str]:
    """What choosing by the predictions would have cost, and how fronts and order came out."""
    fronts = fronts_of(conditions)
    if not fronts:
        return ["No condition of these cells alone has two splits or more, so that there is no front."]
    kept = min(front.decision_hypervolume for front in fronts)
    worst = max(max(front.latency.regret, front.throughput.regret) for front in fronts)
    best = sum(front.latency.true_rank == 1 and front.throughput.true_rank == 1 for front in fronts)
    agreeing = sum(front.agrees for front in fronts)
    pairs = sum(found.latency_rank.pairs + found.throughput_rank.pairs for found in conditions)
    inverted = sum(len(found.inversions) for found in conditions)
    lost = "nothing" if worst == 0 else f"{percent(worst)} at most"
    verb = "is" if inverted < 2 else "are"
    order = f"{inverted or 'none'} of {pairs} {verb} in the wrong order" if pairs else "there is none"
    return [
        f"Choosing by them would have lost {lost}: the splits recommended for latency and for throughput were the"
        f" measured best in {best} of {count(len(fronts), 'condition')}.",
        f"Fronts agree in {agreeing} of {len(fronts)}, and the predicted ones keep {percent(kept)} of the measured"
        f" ones' hypervolume or more. Of pairs of splits that the measurements tell apart, {order}.",
    ]


def _furthest_off(conditions: Sequence[ConditionAssessment]) -> list[str]:
    """The condition whose latency is furthest off, since a mean hides it."""
    off = [(found.scores.latency.mape, found) for found in conditions if found.scores.latency is not None]
    if len(off) < 2:
        return []
    error, worst = max(off, key=lambda pair: pair[0])
    return [f"Furthest off is the latency of {worst.joined.condition}: {percent(error)} on average of its cells."]


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
        found.append(
            f"The host was too slow for its targets in {overruns} of {runs} stage runs ({percent(overruns / runs)}):"
            " what they took longer counts as an error of the prediction."
        )
    if unequal := sum(r.output_check is not None and not r.output_check.bitwise_equal for r in repeats):
        found.append(f"The output differed from the unsplit model's in {unequal} records.")
    if lossy := sum(bool(repeat.retransmits) for repeat in repeats):
        found.append(
            f"TCP sent segments again on connections of {lossy} of {len(repeats)} records; the prediction has no loss."
        )
    missed = dict.fromkeys(
        condition.condition.link_name
        for condition in joined.conditions
        if any(check.flags for check in condition.link_checks)
    )
    found += _of_calibrations(assessment)
    if missed:
        found.append(f"Links as probed were not what was asked for: {'; '.join(missed)} (see the table of links).")
    return found


def _of_calibrations(assessment: Assessment) -> list[str]:
    """Fits whose starts disagree, and links that they know nothing of."""
    used = {
        cell.inputs.calibration.name: cell.inputs.calibration
        for cell in assessment.joined.comparisons
        if cell.inputs.calibration is not None
    }
    found = []
    disputed = [
        f"{name} ({calibration.agreeing} of {calibration.starts})"
        for name, calibration in sorted(used.items())
        if calibration.is_disputed
    ]
    if disputed:
        found.append(
            f"Most starts of a fit ended elsewhere: {', '.join(disputed)}; what it was fitted on leaves other values"
            " as likely."
        )
    unforeseen = [
        cell
        for condition in assessment.joined.conditions
        if condition.link_origin == "probed"
        and any(check.media and set(check.media) <= WIRELESS for check in condition.link_checks)
        for cell in condition.comparisons
        if (known := cell.inputs.calibration) is not None
        and all(known.of(device.name).copying_bytes_per_s is None for device in cell.inputs.devices)
    ]
    if unforeseen:
        found.append(
            f"Of {count(len(unforeseen), 'cell')} over unshaped links within one machine the calibration knows nothing"
            " of copying, which is all that they are: the link as its own probe found it stands in, so their transfers"
            " are not foreseen."
        )
    return found


def _uncounted(assessment: Assessment) -> str:
    joined = assessment.joined
    counts = [
        f"{number} {status}"
        for status in ("skipped", "failed", "refused", "not joined")
        if (number := sum(entry.status == status for entry in joined.unjoined))
    ]
    resumed = "planned but not recorded (hwrun sweep … --resume goes on)"
    counts += [f"{joined.missing} {resumed}"] if joined.missing else []
    dropped = sum(run.dropped_lines for run in joined.runs)
    counts += [f"{count(dropped, 'unreadable line')} of cells.jsonl"] if dropped else []
    return f"Not in these numbers: {', '.join(counts)}." if counts else ""
