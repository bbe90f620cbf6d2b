"""Sweeps over links: the same objectives as `predict`, and the fronts of the one dominance test, row for row."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.link import shaped
from paretosim.mode import MODE_NAMES, Mode
from paretosim.pareto import are_nondominated, is_nondominated
from paretosim.prediction import predict
from paretosim.rates import link_sweep
from paretosim.rates.link_arrays import predict_links
from paretosim.rates.link_response import link_response
from paretosim.rates.link_sweep import sweep
from tests.paretosim.random_settings import PLACES
from tests.paretosim.shipped_settings import shipped

# `predict` gives 12 significant digits: half a unit of the last one, relative to a first digit of 1.
ROUNDED = 6e-12


def _random_links(count: int, seed: int = 5) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    return (
        10 ** random.uniform(4, 11, count),
        10 ** random.uniform(-5, 1, count) * (random.random(count) > 0.1),
        10 ** random.uniform(-5, 0, count) * (random.random(count) > 0.1),
    )


def _front_by_row(found: link_sweep.Sweep) -> list[list[bool]]:
    rows = zip(found.latency_s, found.period_s, strict=True)
    return [is_nondominated(np.stack(costs, axis=1)).tolist() for costs in rows]


@pytest.mark.parametrize("places", PLACES, ids=str)
@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
def test_objectives_and_front_are_those_of_predict(mode: Any, tcp_state: Any, places: Any) -> None:
    setting = shipped("mobilenet_v2", mode=Mode.named(mode), tcp_state=tcp_state, **places)
    rates, delays = np.array([3e4, 5e6, 1e8, 3e9]), np.array([0.0, 0.2, 1e-4, 2.0])
    found = sweep(link_response(setting), rates, delays, setting.link.return_delay_s)
    for index, (rate, delay) in enumerate(zip(rates.tolist(), delays.tolist(), strict=True)):
        link = shaped(setting.link, rate_bps=rate, one_way_delay_s=delay)
        rows = predict(msgspec.structs.replace(setting, link=link)).rows
        assert found.latency_s[index] == pytest.approx([row.latency_s for row in rows], rel=ROUNDED)
        assert found.period_s[index] == pytest.approx([row.period_s for row in rows], rel=ROUNDED)
        assert found.on_front[index].tolist() == [row.on_front for row in rows]


@pytest.mark.parametrize("devices", [("rpi4b", "rpi4b"), ("rpi4b", "rtx4090")], ids=str)
@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
def test_fronts_are_those_of_the_one_dominance_test_row_for_row(devices: tuple[str, str], tcp_state: Any) -> None:
    for mode in MODE_NAMES:
        for places in PLACES:
            response = link_response(shipped(devices=devices, mode=Mode.named(mode), tcp_state=tcp_state, **places))
            found = sweep(response, *_random_links(150))
            assert found.on_front.tolist() == _front_by_row(found)


SMALL = st.lists(st.integers(0, 3).map(float), min_size=3, max_size=5)


@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from(MODE_NAMES), st.sampled_from(("warm", "cold")), st.sampled_from(PLACES))
def test_fronts_with_many_ties_are_right_too(toy: Any, data: Any, mode: Any, tcp_state: Any, places: Any) -> None:
    first = data.draw(SMALL)
    second = data.draw(st.lists(st.integers(0, 3).map(float), min_size=len(first), max_size=len(first)))
    outputs = data.draw(st.lists(st.sampled_from([1000, 5000, 40000]), min_size=len(first), max_size=len(first)))
    first[0] += 1.0  # a timing of nothing is refused
    second[-1] += 1.0
    setting = toy.setting(
        first, second, outputs=outputs, inputs=5000, mode=Mode.named(mode), tcp_state=tcp_state, **places
    )
    found = sweep(link_response(setting), *_random_links(40))
    assert found.on_front.tolist() == _front_by_row(found)
    # And a tie in one is one in the other: predict rounds to 12 digits, the sweep does not have to.
    for index in (0, 1):
        rate, delay, back = (float(values[index]) for values in _random_links(40))
        rows = predict(msgspec.structs.replace(setting, link=toy.link(rate, delay, return_delay_s=back))).rows
        assert found.on_front[index].tolist() == [row.on_front for row in rows]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 7), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_batch_form_of_dominance_equals_the_single_one(points: int, problems: int, random: Any) -> None:
    first, second = (
        np.array([[float(random.choice((0, 1, 2, np.inf))) for _ in range(problems)] for _ in range(points)])
        for _ in range(2)
    )
    expected = [is_nondominated(np.stack([a, b], axis=1)).tolist() for a, b in zip(first.T, second.T, strict=True)]
    assert are_nondominated(first, second).T.tolist() == expected


def test_the_batch_form_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="without NaN"):
        are_nondominated([[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match=r"got shapes \(1, 1\) and \(2, 1\)"):
        are_nondominated([[1.0]], [[1.0], [2.0]])


def test_a_contender_that_turns_out_worse_does_not_spoil_a_front() -> None:
    latency, period = np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 3.0]]), np.array([[2.0, 1.0], [1.0, 2.0], [0.5, 3.0]])
    on_front = np.zeros(latency.shape, dtype=np.bool_)
    link_sweep._mark_fronts(on_front, latency, period, np.array([0, 0, 0]))  # wrong about split 1 on the first link
    assert on_front.tolist() == are_nondominated(latency, period).tolist()


def test_chunks_do_not_show_in_the_result() -> None:
    response, links = link_response(shipped(tcp_state="cold")), _random_links(50)
    whole, parts = sweep(response, *links), sweep(response, *links, chunk_links=7)
    assert whole.latency_s.shape == whole.on_front.shape == (50, 40)
    for name in ("latency_s", "period_s", "on_front"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()


def test_results_can_be_written_over_earlier_ones() -> None:
    response, links = link_response(shipped(mode=Mode.named("burst"))), _random_links(30)
    earlier = sweep(response, *_random_links(30, seed=6))
    expected = sweep(response, *links)
    assert sweep(response, *links, out=earlier, chunk_links=8) is earlier
    for name in ("latency_s", "period_s", "on_front"):
        assert getattr(earlier, name).tolist() == getattr(expected, name).tolist()
    with pytest.raises(BadInputError, match=r"out: got arrays of shape \(30, 40\), expected \(20, 40\)"):
        sweep(response, *_random_links(20), out=earlier)


def test_one_delay_serves_all_rates() -> None:
    response = link_response(shipped())
    assert (
        sweep(response, [1e6, 1e7], 0.1).latency_s.tolist()
        == sweep(response, [1e6, 1e7], [0.1, 0.1]).latency_s.tolist()
    )


def test_a_fixed_return_rate_holds_for_the_way_back_alone() -> None:
    setting = shipped(sink="first", mode=Mode.named("single"))
    following, fixed = (sweep(link_response(setting, rate), [1e6, 1e7], 0.0) for rate in (None, 1e6))
    assert fixed.latency_s[0].tolist() == following.latency_s[0].tolist()
    back_bits = 8 * (32_000 + 66 * 23)
    assert fixed.latency_s[1, 1] - following.latency_s[1, 1] == pytest.approx(back_bits * (1e-6 - 1e-7))


def test_splits_that_do_not_fit_are_left_out(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=30_000), toy.device("two"))
    setting = toy.setting((1.0, 1.0), (1.0, 1.0), devices=devices, weights=20_000)
    response = link_response(setting)
    assert (response.splits.tolist(), response.unfit) == ([0, 1], (2,))
    assert [row.split for row in predict(setting).rows if row.fits] == [0, 1]
    nowhere = toy.setting(devices=(toy.device("one", memory_bytes=10), toy.device("two")))
    with pytest.raises(BadInputError, match="no split fits in the memory of one and two"):
        link_response(nowhere)


@pytest.mark.parametrize("bad", [(0.0, 0.0), (-1.0, 0.0), (np.inf, 0.0), (np.nan, 0.0), (1e6, -1.0), (1e6, np.inf)])
def test_links_that_are_none_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(BadInputError, match="expected finite rates above zero"):
        sweep(link_response(shipped()), [1e6, bad[0]], [0.0, bad[1]])


def test_links_of_shapes_that_do_not_broadcast_are_refused(toy: Any) -> None:
    with pytest.raises(BadInputError, match=r"links: got rates and delays of shapes \(2,\), \(3,\), \(\), expected"):
        predict_links(toy.setting(), np.array([1e6, 2e6]), np.zeros(3))
