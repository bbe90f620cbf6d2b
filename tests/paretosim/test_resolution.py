"""Splits that the profiles' own error cannot tell apart, by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paretosim.mode import Mode
from paretosim.prediction import Prediction, predict
from paretosim.resolution import indistinguishable


def _prediction(toy: Any, error: float | None, **fields: Any) -> Prediction:
    """Stage times (0, 1.2), (0.3, 0.8), (0.9, 0) on different devices; the link costs next to nothing."""
    setting = toy.setting((0.3, 0.6), (0.4, 0.8), outputs=(1, 1), inputs=1, link=toy.link(1e12), error=error, **fields)
    return predict(setting)


def test_blocks_that_change_places_are_in_doubt_by_both_errors(toy: Any) -> None:
    # Splits 1 (1.1 s) and 2 (0.9 s) differ by block 2: 0.6 s on one, 0.8 s on two, so ± 1.4·e about 0.2 s.
    assert indistinguishable(_prediction(toy, 0.14), 2, "latency") == ()
    assert indistinguishable(_prediction(toy, 0.15), 2, "latency") == (0, 1)  # 0 to 2: 0.3 s apart, ± 0.315 s


def test_a_period_is_in_doubt_by_the_bottlenecks_alone(toy: Any) -> None:
    # Periods 1.2 (stage 2), 0.8 (stage 2), 0.9 (stage 1): 1 and 2 are 0.1 s apart, ± (0.8 + 0.9)·e.
    assert indistinguishable(_prediction(toy, 0.05), 1, "throughput") == ()
    assert indistinguishable(_prediction(toy, 0.06), 1, "throughput") == (2,)
    # 0 and 1 share stage 2 and so its error: 0.4 s apart, ± 0.4·e.
    assert indistinguishable(_prediction(toy, 0.9), 1, "throughput") == (2,)


def test_one_timing_on_both_devices_cancels(toy: Any) -> None:
    devices = (toy.device("one"), toy.device("one"))
    same = predict(toy.setting((0.3, 0.6), (0.3, 0.6), devices=devices, outputs=(1000, 10), error=0.5))
    # Latency differs by the link alone, which no timing's error touches.
    assert indistinguishable(same, same.recommended.latency, "latency") == ()


def test_exact_ties_cannot_be_told_apart_even_without_error(toy: Any) -> None:
    tied = predict(toy.setting((0.5, 0.0, 0.5), (0.5, 0.0, 0.5), outputs=(9, 9, 9), inputs=9, error=0.0))
    assert indistinguishable(tied, 1, "throughput") == (2,)


def test_one_batch_at_a_time_throughput_is_as_uncertain_as_latency(toy: Any) -> None:
    single = _prediction(toy, 0.15, mode=Mode.named("single"))
    assert indistinguishable(single, 2, "throughput") == indistinguishable(single, 2, "latency") == (0, 1)


def test_a_saturated_window_is_as_uncertain_as_its_bottleneck(toy: Any) -> None:
    closed = _prediction(toy, 0.06, mode=Mode.named("closed", window=4))
    assert indistinguishable(closed, 1, "latency") == indistinguishable(closed, 1, "throughput") == (2,)
    unsaturated = _prediction(toy, 0.15, mode=Mode.named("closed", window=1))
    assert indistinguishable(unsaturated, 2, "latency") == indistinguishable(unsaturated, 2, "throughput") == (0, 1)


def test_a_burst_mixes_the_doubt_of_both(toy: Any) -> None:
    # 3 at once: 1.1 + 0.8 and 0.9 + 0.9: 0.1 s apart, ± 1.4·e ± 1.7·e.
    assert indistinguishable(_prediction(toy, 0.032, mode=Mode.named("burst", batches=3)), 2, "latency") == ()
    assert indistinguishable(_prediction(toy, 0.033, mode=Mode.named("burst", batches=3)), 2, "latency") == (1,)


def test_an_unknown_error_or_no_split_has_no_answer(toy: Any) -> None:
    assert indistinguishable(_prediction(toy, None), 1, "latency") is None
    assert indistinguishable(_prediction(toy, 0.1), None, "latency") is None


def test_what_does_not_fit_is_no_alternative(toy: Any) -> None:
    found = _prediction(toy, 5.0)
    assert indistinguishable(found, 2, "latency") == (0, 1)
    rows = (msgspec.structs.replace(found.rows[0], fits=False), *found.rows[1:])
    assert indistinguishable(msgspec.structs.replace(found, rows=rows), 2, "latency") == (1,)


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_larger_errors_never_tell_more_apart(toy: Any, objective: str) -> None:
    alike: set[int] = set()
    for error in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0):
        now = set(indistinguishable(_prediction(toy, error), 1, objective) or ())
        assert alike <= now
        alike = now
