"""Contenders: what is said to be no worse on any link is so on random ones, and where it must stop, by hand."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.calibration import Calibration, DeviceTerms
from paretosim.link import shaped
from paretosim.mode import MODE_NAMES, Mode
from paretosim.pareto import is_nondominated
from paretosim.profiles import ProfileStore
from paretosim.rates.contenders import are_no_worse, contenders
from paretosim.rates.link_response import LinkResponse, link_response
from paretosim.rates.link_sweep import sweep
from paretosim.setting import Setting
from tests.paretosim.random_settings import of_any_link, random_calibration, random_setting

SETTINGS = 400


def _vgg16(devices: tuple[str, str], **options: Any) -> Setting:
    store = ProfileStore()
    return Setting(
        model=store.model("vgg16"),
        devices=(store.device(devices[0]), store.device(devices[1])),
        timings=(store.timing(devices[0], "vgg16"), store.timing(devices[1], "vgg16")),
        link=shaped(store.link("ethernet-1g"), rate_bps=1e9),
        **options,
    )


def _contention(kappa: float, *devices: str) -> Calibration:
    terms = {name: DeviceTerms(kappa=kappa) for name in devices}
    return Calibration(schema_version=2, name="contention", backend="tcp", devices=terms)


def _links(count: int, seed: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    delays = (10 ** random.uniform(-5, 1, count) * (random.random(count) > 0.2) for _ in range(2))
    return 10 ** random.uniform(3, 11, count), *delays


def _assert_no_worse_on_random_links(response: LinkResponse, seed: int) -> None:
    no_worse = are_no_worse(response)
    found = sweep(response, *_links(200, seed))
    for values in (found.latency_s, found.period_s):
        bound = values * (1 + 1e-13)
        for place, worse in enumerate(no_worse):
            assert (values[:, place, np.newaxis] <= bound[:, worse]).all()


def test_what_is_said_to_be_no_worse_is_so_on_random_links_with_any_terms(toy: Any) -> None:
    draw = Random(41)
    pairs = said = 0
    for seed in range(SETTINGS):
        calibration = random_calibration(draw)
        if draw.random() < 0.7:
            calibration = msgspec.structs.replace(calibration, relay=None)
        if draw.random() < 0.5:
            devices = {
                name: msgspec.structs.replace(terms, copying_bytes_per_s=None)
                for name, terms in calibration.devices.items()
            }
            calibration = msgspec.structs.replace(calibration, devices=devices)
        # Models whose splits send about as much as each other, and stages of about one length, are the hard ones.
        fields: dict[str, Any] = {"calibration": calibration}
        if draw.random() < 0.7:
            size = 10 ** draw.uniform(1, 4.5)
            fields |= {"blocks": 6, "outputs": [round(size * draw.uniform(0.8, 1.25)) for _ in range(6)]}
        setting = of_any_link(random_setting(draw, toy, **fields))
        response = link_response(setting, draw.choice([None, 10 ** draw.uniform(4, 8)]))
        _assert_no_worse_on_random_links(response, seed)
        pairs += are_no_worse(response).size
        said += are_no_worse(response).sum()
    assert 0.25 * pairs < said < 0.75 * pairs


@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
@pytest.mark.parametrize("kappa", [0.0, 0.3, 2.0])
def test_contenders_of_a_shipped_model_are_no_worse_than_what_they_settle(
    mode: Any, tcp_state: Any, kappa: float
) -> None:
    for devices in (("rpi4b", "rpi4b"), ("rpi4b", "rtx4090")):
        options = {"mode": Mode.named(mode), "tcp_state": tcp_state, "calibration": _contention(kappa, *devices)}
        response = link_response(_vgg16(devices, **options))
        by = contenders(response)
        assert 1 < len(set(by.tolist())) < len(by)
        assert (by[by] == by).all()
        assert are_no_worse(response)[by, np.arange(len(by))].all()
        _assert_no_worse_on_random_links(response, seed=42)


@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
def test_fronts_with_contention_are_those_of_the_full_comparison(mode: Any, tcp_state: Any) -> None:
    for devices in (("rpi4b", "rpi4b"), ("rpi4b", "rtx4090"), ("x86-core", "rpi4b")):
        options = {"mode": Mode.named(mode), "tcp_state": tcp_state, "calibration": _contention(0.25, *devices)}
        found = sweep(link_response(_vgg16(devices, **options)), *_links(150, seed=43))
        rows = zip(found.latency_s, found.period_s, found.on_front, strict=True)
        for latency_s, period_s, on_front in rows:
            assert on_front.tolist() == is_nondominated(np.stack([latency_s, period_s], axis=1)).tolist()


def test_contention_on_both_hosts_leaves_few_of_forty_splits_to_be_compared() -> None:
    # Without it 7 and 5. On two Pis those of one size that lie between the most and the least balanced are traded.
    counts = {
        devices: len(set(contenders(link_response(_vgg16(devices, calibration=_contention(0.2, *devices)))).tolist()))
        for devices in (("rpi4b", "rpi4b"), ("rpi4b", "rtx4090"))
    }
    assert counts == {("rpi4b", "rpi4b"): 23, ("rpi4b", "rtx4090"): 5}


def _of_two_sizes(toy: Any, outputs: tuple[int, int], kappa: float) -> LinkResponse:
    """Stages of 1 and 3 s at split 1, of 2 and 2 s at split 2."""
    second = (1.0, 1.0, 1.0, 1.0)
    calibration = _contention(kappa, "one", "two")
    return link_response(toy.setting((1.0,) * 4, second, outputs=(*outputs, 10, 10), calibration=calibration))


def test_a_more_balanced_split_rules_only_where_its_bytes_pay_for_what_it_shares_by_hand(toy: Any) -> None:
    # With κ = 0.5 and x seconds of split 2's transfer, r·x of split 1's, latencies are 4 + x + 0.5·2·min(2, x) and
    # 4 + r·x + 0.5·(min(1, r·x) + min(3, r·x)). Split 1 gains most at x = 2: 8 against 4.5 + 3·r, r ≤ 1.5. So r = 7/6.
    assert are_no_worse(_of_two_sizes(toy, (71, 60), 0.5))[2, 1]
    response = _of_two_sizes(toy, (69, 60), 0.5)
    assert not are_no_worse(response)[2, 1]
    found = sweep(response, [8 * 60 * 8 * 4 / 2], 0.0)
    assert found.latency_s[0, [2, 1]] == pytest.approx([8.0, 4.5 + 3 * 69 / 60])
    assert found.latency_s[0, 2] > found.latency_s[0, 1]


def test_without_contention_the_more_balanced_split_rules_at_the_same_bytes(toy: Any) -> None:
    for kappa, rules in ((0.0, True), (1e-6, False)):
        assert are_no_worse(_of_two_sizes(toy, (60, 60), kappa))[2, 1] == rules


def test_a_longer_stage_of_less_contention_may_rule_the_other_devices_by_hand(toy: Any) -> None:
    # κ = 1 of `two` alone. All on `one` (2 s), or all on `two`: c s that become up to 2·c, but it sends twice as much.
    calibration = _contention(1.0, "two")
    for second_s, rules in ((2.1, True), (1.9, False)):
        setting = toy.setting((2.0,), (second_s,), outputs=(50,), inputs=100, calibration=calibration)
        assert are_no_worse(link_response(setting))[1, 0] == rules
    # The other way round the slowed one rules if it is no longer than 2 s when slowed all along, and sends less.
    for second_s, rules in ((0.99, True), (1.01, False)):
        setting = toy.setting((2.0,), (second_s,), outputs=(100,), inputs=50, calibration=calibration)
        assert are_no_worse(link_response(setting))[0, 1] == rules


def test_of_splits_with_the_same_quantities_the_first_is_the_contender(toy: Any) -> None:
    setting = toy.setting((1.0, 0.0, 0.5), (1.0, 0.0, 1.0), outputs=(50, 50, 50), calibration=_contention(0.5, "one"))
    assert contenders(link_response(setting)).tolist()[1:3] == [1, 1]
