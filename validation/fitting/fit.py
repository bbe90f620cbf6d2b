"""A fit: from joined runs to a calibration, with how each parameter is known and how sure it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.calibration import ANY_DEVICE, NEUTRAL, SCHEMA_VERSION, Backend, Calibration, Resting
from paretosim.link import Link
from paretosim.setting import Setting
from paretosim.transfer_time import serialisation_s
from validation.conditions import LINK_TOLERANCE
from validation.errors import FitError
from validation.fitting.intervals import DrawnLevel, intervals
from validation.fitting.least_squares import (
    AT_BOUND,
    STARTS,
    Optimum,
    Problem,
    Unidentified,
    log_slopes,
    minimise,
    unidentified,
)
from validation.fitting.observations import LEAST_SPREAD, Observation, Observed, Phase, Point
from validation.fitting.parameters import MADE_SO, Parameter, parameters_of, with_values
from validation.fitting.phase_times import PhaseTimes
from validation.probed import Probed

Array = NDArray[np.float64]
Known = Literal["probe", "fitted", "fixed"]
DEFAULT_CONFIDENCE = 0.9
_FEWEST_OBSERVATIONS = 4
# A fit is worse without a parameter if its cost is so much higher, in units of squared chance: far beyond chance.
_WORSE, _WORSE_BY = 1.2, 10.0
# So large a message is all rate.
_LARGE_BYTES = 10**9
_COPYING = ".copying_bytes_per_s"


@dataclass(frozen=True)
class FittedParameter:
    """A parameter as it stands in the file, how it is known, and in words why where that is in doubt.

    `interval` is None where nothing was drawn, or where it has no finite end.
    """

    path: str
    unit: str
    value: float | None
    interval: tuple[float, float] | None
    known: Known
    why: str = ""


@dataclass(frozen=True)
class PhaseResidual:
    """Of one phase: how many observations, and the median size of the relative error before and after the fit."""

    phase: Phase
    observations: int
    before: float
    after: float


@dataclass(frozen=True)
class Fitted:
    """A fit. `agreeing` of `starts` ended at the same minimum."""

    calibration: Calibration
    parameters: tuple[FittedParameter, ...]
    phases: tuple[PhaseResidual, ...]
    agreeing: int
    starts: int
    drawn: DrawnLevel
    probed: Probed | None


def fit(
    observed: Observed,
    probed: Probed | None = None,
    *,
    name: str = "fitted",
    confidence: float = DEFAULT_CONFIDENCE,
    seed: int = 0,
) -> Fitted:
    """Fit a calibration to what was observed of one backend on one machine.

    Parameters
    ----------
    probed : what probes of the same runs say directly.

    Raises
    ------
    FitError : there is too little to fit, or nothing converged.
    """
    if len(observed.observations) < _FEWEST_OBSERVATIONS:
        raise FitError(
            f"fit: got {len(observed.observations)} phase times, expected {_FEWEST_OBSERVATIONS} or more; measure cells"
            " in mode single or paced, in which phases wait for nothing"
        )
    backend: Backend = observed.cases[0].setting.backend
    neutral = msgspec.structs.replace(NEUTRAL, schema_version=SCHEMA_VERSION, name=name, backend=backend)
    resting = _resting(probed)
    base = msgspec.structs.replace(neutral, resting=resting)
    parameters = tuple(_no_faster_than_echo(parameter, probed) for parameter in parameters_of(observed))
    known = {
        parameter.path: parameter.default
        if probed is None or not parameter.path.endswith(_COPYING)
        else probed.per_byte_s
        for parameter in parameters
    }
    search = _Search(observed, base, parameters, known)
    free, fixed, optimum, kept = search.reduced(np.random.default_rng(seed))
    problem = search.problem(free)
    found = intervals(problem, optimum, observed.observations, confidence=confidence, seed=seed)
    values = dict(known)
    values |= {p.path: _snapped(float(v), p) * p.scale for p, v in zip(free, optimum.values, strict=True)}
    listed = []
    for parameter in parameters:
        if parameter.path in fixed:
            listed.append(_fixed(parameter, known[parameter.path], probed, fixed[parameter.path]))
            continue
        place = [p.path for p in free].index(parameter.path)
        ends = (float(found.low[place]) * parameter.scale, float(found.high[place]) * parameter.scale)
        found_so = _fitted(parameter, values[parameter.path], ends)
        why = "; ".join(filter(None, (found_so.why, kept.get(parameter.path))))
        listed.append(replace(found_so, why=why))
    if resting is not None:
        listed += [
            FittedParameter(f"resting.{field}", "s", getattr(resting, field), None, "probe")
            for field in resting.__struct_fields__
        ]
    calibration = with_values(base, parameters, _whole(values))
    calibration = msgspec.structs.replace(
        calibration,
        starts=optimum.starts,
        agreeing=optimum.agreeing,
        interval_level=confidence,
        intervals={p.path: p.interval for p in listed if p.interval is not None and p.value is not None},
    )
    return Fitted(
        calibration=calibration,
        parameters=tuple(listed),
        phases=_residuals(observed, neutral, calibration),
        agreeing=optimum.agreeing,
        starts=optimum.starts,
        drawn=found.level,
        probed=probed,
    )


def _no_faster_than_echo(parameter: Parameter, probed: Probed | None) -> Parameter:
    """Copying bounded by the probes' own: two threads that do nothing but echo copy a byte as fast as sockets do.

    Small messages hardly tell copying from waking, and a fit that has it at nothing leaves large ones far too fast.
    """
    if probed is None or not parameter.path.endswith(_COPYING):
        return parameter
    return replace(parameter, least=probed.low / parameter.scale)


def _resting(probed: Probed | None) -> Resting | None:
    if probed is None or probed.resting is None:
        return None
    return Resting(later_s=probed.resting.later_s, half_s=probed.resting.half_s)


class _Search:
    """Which parameters can be fitted, and to what: fixes what is not told apart, one after the other."""

    def __init__(
        self, observed: Observed, base: Calibration, parameters: Sequence[Parameter], known: Mapping[str, float]
    ) -> None:
        self._base, self._parameters, self._known = base, parameters, known
        self._times = PhaseTimes(observed)
        at = {point: place for place, point in enumerate(self._times.points)}
        self._place = np.array([at[o.point] for o in observed.observations], dtype=np.intp)
        self._measured_s = np.array([o.seconds for o in observed.observations])
        self._spread = _spreads(observed)
        self._fastest = _fastest_s_per_byte(observed)
        self._wires = _fastest_wires_s_per_byte(observed)

    def problem(self, free: Sequence[Parameter]) -> Problem:
        def predict(scaled: Array) -> Array:
            values = dict(self._known)
            values |= {p.path: float(v) * p.scale for p, v in zip(free, scaled, strict=True)}
            return self._times(with_values(self._base, self._parameters, values))

        return Problem(
            predict=predict,
            place=self._place,
            measured_s=self._measured_s,
            spread=self._spread,
            least=np.array([p.least for p in free]),
            most=np.array([p.most for p in free]),
        )

    def _start(self, free: Sequence[Parameter]) -> Array:
        """What is known already, else a usual size. Copying has to be felt, or nothing would ever move it."""
        found = []
        for parameter in free:
            size = self._known[parameter.path] / parameter.scale or 1.0
            if parameter.path.endswith(_COPYING) and self._fastest:
                size = self._fastest / parameter.scale
            found.append(size)
        return np.array(found)

    def _untold(
        self, free: Sequence[Parameter], problem: Problem, optimum: Optimum, told: Collection[str]
    ) -> Unidentified | None:
        """What an optimum shows not to be told apart."""
        hidden = self._hidden_copying(free, optimum)
        return unidentified(problem, optimum.log_slopes, _places(free, told)) if hidden is None else hidden

    def _hidden_copying(self, free: Sequence[Parameter], optimum: Optimum) -> Unidentified | None:
        """Copying that is no slower than the fastest wire, by more than links may be off.

        It goes on beside the wire, so that only a transfer that it holds up says what it takes. Any other leaves a fit
        to push it against the links' own rates, as part of what a message costs, and then every faster link would be
        predicted to be as slow.
        """
        for place, (parameter, scaled) in enumerate(zip(free, optimum.values.tolist(), strict=True)):
            if parameter.path.endswith(_COPYING) and _snapped(scaled, parameter):
                wire_s = self._wires[parameter.path.removeprefix("devices.").removesuffix(_COPYING)]
                if scaled * parameter.scale <= (1 + LINK_TOLERANCE) * wire_s:
                    return Unidentified(place, "no link here is faster, so that it hides behind their wires")
        return None

    def reduced(self, random: np.random.Generator) -> tuple[list[Parameter], dict[str, str], Optimum, dict[str, str]]:
        """The parameters that are told apart, why each other one is not, the optimum over the former, and in doubt why.

        The doubts are those of parameters that are correlated with another and told apart all the same.
        """
        fixed = {parameter.path: MADE_SO[parameter.path] for parameter in self._parameters if parameter.path in MADE_SO}
        free = [parameter for parameter in self._parameters if parameter.path not in fixed]
        told: set[str] = set()  # correlated, and told apart all the same
        while True:
            if not free:
                raise FitError("fit: no parameter is told apart by these cells; measure more splits, links or modes")
            problem, start = self.problem(free), self._start(free)
            # Most of what is not told apart is so anywhere; only the rest needs an optimum to be seen.
            found = unidentified(problem, log_slopes(problem, start))
            if found is None:
                optimum = minimise(problem, [start])
                found = self._untold(free, problem, optimum, told)
            if found is None:
                optimum = minimise(problem, [optimum.values, *_random_starts(free, start, random)])
                found = self._untold(free, problem, optimum, told)
                if found is None:
                    return free, fixed, optimum, _kept(free, told, problem, optimum)
            if found.correlated and self._is_needed(free, found.place, optimum):
                told.add(free[found.place].path)
                continue
            fixed[free[found.place].path] = _reason(free, found)
            del free[found.place]

    def _is_needed(self, free: Sequence[Parameter], place: int, optimum: Optimum) -> bool:
        """Whether nothing else fits as well without a parameter: it is told apart, however correlated it is."""
        without = [parameter for number, parameter in enumerate(free) if number != place]
        if not without:
            return True
        problem = self.problem(without)
        cost = minimise(problem, [self._start(without), np.delete(optimum.values, place)]).cost
        return cost > optimum.cost * _WORSE + _WORSE_BY


def _places(free: Sequence[Parameter], told: Collection[str]) -> list[int]:
    return [place for place, parameter in enumerate(free) if parameter.path in told]


def _reason(free: Sequence[Parameter], found: Unidentified) -> str:
    with_what = ", ".join(free[other].path for other in found.others)
    return f"{found.reason}{f' with {with_what}' if with_what else ''}"


def _kept(free: Sequence[Parameter], told: Collection[str], problem: Problem, optimum: Optimum) -> dict[str, str]:
    """With what, and how much, each parameter is correlated that is told apart all the same."""
    kept = {}
    places = _places(free, told)
    for place in places:
        others = [other for other in places if other != place]
        found = unidentified(problem, optimum.log_slopes, others)
        if found is not None:
            kept[free[place].path] = f"{_reason(free, found)}, kept: fits worse without"
    return kept


def _random_starts(free: Sequence[Parameter], start: Array, random: np.random.Generator) -> list[Array]:
    """From a tenth of the first start to ten times it; factors that are near 1 stay there."""
    factors = [[1.0 if p.default else 10 ** random.uniform(-1, 1) for p in free] for _ in range(STARTS - 1)]
    return [start * np.array(own) for own in factors]


def _fastest_s_per_byte(observed: Observed) -> float:
    """What a byte took in the fastest transfer that was seen: copying takes no longer, or it would show there."""
    found = [
        observation.seconds / size
        for observation in observed.observations
        if observation.point.phase == "transfer" and (size := _payload_bytes(observed, observation.point)) > 0
    ]
    return min(found, default=0.0)


def _fastest_wires_s_per_byte(observed: Observed) -> dict[str, float]:
    """What a byte takes over the fastest link that each device has here, by the name that its terms stand under."""
    found: dict[str, float] = {}
    for case in observed.cases:
        setting = case.setting
        links: Sequence[Link] = (
            [setting.link] if isinstance(setting, Setting) else [setting.links.every, *setting.links.own.values()]
        )
        own = min(float(serialisation_s(_LARGE_BYTES, link)) / _LARGE_BYTES for link in links)
        for name in {ANY_DEVICE if case.emulated else device.name for device in setting.devices}:
            found[name] = min(own, found.get(name, own))
    return found


def _payload_bytes(observed: Observed, point: Point) -> int:
    setting = observed.cases[point.case].setting
    cut = point.split if isinstance(point.split, int) else point.split[point.place]
    return setting.model.cut_bytes()[cut] * setting.batch


def _spreads(observed: Observed) -> Array:
    """How far each observation is off by chance: what is usual of its phase under its condition.

    One cell's alone is itself by chance, and over all conditions a slow link's long transfers would count as little as
    the copying within one machine, which is noise of tens of percent.

    Within a repeat batches share whatever was wrong with it, and a period is one number, so that what the repeats of a
    cell differ by counts where it is more.
    """
    of_kind: dict[tuple[int, Phase], list[Observation]] = {}
    for observation in observed.observations:
        of_kind.setdefault((observation.point.case, observation.point.phase), []).append(observation)
    usual: dict[tuple[int, Phase], float] = {}
    for kind, own in of_kind.items():
        repeats: dict[Point, list[float]] = {}
        for observation in own:
            repeats.setdefault(observation.point, []).append(observation.seconds)
        between = [_between(seconds) for seconds in repeats.values() if len(seconds) > 1]
        within = float(np.median([o.spread for o in own]))
        usual[kind] = max(LEAST_SPREAD, within, float(np.median(between)) if between else 0.0)
    return np.array([max(usual[o.point.case, o.point.phase], o.spread) for o in observed.observations])


def _between(seconds: Sequence[float]) -> float:
    """The standard deviation of repeats, relative to their middle."""
    return float(np.std(seconds, ddof=1) / np.median(seconds))


def _whole(values: Mapping[str, float]) -> dict[str, float]:
    """Values as the file has them: bytes of framing are whole."""
    return {path: round(value) if path == "framing_bytes" else value for path, value in values.items()}


def _snapped(scaled: float, parameter: Parameter) -> float:
    """What the fit drove to within a thousandth of its scale of its bound is there."""
    return parameter.least if scaled <= parameter.least + AT_BOUND else scaled


def _fixed(parameter: Parameter, value: float, probed: Probed | None, why: str) -> FittedParameter:
    if probed is not None and parameter.path.endswith(_COPYING):
        ends = (1 / probed.high, 1 / probed.low)
        return FittedParameter(parameter.path, parameter.unit, 1 / value, ends, "probe", why)
    return FittedParameter(parameter.path, parameter.unit, parameter.written(value), None, "fixed", why)


def _fitted(parameter: Parameter, value: float, ends: tuple[float, float]) -> FittedParameter:
    low, high = min(ends[0], value), max(ends[1], value)
    if parameter.path == "framing_bytes":
        value = round(value)
        low, high = min(low, value), max(high, value)
    if parameter.path.endswith(_COPYING) and 0 < value == parameter.least * parameter.scale:
        why = "as fast as the probes' echo, and no faster"
        return FittedParameter(parameter.path, parameter.unit, parameter.written(value), None, "fitted", why)
    if value > 0 and high - low <= 1e-9 * value:
        # All resamples alike: the cells that tell it were never left out nor drawn against each other.
        why = "one cell alone tells it, so how sure it is is not known"
        return FittedParameter(parameter.path, parameter.unit, parameter.written(value), None, "fitted", why)
    if not parameter.inverse:
        why = "driven to nothing" if value == 0 else ""
        return FittedParameter(parameter.path, parameter.unit, value, (low, high), "fitted", why)
    written = parameter.written(value)
    if written is None:
        return FittedParameter(
            parameter.path, parameter.unit, None, None, "fitted", "driven to nothing: infinitely fast"
        )
    if low <= 0:
        why = f"at least {1 / high:.3g}; no upper end"
        return FittedParameter(parameter.path, parameter.unit, written, None, "fitted", why)
    return FittedParameter(parameter.path, parameter.unit, written, (1 / high, 1 / low), "fitted")


def _residuals(observed: Observed, before: Calibration, after: Calibration) -> tuple[PhaseResidual, ...]:
    times = PhaseTimes(observed)
    at = {point: place for place, point in enumerate(times.points)}
    predicted = {name: times(calibration) for name, calibration in (("before", before), ("after", after))}
    found = []
    for phase, count in observed.counted().items():
        own = [o for o in observed.observations if o.point.phase == phase]
        errors = {
            name: float(np.median([abs(seconds[at[o.point]] / o.seconds - 1) for o in own]))
            for name, seconds in predicted.items()
        }
        found.append(PhaseResidual(phase, count, errors["before"], errors["after"]))
    return tuple(found)
