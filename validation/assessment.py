"""An assessment: joined runs with their scores, fronts and ablation. Every rendering of a report shows this one value.

What a calibration was fitted on and what it was not are never pooled: the first says how well the model can be made to
agree, only the second how well it predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from validation.ablation import Ablation, ablate
from validation.comparing import Comparison
from validation.fronts import FrontAgreement, front_agreement
from validation.join import Joined, JoinedCondition
from validation.order import Inversion, RankAgreement, rank_agreement
from validation.phase_errors import PhaseError, phase_errors
from validation.resampling import DEFAULT_RESAMPLING, Draws, Level, Resampling, draw
from validation.scores import ErrorScore, Scores, score

# How the predictions of some cells came about: without any calibration, with one that never saw these cells, or with
# one that was fitted on them.
Basis = Literal["uncalibrated", "held out", "fitted"]
# More runs than this are not named in a title: provenance has all.
MOST_NAMED = 3
BASES: tuple[Basis, ...] = ("uncalibrated", "held out", "fitted")


@dataclass(frozen=True)
class BasisScores:
    """Scores of all cells of one basis.

    `shaped_transfer` is of the transfer phases over shaped links alone: over an unshaped one it is a fraction of a
    millisecond, and its relative error would drown the rest.
    """

    basis: Basis
    cells: int
    records: int
    scores: Scores
    shaped_transfer: ErrorScore | None


@dataclass(frozen=True)
class FoldScores:
    """Scores of the cells that one calibration predicted, by its name: those that it was fitted without."""

    name: str
    cells: int
    scores: Scores


@dataclass(frozen=True)
class ConditionAssessment:
    """One condition: its scores, order and front (None with fewer than two plans)."""

    joined: JoinedCondition
    scores: Scores
    latency_rank: RankAgreement
    throughput_rank: RankAgreement
    transfer_rank: RankAgreement
    front: FrontAgreement | None

    @property
    def basis(self) -> Basis:
        """How its predictions came about; "fitted" where that holds for any of its plans."""
        return max((basis_of(cell) for cell in self.joined.comparisons), key=BASES.index)

    @property
    def inversions(self) -> tuple[Inversion, ...]:
        """Separable pairs in the wrong order, of latency and throughput."""
        return (*self.latency_rank.inversions, *self.throughput_rank.inversions)


@dataclass(frozen=True)
class Assessment:
    """Some runs. `bases` holds those that some cell has, what was predicted unseen first.

    `held_out` says what was left out of fits in turn, and `folds` are then the scores of each of those parts.
    `draws` says what intervals are over, `ablation` is of the cells of the first basis, and `phases` of all cells.
    """

    joined: Joined
    bases: tuple[BasisScores, ...]
    conditions: tuple[ConditionAssessment, ...]
    ablation: tuple[Ablation, ...]
    phases: tuple[PhaseError, ...]
    draws: Level
    resampling: Resampling
    tolerance: float
    held_out: str | None = None
    folds: tuple[FoldScores, ...] = ()

    @property
    def headline(self) -> BasisScores | None:
        """The scores that say most: of cells that no fit has seen, where there are any."""
        return self.bases[0] if self.bases else None

    @property
    def headline_conditions(self) -> tuple[ConditionAssessment, ...]:
        """Those of the headline's basis: what a fit has seen decides nothing beside what it has not."""
        basis = None if self.headline is None else self.headline.basis
        return tuple(found for found in self.conditions if found.basis == basis)

    @property
    def title(self) -> str:
        """The runs by name; of many, how many and which is the first and the last of them."""
        names = sorted(run.manifest.run_id for run in self.joined.runs)
        return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} runs, {names[0]} to {names[-1]}"


def basis_of(cell: Comparison) -> Basis:
    """How the prediction of a cell came about."""
    if cell.inputs.calibration is None:
        return "uncalibrated"
    return "fitted" if cell.fitted else "held out"


def assess(
    joined: Joined,
    tolerance: float,
    resampling: Resampling = DEFAULT_RESAMPLING,
    *,
    held_out: str | None = None,
    ablated: bool = True,
) -> Assessment:
    """Scores of everything and of each condition.

    Parameters
    ----------
    tolerance : of the tolerant front scores.
    held_out : what was left out of the fits in turn, where `joined` holds predictions by several.
    ablated : whether to predict all cells again, phase by phase and without each term, which takes longer than the
        rest.
    """
    cells = joined.comparisons
    draws = draw([[repeat.run_id for repeat in cell.repeats] for cell in cells], resampling)
    origins = [condition.link_origin for condition in joined.conditions for _ in condition.comparisons]
    bases = []
    for basis in BASES:
        places = [place for place, cell in enumerate(cells) if basis_of(cell) == basis]
        if places:
            shaped = [place for place in places if origins[place] == "asked"]
            bases.append(
                BasisScores(
                    basis=basis,
                    cells=len(places),
                    records=sum(len(cells[place].repeats) for place in places),
                    scores=score([cells[place] for place in places], draws.of(places)),
                    shaped_transfer=score([cells[place] for place in shaped], draws.of(shaped)).transfer,
                )
            )
    conditions, first = [], 0
    for condition in joined.conditions:
        places = list(range(first, first + len(condition.comparisons)))
        first += len(places)
        conditions.append(_assess_condition(condition, tolerance, draws.of(places)))
    return Assessment(
        joined=joined,
        bases=tuple(bases),
        conditions=tuple(conditions),
        ablation=ablate([cell for cell in cells if basis_of(cell) == bases[0].basis]) if bases and ablated else (),
        phases=phase_errors(joined) if ablated else (),
        draws=draws.level,
        resampling=resampling,
        tolerance=tolerance,
        held_out=held_out,
        folds=() if held_out is None else _folds(cells, draws),
    )


def _folds(cells: Sequence[Comparison], draws: Draws) -> tuple[FoldScores, ...]:
    by_name: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        assert cell.inputs.calibration is not None  # each is predicted by its fold's
        by_name.setdefault(cell.inputs.calibration.name, []).append(place)
    return tuple(
        FoldScores(name, len(places), score([cells[place] for place in places], draws.of(places)))
        for name, places in sorted(by_name.items())
    )


def _assess_condition(joined: JoinedCondition, tolerance: float, draws: Draws) -> ConditionAssessment:
    cells = joined.comparisons
    labels = [cell.label for cell in cells]
    hops = max((len(cell.transfers) for cell in cells), default=0)
    # Transfers of the same hop are ranked among themselves; of two stages there is one.
    timed = [cell for cell in cells if cell.transfers] if hops == 1 else []
    return ConditionAssessment(
        joined=joined,
        scores=score(cells, draws),
        latency_rank=rank_agreement([cell.latency for cell in cells], labels),
        throughput_rank=rank_agreement([cell.throughput for cell in cells], labels),
        transfer_rank=rank_agreement([cell.transfers[0] for cell in timed], [cell.label for cell in timed]),
        front=front_agreement(cells, tolerance, draws),
    )


def fronts_of(conditions: Sequence[ConditionAssessment]) -> tuple[FrontAgreement, ...]:
    """Of the conditions that have one."""
    return tuple(found.front for found in conditions if found.front is not None)
