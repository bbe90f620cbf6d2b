"""A map of the best splits over rate and delay: exact intervals of rate at one delay, and a sampled picture of both."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim import pareto
from paretosim.errors import BadInputError
from paretosim.rates.break_even import (
    BreakEven,
    Intervals,
    RobustChoice,
    best_places,
    break_even,
    merged,
    robust_choices,
)
from paretosim.rates.link_response import LinkResponse, link_response
from paretosim.rates.link_sweep import sweep
from paretosim.resting import awake
from paretosim.setting import Setting

# A step is less than a column of a terminal or a point of a figure, and the whole takes milliseconds.
KNEE_SAMPLES = 401
GRID_RATES, GRID_DELAYS = 241, 121


# What a map answers at each link: the best split for an objective, or the front's knee.
Question = Literal["latency", "throughput", "knee"]
QUESTIONS: tuple[Question, ...] = get_args(Question)


class Range(msgspec.Struct, frozen=True):
    """From `low` to `high`, both above zero."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise BadInputError(
                f"range: got {self.low:g} to {self.high:g}, expected two values above zero, lower first"
            )

    def sampled(self, count: int) -> NDArray[np.float64]:
        """That many values, evenly apart on a logarithmic scale, ends included."""
        values = np.geomspace(self.low, self.high, count)
        values[[0, -1]] = self.low, self.high
        return values


class Regions(msgspec.Struct, frozen=True):
    """The best split at each point of a grid, and the knee's: `latency` and so on of shape (delays, rates). Sampled."""

    rates_bps: NDArray[np.float64]
    delays_s: NDArray[np.float64]
    latency: NDArray[np.int64]
    throughput: NDArray[np.int64]
    knee: NDArray[np.int64]

    def of(self, question: Question) -> NDArray[np.int64]:
        """The splits that answer it, (delays, rates)."""
        return {"latency": self.latency, "throughput": self.throughput, "knee": self.knee}[question]

    def delay_matters(self, question: Question) -> bool:
        """Whether delay changes the split that answers it at any of the grid's rates."""
        splits = self.of(question)
        return bool((splits != splits[0]).any())


class RateMap(msgspec.Struct, frozen=True, kw_only=True):
    """What `rate_map` found. `exact` holds at the delay of `setting.link`; `knees` and `regions` are sampled."""

    setting: Setting
    return_rate_bps: float | None
    rates: Range
    splits: tuple[int, ...]
    unfit: tuple[int, ...]
    exact: BreakEven
    robust_latency: RobustChoice
    robust_throughput: RobustChoice
    knees: Intervals
    regions: Regions

    @property
    def knee_samples(self) -> int:
        """At how many rates the knee was looked at."""
        return KNEE_SAMPLES

    @property
    def overhead_bound(self) -> bool:
        """Whether both timings say how long launching takes, and not how long blocks take."""
        return all(timing.conditions.get("overhead_bound") is True for timing in self.setting.timings)


def rate_map(setting: Setting, rates: Range, delays: Range, return_rate_bps: float | None = None) -> RateMap:
    """The best splits of `setting` over `rates` (bit/s), and over `rates` × `delays` (s, one way, forward).

    The rate of the setting's own link is not used; its delays, segments and window are.

    Parameters
    ----------
    return_rate_bps : of the reverse direction, where it does not follow the forward one.
    """
    setting = awake(setting)
    response = link_response(setting, return_rate_bps)
    link = setting.link
    found = break_even(
        response,
        low_bps=rates.low,
        high_bps=rates.high,
        one_way_delay_s=link.one_way_delay_s,
        return_delay_s=link.return_delay_s,
    )
    by_latency, by_throughput = robust_choices(response, found)
    return RateMap(
        setting=setting,
        return_rate_bps=return_rate_bps,
        rates=rates,
        splits=tuple(response.splits.tolist()),
        unfit=response.unfit,
        exact=found,
        robust_latency=by_latency,
        robust_throughput=by_throughput,
        knees=_knees(response, rates, link.one_way_delay_s, link.return_delay_s),
        regions=_regions(response, rates, delays, link.return_delay_s),
    )


def _knees(response: LinkResponse, rates: Range, one_way_delay_s: float, return_delay_s: float) -> Intervals:
    """The knee at sampled rates; an edge is put in the middle between two samples that differ."""
    sampled = rates.sampled(KNEE_SAMPLES)
    found = sweep(response, sampled, one_way_delay_s, return_delay_s)
    knees = response.splits[pareto.knees(found.latency_s, 1 / found.period_s, found.on_front)]
    edges = np.concatenate([sampled[:1], np.sqrt(sampled[:-1] * sampled[1:]), sampled[-1:]])
    return Intervals(*merged(edges, knees))


def _regions(response: LinkResponse, rates: Range, delays: Range, return_delay_s: float) -> Regions:
    across, down = rates.sampled(GRID_RATES), delays.sampled(GRID_DELAYS)
    found = sweep(response, np.tile(across, len(down)), np.repeat(down, len(across)), return_delay_s)
    places = (*best_places(found), pareto.knees(found.latency_s, 1 / found.period_s, found.on_front))
    return Regions(across, down, *(response.splits[at].reshape(len(down), -1) for at in places))
