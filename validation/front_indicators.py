"""How good a decision is in numbers: what the chosen plans are worth against the best, all of them as measured.

Each takes measured costs of a condition's plans, which of them were decided for (the predicted front's), and which are
best (the measured front's). Latency is minimised, throughput maximised. Indicators are computed by moocore.
"""

from __future__ import annotations

import moocore  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
# The reference point lies this much of the measured range beyond the worst of each objective.
REFERENCE_MARGIN = 0.1
_MAXIMISE = [False, True]


def decision_hypervolume(objectives: Array, decided: Mask, best: Mask) -> float | None:
    """Area that the `decided` plans dominate over the area that the `best` ones do; None where one does not vary.

    Both objectives are scaled to 0 … 1 over all plans; the reference point is 0.1 beyond the worst.

    Parameters
    ----------
    objectives : (n, 2), latency and throughput as measured.
    decided, best : (n,) masks, `best` that of the front.
    """
    scaled = _scaled(objectives)
    if scaled is None:
        return None
    reference = [1 + REFERENCE_MARGIN, -REFERENCE_MARGIN]
    chosen, whole = (
        moocore.hypervolume(scaled[mask], reference, maximise=_MAXIMISE) for mask in (decided, best)
    )  # fmt: skip
    return float(chosen / whole)


def igd_plus(objectives: Array, decided: Mask, best: Mask) -> float | None:
    """IGD⁺: mean over the `best` plans of how far the nearest `decided` one is worse, in scaled objectives.

    0 where the decision loses nothing; None where an objective does not vary.

    Source: Ishibuchi et al., Modified Distance Calculation in Generational Distance and Inverted Generational Distance
    (EMO 2015).
    """
    scaled = _scaled(objectives)
    return None if scaled is None else float(moocore.igd_plus(scaled[decided], scaled[best], maximise=_MAXIMISE))


def multiplicative_epsilon(objectives: Array, decided: Mask, best: Mask) -> float:
    """The smallest factor that makes every `best` plan no better than some `decided` one; 1 loses nothing.

    Source: Zitzler et al., Performance Assessment of Multiobjective Optimizers (2003).
    """
    return float(moocore.epsilon_mult(objectives[decided], objectives[best], maximise=_MAXIMISE))


def _scaled(objectives: Array) -> Array | None:
    """Latency and throughput from 0 to 1 over all plans; None where all are alike in one."""
    span = np.ptp(objectives, axis=0)
    return None if (span == 0).any() else (objectives - objectives.min(axis=0)) / span
