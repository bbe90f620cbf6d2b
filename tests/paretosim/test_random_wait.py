"""The wait of random arrivals for fixed services, against other exact results and a simulation."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from paretosim.random_wait import mean_wait, wait_percentile


def erlangs_share(load: float, wait: float) -> float:
    """P(W ≤ x) = (1 − ρ) Σ_{k ≤ x} (ρ(k − x))^k / k! · e^(ρ(x − k)), which cancels badly: so to a hundred digits."""
    with localcontext() as context:
        context.prec = 100
        rho, x = Decimal(load), Decimal(wait)
        beyond_first = ((rho * (k - x)) ** k / math.factorial(k) * (rho * (x - k)).exp() for k in range(1, int(x) + 1))
        return float((1 - rho) * sum(beyond_first, (rho * x).exp()))


@pytest.mark.parametrize("load", [0.05, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_percentiles_undo_erlangs_alternating_sum(load: float) -> None:
    for share in (0.31, 0.5, 0.75, 0.95, 0.99):
        wait = wait_percentile(load, share)
        if wait > 0:
            assert erlangs_share(load, wait) == pytest.approx(share, abs=1e-9)
        else:
            assert erlangs_share(load, 0.0) >= share - 1e-12


@pytest.mark.parametrize("load", [0.2, 0.6, 0.95])
def test_the_mean_is_that_of_all_percentiles(load: float) -> None:
    # ∫ Q(u) du over the shares that wait at all, u = 1 − ρ e^(−t): the tail in t is as smooth as what is in front.
    edges = np.linspace(0, 16, 401)
    middles = (edges[1:] + edges[:-1]) / 2
    waits = np.array([wait_percentile(load, 1 - load * math.exp(-t)) for t in middles])
    assert float(waits @ -np.diff(load * np.exp(-edges))) == pytest.approx(mean_wait(load), rel=2e-3)


def test_the_exponential_tail_takes_over_without_a_step() -> None:
    below, above = (np.array([wait_percentile(load, s) for s in (0.5, 0.95, 0.99)]) for load in (0.98999, 0.99001))
    assert above == pytest.approx(below, rel=3e-3)
    assert (above > below).all()
    # In heavy traffic the wait is exponential with the mean ρ / 2(1 − ρ).
    assert wait_percentile(0.99999, 0.95) == pytest.approx(-math.log(0.05) * mean_wait(0.99999), rel=1e-3)


def test_arrivals_that_find_nobody_do_not_wait() -> None:
    assert wait_percentile(1e-9, 0.99) == 0.0
    assert wait_percentile(0.3, 0.7) == 0.0
    assert wait_percentile(0.3, 0.701) > 0.0
