"""Open arrivals, serial workers, bounded buffers, finite runs and the paper's preset, as predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.prediction import Prediction, predict
from paretosim.rates.link_response import link_response
from paretosim.setting import Setting
from paretosim.show.prediction_json import as_object

Command = Callable[..., tuple[int, str, str]]
PREDICT = ("predict", "--model", "toy", "--devices", "one,two")


def _open(rate_per_s: float, process: Any = "deterministic") -> Mode:
    return Mode.named("open", arrivals=Arrivals(rate_per_s=rate_per_s, process=process))


def _toy(toy: Any, **fields: Any) -> Setting:
    # Split 1: 0.1 s, then 320 bytes at 6400 bit/s = 0.4 s and 0.05 s of delay, then 0.4 s: L₀ = 0.95 s, t* = 0.4 s.
    setting: Setting = toy.setting(link=toy.link(6400.0, 0.05), outputs=(10, 1), batch=8, **fields)
    return setting


def test_evenly_spaced_batches_never_queue_until_they_come_too_fast(toy: Any) -> None:
    row = predict(_toy(toy, mode=_open(2.5))).row(1)
    assert (row.latency_s, row.latency_p50_s, row.latency_p99_s) == (0.95, 0.95, 0.95)
    assert row.throughput_per_s == 8 * 2.5
    too_fast = predict(_toy(toy, mode=_open(2.6)))
    row = too_fast.row(1)
    assert math.isinf(row.latency_s)
    assert row.throughput_per_s == 8 / 0.4
    assert not row.on_front
    assert not row.meets_constraints
    found = as_object(too_fast)
    assert json.loads(msgspec.json.encode(found))["rows"][1]["latency_s"] is None


def test_random_batches_wait_as_one_server_of_fixed_service_lets_them(toy: Any) -> None:
    # The mean wait in a line of fixed services is that before its slowest station alone: ρ t* / 2(1 − ρ).
    for rate in (0.5, 1.25, 2.0, 2.49):
        row = predict(_toy(toy, mode=_open(rate, "poisson"))).row(1)
        load = rate * 0.4
        assert row.latency_s - 0.95 == pytest.approx(load * 0.4 / (2 * (1 - load)))
        assert row.latency_p50_s is not None
        assert row.latency_p95_s is not None
        assert row.latency_p99_s is not None
        assert 0.95 <= row.latency_p50_s <= row.latency_p95_s <= row.latency_p99_s


def test_the_exact_wait_is_what_the_recursion_samples(toy: Any) -> None:
    for rate, tolerance in ((0.5, 0.02), (1.25, 0.02), (2.0, 0.06)):
        exact = predict(_toy(toy, mode=_open(rate, "poisson"))).row(1)
        # More room than is ever needed, so that nothing is held and yet all is drawn.
        drawn = predict(_toy(toy, mode=_open(rate, "poisson"), operation=Operation(slots=10_000))).row(1)
        for name in ("latency_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"):
            assert getattr(drawn, name) == pytest.approx(getattr(exact, name), rel=tolerance)


def test_a_seed_draws_the_same_and_another_something_else(toy: Any) -> None:
    def rows(seed: int) -> Any:
        operation = Operation(workers="serial", seed=seed)
        return predict(_toy(toy, mode=_open(1.0, "poisson"), operation=operation)).rows

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_a_rate_nobody_keeps_up_with_is_said_to_be(toy: Any) -> None:
    found = predict(_toy(toy, mode=_open(1000.0, "poisson")))
    assert found.recommended.latency is None
    assert "No split keeps up with 1000 batches/s" in as_object(found)["recommended"]["verdict"]


def test_finite_runs_start_empty(toy: Any) -> None:
    # In a window of 2: back at 0.95, 1.35 | the third is dispatched at 0.95 and finds the link free at 0.9.
    row = predict(_toy(toy, mode=Mode.named("closed", window=2), operation=Operation(batches=3))).row(1)
    assert row.latency_s == pytest.approx((0.95 + 1.35 + 0.95) / 3)
    assert row.period_s == pytest.approx((1.9 - 0.95) / 2)
    row = predict(_toy(toy, mode=_open(10.0), operation=Operation(batches=3))).row(1)
    assert row.latency_s == pytest.approx((0.95 + 1.25 + 1.55) / 3)  # a wait of 0.3 s more for each


def test_bounded_buffers_hold_what_has_no_room(toy: Any) -> None:
    row = predict(_toy(toy, operation=Operation(slots=0))).row(1)
    assert row.latency_s == 0.95
    assert (row.period_s, row.bottleneck) == (0.45, "stage2")  # its slot is taken while a batch is under way
    assert predict(_toy(toy, operation=Operation(slots=1))).row(1).period_s == 0.4


def test_serial_workers_hold_what_their_sockets_do_not_take(toy: Any) -> None:
    def row(sent: int, received: int) -> Any:
        operation = Operation(workers="serial", send_buffer_bytes=sent, receive_buffer_bytes=received)
        return predict(_toy(toy, operation=operation)).row(1)

    # 320 bytes: without buffers stage 2 reads for 0.4 s and the delay, then computes for 0.4 s.
    assert (row(0, 0).period_s, row(0, 0).bottleneck) == (pytest.approx(0.85), "stage2")
    assert row(0, 160).period_s == pytest.approx(0.65)
    # 0.1 s, 0.4 s until all has left, and 0.05 s until that is acknowledged.
    assert row(0, 320).period_s == pytest.approx(0.55)
    assert row(0, 320).bottleneck == "stage1"
    assert row(320, 640).period_s == pytest.approx(0.4)
    assert row(0, 0).latency_s == 0.95


@given(
    st.floats(0, 2),
    st.floats(1, 3),
    st.integers(0, 400),
    st.integers(0, 400),
    st.sampled_from(["paced", "burst", "closed"]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_gets_better_when_delay_grows_or_the_rate_shrinks(
    toy: Any, delay: float, slower: float, sent: int, received: int, mode: Any
) -> None:
    def found(rate: float, delay_s: float) -> Prediction:
        operation = Operation(workers="serial", send_buffer_bytes=sent, receive_buffer_bytes=received)
        link = toy.link(rate, delay_s, wmax_bytes=10**9)
        return predict(toy.setting(link=link, outputs=(10, 1), mode=Mode.named(mode), operation=operation))

    base = found(6400.0, 0.05)
    for other in (found(6400.0, 0.05 + delay), found(6400.0 / slower, 0.05)):
        for before, after in zip(base.rows, other.rows, strict=True):
            assert after.latency_s >= before.latency_s * (1 - 1e-9)
            assert after.period_s >= before.period_s * (1 - 1e-9)


@pytest.mark.parametrize("operation", [Operation(workers="serial"), Operation(slots=1)])
def test_large_buffers_come_back_to_the_closed_forms(toy: Any, operation: Operation) -> None:
    for mode in (Mode.named("single"), Mode.named("paced"), Mode.named("closed"), Mode.named("burst")):
        roomy = msgspec.structs.replace(
            operation,
            receive_buffer_bytes=10**9,
            send_buffer_bytes=10**9,
            slots=None if operation.slots is None else 99,
        )
        for row, plain in zip(
            predict(_toy(toy, mode=mode, operation=roomy)).rows, predict(_toy(toy, mode=mode)).rows, strict=True
        ):
            assert row.latency_s == pytest.approx(plain.latency_s)
            assert row.period_s == pytest.approx(plain.period_s)


def test_splitting_a_block_over_a_link_that_costs_nothing_changes_no_other_split(toy: Any) -> None:
    link = toy.link(1e12)
    whole = predict(toy.setting((0.1, 0.3), (0.2, 0.4), link=link, mode=_open(1.0, "poisson")))
    halves = predict(toy.setting((0.1, 0.15, 0.15), (0.2, 0.2, 0.2), link=link, mode=_open(1.0, "poisson")))
    assert [halves.row(s).latency_s for s in (0, 1, 3)] == pytest.approx(
        [row.latency_s for row in whole.rows], rel=1e-6
    )


def test_many_links_at_once_refuse_what_has_no_closed_form(toy: Any) -> None:
    for fields in ({"mode": _open(1.0)}, {"operation": Operation(workers="serial")}, {"operation": Operation(slots=2)}):
        with pytest.raises(BadInputError, match="predict links one by one instead"):
            link_response(_toy(toy, **fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"operation": Operation(batches=3)}, "a finite run means nothing in mode paced, expected closed or open"),
        ({"operation": Operation(clock="stage1")}, "in mode paced, expected mode burst"),
    ],
)
def test_operations_that_mean_nothing_are_refused(toy: Any, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        _toy(toy, **fields)


@pytest.fixture
def _toy_profiles(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))


@pytest.mark.usefixtures("_toy_profiles")
class TestCommand:
    """`paretosim predict` as typed."""

    def _json(self, command: Command, *options: object) -> Any:
        code, out, err = command(*PREDICT, "--json", *options)
        assert (code, err) == (0, "")
        return json.loads(out)

    def test_the_papers_preset(self, command: Command) -> None:
        found = self._json(command, "--paper")
        assert [found[name] for name in ("mode", "burst_batches", "workers", "splits", "clock")] == [
            "burst", 8, "serial", "interior", "stage1",
        ]  # fmt: skip
        assert [row["latency_s"] == row["latency_from_start_s"] for row in found["rows"]] == [True]

    def test_options_beside_the_preset_win(self, command: Command) -> None:
        found = self._json(
            command, "--paper", "--workers", "overlapped", "--splits", "all", "--batches", 13, "--clock", "dispatch"
        )
        assert [found[name] for name in ("burst_batches", "workers", "splits", "clock")] == [
            13, "overlapped", "all", "dispatch",
        ]  # fmt: skip
        assert found["rows"][1]["latency_s"] > found["rows"][1]["latency_from_start_s"]

    def test_a_rate_means_open(self, command: Command) -> None:
        found = self._json(command, "--rate", 0.5, "--arrivals", "poisson", "--seed", 7, "--batches", 50)
        assert [found[name] for name in ("mode", "rate_per_s", "arrivals", "seed")] == ["open", 0.5, "poisson", 7]
        assert {"latency_p50_s", "latency_p95_s", "latency_p99_s"} <= set(found["rows"][0])
        assert self._json(command, "--rate", 0.5, "--arrivals", "poisson")["seed"] is None  # exact: nothing is drawn
        code, out, _ = command(*PREDICT, "--rate", 0.5)
        assert code == 0
        assert "p95" in out

    def test_plain_predictions_say_how_they_are_operated(self, command: Command) -> None:
        found = self._json(command)
        assert [found[name] for name in ("workers", "buffers", "batches", "rate_per_s", "clock", "seed")] == [
            "overlapped", None, None, None, "dispatch", None,
        ]  # fmt: skip
        assert "latency_p50_s" not in found["rows"][0]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--mode", "open"), "--rate: got none in mode open"),
            (("--rate", "0"), "--rate: got 0.0 batches/s, expected a finite number above zero"),
            (("--rate", "nan"), "--rate: got nan"),
            (("--rate", "1", "--mode", "paced"), "--rate: has no meaning in mode paced, expected --mode open"),
            (("--arrivals", "poisson"), "--arrivals: has no meaning in mode paced"),
            (("--paper", "--mode", "closed"), "--paper: means mode burst, got --mode closed"),
            (("--paper", "--rate", "1"), "--paper: means mode burst, got --rate"),
            (("--buffers", "-1"), "buffers: got -1 slots"),
            (("--buffers", "1", "--workers", "serial"), "buffers: got slots for serial workers"),
            (("--send-buffer", "1"), "--send-buffer: has no meaning for overlapped workers"),
            (("--workers", "serial", "--receive-buffer", "-1"), "receive_buffer_bytes: got -1"),
            (("--batches", "3"), "batches: a finite run means nothing in mode paced"),
            (("--mode", "burst", "--burst", "3", "--batches", "4"), "--batches: got 4, and --burst 3"),
            (("--clock", "stage1"), "clock: got that of stage 1 in mode paced"),
            (("--seed", "-1"), "seed: got -1"),
        ],
    )
    def test_contradictions_are_2_and_one_clear_line(
        self, command: Command, options: tuple[str, ...], said: str
    ) -> None:
        code, out, err = command(*PREDICT, *options)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert said in err
