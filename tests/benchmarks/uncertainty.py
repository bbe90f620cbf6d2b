"""How long intervals and front probabilities of every split of vgg16 take, from block times to percentiles."""

from __future__ import annotations

import statistics
import tracemalloc
from functools import partial

from paretosim.mode import ModeName
from paretosim.predicting import predict_splits
from paretosim.prediction import Prediction
from paretosim.uncertainty.sampling import Doubts, uncertainty_of
from tests.benchmarks.seconds import Seconds, runs_s

SAMPLES = 1000


def uncertainty() -> Seconds:
    """1,000 samples × 40 splits as `predict --uncertainty` draws them, mode burst; other modes and links beside it."""
    burst = _prediction("burst")
    doubts = Doubts(samples=SAMPLES)
    spread = Doubts(samples=SAMPLES, rate_spread=0.2, delay_spread=0.1)
    notes = [
        f"mode paced: {_median_s(_prediction('paced'), doubts):.3f} s",
        f"with a link of its own in each sample: {_median_s(burst, spread):.3f} s",
        f"peak of {_peak_bytes(burst, doubts) / 1e6:.0f} MB",
    ]
    return Seconds(
        f"paretosim predict --uncertainty, {SAMPLES} samples × {len(burst.rows)} splits of vgg16, mode burst",
        runs_s(partial(uncertainty_of, burst, doubts), 7),
        bar_s=1.0,
        notes=tuple(notes),
    )


def _prediction(mode: ModeName) -> Prediction:
    return predict_splits("vgg16", bw="50mbit", delay="10ms", mode=mode)


def _median_s(prediction: Prediction, doubts: Doubts) -> float:
    return statistics.median(runs_s(partial(uncertainty_of, prediction, doubts), 3))


def _peak_bytes(prediction: Prediction, doubts: Doubts) -> int:
    tracemalloc.start()
    uncertainty_of(prediction, doubts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
