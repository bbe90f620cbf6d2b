"""Which splits the profiles' own error cannot tell apart from a recommended one.

Two splits of the same model differ by the blocks between them: those run on the first device at the later split
and on the second at the earlier one. Everything else is common to both and so is its error. With relative errors
e₁, e₂ of the two timings, the difference in latency is therefore known to ± (e₁·T₁ + e₂·T₂), T being the
time of just those blocks on each device; on two devices with one and the same timing, the blocks only change
places and their error cancels, leaving |T₁ − T₂|·e = 0. The period is that of one station: its difference is
known to ± the error of both bottlenecks, less what they have in common. Where a mode's
objectives mix L₀ and t*, so do their doubts.
"""

from __future__ import annotations

import math
from typing import Protocol

from paretosim.mode import Arrivals, Mode
from paretosim.prediction import Prediction, Row

# Below this gain a split is not worth the second device; above all it is below what profiles resolve.
WORTHWHILE_GAIN = 1.02


def indistinguishable(prediction: Prediction, split: int | None, objective: str) -> tuple[int, ...] | None:
    """Splits whose `latency` or `throughput` may equal that of `split` within the timings' error.

    Returns
    -------
    Split numbers without `split` itself, in order; None where an error is unknown or there is no such split.
    """
    errors = _errors(prediction)
    if errors is None or split is None:
        return None
    chosen = prediction.row(split)
    alike = [
        row.split
        for row in prediction.rows
        if row.split != split and row.fits and _alike(prediction, chosen, row, objective, errors)
    ]
    return tuple(alike)


def _errors(prediction: Prediction) -> tuple[float, float] | None:
    one, two = (timing.error for timing in prediction.setting.timings)
    return None if one is None or two is None else (one.relative, two.relative)


def _alike(prediction: Prediction, a: Row, b: Row, objective: str, errors: tuple[float, float]) -> bool:
    moved = [abs(x - y) for x, y in zip(a.stages_s, b.stages_s, strict=True)]
    same_timing = prediction.setting.timings[0] == prediction.setting.timings[1]
    unloaded_doubt_s = (
        errors[0] * abs(moved[0] - moved[1]) if same_timing else errors[0] * moved[0] + errors[1] * moved[1]
    )
    slowest_doubt_s = _period_doubt_s(a, b, moved, errors)
    doubt_s = max(
        of_unloaded * unloaded_doubt_s + of_slowest * slowest_doubt_s
        for of_unloaded, of_slowest in (weights(prediction.setting.mode, row, objective) for row in (a, b))
    )
    if math.isinf(a.latency_s) or math.isinf(b.latency_s):  # one of them never comes back: that is a difference
        return objective == "throughput" and abs(a.period_s - b.period_s) <= doubt_s
    if objective == "latency":
        return abs(a.latency_s - b.latency_s) <= doubt_s
    return abs(a.period_s - b.period_s) <= doubt_s


class Timed(Protocol):
    """A row of a prediction, or of a front over several devices, as far as its times go."""

    @property
    def latency_s(self) -> float: ...
    @property
    def period_s(self) -> float: ...
    @property
    def stages_s(self) -> tuple[float, ...]: ...
    @property
    def links_s(self) -> tuple[float, ...]: ...
    @property
    def stalls_s(self) -> tuple[float, ...]: ...
    @property
    def delays_s(self) -> tuple[float, ...]: ...
    @property
    def sending_s(self) -> tuple[float, ...] | None: ...
    @property
    def receiving_s(self) -> tuple[float, ...] | None: ...
    @property
    def handovers_s(self) -> tuple[float, ...] | None: ...
    @property
    def answering_s(self) -> tuple[float, ...] | None: ...


def weights(mode: Mode, row: Timed, objective: str) -> tuple[float, float]:
    """How many times L₀ and t* the row's latency, or its period, is in this mode (docs/model.md, "Modes")."""
    latency, period = (1.0, 0.0), (0.0, 1.0)
    if mode.name == "single":
        period = latency
    elif isinstance(mode.arrivals, Arrivals):
        # With w slowest times of waiting, one more second of it is 2w(1 + w) more of waiting: the derivative of what
        # random arrivals wait for one server of fixed service, w = ρ / 2(1 − ρ). Without waiting it is none.
        waited = max(0.0, (row.latency_s - _unloaded_s(row)) / _slowest_s(row)) if math.isfinite(row.latency_s) else 0.0
        latency, period = (1.0, 2 * waited * (1 + waited)), (0.0, 0.0 if math.isfinite(row.latency_s) else 1.0)
    elif mode.batches is not None:
        latency = (1.0, (mode.batches - 1) / 2)
        period = (1 / mode.batches, (mode.batches - 1) / mode.batches)
    elif mode.window is not None:
        saturated = row.period_s <= _slowest_s(row) * (1 + 1e-9)
        latency = (0.0, float(mode.window)) if saturated else (1.0, 0.0)
        period = (0.0, 1.0) if saturated else (1 / mode.window, 0.0)
    return latency if objective == "latency" else period


def _slowest_s(row: Timed) -> float:
    none = (0.0,) * len(row.links_s)
    occupied = map(sum, zip(row.links_s, row.stalls_s, row.sending_s or none, row.answering_s or none, strict=True))
    return max(*row.stages_s, *occupied, *(row.receiving_s or ()))


def _unloaded_s(row: Timed) -> float:
    more = (*(row.sending_s or ()), *(row.receiving_s or ()), *(row.handovers_s or ()))
    return sum((*row.stages_s, *row.links_s, *row.stalls_s, *row.delays_s, *more))


def _period_doubt_s(a: Row, b: Row, moved: list[float], errors: tuple[float, float]) -> float:
    stages = {"stage1": 0, "stage2": 1}
    of_a, of_b = stages.get(a.bottleneck), stages.get(b.bottleneck)
    if of_a is not None and of_a == of_b:
        return errors[of_a] * moved[of_a]
    return sum(errors[k] * row.stages_s[k] for k, row in ((of_a, a), (of_b, b)) if k is not None)
