"""How long random arrivals wait for a server of fixed service: the stationary M/D/1 queue, exactly.

In a line of fixed services and unbounded buffers, all that a batch waits adds up to what it would wait before the
slowest station alone (docs/model.md, "Open mode"). In units of the service, with load ρ, the number in the system has
probabilities (p_j from those before it, all terms positive)

    p_0 = 1 − ρ,    p_j (1 − g_0) = p_0 g_{j−1} + Σ_{0<i<j} p_i g_{j−i},    g_n = P(Poisson(ρ) > n)

and whoever comes has begun to be served within x, k − 1 ≤ x < k, exactly if those who queued k − x before and those who
came since are fewer than k (Franx, Operations Research Letters 29, 2001):

    P(wait ≤ x) = Σ_j P(Poisson(ρ (k − x)) = j) · P(number in system ≤ k − j).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Above this load the tail is a pure exponential long before any percentile asked for, to eight digits and more.
EXPONENTIAL_LOAD = 0.99
_BISECTIONS = 60


def mean_wait(load: float) -> float:
    """Mean wait in units of the service (Pollaczek and Khinchine), for a load below 1.

    >>> mean_wait(0.5)
    0.5
    """
    return load / (2 * (1 - load))


def wait_percentile(load: float, share: float) -> float:
    """The wait, in units of the service, that `share` of the arrivals do not exceed; both in (0, 1).

    >>> wait_percentile(0.5, 0.5)  # half of them do not wait at all
    0.0
    """
    if share <= 1 - load:
        return 0.0
    if load > EXPONENTIAL_LOAD:
        return _exponential_percentile(load, share)
    # Beyond the exponential's percentile and a few services more there is nothing left to look for.
    most = math.ceil(_exponential_percentile(load, share)) + 3
    cumulative = np.cumsum(_in_system(load, most + 1))
    # At x = k − 1 the sum has all its terms: the first whole number beyond is where to look.
    low, high = 0.0, float(most)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _within(load, middle, cumulative) < share:
            low = middle
        else:
            high = middle
    return high


def _within(load: float, wait: float, cumulative: Array) -> float:
    """Share of the arrivals that wait no longer than `wait` services; `cumulative` of the number in the system."""
    services = math.floor(wait) + 1
    counts = np.arange(services)
    since = load * (services - wait)
    logs = counts * math.log(since) - since - np.array([math.lgamma(count + 1) for count in counts.tolist()])
    return float(np.exp(logs) @ cumulative[services - counts])


def _in_system(load: float, most: int) -> Array:
    """Probabilities of 0 … `most` in the system."""
    arrivals = np.array([math.exp(n * math.log(load) - load - math.lgamma(n + 1)) for n in range(most + 1)])
    more = np.clip(1 - np.cumsum(arrivals), 0.0, None)  # g
    found = np.zeros(most + 1)
    found[0] = 1 - load
    for j in range(1, most + 1):
        found[j] = (found[0] * more[j - 1] + found[1:j] @ more[j - 1 : 0 : -1]) / (1 - more[0])
    return found


def _exponential_percentile(load: float, share: float) -> float:
    """The same from the tail C·e^(−θx), ρ (e^θ − 1) = θ, C = (1 − ρ) / (ρ e^θ − 1)."""
    low, high = 1e-12, 2 * math.log(1 / load) + 2 * (1 - load) + 1
    while load * math.expm1(high) < high:
        high *= 2
    for _ in range(2 * _BISECTIONS):
        middle = (low + high) / 2
        if load * math.expm1(middle) < middle:
            low = middle
        else:
            high = middle
    constant = (1 - load) / (load * math.exp(low) - 1)
    return max(0.0, math.log(constant / (1 - share)) / low)
