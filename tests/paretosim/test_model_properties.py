"""What must hold of every prediction, whatever its mode, operation, place, state of TCP and calibration."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paretosim import pareto
from paretosim.calibration import Calibration, DeviceTerms, MessageCost, Relay, Resting
from paretosim.in_effect import holds_several
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.prediction import Prediction, predict
from paretosim.setting import Setting
from paretosim.timing import Timing
from tests.paretosim.random_settings import random_link, random_operated, random_setting

# Objectives are rounded to 12 digits, and a recursion adds up in an order of its own.
NOISE = 1e-11
SEEDS = st.integers(0, 2**32)


def _no_better(before: Prediction, after: Prediction) -> None:
    """No split of `after` is better than it was.

    The period of a finite run is what its batches are apart, first to last: a first one that comes later may bring
    them nearer to each other. So there latency is held alone.
    """
    finite = before.setting.operation.batches is not None
    for one, two in zip(before.rows, after.rows, strict=True):
        assert two.latency_s >= one.latency_s * (1 - NOISE)
        assert finite or two.period_s >= one.period_s * (1 - NOISE)
        for name in ("latency_p50_s", "latency_p95_s", "latency_p99_s"):
            if getattr(one, name) is not None:
                assert getattr(two, name) >= getattr(one, name) * (1 - NOISE)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.floats(0, 2), st.sampled_from(["one_way_delay_s", "return_delay_s"]))
def test_nothing_gets_better_when_a_delay_grows(toy: Any, seed: int, more_s: float, field: str) -> None:
    setting = random_operated(Random(seed), toy)
    link = msgspec.structs.replace(setting.link, **{field: getattr(setting.link, field) + more_s})
    _no_better(predict(setting), predict(msgspec.structs.replace(setting, link=link)))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.floats(1, 100), st.sampled_from(["rate_bps", "return_rate_bps"]))
def test_nothing_gets_better_when_a_rate_falls(toy: Any, seed: int, slower: float, field: str) -> None:
    """But with serial workers on cold connections, as the next test shows."""
    setting = _but_serial_and_cold(random_operated(Random(seed), toy))
    link = msgspec.structs.replace(setting.link, **{field: getattr(setting.link, field) / slower})
    _no_better(predict(setting), predict(msgspec.structs.replace(setting, link=link)))


def _but_serial_and_cold(setting: Setting) -> Setting:
    """The setting, on warm connections where its workers are serial."""
    return msgspec.structs.replace(setting, tcp_state="warm") if setting.operation.workers == "serial" else setting


def test_of_serial_workers_on_cold_connections_a_share_may_leave_earlier_at_a_lower_rate(toy: Any) -> None:
    """Slow start's stalls all come before the first byte: where they shrink, what a sender waits for may leave sooner.

    31 segments of 1000 bytes, of which 16 fit into the send buffer: stage 1 is held until 15 / 31 have left.
    """
    link = toy.link(1e6, 0.05, return_delay_s=0.05)
    operation = Operation(workers="serial", send_buffer_bytes=16_000, receive_buffer_bytes=10**9)
    fields = {"outputs": (31_000 // 32 + 1, 1), "operation": operation, "tcp_state": "cold"}
    periods = [
        predict(toy.setting((1.0, 0.1), (0.1, 0.1), link=msgspec.structs.replace(link, rate_bps=rate), **fields))
        .row(1).period_s
        for rate in (1.0e7, 0.99e7)
    ]  # fmt: skip
    assert periods[1] < periods[0]


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.floats(0, 1), st.integers(0, 1), st.integers(0, 5))
def test_nothing_gets_better_when_a_block_takes_longer(
    toy: Any, seed: int, more_s: float, device: int, block: int
) -> None:
    setting = random_operated(Random(seed), toy)
    timings = list(setting.timings)
    times = list(timings[device].at_batch(8)[0])
    times[block % len(times)] += more_s
    timings[device] = _retimed(toy, timings[device], times)
    _no_better(predict(setting), predict(msgspec.structs.replace(setting, timings=tuple(timings))))


def _retimed(toy: Any, timing: Timing, times: list[float]) -> Timing:
    found: Timing = toy.timing(times, device=timing.device, model=timing.model)
    return found


@settings(max_examples=120, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_a_larger_window_gives_more_and_takes_longer(toy: Any, seed: int, window: int, more: int) -> None:
    """Throughput never falls with the window; latency in steady state is no less, as more batches are in flight.

    With contention, and hosts that rest, that holds from two batches on: one alone is in nobody's way and wakes all.
    """
    draw = Random(seed)
    operation = draw.choice(
        [Operation(), Operation(slots=draw.choice([0, 2])), Operation(workers="serial"), Operation(batches=7)]
    )
    small, large = Mode.named("closed", window=window), Mode.named("closed", window=window + more)
    setting = random_setting(draw, toy, mode=small, operation=operation)
    if holds_several(small, operation) != holds_several(large, operation):
        setting = msgspec.structs.replace(setting, without=("contention", "resting"))
    one, two = predict(setting), predict(msgspec.structs.replace(setting, mode=large))
    for before, after in zip(one.rows, two.rows, strict=True):
        assert after.period_s <= before.period_s * (1 + NOISE)
        if operation.batches is None:
            assert after.latency_s >= before.latency_s * (1 - NOISE)
            assert after.latency_s <= before.latency_s * (window + more) / window * (1 + NOISE)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(1, 100))
@example(24491277, 2)  # a host that rested wakes while slow start waits
def test_a_larger_window_of_tcp_makes_nothing_slower(toy: Any, seed: int, times: int) -> None:
    setting = _but_serial_and_cold(random_operated(Random(seed), toy))
    if setting.operation.receive_buffer_bytes is None and setting.operation.workers == "serial":
        operation = msgspec.structs.replace(setting.operation, receive_buffer_bytes=setting.link.wmax_bytes)
        setting = msgspec.structs.replace(setting, operation=operation)
    link = msgspec.structs.replace(setting.link, wmax_bytes=setting.link.wmax_bytes * times)
    _no_better(predict(msgspec.structs.replace(setting, link=link)), predict(setting))


@settings(max_examples=120, deadline=None)
@given(SEEDS, st.integers(0, 5), st.integers(1, 30_000), st.floats(0, 1), st.floats(0, 1))
def test_a_block_cut_in_two_changes_nothing_where_no_cut_is_made(
    toy: Any, seed: int, block: int, size: int, first: float, second: float
) -> None:
    """Whatever is passed on inside it: at every split of before the same batch takes the same way."""
    draw = Random(seed)
    blocks = draw.randint(2, 5)
    outputs = [round(10 ** draw.uniform(0, 4.5)) for _ in range(blocks)]
    setting = random_operated(draw, toy, blocks=blocks, outputs=outputs, inputs=500)
    block %= blocks
    timings = []
    for timing, share in zip(setting.timings, (first, second), strict=True):
        times = list(timing.at_batch(8)[0])
        times[block : block + 1] = [times[block] * share, times[block] * (1 - share)]
        timings.append(_retimed(toy, timing, times))
    model = toy.model([*outputs[:block], size, *outputs[block:]], inputs=500)
    whole = predict(setting)
    halves = predict(msgspec.structs.replace(setting, model=model, timings=tuple(timings)))
    for row in whole.rows:
        same = halves.row(row.split if row.split <= block else row.split + 1)
        assert same.latency_s == pytest.approx(row.latency_s, rel=NOISE)
        assert same.period_s == pytest.approx(row.period_s, rel=NOISE)
        assert same.activation_bytes == row.activation_bytes


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 4), st.floats(0, 1))
def test_between_the_halves_of_a_block_a_link_that_costs_nothing_only_moves_work(
    toy: Any, seed: int, block: int, share: float
) -> None:
    """The new split sends nothing worth a time, so that it is one batch's computing shared by two devices."""
    draw = Random(seed)
    first, second = ([draw.uniform(0.01, 1) for _ in range(4)] for _ in range(2))
    block %= 4
    cut = [[*times[:block], times[block] * share, times[block] * (1 - share), *times[block + 1 :]]
           for times in (first, second)]  # fmt: skip
    found = predict(toy.setting(*cut, outputs=[1] * 5, inputs=1, link=toy.link(1e15), mode=Mode.named("single")))
    taken = sum(first[:block]) + first[block] * share + second[block] * (1 - share) + sum(second[block + 1 :])
    assert found.row(block + 1).latency_s == pytest.approx(taken, rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([0.125, 4.0, 1024.0, 1 / 3, 7.7]))
