"""Break-even rates: by hand, against a hundred thousand rates one by one, and against `predict` on both sides."""

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
from paretosim.prediction import predict
from paretosim.rates.break_even import BreakEven, break_even, robust_choices
from paretosim.rates.link_response import LinkResponse, link_response
from paretosim.rates.link_sweep import Sweep, sweep
from tests.paretosim.random_settings import PLACES
from tests.paretosim.shipped_settings import shipped

MODELS = ("alexnet", "inception_v3", "mobilenet_v2", "resnet18", "resnet50", "vgg16")
DEPLOYMENTS = (("rpi4b", "rpi4b"), ("rpi4b", "rtx4090"))
LOW_BPS, HIGH_BPS = 1e4, 1e11


def _found(response: LinkResponse, delay_s: float = 0.0, return_delay_s: float = 0.0) -> BreakEven:
    return break_even(
        response, low_bps=LOW_BPS, high_bps=HIGH_BPS, one_way_delay_s=delay_s, return_delay_s=return_delay_s
    )


def _best(response: LinkResponse, first: Any, second: Any) -> Any:
    """The split of the smallest `first`, then the smallest `second`, then the lowest number, on each link."""
    tied = first == first.min(axis=1, keepdims=True)
    tied &= second == np.where(tied, second, np.inf).min(axis=1, keepdims=True)
    return response.splits[tied.argmax(axis=1)]


def _assert_agrees(response: LinkResponse, found: BreakEven, rates: Any) -> None:
    """What the intervals say is what looking at each rate says, but within 1e-9 of an edge."""
    above = np.searchsorted(found.pieces_bps, rates)
    clear = np.minimum(rates / found.pieces_bps[above - 1], found.pieces_bps[above] / rates) > 1 + 1e-9
    rates = rates[clear]
    dense: Sweep = sweep(response, rates, found.one_way_delay_s, found.return_delay_s)

    def said(edges: Any, values: Any) -> Any:
        return values[np.searchsorted(edges, rates) - 1]

    by_latency = _best(response, dense.latency_s, dense.period_s)
    by_throughput = _best(response, dense.period_s, dense.latency_s)
    assert (said(found.latency.edges_bps, found.latency.splits) == by_latency).all()
    assert (said(found.throughput.edges_bps, found.throughput.splits) == by_throughput).all()
    assert (said(found.fronts.edges_bps, found.fronts.on_front) == dense.on_front).all()


def _random_rates(count: int, seed: int = 11) -> Any:
    return 10 ** np.random.default_rng(seed).uniform(np.log10(LOW_BPS), np.log10(HIGH_BPS), count)


def test_three_lines_cross_where_they_do_by_hand(toy: Any) -> None:
    # L₀ = 0.2 + 25600 u at split 0, 1.1 + 12800 u at split 1, 2 + 2560 u at split 2.
    response = link_response(toy.setting((1.0, 1.0), (0.1, 0.1), outputs=(50, 10)))
    found = _found(response).latency
    assert found.splits.tolist() == [2, 1, 0]
    assert found.edges_bps == pytest.approx([LOW_BPS, 10240 / 0.9, 12800 / 0.9, HIGH_BPS], rel=1e-12)


def test_a_period_changes_where_the_link_stops_binding_by_hand(toy: Any) -> None:
    # t* = max(0.2, 25600 u) at split 0, max(1, 12800 u) at split 1, max(2, 2560 u) at split 2.
    response = link_response(toy.setting((1.0, 1.0), (0.1, 0.1), outputs=(50, 10)))
    found = break_even(response, low_bps=1e3, high_bps=1e11).throughput
    assert found.splits.tolist() == [2, 1, 0]
    assert found.edges_bps == pytest.approx([1e3, 6400, 25600, 1e11], rel=1e-12)


def test_slow_start_moves_a_break_even_rate_by_hand(toy: Any) -> None:
    # All on `two` sends 160 segments of 8000 bits, all on `one` sends 8. With RTT 1 s the rounds of 10, 20 and 40
    # segments stall for 3 − (9 + 19 + 39)·8000 u; that of 80 does not, for 79·8000 u > 1. So
    # 1 + 3 + (160 − 67)·8000 u = 6 + 8·8000 u, and u = 2 / 680000.
    setting = toy.setting((6.0,), (1.0,), outputs=(250,), inputs=5000, tcp_state="cold")
    found = _found(link_response(setting), 0.5, 0.5).latency
    assert found.splits.tolist() == [1, 0]
    assert found.edges_bps[1] == pytest.approx(340_000, rel=1e-12)


@pytest.mark.parametrize("devices", DEPLOYMENTS, ids="+".join)
@pytest.mark.parametrize("model", MODELS)
def test_intervals_are_what_a_hundred_thousand_rates_show(model: str, devices: tuple[str, str]) -> None:
    rates = _random_rates(100_000)
    for tcp_state, delay_s in (("warm", 0.05), ("cold", 0.05)):
        for mode in MODE_NAMES:
            response = link_response(shipped(model, devices, mode=Mode.named(mode), tcp_state=tcp_state))
            _assert_agrees(response, _found(response, delay_s, 0.01), rates)


@pytest.mark.parametrize("places", PLACES, ids=str)
@pytest.mark.parametrize("return_rate_bps", [None, 1e7])
@pytest.mark.parametrize("delays", [(0.0, 0.0), (1e-4, 1e-4), (0.2, 1e-4), (3.0, 1.0)], ids=str)
def test_intervals_hold_for_every_source_sink_and_delay(places: Any, return_rate_bps: Any, delays: Any) -> None:
    for tcp_state in ("warm", "cold"):
        for mode in MODE_NAMES:
            setting = shipped("vgg16", DEPLOYMENTS[1], mode=Mode.named(mode), tcp_state=tcp_state, **places)
            response = link_response(setting, return_rate_bps)
            _assert_agrees(response, _found(response, *delays), _random_rates(1500))


