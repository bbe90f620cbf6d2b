"""How often intervals of errors hold what they should: the table in docs/validation.md, "Scores".

Measurements are simulated: cells with errors of 2 % (standard deviation), noise of 1 % a repeat and, of several runs,
0.7 % a run and cell. An interval should hold the score that the same measurement shows on average.

    python -m tests.soak.interval_coverage
"""

from __future__ import annotations

import numpy as np

from validation.measured import quantity
from validation.resampling import Resampling, draw
from validation.scores import error_score, quantity_score

CELLS, TRIALS, RESAMPLES, CONFIDENCE = 45, 250, 300, 0.95
ERROR, NOISE, NOISE_OF_RUNS = 0.02, 0.01, 0.007
SCORES = ("mape", "p90", "bias")


def coverage(runs: int, repeats: int, random: np.random.Generator) -> dict[str, float]:
    """The share of trials in which each score's interval holds it."""
    predicted = 1 + random.normal(0.0, ERROR, CELLS)

    def measured() -> np.ndarray:
        of_runs = random.normal(0.0, NOISE_OF_RUNS if runs > 1 else 0.0, (runs, 1, CELLS))
        return (1 + of_runs + random.normal(0.0, NOISE, (runs, repeats, CELLS))).reshape(-1, CELLS)

    shown: dict[str, list[float]] = {name: [] for name in SCORES}
    for _ in range(1000):
        found = error_score((predicted / np.median(measured(), axis=0) - 1).tolist())
        assert found is not None
        for name in SCORES:
            shown[name].append(getattr(found, name))
    truth = {name: float(np.mean(values)) for name, values in shown.items()}
    names = [f"run {number}" for number in range(runs) for _ in range(repeats)]
    held = dict.fromkeys(SCORES, 0)
    for trial in range(TRIALS):
        cells = [quantity(own.tolist(), [], 1.0) for own in measured().T]
        scored = quantity_score(
            cells, predicted.tolist(), draw([names] * CELLS, Resampling(RESAMPLES, trial, CONFIDENCE))
        )
        assert scored is not None
        for name in SCORES:
            low, high = scored.intervals[name]
            held[name] += low <= truth[name] <= high
    return {name: count / TRIALS for name, count in held.items()}


def main() -> None:
    """Print a row for each number of runs and repeats."""
    random = np.random.default_rng(0)
    print(f"{CONFIDENCE:.0%} intervals hold the score that the measurement shows on average:")
    for runs, repeats in ((1, 3), (1, 5), (2, 3), (3, 3), (5, 3)):
        found = coverage(runs, repeats, random)
        print(f"{runs} runs of {repeats} repeats: " + ", ".join(f"{name} {share:.0%}" for name, share in found.items()))


if __name__ == "__main__":
    main()
