"""The verdict: every branch in its words."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.mode import Mode
from paretosim.prediction import predict
from paretosim.show.verdict import verdict

HALVES = (0.25, 0.25, 0.25, 0.25)


def _small(toy: Any, first: Any = HALVES, second: Any = HALVES, *, rate_bps: float = 1e9, **fields: Any) -> str:
    link = toy.link(rate_bps, fields.pop("delay_s", 0.0))
    return verdict(predict(toy.setting(first, second, outputs=(100, 100, 100, 100), link=link, **fields)))


def test_a_split_that_gains_says_how_much_and_what_it_costs(toy: Any) -> None:
    said = _small(toy, delay_s=0.09)
    assert said.startswith(
        "Split 2 gains 2.00× throughput over one alone (8 images/s → 16 images/s) and costs 90 ms of latency."
    )


def test_a_faster_second_device_saves_latency(toy: Any) -> None:
    said = _small(toy, second=(0.05, 0.05, 0.05, 0.05), delay_s=0.01)
    assert said.startswith("Running everything on two (split 0) gains 5.00× throughput over one alone")
    assert "saves 790 ms of latency" in said


def test_a_large_gain_is_not_given_to_the_hundredth(toy: Any) -> None:
    assert "(split 0) gains 320× throughput" in _small(toy, second=(1e-6,) * 4, rate_bps=8.192e6)


def test_a_cost_too_small_to_mention_is_not(toy: Any) -> None:
    assert "and costs no latency worth mentioning." in _small(toy)


def test_a_network_that_eats_the_gain_says_do_not_split(toy: Any) -> None:
    said = _small(toy, rate_bps=1e3)  # a batch of 3.2 kB takes 25.6 s
    assert said.startswith(
        "Do not split: one alone does 8 images/s at 1 s a batch, and over this link no split is better by 2% or more"
    )


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.floats(0.01, 2), st.floats(0.01, 2)), min_size=1, max_size=4),
    st.floats(1e3, 1e8),
    st.sampled_from([Mode.named("single"), Mode.named("paced"), Mode.named("closed"), Mode.named("burst")]),
    st.sampled_from(["stage1", "sink"]),
)
def test_do_not_split_is_only_said_where_neither_objective_gains(
    toy: Any, blocks: list[tuple[float, float]], rate_bps: float, mode: Mode, source: Any
) -> None:
    first, second = ([pair[k] for pair in blocks] for k in (0, 1))
    found = predict(toy.setting(first, second, link=toy.link(rate_bps), mode=mode, source=source))
    if verdict(found).startswith("Do not split"):
        assert all(row.latency_s > found.baselines[0].latency_s / 1.0201 for row in found.rows)
        assert all(row.throughput_per_s < found.baselines[0].throughput_per_s * 1.0201 for row in found.rows)
    else:
        assert max(row.throughput_per_s for row in found.rows) >= found.baselines[0].throughput_per_s * 1.0199


def test_different_best_splits_are_both_named_with_the_knee(toy: Any) -> None:
    found = predict(toy.setting(HALVES, HALVES, outputs=(4000, 2000, 1000, 500), inputs=8000, link=toy.link(1e7)))
    assert (
        "Lowest latency: running everything on one and sending the result (split 4), 8 images/s at 1.01 s a batch."
        " Knee of the front: split 4." in verdict(found)
    )


def test_an_error_too_small_for_doubt_is_still_stated(toy: Any) -> None:
    found = predict(toy.setting(HALVES, HALVES, outputs=(40, 30, 20, 10), inputs=50, link=toy.link(1e5), error=0.001))
    assert verdict(found).endswith("The stage times are measured with 0.1% error.")


def test_indistinguishable_splits_are_named_in_runs(toy: Any) -> None:
    said = _small(toy, (0.5, 0.0, 0.0, 0.5), (0.51, 0.0, 0.0, 0.51), error=0.3, kind="reconstructed")
    assert "In throughput, split 1 cannot be told apart from 2–3" in said
    assert said.endswith(": stage times are reconstructed with 30.0% error.")
    assert "In latency, split 4 cannot be told apart from 0–3" in said


def test_an_unknown_error_is_said_to_be(toy: Any) -> None:
    assert _small(toy, error=None).endswith(
        "The error of a timing used here is not known, so close splits may be in another order."
    )


def test_another_batch_is_called_extrapolated(toy: Any) -> None:
    assert "stage times are extrapolated with" in _small(toy, batch=4)


def test_two_overhead_bound_timings_allow_no_conclusion(toy: Any) -> None:
    said = _small(toy, conditions={"overhead_bound": True})
    assert said.startswith("No conclusion: both timings are overhead-bound")
    assert "hwrun profile" in said


def test_one_overhead_bound_timing_does_not_refuse(toy: Any) -> None:
    setting = toy.setting(HALVES, HALVES)
    one, two = setting.timings
    two = msgspec.structs.replace(two, conditions={"overhead_bound": True})
    assert "No conclusion" not in verdict(predict(msgspec.structs.replace(setting, timings=(one, two))))


# What does not fit, and what meets no constraint.


def test_a_model_that_fits_on_neither_alone_is_split(toy: Any) -> None:
    # Weights of 1 MB a block, four blocks; each device holds two of them and a little.
    devices = (toy.device("one", memory_bytes=2_100_000), toy.device("two", memory_bytes=2_100_000))
    said = _small(toy, weights=10**6, devices=devices)
    assert said.startswith(
        "Split: toy fits on neither device alone. Best throughput: split 2, 16 images/s at 1 s a batch."
    )


def test_a_model_that_fits_on_the_second_only_says_so(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=2_100_000), toy.device("two", memory_bytes=10**9))
    assert _small(toy, weights=10**6, devices=devices).startswith(
        "The model does not fit on one alone. Best throughput: split 2, 16 images/s"
    )


def test_where_nothing_fits_more_memory_is_asked_for(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    assert _small(toy, devices=devices) == (
        "No split fits in the devices' memory: use devices with more, a smaller batch or a smaller model."
    )


def test_where_no_split_meets_the_constraints_the_nearest_are_named(toy: Any) -> None:
    assert _small(toy, max_latency_s=0.5, min_throughput_per_s=100.0) == (
        "No split meets latency ≤ 500 ms and throughput ≥ 100 images/s: the lowest latency is 1 s (split 0),"
        " the highest throughput 16 images/s (split 2)."
    )


def test_a_cameras_filling_time_is_named_beside_its_rate(toy: Any) -> None:
    assert _small(toy, frame_rate_per_s=70.0) == (
        "No split meets 70 frames/s: the lowest latency is 1 s after 100 ms to fill a batch (split 0),"
        " the highest throughput 16 images/s (split 2)."
    )
