"""What a front over several devices means, in plain words: against one device, against two, and what is in doubt."""

from __future__ import annotations

import numpy as np

from paretosim.energy import network_share
from paretosim.objectives import figure_text, objectives_named
from paretosim.placement.limits import may_run
from paretosim.placement.placing import OVERHEAD_BOUND, Best, Placement
from paretosim.placement.resolution import indistinguishable
from paretosim.placement.rows import PlacementRow
from paretosim.prediction import Baseline
from paretosim.resolution import WORTHWHILE_GAIN
from paretosim.units import format_duration

# Of placements that cannot be told apart, how many are named.
LISTED_ALIKE = 3


def placement_verdict(placement: Placement) -> str:
    """A few sentences: which placement, what it gains over one and two devices, and what profiles cannot tell."""
    best = placement.recommended
    sentences = []
    if not placement.rows:
        sentences.append(_nothing_possible(placement))
    elif placement.in_others:
        sentences += _by_objective(placement)
    elif best.throughput is None or best.latency is None:
        sentences.append(_nothing_qualifies(placement))
    else:
        sentences += _against_one(placement, best)
    sentences += _in_part(placement) + _unjudged(placement)
    if placement.rows:
        sentences.append(_doubt(placement))
    return " ".join(sentences)


def stages_of(row: PlacementRow) -> str:
    """The stages of a plan without what all plans share: `rpi4b[0:14]+rtx4090[14:39]`."""
    return "+".join(map(str, row.plan.stages))


def best_alone(placement: Placement) -> Baseline | None:
    """The fastest device that holds the whole model and may run all of it; None where none does."""
    allowed = [placement.alone[device] for device in _allowed_alone(placement)]
    return min((one for one in allowed if one.fits), key=lambda one: one.latency_s, default=None)


def _allowed_alone(placement: Placement) -> list[int]:
    """Positions (from 0) of the devices that pins and forbids let run every block."""
    setting = placement.setting
    allowed = may_run(len(setting.devices), len(setting.model.blocks), setting.pins, setting.forbids)
    return [device for device, every in enumerate(np.all(allowed, axis=1).tolist()) if every]


def _reference(placement: Placement) -> Baseline | None:
    """The device that would do it alone: the one where inputs are, or the best where they may be anywhere."""
    if placement.setting.ends == "free":
        return best_alone(placement)
    return placement.alone[0] if placement.alone[0].fits and 0 in _allowed_alone(placement) else None


def _against_one(placement: Placement, best: Best) -> list[str]:
    assert best.throughput is not None  # the caller has seen to it
    assert best.latency is not None
    busy, fast, alone = best.throughput, best.latency, _reference(placement)
    if alone is None:
        limited = (
            "may run all of it by the pins and forbids" if placement.setting.pins or placement.setting.forbids else ""
        )
        why = f"no device holds the model alone{f' and {limited}' if limited else ''}"
        if placement.setting.ends == "fixed":
            first = f"{placement.alone[0].device}, where the inputs are,"
            why = (
                f"{first} does not hold the model alone"
                if not placement.alone[0].fits
                else f"pins or forbids keep {first} from running it all"
            )
        return [*_figures(placement, busy, why), *_lowest(best)]
    gain = busy.throughput_per_s / alone.throughput_per_s
    if gain < WORTHWHILE_GAIN and fast.latency_s >= alone.latency_s / WORTHWHILE_GAIN:
        return [
            f"One device is enough: {alone.device} alone does {_rate(alone.throughput_per_s)} at"
            f" {_time(alone.latency_s)} a batch, and no plan over these links is better by {WORTHWHILE_GAIN - 1:.0%} or"
            " more in either."
        ]
    place = "the best single device" if placement.setting.ends == "free" else "where the inputs are"
    against = f"{gain:.2f}× {alone.device} alone, {place} ({_rate(alone.throughput_per_s)})"
    best_one = best_alone(placement)
    if best_one is not None and best_one.throughput_per_s > alone.throughput_per_s:
        against += (
            f"; the best single device, {best_one.device}, would do {_rate(best_one.throughput_per_s)} if the data were"
            " there"
        )
    return [*_figures(placement, busy, against), *_lowest(best, alone)]


def _figures(placement: Placement, row: PlacementRow, against: str) -> list[str]:
    """The best throughput against one device, and against two."""
    figures = f"{_rate(row.throughput_per_s)} at {_time(row.latency_s)} a batch"
    sentences = [f"Best throughput: {stages_of(row)}, {figures}: {against}."]
    two = placement.by_two.throughput
    if two is None:
        sentences.append("No plan of two devices qualifies.")
    elif len(row.positions) > 2:
        gain = row.throughput_per_s / two.throughput_per_s
        worth = "" if gain >= WORTHWHILE_GAIN else "; more than two are not worth it"
        sentences.append(
            f"The best plan of two devices, {stages_of(two)}, does {_rate(two.throughput_per_s)} ({gain:.2f}×){worth}."
        )
    elif len(placement.setting.devices) > 2:
        sentences.append("No plan of more than two devices does more.")
    return sentences


