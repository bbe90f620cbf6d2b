"""A map of best splits as the intervals, sentences and character picture that a person reads in a terminal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from paretosim.in_effect import link_in_effect, terms_in_effect
from paretosim.rates.break_even import Intervals, RobustChoice
from paretosim.rates.rate_map import Question, RateMap, Regions
from paretosim.show.tables import calibration_lines, timing_lines
from paretosim.units import format_bytes, format_duration, format_rate

_SOUGHT: dict[Question, str] = {"latency": "best latency", "throughput": "best throughput", "knee": "knee of the front"}
# Rows and columns of the character picture.
_PICTURE_ROWS, _PICTURE_COLUMNS = 9, 61
_UNITS = {"bit": "bit/s", "kbit": "kbit/s", "mbit": "Mbit/s", "gbit": "Gbit/s", "tbit": "Tbit/s"}
_SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def show(found: RateMap, console: Console) -> None:
    """Print what the map rests on, the intervals, the robust choices, and where delay matters, regions."""
    for line in [*_basis(found), *_intervals(found), *_robust(found), *_regions(found)]:
        console.print(line, soft_wrap=True)


def _basis(found: RateMap) -> list[Text]:
    setting, link = found.setting, found.setting.link
    one, two = setting.devices
    back = "the same back" if found.return_rate_bps is None else f"{rate_text(found.return_rate_bps)} back"
    lines = [
        Text.assemble(
            (setting.model.name, "bold"),
            f" over {one.name} → {two.name}, batch {setting.batch}, mode {setting.mode}, source {setting.source},"
            f" sink {setting.sink}",
        ),
        Text(
            f"rates {rate_text(found.rates.low)} to {rate_text(found.rates.high)}, {back}; delay"
            f" {format_duration(link.one_way_delay_s)} forward, {format_duration(link.return_delay_s)} back; window"
            f" {format_bytes(link.wmax_bytes)}; TCP {setting.tcp_state}"
        ),
        *timing_lines(setting),
        *calibration_lines(setting),
    ]
    if found.unfit:
        named = dict.fromkeys(
            f"{d.name} ({format_bytes(d.usable_bytes)} usable)" for d in setting.devices if d.memory_bytes
        )
        usable = " and ".join(named)
        lines.append(
            Text(f"left out, since they do not fit in the memory of {usable}: splits {list(found.unfit)}", "red")
        )
    if found.overhead_bound:
        lines.append(
            Text(
                "No conclusion: both timings are overhead-bound (they say how long launching takes, not how long the"
                " blocks take), so what follows is about launching. Measure them with hwrun profile.",
                "yellow",
            )
        )
    return lines


def _intervals(found: RateMap) -> list[Text]:
    exact = found.exact
    lines = [Text(), Text(_how_exact(found), "dim")]
    for objective, intervals in (("latency", exact.latency), ("throughput", exact.throughput)):
        lines += [Text(f"Best {objective} (exact break-even rates)", "bold"), *_interval_lines(found, intervals)]
    lines += [
        Text(f"Knee of the front (sampled at {found.knee_samples} rates; its edges are near, not exact)", "bold"),
        *_interval_lines(found, found.knees, about="about "),
        Text.assemble(
            ("Fronts: ", "bold"),
            f"{exact.distinct_fronts} different in {len(exact.fronts.on_front)} intervals (exact; each is in --json)",
        ),
    ]
    return lines


def _how_exact(found: RateMap) -> str:
    errors = [timing.error for timing in found.setting.timings]
    known = [error.relative for error in errors if error is not None]
    off = f"by {max(known):.1%}" if len(known) == len(errors) else "by some unknown share"
    return (
        f"Exact is meant for these timings: if all stage times are off {off} alike, so is a break-even rate; errors"
        " that differ between blocks or devices can move it further."
    )


def _interval_lines(found: RateMap, intervals: Intervals, about: str = "") -> list[Text]:
    names = interval_names(intervals, about)
    width = max(map(len, names))
    lines = []
    for name, split in zip(names, intervals.splits.tolist(), strict=True):
        lines.append(Text(f"  {name + ':':<{width + 1}} split {split}{_meaning(found, split)}"))
    return lines


def interval_names(intervals: Intervals, about: str = "") -> list[str]:
    """Each interval in words: `below 18.3 Mbit/s`, `18.3 Mbit/s to 1 Gbit/s`, `above 1 Gbit/s`, `at every rate`."""
    inner = intervals.edges_bps[1:-1].tolist()
    if not inner:
        return ["at every rate"]
    digits = 3
    while digits < 12 and len({rate_text(edge, digits) for edge in inner}) < len(inner):
        digits += 1
    words = [about + rate_text(edge, digits) for edge in inner]
    between = [f"{low} to {high.removeprefix(about)}" for low, high in pairwise(words)]
    return [f"below {words[0]}", *between, f"above {words[-1]}"]


def _meaning(found: RateMap, split: int) -> str:
    setting = found.setting
    if split == 0:
        return f" (everything on {setting.devices[1].name})"
    if split == len(setting.model.blocks):
        return f" (everything on {setting.devices[0].name})"
    return f" (after {setting.model.blocks[split - 1].name})"


def _robust(found: RateMap) -> list[Text]:
    over = f"over {rate_text(found.rates.low)} to {rate_text(found.rates.high)}"
    return [
        Text.assemble(("One split for all rates", "bold"), f" {over} (exact minimax regret)"),
        Text(f"  latency:    {_regret(found.robust_latency, 'longer')}"),
        Text(f"  throughput: {_regret(found.robust_throughput, 'less')}"),
    ]


def _regret(choice: RobustChoice, worse: str) -> str:
    if choice.regret < 1e-9:
        return f"split {choice.split} gives nothing away"
    loss = f"{100 * choice.regret:.3g} % {worse} than" if choice.regret < 1 else f"{1 + choice.regret:.3g} times"
    return (
        f"split {choice.split} is at worst {loss} the best: at {rate_text(choice.worst_rate_bps)}, where that is"
        f" split {choice.best_there}"
    )


def _regions(found: RateMap) -> list[Text]:
    regions = found.regions
    low, high = (format_duration(float(regions.delays_s[at])) for at in (0, -1))
    lines = [Text()]
    for question, sought in _SOUGHT.items():
        if regions.delay_matters(question):
            heading = f"{sought[0].upper()}{sought[1:]} over rate and one-way delay {low} to {high} (sampled picture)"
            lines += [Text(heading, "bold"), *_picture(regions, question)]
        else:
            lines.append(Text(f"One-way delay from {low} to {high} does not change the {sought} (sampled).", "dim"))
    if any(map(regions.delay_matters, _SOUGHT)) and (reasons := _why_delay(found)):
        lines.append(Text(reasons, "dim"))
    return lines


def _why_delay(found: RateMap) -> str:
    setting, longest_s = found.setting, float(found.regions.delays_s[-1])
    link, tcp_state = link_in_effect(setting)
    reasons = []
    if tcp_state == "cold":
        reasons.append("a cold connection stalls for round trips")
    if 8 * link.wmax_bytes / (longest_s + link.return_delay_s) < found.rates.high:
        reasons.append(f"a window of {format_bytes(link.wmax_bytes)} a round trip caps the rate")
    if "rpc" in terms_in_effect(setting).active_terms():
        reasons.append("calls of RPC wait for round trips before they send")
    if setting.mode.name == "closed":
        reasons.append("batches in flight are limited")
    if setting.sink == "first":
        reasons.append("a split that keeps everything on the first device waits for no delay")
    return f"Delay matters because {_listed(reasons)}." if reasons else ""


def _listed(reasons: list[str]) -> str:
    return " and ".join([", ".join(reasons[:-1]), reasons[-1]] if reasons[:-1] else reasons)


def _picture(regions: Regions, question: Question) -> list[Text]:
    splits = regions.of(question)
    rows = _spread(len(regions.delays_s), _PICTURE_ROWS)[::-1]  # long delays on top
    columns = _spread(len(regions.rates_bps), _PICTURE_COLUMNS)
    shown = splits[np.ix_(rows, columns)]
    symbols = {int(split): _SYMBOLS[i % len(_SYMBOLS)] for i, split in enumerate(sorted(set(shown.ravel().tolist())))}
    lines = []
    for row, delay_s in zip(shown.tolist(), regions.delays_s[rows].tolist(), strict=True):
        lines.append(Text(f"{format_duration(delay_s, digits=2):>8} │{''.join(symbols[split] for split in row)}"))
    left, right = rate_text(float(regions.rates_bps[0])), rate_text(float(regions.rates_bps[-1]))
    lines.append(Text(" " * 9 + "└" + "─" * len(columns), "dim"))
    lines.append(Text(" " * 10 + left + f"{right:>{len(columns) - len(left)}}", "dim"))
    legend = ", ".join(f"{symbol} split {split}" for split, symbol in symbols.items())
    lines.append(Text(f"          {legend}"))
    return lines


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` of `count` indices, evenly apart, both ends included."""
    return np.linspace(0, count - 1, wanted).round().astype(np.int64)


def rate_text(rate_bps: float, digits: int = 3) -> str:
    """A rate as people say it.

    >>> rate_text(18_345_678.0)
    '18.3 Mbit/s'
    """
    text = format_rate(float(f"{rate_bps:.{digits}g}"))
    number = text.rstrip("kmgtbi")
    return f"{number} {_UNITS[text.removeprefix(number)]}"
