"""Calibrations drawn in their intervals."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.calibration import ANY_DEVICE, Calibration, DeviceTerms, MessageCost
from paretosim.mode import Mode
from paretosim.prediction import predict
from paretosim.uncertainty.calibration_error import drawn_calibrations
from paretosim.uncertainty.sampling import Doubts, draw, uncertainty_of

FITTED = Calibration(
    schema_version=2,
    name="fitted",
    backend="tcp",
    devices={"one": DeviceTerms(gamma=1.2, overhead_s=0.01)},
    framing_bytes=100,
    interval_level=0.9,
    intervals={"devices.one.gamma": (1.0, 1.3), "devices.one.overhead_s": (0.0, 0.02), "framing_bytes": (90, 130)},
)


def test_draws_have_the_value_as_median_and_the_interval_as_5_to_95_percent() -> None:
    drawn = drawn_calibrations(FITTED, 20_000, np.random.default_rng(0))
    for values, expected in (
        ([found.devices["one"].gamma for found in drawn], (1.0, 1.2, 1.3)),
        ([found.devices["one"].overhead_s for found in drawn], (0.0, 0.01, 0.02)),
        ([found.framing_bytes for found in drawn], (90, 100, 130)),
    ):
        assert np.quantile(values, [0.05, 0.5, 0.95]) == pytest.approx(expected, rel=0.01, abs=3e-4)
        assert min(values) >= 0
    assert {type(found.framing_bytes) for found in drawn} == {int}


def test_a_level_says_how_much_of_the_draws_an_interval_holds() -> None:
    half = msgspec.structs.replace(
        FITTED, devices={ANY_DEVICE: DeviceTerms(sending=MessageCost(message_s=0.5))}, interval_level=0.5,
        intervals={"devices.*.sending.message_s": (0.4, 0.6)},
    )  # fmt: skip
    drawn = drawn_calibrations(half, 20_000, np.random.default_rng(0))
    values = [found.of("anything").sending.message_s for found in drawn]
    assert np.quantile(values, [0.25, 0.5, 0.75]) == pytest.approx((0.4, 0.5, 0.6), rel=0.01)


def test_a_devices_name_may_hold_dots() -> None:
    dotted = msgspec.structs.replace(
        FITTED, devices={"orin": DeviceTerms(gamma=3.0), "orin.8gb": DeviceTerms(sending=MessageCost(message_s=0.5))},
        intervals={"devices.orin.8gb.sending.message_s": (0.4, 0.6), "devices.orin.gamma": (2.0, 4.0)},
    )  # fmt: skip
    (drawn,) = drawn_calibrations(dotted, 1, np.random.default_rng(0))
    assert drawn.of("orin.8gb").sending.message_s != 0.5
    assert drawn.of("orin").gamma != 3.0


def test_intervals_go_through_a_prediction(toy: Any) -> None:
    times = (0.1, 0.3)
    device = toy.device("one")
    setting = toy.setting(
        times, times, devices=(device, device), link=toy.link(1e12), error=0.0, mode=Mode.named("single"),
        calibration=msgspec.structs.replace(FITTED, intervals={"devices.one.gamma": (1.0, 1.3)}),
    )  # fmt: skip
    prediction = predict(setting)
    split = uncertainty_of(prediction, Doubts(samples=5000)).split(2)
    assert split.latency_p05_s == pytest.approx(0.4 + 0.01, rel=0.01)
    assert split.latency_p50_s == pytest.approx(prediction.row(2).latency_s, rel=0.01)
    assert split.latency_p95_s == pytest.approx(0.4 * 1.3 + 0.01, rel=0.01)
    drawn = draw(prediction, Doubts(samples=100))
    # Single: both are 1 / latency, but for the link.
    assert drawn.first_alone_per_s == pytest.approx(drawn.throughput_per_s[:, 2], rel=1e-5)


def test_a_calibration_without_intervals_is_certain(toy: Any) -> None:
    prediction = predict(toy.setting(calibration=msgspec.structs.replace(FITTED, intervals={}), error=0.0))
    for row, split in zip(prediction.rows, uncertainty_of(prediction, Doubts(samples=100)).splits, strict=True):
        assert (split.latency_p05_s, split.latency_p99_s) == (row.latency_s, row.latency_s)
