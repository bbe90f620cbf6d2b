"""The wait of random arrivals for fixed services, against other exact results and a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paretosim.random_wait import mean_wait, wait_percentile, wait_share


@pytest.mark.parametrize("load", [0.05, 0.3, 0.7, 0.9])
def test_shares_are_those_of_erlangs_alternating_sum(load: float) -> None:
    # P(W ≤ x) = (1 − ρ) Σ_{k ≤ x} (ρ(k − x))^k / k! · e^(ρ(x − k)); it cancels badly, but not for few services.
    for wait in (0.0, 0.25, 0.999, 1.0, 2.5, 6.75):
        terms = [
            (load * (k - wait)) ** k / math.factorial(k) * math.exp(load * (wait - k))
            for k in range(math.floor(wait) + 1)
        ]
        assert wait_share(load, wait) == pytest.approx((1 - load) * sum(terms), abs=1e-9)


@pytest.mark.parametrize("load", [0.2, 0.6, 0.95])
def test_the_mean_is_the_integral_of_the_tail(load: float) -> None:
    edges = np.linspace(0, 300 if load > 0.9 else 40, 2401)
    middles = (edges[1:] + edges[:-1]) / 2
    tail = np.array([1 - wait_share(load, float(wait)) for wait in middles])
    assert float(tail @ np.diff(edges)) == pytest.approx(mean_wait(load), rel=2e-3)


def test_percentiles_undo_shares() -> None:
    for load in (0.1, 0.5, 0.9, 0.98):
        for share in (0.5, 0.95, 0.99):
            wait = wait_percentile(load, share)
            if wait > 0:
                assert wait_share(load, wait) == pytest.approx(share, abs=1e-9)
            else:
                assert wait_share(load, 0.0) >= share - 1e-12


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
