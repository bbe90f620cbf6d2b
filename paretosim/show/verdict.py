"""The verdict: what a prediction means, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from paretosim.mode import Arrivals
from paretosim.prediction import Baseline, Prediction, Row
from paretosim.resolution import WORTHWHILE_GAIN, indistinguishable
from paretosim.units import format_duration, format_number


def verdict(prediction: Prediction, doubts: Sequence[str] | None = None) -> str:
    """One or a few sentences: split or not, what it gains and costs, and what the profiles cannot tell.

    Parameters
    ----------
    doubts : what samples of the timings' errors say, in place of what the headline errors alone do.
    """
    recommended = prediction.recommended
    if is_overhead_bound(prediction):
        return (
            "No conclusion: both timings are overhead-bound (they say how long launching takes, not how long"
            " the blocks take), so a split between these devices cannot be judged. Measure them with hwrun profile."
        )
    if isinstance(prediction.setting.mode.arrivals, Arrivals) and not _keeping_up(prediction):
        fastest = max(row.throughput_per_s for row in prediction.rows) / prediction.setting.batch
        return (
            f"No split keeps up with {prediction.setting.mode.arrivals.rate_per_s:g} batches/s: at most"
            f" {format_number(fastest, 3)} can be done. Latency would grow without end."
        )
    if recommended.latency is None or recommended.throughput is None or recommended.knee is None:
        return " ".join([_nothing_qualifies(prediction), *(doubts or [])])
    by_throughput = prediction.row(recommended.throughput)
    by_latency = prediction.row(recommended.latency)
    sentences = [_against_baselines(prediction, by_throughput)]
    if recommended.latency != recommended.throughput:
        sentences.append(
            f"Lowest latency: {_name(prediction, by_latency)}, {_figures(by_latency)}."
            f" Knee of the front: split {recommended.knee}."
        )
    sentences += _doubts(prediction) if doubts is None else doubts
    return " ".join(sentences)


def is_overhead_bound(prediction: Prediction) -> bool:
    """Whether both timings only say how long launching takes, so that no split can be judged by them."""
    return all(timing.conditions.get("overhead_bound") is True for timing in prediction.setting.timings)


def _against_baselines(prediction: Prediction, by_throughput: Row) -> str:
    feasible = [baseline for baseline in prediction.baselines if baseline.fits]
    if not feasible:
        return (
            f"Split: {prediction.setting.model.name} fits on neither device alone."
            f" Best throughput: {_name(prediction, by_throughput)}, {_figures(by_throughput)}."
        )
    first = prediction.baselines[0]
    if not first.fits:
        return (
            f"The model does not fit on {first.device} alone."
            f" Best throughput: {_name(prediction, by_throughput)}, {_figures(by_throughput)}."
        )
    if isinstance(prediction.setting.mode.arrivals, Arrivals):
        return _at_a_rate(prediction, first)
    gain = by_throughput.throughput_per_s / first.throughput_per_s
    # In every mode a split that answers sooner than one device also completes more often, by as much or more: a
    # latency is never below the period's station. So throughput alone decides.
    if gain < WORTHWHILE_GAIN:
        return (
            f"Do not split: {first.device} alone does {_rate(first.throughput_per_s)} at"
            f" {_time(first.latency_s)} a batch, and over this link no split is better by"
            f" {WORTHWHILE_GAIN - 1:.0%} or more in either."
        )
    action = _name(prediction, by_throughput)
    return (
        f"{action[0].upper() + action[1:]} gains {_ratio(gain)}× throughput over {first.device} alone"
        f" ({_rate(first.throughput_per_s)} → {_rate(by_throughput.throughput_per_s)}) and"
        f" {_cost(first, by_throughput)}."
    )


def _at_a_rate(prediction: Prediction, first: Baseline) -> str:
    """In `open` all that keep up complete as often, so that latency decides."""
    assert prediction.recommended.latency is not None
    row = prediction.row(prediction.recommended.latency)
    action = _name(prediction, row)
    best = f"{action[0].upper() + action[1:]} has the lowest latency, {_time(row.latency_s)} a batch"
    if math.isinf(first.latency_s):
        return f"{best}; {first.device} alone does not keep up ({_rate(first.throughput_per_s)} at most)."
    if row.latency_s * WORTHWHILE_GAIN > first.latency_s:
        return (
            f"Do not split: {first.device} alone keeps up at {_time(first.latency_s)} a batch, and over this link no"
            f" split is {WORTHWHILE_GAIN - 1:.0%} or more faster."
        )
    return f"{best}, and {_cost(first, row)} over {first.device} alone."


def _keeping_up(prediction: Prediction) -> bool:
    return any(math.isfinite(row.latency_s) for row in prediction.rows)


def _cost(first: Baseline, row: Row) -> str:
    difference = row.latency_s - first.latency_s
    if abs(difference) < 1e-3 * first.latency_s:
        return "costs no latency worth mentioning"
    return f"{'costs' if difference > 0 else 'saves'} {_time(abs(difference))} of latency"


def _nothing_qualifies(prediction: Prediction) -> str:
    if not any(row.fits for row in prediction.rows):
        return "No split fits in the devices' memory: use devices with more, a smaller batch or a smaller model."
    setting = prediction.setting
    wanted = [
        *([f"latency ≤ {_time(setting.max_latency_s)}"] if setting.max_latency_s is not None else []),
        *([f"throughput ≥ {_rate(setting.min_throughput_per_s)}"] if setting.min_throughput_per_s is not None else []),
        *([f"{setting.frame_rate_per_s:g} frames/s"] if setting.frame_rate_per_s is not None else []),
    ]
    fitting = [row for row in prediction.rows if row.fits]
    fastest = min(fitting, key=lambda row: row.latency_s)
    busiest = max(fitting, key=lambda row: row.throughput_per_s)
    filling = f" after {_time(setting.filling_s)} to fill a batch" if setting.filling_s else ""
    return (
        f"No split meets {' and '.join(wanted)}: the lowest latency is {_time(fastest.latency_s)}{filling} (split"
        f" {fastest.split}), the highest throughput {_rate(busiest.throughput_per_s)} (split {busiest.split})."
    )


def _doubts(prediction: Prediction) -> list[str]:
    kinds = set(prediction.timing_kinds)
    error = prediction.profile_error
    if error is None:
        return ["The error of a timing used here is not known, so close splits may be in another order."]
    doubts = []
    # At a given rate all that keep up do as much.
    for objective in ("latency",) if prediction.setting.mode.name == "open" else ("latency", "throughput"):
        best = getattr(prediction.recommended, objective)
        alike = indistinguishable(prediction, best, objective)
        if alike:
            doubts.append(f"In {objective}, split {best} cannot be told apart from {split_runs(alike)}")
    stated = f"stage times are {' and '.join(sorted(kinds))} with {error:.1%} error"
    return [f"{'; '.join(doubts)}: {stated}."] if doubts else [f"The {stated}."]


def split_runs(splits: tuple[int, ...]) -> str:
    """Ascending numbers with runs shortened.

    >>> split_runs((3, 4, 5, 9))
    '3–5, 9'
    """
    runs: list[list[int]] = []
    for split in splits:
        if runs and split == runs[-1][1] + 1:
            runs[-1][1] = split
        else:
            runs.append([split, split])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def _name(prediction: Prediction, row: Row) -> str:
    one, two = (device.name for device in prediction.setting.devices)
    if row.split == 0:
        return f"running everything on {two} (split 0)"
    if row.split == len(prediction.setting.model.blocks):
        return f"running everything on {one} and sending the result (split {row.split})"
    return f"split {row.split}"


def _figures(row: Row) -> str:
    return f"{_rate(row.throughput_per_s)} at {_time(row.latency_s)} a batch"


def _rate(throughput_per_s: float) -> str:
    return f"{format_number(throughput_per_s, 3)} images/s"


def _ratio(gain: float) -> str:
    return f"{gain:.2f}" if gain < 10 else format_number(gain, 3)


def _time(duration_s: float) -> str:
    return format_duration(duration_s, digits=3, gap=" ")