@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
def test_predict_changes_its_mind_at_each_break_even_rate(mode: Any, tcp_state: Any) -> None:
    setting = shipped("resnet18", DEPLOYMENTS[1], mode=Mode.named(mode), tcp_state=tcp_state)
    found = _found(link_response(setting), setting.link.one_way_delay_s, setting.link.return_delay_s)
    for objective, intervals in (("latency", found.latency), ("throughput", found.throughput)):
        assert (intervals.splits[1:] != intervals.splits[:-1]).all()
        for at, rate in enumerate(intervals.edges_bps[1:-1].tolist()):
            for side, split in ((1 - 1e-6, intervals.splits[at]), (1 + 1e-6, intervals.splits[at + 1])):
                link = shaped(setting.link, rate_bps=rate * side)
                assert getattr(predict(msgspec.structs.replace(setting, link=link)).recommended, objective) == split


def test_the_front_differs_on_the_two_sides_of_each_of_its_rates() -> None:
    found = _found(link_response(shipped("mobilenet_v2", DEPLOYMENTS[0], tcp_state="cold")), 0.05).fronts
    assert len(found.on_front) > 10
    assert (found.on_front[1:] != found.on_front[:-1]).any(axis=1).all()


def test_no_rate_above_the_windows_changes_anything() -> None:
    response = link_response(shipped("vgg16", DEPLOYMENTS[0]))
    found = _found(response, 0.5, 0.5)
    capped_bps = 8 * response.wmax_bytes / 1.0
    for edges in (found.latency.edges_bps, found.throughput.edges_bps, found.fronts.edges_bps):
        assert (edges[1:-1] <= capped_bps * (1 + 1e-12)).all()


SMALL = st.integers(0, 3).map(float)


@settings(deadline=None, max_examples=150)
@given(
    st.data(), st.integers(2, 5), st.sampled_from(MODE_NAMES), st.sampled_from(("warm", "cold")),
    st.sampled_from(PLACES), st.sampled_from((0.0, 0.1, 2.0)), st.sampled_from((None, 3e6)),
)  # fmt: skip
def test_ties_of_random_lines_are_found_and_broken_as_in_predict(
    toy: Any, data: Any, blocks: int, mode: Any, tcp_state: Any, places: Any, delay: float, back: Any
) -> None:
    first, second = (data.draw(st.lists(SMALL, min_size=blocks, max_size=blocks)) for _ in range(2))
    outputs = data.draw(st.lists(st.sampled_from([100, 1000, 1001, 40000]), min_size=blocks, max_size=blocks))
    first[0] += 1.0  # a timing of nothing is refused
    second[-1] += 1.0
    setting = toy.setting(
        first, second, outputs=outputs, inputs=1000, mode=Mode.named(mode), tcp_state=tcp_state, **places
    )
    response = link_response(setting, back)
    _assert_agrees(response, _found(response, delay), _random_rates(400))


@pytest.mark.parametrize("tcp_state", ["warm", "cold"])
@pytest.mark.parametrize("mode", MODE_NAMES)
def test_no_rate_shows_a_larger_regret_and_no_split_a_smaller_worst_one(mode: Any, tcp_state: Any) -> None:
    response = link_response(shipped("inception_v3", DEPLOYMENTS[1], mode=Mode.named(mode), tcp_state=tcp_state))
    found = break_even(response, low_bps=1e6, high_bps=1e9, one_way_delay_s=0.02)
    rates = 10 ** np.random.default_rng(3).uniform(6, 9, 20_000)
    dense, at_pieces = sweep(response, rates, 0.02), sweep(response, found.pieces_bps, 0.02)
    for choice, name in zip(robust_choices(response, found), ("latency_s", "period_s"), strict=True):
        values = getattr(dense, name)
        longer = (values / values.min(axis=1, keepdims=True)).max(axis=0)
        lost = longer - 1 if name == "latency_s" else 1 - 1 / longer
        place = response.splits.tolist().index(choice.split)
        assert lost[place] <= choice.regret * (1 + 1e-12) + 1e-15
        # Dense rates come near the worst one, so no other split does better than the chosen one by more than that.
        assert lost.min() >= choice.regret - 0.01 * (1 + choice.regret)
        row = getattr(at_pieces, name)[found.pieces_bps.tolist().index(choice.worst_rate_bps)]
        reached = row[place] / row.min()
        assert (reached - 1 if name == "latency_s" else 1 - 1 / reached) == pytest.approx(choice.regret)
        assert row[response.splits.tolist().index(choice.best_there)] == row.min()


def test_a_split_that_is_best_everywhere_gives_nothing_away(toy: Any) -> None:
    response = link_response(toy.setting((1.0, 1.0), (1.0, 1.0), outputs=(50, 10)))
    choice = robust_choices(response, _found(response))[0]
    assert (choice.split, choice.regret) == (2, 0.0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_a_range_that_is_none_is_refused(toy: Any, low: float, high: float) -> None:
    with pytest.raises(BadInputError, match="expected two finite ones, the lower first"):
        break_even(link_response(toy.setting()), low_bps=low, high_bps=high)


@pytest.mark.parametrize("delay_s", [-1.0, np.inf, np.nan])
def test_a_delay_that_is_none_is_refused(toy: Any, delay_s: float) -> None:
    with pytest.raises(BadInputError, match="expected finite times of 0 or more"):
        _found(link_response(toy.setting()), delay_s)
