"""What a space of decisions means, in plain words: the best choices against one device alone, and what is not known."""

from __future__ import annotations

from paretosim.decision.space import DecisionSpace
from paretosim.energy import network_share
from paretosim.objectives import contrast, costs_of
from paretosim.pareto import is_nondominated
from paretosim.resolution import WORTHWHILE_GAIN
from paretosim.show.verdict import is_overhead_bound
from paretosim.timing import EXTRAPOLATED_FROM


def decision_verdict(space: DecisionSpace) -> str:
    """A few sentences: what the best choice in each objective gains over the first device alone, and the doubts."""
    if is_overhead_bound(space.predictions[0]):
        return (
            "No conclusion: both timings are overhead-bound (they say how long launching takes, not how long"
            " the blocks take), so a split between these devices cannot be judged. Measure them with hwrun profile."
        )
    if not any(choice.row.fits for choice in space.choices):
        first = space.choices[0]
        where = f"split {first.row.split} at batch {first.batch}"
        return f"Nothing fits. For {where}, {'; '.join(first.misfits)}; no other choice fits either."
    if not any(choice.comparable for choice in space.choices):
        return f"Nothing that fits keeps up with what arrives in mode {space.predictions[0].setting.mode}."
    if not any(choice.eligible for choice in space.choices):
        return "No choice meets what is wanted; --max-latency, --min-throughput or --fps asks for more than there is."
    return " ".join([*_against_first_alone(space), *_doubts(space)])


def _against_first_alone(space: DecisionSpace) -> list[str]:
    """For each objective, the best choice beside the best that the first device can do at any batch and window."""
    alone = [one for one in space.alone if one.order == 0 and one.baseline.fits]
    name = space.alone[0].baseline.device
    if not alone:
        return [f"The model does not fit on {name} alone at any of these batches."]
    better: list[str] = []
    worse: list[str] = []
    for objective in space.objectives:
        best = space.best(objective.name)
        if objective.name == "bytes" or best is None:  # a device alone sends nothing
            continue
        mine = objective.of(best.figures)
        values = [objective.of(one.figures) for one in alone]
        theirs = max(values) if objective.maximised else min(values)
        gain = mine / theirs if objective.maximised else theirs / mine
        said = f"{objective.name} {contrast(objective, mine, theirs)}"
        (better if gain >= WORTHWHILE_GAIN else worse).append(said)
    where = f"{name} alone{' at its best batch and window' if len(space.predictions) > 1 else ''}"
    if not better:
        return [f"No better than {where}: {'; '.join(worse)}."] if worse else []
    sentences = [f"Better than {where} in {'; '.join(better)}."]
    return sentences + ([f"Not better in {'; '.join(worse)}."] if worse else [])


def _doubts(space: DecisionSpace) -> list[str]:
    said = []
    several = len({p.setting.batch for p in space.predictions}) > 1
    ways: dict[bool, set[int]] = {False: set(), True: set()}
    for prediction in space.predictions:
        for timing, kind in zip(prediction.setting.timings, prediction.timing_kinds, strict=True):
            if several and kind == "extrapolated":
                ways[EXTRAPOLATED_FROM in timing.conditions].add(prediction.setting.batch)
    if ways[False]:
        said.append(
            f"Timings at batch {_listed(ways[False])} are extrapolated: from a single profiled size every"
            " image takes as long in any batch, so what batches gain or lose in computing is not in them; profile"
            " these sizes to know."
        )
    if ways[True]:
        said.append(
            f"Timings at batch {_listed(ways[True])} are extrapolated along the line through the nearest two profiled"
            " sizes; profile these sizes to know."
        )
    if any(objective.name == "energy" for objective in space.objectives):
        best = space.best("energy")
        figures = None if best is None else (best.figures.energy_j_per_image, best.figures.network_j_per_image)
        known = network_share(space.predictions[0].setting.devices, *(figures or (None, None)))
        said.append(f"Energy is that of both devices, idle time included; {known}.")
    error = space.predictions[0].profile_error
    if error is None:
        return [*said, "The error of a timing used here is not known, so close choices may be in another order."]
    kinds = dict.fromkeys(kind for prediction in space.predictions for kind in prediction.timing_kinds)
    return [
        *said,
        f"The stage times are {' and '.join(sorted(kinds))} with {error:.1%} error; choices closer than that are not"
        " told apart.",
    ]


def _listed(batches: set[int]) -> str:
    return ", ".join(map(str, sorted(batches)))


def best_alone(space: DecisionSpace, order: int) -> list[int]:
    """Places in `space.alone` of the baselines of the first or second device that none of its own dominates."""
    places = [index for index, one in enumerate(space.alone) if one.order == order]
    kept = is_nondominated(costs_of([space.alone[index].figures for index in places], space.objectives))
    return [index for index, keep in zip(places, kept.tolist(), strict=True) if keep]
