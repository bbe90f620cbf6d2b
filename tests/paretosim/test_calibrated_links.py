"""Many links at once and break-even rates with every term of a calibration on, against predictions one by one."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.calibration import CALIBRATION_TERMS, Calibration, DeviceTerms
from paretosim.chain import stage_times_s
from paretosim.link import shaped
from paretosim.mode import MODE_NAMES, Mode
from paretosim.prediction import predict
from paretosim.profiles import ProfileStore
from paretosim.rates.break_even import BreakEven, best_places, break_even, robust_choices
from paretosim.rates.link_arrays import predict_links
from paretosim.rates.link_response import LinkResponse, link_response
from paretosim.rates.link_sweep import sweep
from paretosim.setting import Setting
from paretosim.timing import Timing
from tests.paretosim.random_settings import of_any_link, random_calibration, random_setting
from tests.paretosim.shipped_settings import shipped

# `predict` gives 12 significant digits: half a unit of the last one, relative to a first digit of 1.
ROUNDED = 6e-12
LOW_BPS, HIGH_BPS = 1e4, 1e10


def _at(setting: Setting, rate_bps: float) -> Setting:
    """The setting with both directions at that rate."""
    link = msgspec.structs.replace(setting.link, rate_bps=rate_bps, return_rate_bps=rate_bps)
    return msgspec.structs.replace(setting, link=link)


def _found(response: LinkResponse, setting: Setting) -> BreakEven:
    return break_even(
        response,
        low_bps=LOW_BPS,
        high_bps=HIGH_BPS,
        one_way_delay_s=setting.link.one_way_delay_s,
        return_delay_s=setting.link.return_delay_s,
    )


def _assert_dense_rates_agree(response: LinkResponse, found: BreakEven, rates: Any) -> None:
    """Intervals say what looking at each rate says, but within 1e-9 of an edge."""
    above = np.searchsorted(found.pieces_bps, rates)
    rates = rates[np.minimum(rates / found.pieces_bps[above - 1], found.pieces_bps[above] / rates) > 1 + 1e-9]
    dense = sweep(response, rates, found.one_way_delay_s, found.return_delay_s)
    for intervals, places in zip((found.latency, found.throughput), best_places(dense), strict=True):
        said = intervals.splits[np.searchsorted(intervals.edges_bps, rates) - 1]
        assert said.tolist() == response.splits[places].tolist()
    said = found.fronts.on_front[np.searchsorted(found.fronts.edges_bps, rates) - 1]
    assert (said == dense.on_front).all()


def _rates(draw: Random, count: int) -> Any:
    return np.array([10 ** draw.uniform(np.log10(LOW_BPS), np.log10(HIGH_BPS)) for _ in range(count)])


def test_every_rate_of_random_settings_is_as_predicted(toy: Any) -> None:
    draw = Random(31)
    for _ in range(300):
        setting = of_any_link(random_setting(draw, toy))
        assert setting.calibration is not None
        assert setting.calibration.active_terms() == CALIBRATION_TERMS
        rates = _rates(draw, 5)
        found = sweep(link_response(setting), rates, setting.link.one_way_delay_s, setting.link.return_delay_s)
        for index, rate in enumerate(rates.tolist()):
            rows = predict(_at(setting, rate)).rows
            assert found.latency_s[index] == pytest.approx([row.latency_s for row in rows], rel=ROUNDED)
            assert found.period_s[index] == pytest.approx([row.period_s for row in rows], rel=ROUNDED)
            assert found.on_front[index].tolist() == [row.on_front for row in rows]


def test_break_even_rates_of_random_settings_are_what_dense_rates_and_predictions_show(toy: Any) -> None:
    draw = Random(32)
    several = 0
    for _ in range(300):
        setting = of_any_link(random_setting(draw, toy))
        response = link_response(setting)
        found = _found(response, setting)
        several += len(found.latency.splits) > 1
        rates = _rates(draw, 1000)
        _assert_dense_rates_agree(response, found, rates)
        for rate in rates[:2].tolist():
            best = predict(_at(setting, rate)).recommended
            for intervals, split in ((found.latency, best.latency), (found.throughput, best.throughput)):
                assert intervals.splits[np.searchsorted(intervals.edges_bps, rate) - 1] == split
    assert several > 60


def _shipped(model: str, devices: tuple[str, str], calibration: Calibration, **options: Any) -> Setting:
    link = shaped(ProfileStore().link("ethernet-1g"), rate_bps=1e9, one_way_delay_s=0.05)
    return shipped(model, devices, link=link, calibration=calibration, **options)


@pytest.mark.parametrize("mode", MODE_NAMES)
def test_a_hundred_thousand_rates_of_a_shipped_model_show_the_intervals(mode: Any) -> None:
    random = random_calibration(Random(5))
    devices = {"rpi4b": random.devices["one"], "rtx4090": random.devices["two"]}
    calibration = msgspec.structs.replace(random, devices=devices)
    rates = 10 ** np.random.default_rng(12).uniform(np.log10(LOW_BPS), np.log10(HIGH_BPS), 100_000)
    for model in ("vgg16", "mobilenet_v2"):
        for tcp_state in ("warm", "cold"):
            setting = _shipped(
                model, ("rpi4b", "rtx4090"), calibration, mode=Mode.named(mode), tcp_state=tcp_state
            )  # fmt: skip
            response = link_response(setting)
            _assert_dense_rates_agree(response, _found(response, setting), rates)


@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
def test_splits_that_tie_on_paper_tie_on_two_equal_devices_with_a_calibration(mode: Any, tcp_state: Any) -> None:
    # Eight of vgg16's splits send 25 088 or 4 096 numbers an image: on two Pis they are equally long in latency.
    terms = DeviceTerms(gamma=1.0837, overhead_s=0.0123, kappa=0.37)
    calibration = Calibration(schema_version=2, name="ties", backend="tcp", devices={"rpi4b": terms})
    setting = _shipped("vgg16", ("rpi4b", "rpi4b"), calibration, mode=Mode.named(mode), tcp_state=tcp_state)
    response = link_response(setting)
    found = _found(response, setting)
    for low, high, split in zip(
        found.latency.edges_bps, found.latency.edges_bps[1:], found.latency.splits, strict=False
    ):
        assert predict(_at(setting, float(low * high) ** 0.5)).recommended.latency == split
    for low, high, on_front in zip(
        found.fronts.edges_bps, found.fronts.edges_bps[1:], found.fronts.on_front, strict=False
    ):
        rows = predict(_at(setting, float(low * high) ** 0.5)).rows
        assert [row.on_front for row in rows] == on_front.tolist()


def test_a_stage_is_slowed_by_the_transfer_until_that_is_longer_by_hand(toy: Any) -> None:
    # Split 1 alone: 1 s and 0.5 s, 12 800 bits. With κ = 1 of `one` the first takes 1 + min(1, 12800 u) s, so from
    # 12.8 kbit/s down it takes 2 s. Split 0 takes 1.5 s on `two` and sends 25 600 bits; split 2 takes 2 s and 2 560.
    terms = {"one": DeviceTerms(kappa=1.0)}
    setting = toy.setting(
        (1.0, 1.0), (1.0, 0.5), outputs=(50, 10), link=toy.link(),
        calibration=Calibration(schema_version=2, name="hand", backend="tcp", devices=terms),
    )  # fmt: skip
    found = break_even(link_response(setting), low_bps=1e3, high_bps=1e6).throughput
    # Periods: max(1.5, 25600 u); 1 + min(1, 12800 u) and 12800 u; 2 + min(2, 2560 u). The second is best from where
    # 1 + 12800 u = 1.5, u = 1/25600, up in rate; below it the first, until 25600 u = 2, u = 1/12800; there the second
    # takes 2 s until 12800 u = 2, u = 1/6400, and then 12800 u, against 2 + 2560 u of the third: u = 1/5120.
    assert found.splits.tolist() == [2, 1, 0, 1]
    assert found.edges_bps == pytest.approx([1e3, 5120, 12800, 25600, 1e6], rel=1e-12)


def test_the_robust_choice_with_contention_is_no_worse_anywhere_than_it_says(toy: Any) -> None:
    draw = Random(33)
    for _ in range(40):
        setting = of_any_link(random_setting(draw, toy))
        response = link_response(setting)
        found = _found(response, setting)
        dense = sweep(response, _rates(draw, 1000), found.one_way_delay_s, found.return_delay_s)
        for choice, values in zip(
            robust_choices(response, found), (dense.latency_s, dense.period_s), strict=True
        ):  # fmt: skip
            longer = (values / values.min(axis=1, keepdims=True)).max(axis=0)
            regrets = longer - 1 if values is dense.latency_s else 1 - 1 / longer
            assert regrets[response.splits.tolist().index(choice.split)] <= choice.regret * (1 + 1e-12) + 1e-15
            assert regrets.min() >= choice.regret - 0.05 * (1 + choice.regret)


def test_arrays_of_links_know_a_return_rate_of_its_own_with_contention(toy: Any) -> None:
    draw = Random(34)
    for _ in range(60):
        setting = of_any_link(random_setting(draw, toy, sink="first"))
        link = msgspec.structs.replace(setting.link, return_rate_bps=10 ** draw.uniform(4, 8))
        setting = msgspec.structs.replace(setting, link=link)
        found = predict_links(setting)
        assert found.latency_s == pytest.approx([row.latency_s for row in predict(setting).rows], rel=ROUNDED)
        assert found.period_s == pytest.approx([row.period_s for row in predict(setting).rows], rel=ROUNDED)
        response = link_response(setting, link.return_rate_bps)
        _assert_dense_rates_agree(response, _found(response, setting), _rates(draw, 300))


@pytest.mark.parametrize("term", ["delay", "headers", "window-cap", "slow-start", *CALIBRATION_TERMS])
def test_each_term_is_left_out_as_in_a_prediction(toy: Any, term: Any) -> None:
    draw = Random(35)
    for _ in range(12):
        setting = of_any_link(random_setting(draw, toy, without=(term,)))
        found = sweep(
            link_response(setting), setting.link.rate_bps, [setting.link.one_way_delay_s], setting.link.return_delay_s
        )
        assert found.latency_s[0] == pytest.approx([row.latency_s for row in predict(setting).rows], rel=ROUNDED)
        assert found.period_s[0] == pytest.approx([row.period_s for row in predict(setting).rows], rel=ROUNDED)


def test_a_calibration_that_says_nothing_changes_no_bit(toy: Any) -> None:
    plain = of_any_link(random_setting(Random(36), toy, calibration=None))
    neutral = Calibration(schema_version=2, name="none", backend="tcp")
    one, two = (
        sweep(link_response(setting), [1e5, 1e7], 0.01)
        for setting in (plain, msgspec.structs.replace(plain, calibration=neutral))
    )
    assert (one.latency_s == two.latency_s).all()
    assert (one.period_s == two.period_s).all()


def test_scaled_blocks_still_add_up_exactly(toy: Any) -> None:
    # The sums of a scaled timing are those of its scaled blocks, so all splits of two equal devices compute as long.
    times = [0.1234567, 0.7654321, 0.0101010, 0.3333333]
    timing: Timing = toy.timing(times)
    scaled = [time * 1.0837 for time in timing.at_batch(8)[0]]
    assert len(set(stage_times_s((scaled, scaled), np.arange(5)).sum(axis=1).tolist())) == 1
    device = toy.device("one")
    calibration = Calibration(
        schema_version=2, name="scaled", backend="tcp", devices={"one": DeviceTerms(gamma=1.0837, overhead_s=1 / 3)}
    )
    setting = toy.setting(times, times, devices=(device, device), calibration=calibration)
    constants = link_response(setting).constant_s.tolist()
    assert constants[1] == constants[2] == constants[3]  # at the ends only one stage has its overhead
