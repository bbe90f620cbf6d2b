"""What a front means, in a line: from which split to which, and what the profiles cannot tell."""

from __future__ import annotations

from paretosim.prediction import Prediction, Row
from paretosim.resolution import indistinguishable
from paretosim.show.verdict import is_overhead_bound, split_runs, verdict
from paretosim.units import format_duration, format_number


def is_one_point(prediction: Prediction) -> bool:
    """Whether one pair of latency and throughput is all of the front; more than one split may have it."""
    return len({(row.latency_s, row.throughput_per_s) for row in prediction.front}) == 1


def front_verdict(prediction: Prediction) -> str:
    """The ends of the front and what lies between them, or that it is one point, or why there is no answer."""
    recommended = prediction.recommended
    if is_overhead_bound(prediction) or recommended.latency is None or recommended.throughput is None:
        return verdict(prediction)
    if is_one_point(prediction):
        splits = split_runs(tuple(sorted(row.split for row in prediction.front)))
        are = "splits" if len(prediction.front) > 1 else "split"
        sentence = (
            f"One-point front: {are} {splits} {'are' if are == 'splits' else 'is'} best in latency and in throughput,"
            f" {_figures(prediction.front[0])}."
        )
    else:
        # The recommended ones, which under constraints need not be the ends of the front.
        fastest, busiest = prediction.row(recommended.latency), prediction.row(recommended.throughput)
        sentence = f"From {_named(fastest)} to {_named(busiest)}: {_trade(fastest, busiest)}."
    return f"{sentence}{_doubts(prediction)}"


def _named(row: Row) -> str:
    return f"split {row.split} ({_figures(row)})"


def _figures(row: Row) -> str:
    return f"{_time(row.latency_s)} a batch, {format_number(row.throughput_per_s, 3)} images/s"


def _trade(fastest: Row, busiest: Row) -> str:
    gain = busiest.throughput_per_s / fastest.throughput_per_s
    cost = busiest.latency_s - fastest.latency_s
    return f"{format_number(gain, 3)}× the throughput for {_time(cost)} ({cost / fastest.latency_s:.1%}) more latency"


def _doubts(prediction: Prediction) -> str:
    if prediction.profile_error is None:
        return " The error of a timing used here is not known."
    told = []
    for objective in ("latency", "throughput"):
        best = getattr(prediction.recommended, objective)
        alike = indistinguishable(prediction, best, objective)
        if alike:
            told.append(f"in {objective} {best} from {split_runs(alike)}")
    return f" The timings' error cannot tell {' or '.join(told)}." if told else ""


def _time(duration_s: float) -> str:
    return format_duration(duration_s, digits=3, gap=" ")
