"""What a calibration predicts of observed phases: the very terms that predictions are made of, cut at the same times.

An overhead is a stage's, but no timer of a record includes it: it lies behind computing, before what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.calibration import Calibration
from paretosim.chain import Hop, stage_times_s
from paretosim.hop_terms import HopTerms, hop_terms, hops_of_setting
from paretosim.in_effect import control_s, terms_in_effect
from paretosim.placement.placing import predict_plans
from paretosim.placement.rows import PlacementRow
from paretosim.placement.setting import PlacementSetting
from paretosim.plan import Plan, Stage
from paretosim.prediction import objectives_of
from paretosim.resting import rested
from paretosim.setting import Setting
from paretosim.stage_terms import StageTerms, stage_terms
from validation.fitting.observations import Observed, Phase, Point
from validation.predicting import Cuts

Array = NDArray[np.float64]


class PhaseTimes:
    """Predicts all points of what was observed, for one calibration after another."""

    def __init__(self, observed: Observed) -> None:
        self.points = observed.points
        self._cases: list[tuple[list[int], Callable[[Calibration], Array]]] = []
        for number, case in enumerate(observed.cases):
            places = [place for place, point in enumerate(self.points) if point.case == number]
            own = [self.points[place] for place in places]
            of = _of_splits if isinstance(case.setting, Setting) else _of_chains
            if own:
                self._cases.append((places, of(case.setting, own)))  # type: ignore[arg-type]  # each of its kind

    def __call__(self, calibration: Calibration) -> Array:
        """(points,) seconds."""
        found = np.empty(len(self.points))
        for places, times in self._cases:
            found[places] = times(calibration)
        return found


def _of_splits(setting: Setting, points: Sequence[Point]) -> Callable[[Calibration], Array]:
    """Of two stages: all splits at once."""
    splits = np.array(sorted({point.split for point in points}))
    block_s = [timing.at_batch(setting.batch)[0] for timing in setting.timings]
    blocks_s = stage_times_s(block_s, splits, setting.speed)
    columns = [int(np.searchsorted(splits, point.split)) for point in points]
    phases = [point.phase for point in points]

    def times(calibration: Calibration) -> Array:
        two = _TwoStages(msgspec.structs.replace(setting, calibration=calibration), splits, blocks_s)
        of_phase = {phase: _TIMES[phase](two) for phase in dict.fromkeys(phases)}
        return np.array([of_phase[phase][column] for phase, column in zip(phases, columns, strict=True)])

    return times


class _TwoStages:
    def __init__(self, setting: Setting, splits: NDArray[np.int64], blocks_s: Array) -> None:
        self.setting = setting
        self.hops: Sequence[Hop] = hops_of_setting(setting, splits)
        unrested = hop_terms(setting, self.hops)
        self.stages: StageTerms = stage_terms(setting, splits, blocks_s, self.hops, unrested)
        self.transfers: HopTerms = rested(setting, self.stages.total_s, unrested, self.hops)
        self.link1 = [hop.name for hop in self.hops].index("link1")
        known = terms_in_effect(setting)
        self.known = [known.of(device.name) for device in setting.devices]

    def computing(self, stage: int) -> Array:
        return np.asarray((self.stages.total_s - self.stages.overhead_s)[:, stage])

    def dispatch(self) -> Array:
        return np.full(len(self.stages.total_s), control_s(self.setting))

    def leaving(self) -> Array:
        return np.asarray(self.stages.overhead_s[:, 0] + self.known[0].leaving_s)

    def transfer(self) -> Array:
        of = self.transfers
        own_s = of.occupied_s - of.answering_s + of.delays_s + of.receiving_s + of.resting_s
        return np.asarray(own_s[:, self.link1])

    def calling(self) -> Array:
        return np.asarray((self.transfers.occupied_s + self.transfers.resting_s)[:, self.link1])

    def arriving(self) -> Array:
        return np.full(len(self.stages.total_s), self.known[1].arriving_s)

    def result(self) -> Array:
        return np.asarray(self.stages.overhead_s[:, 1] + self.transfers.last_s[:, 0])

    def period(self) -> Array:
        return objectives_of(self.setting, self.stages.total_s, self.transfers, self.hops).objectives.period_s


_TIMES: dict[Phase, Callable[[_TwoStages], Array]] = {
    "compute1": lambda two: two.computing(0),
    "compute2": lambda two: two.computing(1),
    "dispatch": _TwoStages.dispatch,
    "leaving": _TwoStages.leaving,
    "transfer": _TwoStages.transfer,
    "calling": _TwoStages.calling,
    "arriving": _TwoStages.arriving,
    "result": _TwoStages.result,
    "period": _TwoStages.period,
}


def _of_chains(setting: PlacementSetting, points: Sequence[Point]) -> Callable[[Calibration], Array]:
    """Of more stages: plan by plan, as `paretosim plan` predicts them."""
    plans = {cuts: _plan(setting, cuts) for cuts in dict.fromkeys(_cuts(point) for point in points)}

    def times(calibration: Calibration) -> Array:
        calibrated = msgspec.structs.replace(setting, calibration=calibration)
        rows = dict(zip(plans, predict_plans(calibrated, plans.values()), strict=True))
        return np.array([_of_row(calibrated, rows[_cuts(point)], point) for point in points])

    return times


def _cuts(point: Point) -> Cuts:
    assert isinstance(point.split, tuple)  # of more than two stages
    return point.split


def _plan(setting: PlacementSetting, cuts: Cuts) -> Plan:
    bounds = pairwise((0, *cuts, len(setting.model.blocks)))
    stages = tuple(Stage(device.name, *blocks) for device, blocks in zip(setting.devices, bounds, strict=True))
    return Plan(
        model=setting.model.name, stages=stages, batch=setting.batch, window=setting.mode.window,
        backend=setting.backend,
    )  # fmt: skip


def _of_row(setting: PlacementSetting, row: PlacementRow, point: Point) -> float:
    """One phase of a plan of several stages."""
    place, none = point.place, (0.0,) * len(row.hops)
    stages, known = row.plan.stages, terms_in_effect(setting)
    of = [known.of(stage.device) for stage in stages]
    overhead_s = [terms.overhead_s * (stage.last > stage.first) for terms, stage in zip(of, stages, strict=True)]
    if point.phase in ("compute1", "compute2"):
        return row.stages_s[place] - overhead_s[place]
    if point.phase == "dispatch":
        return control_s(setting)
    if point.phase == "leaving":
        return overhead_s[place] + of[place].leaving_s
    if point.phase == "arriving":
        return of[place].arriving_s
    if point.phase == "result":
        return overhead_s[-1] + (0.0 if row.handovers_s is None else row.handovers_s[-1])
    if point.phase == "period":
        return row.period_s
    hop = row.hops.index(f"link{place + 1}")
    held_s = row.links_s[hop] + row.stalls_s[hop] + (row.sending_s or none)[hop]
    if point.phase == "calling":
        return held_s + (row.answering_s or none)[hop]
    return held_s + row.delays_s[hop] + (row.receiving_s or none)[hop]
