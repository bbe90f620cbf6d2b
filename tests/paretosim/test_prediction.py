"""Predictions: toy chains by hand, invariants, and every shipped model over both deployments."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.link import Link, shaped
from paretosim.mode import MODE_NAMES, Mode
from paretosim.prediction import Prediction, predict
from paretosim.profiles import ProfileStore
from paretosim.setting import Setting

MODELS = {"mobilenet_v2": 21, "resnet18": 14, "inception_v3": 22, "resnet50": 22, "alexnet": 21, "vgg16": 39}
DEPLOYMENTS = [("rpi4b", "rpi4b"), ("rpi4b", "rtx4090")]


def _column(prediction: Prediction, field: str) -> list[Any]:
    return [getattr(row, field) for row in prediction.rows]


# Two blocks: 0.1 s and 0.3 s on the first device, 0.2 s and 0.4 s on the second. The input has 100 elements, the
# outputs 50 and 10: a batch of 8 is 3200, 1600 and 320 bytes, so on 1 Mbit/s without headers 25.6, 12.8 and 2.56 ms.
OUTPUTS = (50, 10)
SENT_S = (0.0256, 0.0128, 0.00256)


def test_a_toy_chain_by_hand_paced(toy: Any) -> None:
    found = predict(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05)))
    assert [row.stages_s for row in found.rows] == [
        pytest.approx((0.0, 0.6)), pytest.approx((0.1, 0.4)), pytest.approx((0.4, 0.0)),
    ]  # fmt: skip
    assert _column(found, "split") == [0, 1, 2]
    assert _column(found, "latency_s") == pytest.approx([0.6756, 0.5628, 0.45256])
    assert _column(found, "period_s") == pytest.approx([0.6, 0.4, 0.4])
    assert _column(found, "throughput_per_s") == pytest.approx([8 / 0.6, 20, 20])
    assert _column(found, "bottleneck") == ["stage2", "stage2", "stage1"]
    assert _column(found, "activation_bytes") == [(3200,), (1600,), (320,)]
    assert [row.links_s for row in found.rows] == [pytest.approx((sent,)) for sent in SENT_S]
    assert _column(found, "delays_s") == [(0.05,)] * 3
    assert _column(found, "on_front") == [False, False, True]
    assert found.hops == ("link1",)
    assert found.recommended == type(found.recommended)(latency=2, throughput=2, knee=2)


@pytest.mark.parametrize(
    ("mode", "latency_s", "period_s"),
    [
        (Mode.named("single"), 0.5628, 0.5628),
        (Mode.named("closed", window=1), 0.5628, 0.5628),
        (Mode.named("closed", window=2), 0.8, 0.4),
        (Mode.named("burst", batches=3), 0.5628 + 0.4, (0.5628 + 0.8) / 3),
    ],
)
def test_a_toy_chain_by_hand_in_other_modes(toy: Any, mode: Mode, latency_s: float, period_s: float) -> None:
    row = predict(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), mode=mode)).row(1)
    assert (row.latency_s, row.period_s) == pytest.approx((latency_s, period_s))
    if mode.name == "burst":
        assert row.latency_from_start_s == pytest.approx(0.5628 + 1 * (0.4 - 0.1))
    else:
        assert row.latency_from_start_s is None


def test_the_baselines_have_no_link(toy: Any) -> None:
    found = predict(toy.setting(outputs=OUTPUTS, link=toy.link(1.0, 1000.0)))
    assert [b.device for b in found.baselines] == ["one", "two"]
    assert [b.latency_s for b in found.baselines] == pytest.approx([0.4, 0.6])
    assert [b.throughput_per_s for b in found.baselines] == pytest.approx([20, 8 / 0.6])


def test_a_dispatch_takes_the_control_delay_and_holds_nothing(toy: Any) -> None:
    without = predict(toy.setting())
    found = predict(toy.setting(control_delay_s=0.25))
    assert _column(found, "latency_s") == pytest.approx([latency + 0.25 for latency in _column(without, "latency_s")])
    assert _column(found, "period_s") == _column(without, "period_s")
    burst = [predict(toy.setting(control_delay_s=d, mode=Mode.named("burst"))) for d in (0.0, 0.25)]
    assert _column(burst[0], "latency_from_start_s") == pytest.approx(_column(burst[1], "latency_from_start_s"))


def test_inputs_at_the_sink_travel_the_reverse_link_first(toy: Any) -> None:
    link = toy.link(1e6, 0.05, return_rate_bps=1e5, return_delay_s=0.5)
    found = predict(toy.setting(outputs=OUTPUTS, link=link, source="sink"))
    assert found.hops == ("input", "link1")
    assert [row.links_s for row in found.rows] == [pytest.approx((0.256, sent)) for sent in SENT_S]
    assert _column(found, "delays_s") == [(0.5, 0.05)] * 3
    stages = (0.6, 0.5, 0.4)
    expected = [0.256 + 0.5 + s + sent + 0.05 for s, sent in zip(stages, SENT_S, strict=True)]
    assert _column(found, "latency_s") == pytest.approx(expected)


def test_the_input_hop_can_be_the_bottleneck_and_is_before_the_papers_clock(toy: Any) -> None:
    link = toy.link(1e6, 0.05, return_rate_bps=1e4, return_delay_s=0.5)  # the input takes 2.56 s
    row = predict(toy.setting(outputs=OUTPUTS, link=link, source="sink", mode=Mode.named("burst", batches=3))).row(1)
    assert row.bottleneck == "input"
    # Starts at 3.06 s and every 2.56 s, returns 0.5628 s after each start.
    assert row.latency_from_start_s == pytest.approx(0.5628)


def test_where_the_sink_is_first_the_output_comes_back_and_split_n_sends_nothing(toy: Any) -> None:
    link = toy.link(1e6, 0.05, return_rate_bps=1e5, return_delay_s=0.5)
    found = predict(toy.setting(outputs=OUTPUTS, link=link, sink="first"))
    assert found.hops == ("link1", "return")
    output_s = 320 * 8 / 1e5
    assert _column(found, "latency_s") == pytest.approx(
        [0.6 + 0.0256 + 0.05 + output_s + 0.5, 0.5 + 0.0128 + 0.05 + output_s + 0.5, 0.4]
    )
    assert found.rows[2].links_s == (0.0, 0.0)
    assert found.rows[2].delays_s == (0.0, 0.0)
    assert found.rows[2].latency_s == pytest.approx(found.baselines[0].latency_s)
    together = predict(toy.setting(outputs=OUTPUTS, link=link, sink="first", source="sink"))
    assert together.rows == found.rows  # the data and the sink are both on the first device


def test_interior_leaves_the_ends_out(toy: Any) -> None:
    assert _column(predict(toy.setting((0.1, 0.2, 0.3), (0.1, 0.2, 0.3), splits="interior")), "split") == [1, 2]
    with pytest.raises(BadInputError, match=r"got interior of 1 block\(s\), expected two blocks or more"):
        predict(toy.setting((0.1,), (0.1,), splits="interior"))


def test_of_equal_stations_the_first_in_the_chain_is_the_bottleneck(toy: Any) -> None:
    # 0.6 s on either side, but the sums differ in their last bit.
    found = predict(toy.setting((0.6, 0.1, 0.1, 0.1), (0.1, 0.3, 0.2, 0.1), link=toy.link(1e12)))
    assert found.row(1).bottleneck == "stage1"
    reverse = predict(toy.setting((0.1, 0.2, 0.3, 0.1), (0.1, 0.1, 0.1, 0.6), link=toy.link(1e12)))
    assert reverse.row(3).bottleneck == "stage1"


def test_exact_ties_are_both_on_the_front_and_the_lower_split_is_recommended(toy: Any) -> None:
    found = predict(toy.setting((0.5, 0.0, 0.0, 0.5), (0.5, 0.0, 0.0, 0.5), outputs=(10, 10, 10, 10), inputs=10))
    assert [row.split for row in found.rows if row.on_front] == [1, 2, 3]
    assert (found.recommended.latency, found.recommended.throughput, found.recommended.knee) == (1, 1, 1)


def test_of_equals_in_one_objective_the_better_other_one_is_recommended(toy: Any) -> None:
    # Every split takes 1 s in all (a link without width), but they differ in balance: 1 s, 0.8 s, 0.5 s, 0.7 s, 1 s.
    blocks = (0.2, 0.3, 0.2, 0.3)
    found = predict(toy.setting(blocks, blocks, outputs=(1, 1, 1, 1), inputs=1, link=toy.link(1e15)))
    assert _column(found, "latency_s") == pytest.approx([1.0] * 5)
    assert found.recommended.throughput == 2
    tied = predict(toy.setting((0.0, 0.3), (0.0, 0.3), outputs=(1, 1), inputs=1, mode=Mode.named("single")))
    assert tied.recommended.latency == 0


def test_what_does_not_fit_is_shown_and_off_the_front(toy: Any) -> None:
    # 1000 bytes of weights a block; 8 samples: input 3200 B, outputs 1600 and 320, peaks 1600 and 320.
    devices = (toy.device("one", memory_bytes=7_000), toy.device("two", memory_bytes=10**6))
    found = predict(toy.setting(outputs=OUTPUTS, weights=1000, devices=devices))
    assert _column(found, "memory_bytes") == [
        (2 * 3200, 2000 + 1600 + 3200 + 320), (1000 + 1600 + 3200 + 1600, 1000 + 320 + 1600 + 320),
        (2000 + 1600 + 3200 + 320, 2 * 320),
    ]  # fmt: skip
    assert _column(found, "fits") == [True, False, False]
    assert _column(found, "on_front") == [True, False, False]
    assert found.recommended.latency == 0
    assert [b.fits for b in found.baselines] == [False, True]
    assert len(found.rows) == 3


def test_memory_that_is_reserved_is_not_there(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=8_000, reserved_bytes=1_500), toy.device("two", memory_bytes=None))
    found = predict(toy.setting(outputs=OUTPUTS, weights=1000, devices=devices))
    assert _column(found, "fits") == [True, False, False]


def test_where_nothing_fits_nothing_is_recommended(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    found = predict(toy.setting(outputs=OUTPUTS, devices=devices))
    assert found.front == ()
    assert (found.recommended.latency, found.recommended.throughput, found.recommended.knee) == (None, None, None)
    assert all(row.latency_s > 0 for row in found.rows)


# A trade-off: latency 1.016, 1.008, 1.004, … with balance best in the middle.
TRADE = {"first_s": (0.25,) * 4, "second_s": (0.25,) * 4, "outputs": (4000, 2000, 1000, 500), "inputs": 8000}


def test_constraints_rule_out_recommendations_but_move_no_front(toy: Any) -> None:
    free = predict(toy.setting(**TRADE, link=toy.link(1e7)))
    # Payload of a batch: 256, 128, 64, 32, 16 kB on 10 Mbit/s; latency 1 s and that; period 1, .75, .5, .75, 1 s.
    assert _column(free, "latency_s") == pytest.approx([1.2048, 1.1024, 1.0512, 1.0256, 1.0128])
    assert [row.split for row in free.front] == [4, 3, 2]
    assert (free.recommended.latency, free.recommended.throughput) == (4, 2)
    bound = predict(toy.setting(**TRADE, link=toy.link(1e7), max_latency_s=1.03))
    assert _column(bound, "meets_constraints") == [False, False, False, True, True]
    assert (bound.recommended.latency, bound.recommended.throughput) == (4, 3)
    assert _column(bound, "on_front") == _column(free, "on_front")
    busy = predict(toy.setting(**TRADE, link=toy.link(1e7), min_throughput_per_s=10.0))
    assert _column(busy, "meets_constraints") == [False, True, True, True, False]
    assert (busy.recommended.latency, busy.recommended.throughput) == (3, 2)
    neither = predict(toy.setting(**TRADE, link=toy.link(1e7), max_latency_s=1.02, min_throughput_per_s=10.0))
    assert neither.recommended.knee is None


def test_a_camera_fills_a_batch_before_it_is_sent(toy: Any) -> None:
    # At 14 frames/s the first of 8 images waits 0.5 s; all but split 2 (16 images/s) are too slow for 14.
    found = predict(toy.setting(**TRADE, link=toy.link(1e7), frame_rate_per_s=14.0, max_latency_s=1.56))
    assert found.setting.filling_s == pytest.approx(0.5)
    assert _column(found, "meets_constraints") == [False, False, True, False, False]
    late = predict(toy.setting(**TRADE, link=toy.link(1e7), frame_rate_per_s=14.0, max_latency_s=1.55))
    assert not any(_column(late, "meets_constraints"))
    assert predict(toy.setting(**TRADE, batch=1, frame_rate_per_s=1.0)).setting.filling_s == 0


def test_a_batch_that_was_not_profiled_is_extrapolated(toy: Any) -> None:
    found = predict(toy.setting(batch=4))
    assert found.timing_kinds == ("extrapolated", "extrapolated")
    assert found.rows[1].stages_s == pytest.approx((0.05, 0.2))
    assert predict(toy.setting()).timing_kinds == ("measured", "measured")


def test_profile_error_is_the_larger_and_unknown_where_one_is(toy: Any) -> None:
    setting = toy.setting(error=0.05)
    one, two = setting.timings
    larger = msgspec.structs.replace(two, error=msgspec.structs.replace(two.error, relative=0.2))
    assert predict(msgspec.structs.replace(setting, timings=(one, larger))).profile_error == 0.2
    unknown = msgspec.structs.replace(two, error=None)
    assert predict(msgspec.structs.replace(setting, timings=(one, unknown))).profile_error is None


def test_only_splits_that_were_swept_have_a_row(toy: Any) -> None:
    with pytest.raises(BadInputError, match="split: got 3, expected one of 0 … 2"):
        predict(toy.setting()).row(3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch": 0}, "batch: got 0, expected 1 to 1048576 images"),
        ({"batch": 10**12}, "batch: got 1000000000000"),
        ({"speed": 0.0}, "speed: got 0.0"),
        ({"speed": float("nan")}, "speed: got nan"),
        ({"control_delay_s": -1.0}, "control_delay_s: got -1.0"),
        ({"max_latency_s": 0.0}, "max_latency_s: got 0.0"),
        ({"min_throughput_per_s": float("nan")}, "min_throughput_per_s: got nan"),
        ({"frame_rate_per_s": -1.0}, "frame_rate_per_s: got -1.0"),
    ],
)
def test_nonsense_is_refused(toy: Any, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        toy.setting(**fields)


def test_unlike_profiles_are_not_joined(toy: Any) -> None:
    setting = toy.setting()
    with pytest.raises(BadInputError, match=r"it has 3 and the profile 2, and block 3 is .* and not None; profile"):
        msgspec.structs.replace(setting, timings=(toy.timing((0.1,) * 3, device="one"), setting.timings[1]))
    with pytest.raises(BadInputError, match="timing: got 'toy' on 'three', expected 'toy' on 'one'"):
        msgspec.structs.replace(setting, timings=(toy.timing((0.1, 0.2), device="three"), setting.timings[1]))
    with pytest.raises(BadInputError, match="timing: got 'other' on 'one'"):
        msgspec.structs.replace(setting, timings=(toy.timing((0.1,), device="one", model="other"), setting.timings[1]))


@pytest.mark.parametrize(("rate_bps", "delay_s"), [(1e-306, 0.0), (1e6, 0.85e308)])
def test_a_latency_too_large_for_a_number_is_refused(toy: Any, rate_bps: float, delay_s: float) -> None:
    with pytest.raises(BadInputError, match="too large for a number"):
        predict(
            toy.setting(
                link=toy.link(rate_bps, delay_s, return_delay_s=delay_s), source="sink", control_delay_s=delay_s
            )
        )


# Invariants.

TIMES = st.floats(0, 10).map(lambda value: round(value, 4))
MODES = st.sampled_from([Mode.named("single"), Mode.named("paced"), Mode.named("closed"),
                         Mode.named("closed", window=1),
                         Mode.named("burst"), Mode.named("burst", batches=1)])  # fmt: skip


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    blocks = draw(st.integers(1, 6))
    times = st.lists(TIMES, min_size=blocks, max_size=blocks).filter(lambda values: sum(values) > 0.01)
    return {
        "first_s": draw(times),
        "second_s": draw(times),
        "outputs": draw(st.lists(st.integers(1, 10_000), min_size=blocks, max_size=blocks)),
        "mode": draw(MODES),
        "source": draw(st.sampled_from(["stage1", "sink"])),
        "sink": draw(st.sampled_from(["last", "first"])),
    }


RATES, DELAYS = st.floats(1e3, 1e10), st.floats(0, 3)


@settings(deadline=None, max_examples=60)
@given(_fields(), RATES, DELAYS, st.floats(0.01, 100))
def test_everything_k_times_slower_takes_k_times_as_long(
    toy: Any, fields: dict[str, Any], rate_bps: float, delay_s: float, k: float
) -> None:
    base = predict(toy.setting(**fields, link=toy.link(rate_bps, delay_s, return_delay_s=delay_s, header_bytes=66)))
    slower = fields | {key: [k * value for value in fields[key]] for key in ("first_s", "second_s")}
    link = toy.link(rate_bps / k, delay_s * k, return_delay_s=delay_s * k, header_bytes=66)
    for found in (
        predict(toy.setting(**slower, link=link)),
        predict(toy.setting(**fields, link=link, speed=1 / k)),
    ):
        for field, power in (("latency_s", 1), ("period_s", 1), ("throughput_per_s", -1)):
            expected = [value * k**power for value in _column(base, field)]
            assert _column(found, field) == pytest.approx(expected, rel=1e-9)
        assert found.baselines[0].latency_s == pytest.approx(base.baselines[0].latency_s * k)


@settings(deadline=None, max_examples=60)
@given(_fields(), RATES, DELAYS, st.floats(1, 50), st.floats(0, 2))
def test_no_split_gains_from_a_worse_network(
    toy: Any, fields: dict[str, Any], rate_bps: float, delay_s: float, slower: float, later_s: float
) -> None:
    def at(rate_bps: float, delay_s: float) -> Prediction:
        return predict(toy.setting(**fields, link=toy.link(rate_bps, delay_s, header_bytes=66, wmax_bytes=3 * 2**20)))

    base, slow, late = at(rate_bps, delay_s), at(rate_bps / slower, delay_s), at(rate_bps, delay_s + later_s)
    for before, *after in zip(base.rows, slow.rows, late.rows, strict=True):
        for row in after:
            assert row.latency_s >= before.latency_s
            assert row.period_s >= before.period_s


@settings(deadline=None, max_examples=60)
@given(_fields(), RATES, DELAYS)
def test_the_recommended_are_on_the_front_and_nothing_beats_them(
    toy: Any, fields: dict[str, Any], rate_bps: float, delay_s: float
) -> None:
    found = predict(toy.setting(**fields, link=toy.link(rate_bps, delay_s)))
    best = found.recommended
    assert best.latency is not None
    assert best.throughput is not None
    assert best.knee is not None
    assert {best.latency, best.throughput, best.knee} <= {row.split for row in found.front}
    assert found.row(best.latency).latency_s == min(_column(found, "latency_s"))
    assert found.row(best.throughput).throughput_per_s == max(_column(found, "throughput_per_s"))
    for a, b in product(found.rows, found.front):
        worse_in_one = a.latency_s > b.latency_s or a.throughput_per_s < b.throughput_per_s
        assert worse_in_one or (a.latency_s, a.throughput_per_s) == (b.latency_s, b.throughput_per_s)


@settings(deadline=None, max_examples=40)
@given(_fields(), RATES, DELAYS, st.floats(0.1, 3))
def test_on_a_warm_link_delay_moves_no_front(
    toy: Any, fields: dict[str, Any], rate_bps: float, delay_s: float, later_s: float
) -> None:
    """As long as TCP's window is open and every split crosses the same links."""
    fields |= {"mode": Mode.named("paced"), "sink": "last"}
    near, far = (
        predict(toy.setting(**fields, link=toy.link(rate_bps, d, wmax_bytes=10**15)))
        for d in (delay_s, delay_s + later_s)
    )
    assert _column(near, "period_s") == _column(far, "period_s")
    shift = [b - a for a, b in zip(_column(near, "latency_s"), _column(far, "latency_s"), strict=True)]
    assert shift == pytest.approx([later_s] * len(shift), abs=1e-6)