def test_scaling_all_times_scales_all_results(toy: Any, seed: int, k: float) -> None:
    setting = random_operated(Random(seed), toy)
    before, after = predict(setting), predict(_slower(toy, setting, k))
    for one, two in zip(before.rows, after.rows, strict=True):
        # An arrival that comes just as fast as a split can take it may fall on either side.
        if math.isinf(one.latency_s) != math.isinf(two.latency_s):
            assert setting.mode.name == "open"
            continue
        assert two.latency_s == pytest.approx(one.latency_s * k, rel=1e-9)
        assert two.period_s == pytest.approx(one.period_s * k, rel=1e-9, abs=1e-12 * k)
        assert two.throughput_per_s == pytest.approx(one.throughput_per_s / k, rel=1e-9) or one.period_s < 1e-12
        assert two.memory_bytes == one.memory_bytes
    for one_alone, two_alone in zip(before.baselines, after.baselines, strict=True):
        if math.isfinite(one_alone.latency_s) and math.isfinite(two_alone.latency_s):
            assert two_alone.latency_s == pytest.approx(one_alone.latency_s * k, rel=1e-9)


def _slower(toy: Any, setting: Setting, k: float) -> Setting:
    """All that takes time taking k times as long."""
    link = setting.link
    mode = setting.mode
    if isinstance(mode.arrivals, Arrivals):
        arrivals = msgspec.structs.replace(mode.arrivals, rate_per_s=mode.arrivals.rate_per_s / k)
        mode = msgspec.structs.replace(mode, arrivals=arrivals)
    return msgspec.structs.replace(
        setting,
        timings=tuple(
            _retimed(toy, timing, [k * time for time in timing.at_batch(8)[0]]) for timing in setting.timings
        ),
        link=msgspec.structs.replace(
            link, rate_bps=link.rate_bps / k, return_rate_bps=link.return_rate_bps / k,
            one_way_delay_s=k * link.one_way_delay_s, return_delay_s=k * link.return_delay_s,
        ),
        mode=mode,
        control_delay_s=k * setting.control_delay_s,
        calibration=None if setting.calibration is None else _slower_terms(setting.calibration, k),
    )  # fmt: skip