def _lowest(best: Best, alone: Baseline | None = None) -> list[str]:
    row = best.latency
    assert row is not None  # the caller has seen to it
    against = "" if alone is None else f", {_difference(row.latency_s, alone.latency_s)} {alone.device} alone"
    if best.throughput is row:
        return [f"It has the lowest latency too{against}."]
    knee = best.knee
    middle = f" Knee of the front: {stages_of(knee)}." if knee is not None and knee is not best.throughput else ""
    return [f"Lowest latency: {stages_of(row)}, {_time(row.latency_s)}{against}.{middle if knee is not row else ''}"]


def _difference(latency_s: float, other_s: float) -> str:
    if abs(latency_s - other_s) < 1e-3 * other_s:
        return "as soon as"
    return f"{_time(abs(latency_s - other_s))} {'sooner' if latency_s < other_s else 'later'} than"


def _by_objective(placement: Placement) -> list[str]:
    """The best placement in each objective of a front in others than latency and throughput."""
    if not any(row.meets_constraints for row in placement.rows):
        return [
            "No placement of the front meets what is wanted; --max-latency, --min-throughput or --fps asks for more."
        ]
    count = len(placement.rows)
    names = [objective.name for objective in placement.objectives]
    said = [f"{count} placement{'s are' if count > 1 else ' is'} on the front in {', '.join(names)}."]
    for objective in placement.objectives:
        row = placement.best(objective)
        assert row is not None  # one meets the constraints
        figures = figure_text(objective, objective.of(placement.figures(row)))
        said.append(f"{objective.best.capitalize()}: {stages_of(row)}, {figures}.")
    if "energy" in names:
        least = placement.best(*objectives_named(["energy"]))
        assert least is not None  # as above
        known = network_share(placement.setting.devices, least.energy_j_per_image, least.network_j_per_image)
        said.append(
            "Energy is that of the devices of a chain, idle time included, and not of devices that take no part;"
            f" {known}."
        )
    return said


def _nothing_possible(placement: Placement) -> str:
    obstacle = placement.obstacle
    assert obstacle is not None  # there are no rows
    if obstacle == OVERHEAD_BOUND:
        return "No placement can be judged."
    return f"No placement is possible: what stands in the way is {obstacle}. Relax it, or give other devices."


def _nothing_qualifies(placement: Placement) -> str:
    setting, rows = placement.setting, placement.rows
    wanted = [
        *([f"latency ≤ {_time(setting.max_latency_s)}"] if setting.max_latency_s is not None else []),
        *([f"throughput ≥ {_rate(setting.min_throughput_per_s)}"] if setting.min_throughput_per_s is not None else []),
        *([f"{setting.frame_rate_per_s:g} frames/s"] if setting.frame_rate_per_s is not None else []),
    ]
    fastest = min(rows, key=lambda row: row.latency_s)
    busiest = max(rows, key=lambda row: row.throughput_per_s)
    return (
        f"No placement meets {' and '.join(wanted)}: the lowest latency is {_time(fastest.latency_s)}"
        f" ({stages_of(fastest)}), the highest throughput {_rate(busiest.throughput_per_s)} ({stages_of(busiest)})."
    )


def _unjudged(placement: Placement) -> list[str]:
    devices = placement.setting.devices
    pairs = dict.fromkeys(
        " and ".join(sorted((devices[one - 1].name, devices[two - 1].name))) for one, two in placement.unjudged
    )
    if not pairs:
        return []
    return [
        f"No conclusion about sharing blocks out between {'; '.join(pairs)}: both timings are overhead-bound (they say"
        " how long launching takes, not how long the blocks take), so such placements are left out. Measure those"
        " devices with hwrun profile."
    ]


def _in_part(placement: Placement) -> list[str]:
    """A warning where something recommended has a part of the model on a device whose timing is overhead-bound."""
    setting, best = placement.setting, placement.recommended
    rows = [row for row in (best.latency, best.throughput, best.knee) if row is not None]
    devices = dict.fromkeys(
        stage.device
        for row in rows
        for stage, position in zip(row.plan.stages, row.positions, strict=True)
        if setting.overhead_bound(position - 1) and 0 < stage.last - stage.first < len(setting.model.blocks)
    )
    if not devices:
        return []
    return [
        f"Of {', '.join(devices)} only the time of the whole model is known (its timing is overhead-bound), so what is"
        " gained by giving it a part is a guess."
    ]


def _doubt(placement: Placement) -> str:
    error = placement.profile_error
    if error is None:
        return "The error of a timing used here is not known, so close placements may be in another order."
    doubts = []
    best = placement.recommended
    for objective, row in (("latency", best.latency), ("throughput", best.throughput)):
        alike = indistinguishable(placement, row, objective)
        if row is not None and alike:
            shown = ", ".join(stages_of(other) for other in alike[:LISTED_ALIKE])
            more = f" and {len(alike) - LISTED_ALIKE} more of the front" if len(alike) > LISTED_ALIKE else ""
            doubts.append(f"In {objective}, {stages_of(row)} cannot be told apart from {shown}{more}")
    stated = f"tage times are {' and '.join(sorted(set(placement.timing_kinds)))} with up to {error:.1%} error"
    small = "a smaller gain than that cannot be told from none"
    return f"{'; '.join(doubts)}: s{stated}, and {small}." if doubts else f"S{stated}: {small}."


def _rate(throughput_per_s: float) -> str:
    return f"{throughput_per_s:.3g} images/s"


def _time(duration_s: float) -> str:
    return format_duration(duration_s, digits=3, gap=" ")
