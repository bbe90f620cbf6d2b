"""How good a decision is in numbers: what the chosen plans are worth against the best, all of them as measured.

Each takes measured objectives of a condition's plans, which of them were decided for (the predicted front's), and which
are best (the measured front's). All are relative: no indicator depends on the unit of an objective, on how far apart
the plans are, nor on which bad plans were measured beside the good ones, as it would if objectives were scaled to their
range. (Where all plans are alike within their noise, the range is noise, and so would the score be.) moocore computes.
"""

from __future__ import annotations

import moocore  # type: ignore[import-untyped]  # it ships no types
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_MAXIMISE = [False, True]


def decision_hypervolume(objectives: Array, decided: Mask, best: Mask) -> float:
    """Area that the `decided` plans dominate over the area that the `best` ones do; 1 loses nothing.

    In the plane of speed (1 / latency) and throughput, from its origin: a plan that never answers. Of two plans it is
    the product of both ratios, so 1 % lost in each is 0.98.

    Parameters
    ----------
    objectives : (n, 2), latency and throughput as measured, above zero.
    decided, best : (n,) masks, `best` that of the front.

    Source: Zitzler and Thiele, Multiobjective Evolutionary Algorithms (1999), for the hypervolume.
    """
    speeds = np.stack([1 / objectives[:, 0], objectives[:, 1]], axis=1) / [1 / objectives[0, 0], objectives[0, 1]]
    chosen, whole = (moocore.hypervolume(speeds[mask], 0.0, maximise=True) for mask in (decided, best))
    return float(chosen / whole)


def igd_plus(objectives: Array, decided: Mask, best: Mask) -> float:
    """IGD⁺ of logarithms: mean over the `best` plans of how far the nearest `decided` one is worse.

    0 loses nothing; a plan 1 % worse in one objective is about 0.01 away.

    Source: Ishibuchi et al., Modified Distance Calculation in Generational Distance and Inverted Generational Distance
    (EMO 2015).
    """
    logs = np.log(objectives)
    return float(moocore.igd_plus(logs[decided], logs[best], maximise=_MAXIMISE))


def multiplicative_epsilon(objectives: Array, decided: Mask, best: Mask) -> float:
    """The smallest factor that makes every `best` plan no better than some `decided` one; 1 loses nothing.

    Source: Zitzler et al., Performance Assessment of Multiobjective Optimizers (2003).
    """
    return float(moocore.epsilon_mult(objectives[decided], objectives[best], maximise=_MAXIMISE))
