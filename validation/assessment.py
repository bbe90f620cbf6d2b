"""An assessment: a joined run with its scores, its fronts and the verdict in words. Every output shows this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from validation.fronts import FrontAgreement, front_agreement
from validation.join import JoinedCondition, JoinedRun
from validation.order import RankAgreement, rank_agreement
from validation.resampling import DEFAULT_RESAMPLING, Draws, Level, Resampling, draw
from validation.scores import ErrorScore, Scores, score


@dataclass(frozen=True)
class ConditionAssessment:
    """One condition: its scores, order and front (None with fewer than two splits)."""

    joined: JoinedCondition
    scores: Scores
    latency_rank: RankAgreement
    throughput_rank: RankAgreement
    transfer_rank: RankAgreement
    front: FrontAgreement | None


@dataclass(frozen=True)
class Assessment:
    """One run. `shaped_transfer` scores the transfer phase over shaped links alone: over an unshaped one it is a
    fraction of a millisecond, and its relative error would drown the rest."""

    joined: JoinedRun
    scores: Scores
    shaped_transfer: ErrorScore | None
    conditions: tuple[ConditionAssessment, ...]
    draws: Level
    resampling: Resampling

    @property
    def run_id(self) -> str:
        """As the manifest has it."""
        return self.joined.run.manifest.run_id

    @property
    def verdict(self) -> str:
        """What the comparison came to, in a few sentences."""
        return " ".join(_sentences(self))


def assess(joined: JoinedRun, tolerance: float, resampling: Resampling = DEFAULT_RESAMPLING) -> Assessment:
    """Scores of the whole run and of each condition; `tolerance` is that of the tolerant front scores."""
    cells = joined.comparisons
    draws = draw([[repeat.run_id for repeat in cell.repeats] for cell in cells], resampling)
    shaped: list[int] = []
    conditions: list[ConditionAssessment] = []
    first = 0
    for condition in joined.conditions:
        places = range(first, first + len(condition.comparisons))
        first += len(places)
        shaped += places if condition.link_origin == "asked" else []
        conditions.append(_assess_condition(condition, tolerance, draws.of(places)))
    return Assessment(
        joined=joined,
        scores=score(cells, draws),
        shaped_transfer=score([cells[place] for place in shaped], draws.of(shaped)).transfer,
        conditions=tuple(conditions),
        draws=draws.level,
        resampling=resampling,
    )


def _assess_condition(joined: JoinedCondition, tolerance: float, draws: Draws) -> ConditionAssessment:
    cells = joined.comparisons
    labels = [cell.label for cell in cells]
    timed = [(cell.transfer, cell.label) for cell in cells if cell.transfer is not None]
    return ConditionAssessment(
        joined=joined,
        scores=score(cells, draws),
        latency_rank=rank_agreement([cell.latency for cell in cells], labels),
        throughput_rank=rank_agreement([cell.throughput for cell in cells], labels),
        transfer_rank=rank_agreement([quantity for quantity, _ in timed], [label for _, label in timed]),
        front=front_agreement(cells, tolerance, draws),
    )


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for people; a dash for none, and never 0.0 of what is not.

    >>> percent(0.0132), percent(0.0002)
    ('1.3 %', '<0.1 %')
    """
    if fraction is None:
        return "–"
    smallest = 10.0**-digits
    if 1e-9 < fraction * 100 < smallest / 2:
        return f"<{smallest:g} %"
    return f"{fraction * 100:.{digits}f} %"


def _sentences(assessment: Assessment) -> list[str]:
    joined, scores = assessment.joined, assessment.scores
    sentences = []
    if scores.latency is None or scores.throughput is None:
        sentences.append("No cell could be joined, so nothing was compared.")
    else:
        repeats = sum(len(comparison.repeats) for comparison in joined.comparisons)
        cells = len(joined.comparisons)
        shaped = assessment.shaped_transfer
        transfer = f", transfer phase over shaped links {_score(shaped)}" if shaped else ""
        sentences.append(
            f"{cells} cell{'s' * (cells != 1)} joined ({repeats} record{'s' * (repeats != 1)}): latency"
            f" {_score(scores.latency)}, throughput {_score(scores.throughput)}{transfer};"
            f" {_fronts([c.front for c in assessment.conditions if c.front is not None])}."
        )
        sentences += _cautions(assessment)
    counts = [
        f"{count} {status}"
        for status in ("skipped", "failed", "not joined")
        if (count := sum(entry.status == status for entry in joined.unjoined))
    ]
    if joined.missing:
        counts.append(f"{joined.missing} planned but not recorded")
    if counts:
        sentences.append(f"Not in these numbers: {', '.join(counts)}.")
    return sentences


def _score(score: ErrorScore) -> str:
    floor = "unknown" if score.noise_floor is None else percent(score.noise_floor)
    once = ", of batches within single repeats" if score.noise_bases == ("within one repeat",) else ""
    return f"MAPE {percent(score.mape)} (noise floor {floor}{once})"


def _fronts(fronts: Sequence[FrontAgreement]) -> str:
    if not fronts:
        return "no front, as no condition has two splits or more"
    return f"fronts agree in {sum(front.agrees for front in fronts)} of {len(fronts)}"


def _cautions(assessment: Assessment) -> list[str]:
    """What keeps these numbers from saying more than they do."""
    joined = assessment.joined
    cautions = []
    manifest = joined.run.manifest
    if manifest.emulated:
        fast = "" if manifest.speed == 1 else f" at {manifest.speed:g} times their speed"
        cautions.append(
            f"Devices are emulated{fast}: stage times are the prediction's own inputs, so only transfer, queueing and"
            " overheads are news."
        )
    kinds = {
        (device.name, kind)
        for condition in joined.conditions
        for device, kind in zip(
            condition.prediction.setting.devices, condition.prediction.timing_kinds, strict=True
        )
        if kind != "measured"
    }  # fmt: skip
    if kinds:
        listed = ", ".join(f"{device} {kind}" for device, kind in sorted(kinds))
        cautions.append(f"Timings not measured: {listed}.")
    repeats = [repeat for comparison in joined.comparisons for repeat in comparison.repeats]
    overruns = sum(comparison.overruns for comparison in joined.comparisons)
    if overruns:
        runs = sum(repeat.stage_runs for repeat in repeats)
        cautions.append(f"The host was too slow for its targets in {overruns} of {runs} stage runs.")
    unequal = [r for r in repeats if r.output_check is not None and not r.output_check.bitwise_equal]
    if unequal:
        cautions.append(f"The output differed from the unsplit model's in {len(unequal)} records.")
    if lossy := sum(bool(repeat.retransmits) for repeat in repeats):
        cautions.append(
            f"TCP sent segments again on connections of {lossy} of {len(repeats)} records; the prediction has no loss."
        )
    if any(condition.link_check.flags for condition in joined.conditions):
        cautions.append("A link as probed was not what was asked for (see the links table).")
    return cautions