# The shipped profiles: issue 2's acceptance.


@pytest.fixture(scope="module")
def store() -> ProfileStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PARETOSIM_PROFILES", raising=False)
        return ProfileStore()


def _shipped(store: ProfileStore, model: str, names: tuple[str, str], link: Link, **fields: Any) -> Setting:
    one, two = names
    return Setting(
        model=store.model(model), devices=(store.device(one), store.device(two)),
        timings=(store.timing(one, model), store.timing(two, model)), link=link, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("names", DEPLOYMENTS, ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("duress", [False, True], ids=["unshaped", "5mbit 200ms"])
def test_every_shipped_split_has_a_row_above_its_wire_floor(
    store: ProfileStore, model: str, names: tuple[str, str], duress: bool
) -> None:
    link = store.link("ethernet-1g")
    if duress:
        link = shaped(link, rate_bps=5e6, one_way_delay_s=0.2)
    for mode in MODE_NAMES:
        found = predict(_shipped(store, model, names, link, mode=Mode.named(mode)))
        assert _column(found, "split") == list(range(MODELS[model] + 1))
        for row in found.rows:
            floor_s = row.activation_bytes[0] * 8 / link.rate_bps + link.one_way_delay_s
            assert row.latency_s >= floor_s
            assert row.period_s >= row.activation_bytes[0] * 8 / link.rate_bps
        assert found.front
        assert found.profile_error is not None
        assert set(found.timing_kinds) == {"reconstructed"}


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(MODELS)), st.sampled_from(DEPLOYMENTS), MODES, st.floats(1e5, 1e9), st.floats(0, 1),
    st.floats(1, 100), st.floats(0, 1),
)  # fmt: skip
def test_no_shipped_latency_falls_when_delay_grows_or_bandwidth_shrinks(
    store: ProfileStore, model: str, names: tuple[str, str], mode: Mode, rate_bps: float, delay_s: float, slower: float,
    later_s: float,
) -> None:  # fmt: skip
    base = store.link("ethernet-1g")
    links = [
        shaped(base, rate_bps=rate_bps, one_way_delay_s=delay_s),
        shaped(base, rate_bps=rate_bps / slower, one_way_delay_s=delay_s),
        shaped(base, rate_bps=rate_bps, one_way_delay_s=delay_s + later_s),
    ]
    near, slow, late = (predict(_shipped(store, model, names, link, mode=mode)) for link in links)
    for before, *after in zip(near.rows, slow.rows, late.rows, strict=True):
        assert all(row.latency_s >= before.latency_s for row in after)


def test_on_a_slow_network_the_best_latency_sends_no_more_than_on_a_fast_one(store: ProfileStore) -> None:
    """Fronts move towards cheaper cuts, which are late in the network, as the paper found."""
    fast = store.link("ethernet-1g")
    slow = shaped(fast, rate_bps=5e6, one_way_delay_s=0.2)
    for model, names in product(MODELS, DEPLOYMENTS):
        near, far = (predict(_shipped(store, model, names, link)) for link in (fast, slow))
        sent = [p.row(p.recommended.latency or 0).activation_bytes[0] for p in (near, far)]
        assert sent[1] <= sent[0]