def _slower_terms(calibration: Calibration, k: float) -> Calibration:
    def cost(of: MessageCost) -> MessageCost:
        return MessageCost(message_s=k * of.message_s, bytes_per_s=rate(of.bytes_per_s))

    def rate(per_s: float | None) -> float | None:
        return None if per_s is None else per_s / k

    devices = {
        name: DeviceTerms(
            gamma=of.gamma, kappa=of.kappa, overhead_s=k * of.overhead_s, sending=cost(of.sending),
            receiving=cost(of.receiving), copying_bytes_per_s=rate(of.copying_bytes_per_s),
            arriving_s=k * of.arriving_s, leaving_s=k * of.leaving_s, returning=cost(of.returning),
            launch_s=k * of.launch_s, pcie_bytes_per_s=rate(of.pcie_bytes_per_s),
        )
        for name, of in calibration.devices.items()
    }  # fmt: skip
    relay, resting = calibration.relay, calibration.resting
    return msgspec.structs.replace(
        calibration,
        devices=devices,
        dispatch_s=k * calibration.dispatch_s,
        rpc_s=k * calibration.rpc_s,
        rpc_answer_s=k * calibration.rpc_answer_s,
        relay=None if relay is None else Relay(rate_bps=rate(relay.rate_bps), delay_s=k * relay.delay_s),
        resting=resting and Resting(later_s=k * resting.later_s, half_s=k * resting.half_s),
    )


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_the_front_is_the_same_in_whatever_order_splits_are_compared(toy: Any, seed: int, order: Random) -> None:
    found = predict(random_operated(Random(seed), toy))
    rows = [row for row in found.rows if row.fits and math.isfinite(row.latency_s)]
    order.shuffle(rows)
    if rows:
        costs = np.array([(row.latency_s, -row.throughput_per_s) for row in rows])
        assert pareto.is_nondominated(costs).tolist() == [row.on_front for row in rows]
        assert pareto.are_nondominated(costs[:, :1], costs[:, 1:])[:, 0].tolist() == [row.on_front for row in rows]


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.floats(0, 0.5))
def test_a_worse_network_of_both_ways_is_worse_for_every_split_that_sends(toy: Any, seed: int, more_s: float) -> None:
    """The floor of any mode: no batch is back before its bytes are over, nor before its stages are done."""
    draw = Random(seed)
    setting = random_operated(draw, toy, link=random_link(draw, toy), calibration=None)
    for row in predict(setting).rows:
        floor_s = sum(row.stages_s) + sum(row.links_s) + sum(row.stalls_s) + sum(row.delays_s)
        assert row.latency_s >= floor_s * (1 - NOISE)
        if setting.operation.batches is None:
            assert row.period_s >= max(*row.stages_s, *row.links_s) * (1 - NOISE) / (
                setting.mode.batches if setting.mode.batches == 1 else 1
            )
