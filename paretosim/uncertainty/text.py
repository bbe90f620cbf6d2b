"""Uncertainty as a person reads it: what was drawn, columns of the table, and what the verdict says of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from paretosim.resolution import WORTHWHILE_GAIN
from paretosim.show.columns import Column
from paretosim.show.verdict import split_runs
from paretosim.units import format_number

if TYPE_CHECKING:
    from paretosim.prediction import Prediction
    from paretosim.uncertainty.sampling import Uncertainty


def basis_lines(prediction: Prediction, found: Uncertainty) -> list[Text]:
    """What was drawn, from what, and what was not."""
    doubts = found.doubts
    sources = dict.fromkeys(
        f"{doubt.device} ±{doubt.error:.1%} {'of its timing' if doubt.source == 'timing' else 'assumed'}"
        f"{' and repeats redrawn' if doubt.repeats else ''}"
        for doubt in found.devices
    )
    spreads = [
        f"{name} spread {spread:.1%}" if spread else f"{name} certain"
        for name, spread in (("rate", doubts.rate_spread), ("delay", doubts.delay_spread))
    ]
    calibration = prediction.setting.calibration
    if calibration is not None:
        drawn, level = len(calibration.intervals), calibration.interval_level
        intervals = f"{drawn} intervals" if drawn > 1 else "one interval"
        certain = "certain (it has no intervals)"
        spreads.append(f"calibration {f'drawn in its {intervals} of {level:.0%}' if drawn else certain}")
    low = []
    if found.fast_ends == "samples":
        low = [Text("where two stations are equally slow, the fast ends of these intervals are put too low", "dim")]
    return [
        *low,
        Text(
            f"uncertainty: {doubts.samples:,} samples, seed {doubts.seed}; block times {', '.join(sources)};"
            f" {', '.join(spreads)}"
        ),
    ]


def interval_columns(found: Uncertainty, blank: int) -> list[Column]:
    """Intervals of latency and throughput, and probabilities, after so many blank cells."""
    blanks = ("",) * blank

    def column(heading: str, cells: list[str], priority: int) -> Column:
        return Column(heading=heading, cells=(*blanks, *cells), priority=priority)

    return [
        column("latency\n5–95%, s", [_interval(s.latency_p05_s, s.latency_p95_s) for s in found.splits], 0),
        column(
            "throughput\n5–95%", [_interval(s.throughput_p05_per_s, s.throughput_p95_per_s) for s in found.splits], 0
        ),
        column("on\nfront", [percent(s.front_probability) for s in found.splits], 0),
        column("lowest\nlatency", [percent(s.best_latency_probability) for s in found.splits], 2),
        column("highest\nthroughput", [percent(s.best_throughput_probability) for s in found.splits], 2),
    ]


def doubt_sentences(prediction: Prediction, found: Uncertainty) -> list[str]:
    """What the samples say of the recommended splits, in place of what the headline errors alone would."""
    by_throughput, by_latency = prediction.recommended.throughput, prediction.recommended.latency
    if by_throughput is None or by_latency is None:
        return [f"Some split does in {percent(found.qualifying_probability)} of {found.doubts.samples:,} samples."]
    sentences = []
    gain = found.gain_over_first
    if gain is not None:
        low, high = (format_number(value, 3) for value in (gain.p05, gain.p95))
        first = prediction.baselines[0].device
        sentences.append(
            f"Over {found.doubts.samples:,} samples of what block times and link may be, split {by_throughput} has"
            f" {low}–{high}× the throughput of {first} alone (5–95%), {WORTHWHILE_GAIN:g}× or more in"
            f" {percent(gain.worthwhile_probability)} of them."
        )
    if prediction.setting.mode.name != "open":  # at a given rate all that keep up do as much
        best = found.split(by_throughput)
        sentences.append(
            f"Split {by_throughput} has the highest throughput in {percent(best.best_throughput_probability)} of"
            f" samples and is on the front in {percent(best.front_probability)}{_apart(found.alike['throughput'])}."
        )
    best = found.split(by_latency)
    sentences.append(
        f"Split {by_latency} has the lowest latency in {percent(best.best_latency_probability)} of samples"
        f" and is on the front in {percent(best.front_probability)}{_apart(found.alike['latency'])}."
    )
    if found.qualifying_probability < 1:
        wanted = "keeps up" if prediction.setting.mode.name == "open" else "meets what is wanted"
        sentences.append(
            f"In {percent(1 - found.qualifying_probability)} of samples no split {wanted};"
            f" split {by_latency} does in {percent(found.split(by_latency).meets_constraints_probability)}."
        )
    return sentences


def percent(share: float) -> str:
    """A share of samples; what is neither none nor all is never shown as that.

    >>> percent(0.9996), percent(1.0), percent(0.0004), percent(0.625)
    ('>99%', '100%', '<1%', '62%')
    """
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def _apart(alike: tuple[int, ...] | None) -> str:
    return f", and cannot be told apart there from {split_runs(alike)}" if alike else ""


def _interval(low: float, high: float) -> str:
    if low == high:
        return _number(low)
    return f"{_number(low)} – {_number(high)}"


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else format_number(value, 4)
