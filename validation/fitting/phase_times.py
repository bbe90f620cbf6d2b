"""What a calibration predicts of observed phases: the very terms that predictions are made of, cut at the same times.

An overhead is a stage's, but no timer of a record includes it: it lies behind computing, before what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.calibration import Calibration
from paretosim.chain import Hop, stage_times_s
from paretosim.prediction import Setting, objectives_of
from paretosim.terms import HopTerms, StageTerms, control_s, hop_terms, hops_of_setting, stage_terms, terms_in_effect
from validation.fitting.observations import Observed, Phase

Array = NDArray[np.float64]


class PhaseTimes:
    """Predicts all points of what was observed, for one calibration after another."""

    def __init__(self, observed: Observed) -> None:
        self.points = observed.points
        self._cases = []
        for number, case in enumerate(observed.cases):
            setting = case.setting
            places = [place for place, point in enumerate(self.points) if point.case == number]
            splits = np.array(sorted({self.points[place].split for place in places}))
            block_s = [timing.at_batch(setting.batch)[0] for timing in setting.timings]
            blocks_s = stage_times_s(block_s, splits, setting.speed)
            columns = [int(np.searchsorted(splits, self.points[place].split)) for place in places]
            phases: list[Phase] = [self.points[place].phase for place in places]
            self._cases.append((setting, splits, blocks_s, places, columns, phases))

    def __call__(self, calibration: Calibration) -> Array:
        """(points,) seconds."""
        found = np.empty(len(self.points))
        for setting, splits, blocks_s, places, columns, phases in self._cases:
            calibrated = msgspec.structs.replace(setting, calibration=calibration)
            chain = _Chain(calibrated, splits, blocks_s)
            times = {phase: _TIMES[phase](chain) for phase in dict.fromkeys(phases)}
            found[places] = [times[phase][column] for phase, column in zip(phases, columns, strict=True)]
        return found


class _Chain:
    def __init__(self, setting: Setting, splits: NDArray[np.int64], blocks_s: Array) -> None:
        self.setting = setting
        self.hops: Sequence[Hop] = hops_of_setting(setting, splits)
        self.transfers: HopTerms = hop_terms(setting, self.hops)
        self.stages: StageTerms = stage_terms(setting, splits, blocks_s, self.hops, self.transfers)
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
        return np.asarray((of.occupied_s - of.answering_s + of.delays_s + of.receiving_s)[:, self.link1])

    def calling(self) -> Array:
        return np.asarray(self.transfers.occupied_s[:, self.link1])

    def arriving(self) -> Array:
        return np.full(len(self.stages.total_s), self.known[1].arriving_s)

    def result(self) -> Array:
        return np.asarray(self.stages.overhead_s[:, 1] + self.transfers.last_s[:, 0])

    def period(self) -> Array:
        return objectives_of(self.setting, self.stages.total_s, self.transfers, self.hops).objectives.period_s


_TIMES: dict[Phase, Callable[[_Chain], Array]] = {
    "compute1": lambda chain: chain.computing(0),
    "compute2": lambda chain: chain.computing(1),
    "dispatch": _Chain.dispatch,
    "leaving": _Chain.leaving,
    "transfer": _Chain.transfer,
    "calling": _Chain.calling,
    "arriving": _Chain.arriving,
    "result": _Chain.result,
    "period": _Chain.period,
}
