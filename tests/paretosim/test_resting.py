"""Hosts that have rested: threads wake later, where a batch is alone in its pipeline and nowhere else."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.calibration import Calibration, Resting
from paretosim.errors import BadInputError
from paretosim.explanation.explaining import explain
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.placement.placing import place, predict_plans
from paretosim.placement.setting import PlacementSetting
from paretosim.prediction import Row, predict
from paretosim.setting import Setting

LAW = Resting(later_s=0.03, half_s=0.2)
SINGLE = Mode.named("single")


def _calibration(backend: Any = "tcp", **fields: Any) -> Calibration:
    return Calibration(schema_version=2, name="rested", backend=backend, resting=LAW, **fields)


def _setting(toy: Any, *, backend: Any = "tcp", **fields: Any) -> Setting:
    options = {"link": toy.link(1e6, 0.05), "outputs": (50, 10), "mode": SINGLE, "control_delay_s": 0.01, **fields}
    setting: Setting = toy.setting(backend=backend, calibration=_calibration(backend), **options)
    return setting


def _both(setting: Setting, split: int = 1) -> tuple[Row, Row]:
    """With hosts that rest, and without."""
    return tuple(predict(one).row(split) for one in (setting, msgspec.structs.replace(setting, without=("resting",))))  # type: ignore[return-value]


def _later_s(rested_s: float) -> float:
    return LAW.later_s * rested_s / (rested_s + LAW.half_s)


@pytest.mark.parametrize(
    ("backend", "workers", "wakes"),
    # On the way 1 or 3, one until a batch is computed, two behind the last stage; a serial worker is one thread.
    [("tcp", "overlapped", 1 + 1 + 2), ("rpc", "overlapped", 3 + 1 + 2), ("memory", "overlapped", 0 + 1 + 2),
     ("tcp", "serial", 1 + 0 + 1)],
)  # fmt: skip
def test_a_batch_comes_later_by_each_thread_that_wakes(toy: Any, backend: Any, workers: Any, wakes: int) -> None:
    rested, plain = _both(_setting(toy, backend=backend, operation=Operation(workers=workers)))
    assert rested.latency_s == pytest.approx(plain.latency_s + wakes * _later_s(plain.latency_s), rel=1e-9)
    assert rested.resting_s is not None
    assert sum(rested.resting_s) == pytest.approx(wakes * _later_s(plain.latency_s), rel=1e-9)
    assert rested.stages_s == plain.stages_s
    assert rested.links_s == plain.links_s


@pytest.mark.parametrize(("split", "wakes"), [(1, 2 + 2), (2, 2)])
def test_where_the_result_comes_back_threads_wake_on_both_hops_or_on_none(toy: Any, split: int, wakes: int) -> None:
    rested, plain = _both(_setting(toy, sink="first"), split)
    assert rested.latency_s == pytest.approx(plain.latency_s + wakes * _later_s(plain.latency_s), rel=1e-9)


@pytest.mark.parametrize(
    "busy",
    [{"mode": Mode.named("paced")}, {"mode": Mode.named("closed", window=2)}, {"mode": Mode.named("burst", batches=2)},
     {"mode": Mode.named("closed", window=2), "operation": Operation(batches=5)}],
    ids=str,
)  # fmt: skip
def test_batches_that_follow_one_another_keep_hosts_awake(toy: Any, busy: dict[str, Any]) -> None:
    rested, plain = _both(_setting(toy, **busy))
    assert rested == plain
    assert rested.resting_s is None


def test_one_batch_of_a_window_of_one_rests_as_a_single_one(toy: Any) -> None:
    rested, plain = _both(_setting(toy, mode=Mode.named("closed", window=1)))
    assert rested.latency_s == pytest.approx(plain.latency_s + 4 * _later_s(plain.latency_s), rel=1e-9)
    assert rested.period_s == pytest.approx(rested.latency_s, rel=1e-9)


def test_an_explanation_says_where_it_waits(toy: Any) -> None:
    setting = _setting(toy)
    _, plain = _both(setting)
    found = {(term.station, term.term): term.seconds for term in explain(predict(setting), 1).terms}
    assert found["link1", "resting"] == pytest.approx(2 * _later_s(plain.latency_s))
    assert found["result", "resting"] == pytest.approx(2 * _later_s(plain.latency_s))
    assert sum(found.values()) == pytest.approx(predict(setting).row(1).latency_s)


def _placement(rng: random.Random, toy: Any, backend: Any) -> PlacementSetting:
    from tests.paretosim.test_placement import random_setting

    setting = random_setting(rng.randrange(10**6))
    law = Resting(later_s=rng.choice([3, 20, 100]), half_s=rng.choice([1, 20, 100]))
    calibration = msgspec.structs.replace(_calibration(backend), resting=law)
    return msgspec.structs.replace(setting, mode=SINGLE, backend=backend, calibration=calibration)


@pytest.mark.parametrize("backend", ["tcp", "rpc"])
def test_of_all_placements_the_one_that_is_soonest_with_all_wakes_is_found(toy: Any, backend: Any) -> None:
    from tests.paretosim.test_placement import every_shape, is_allowed, times

    rng = random.Random(5)
    moved = 0
    for _ in range(150):
        setting = _placement(rng, toy, backend)
        law = setting.calibration.resting  # type: ignore[union-attr]
        assert law is not None
        per_hop = {"tcp": 2, "rpc": 4}[backend]
        found, unrested = [], []
        for chain, cuts in every_shape(setting):
            if not is_allowed(setting, chain, cuts):
                continue
            latency_s, _ = times(setting, chain, cuts)
            hops = len(chain) - 1
            wakes = per_hop * hops + 2
            if hops and setting.sink == "first":
                wakes = per_hop * (hops + 1)
            elif hops and setting.source == "sink":
                wakes += per_hop
            unrested.append(latency_s)
            found.append(latency_s + wakes * law.later_s * latency_s / (latency_s + law.half_s))
        rows = place(setting).rows
        assert bool(rows) == bool(found)
        if not found:
            continue
        assert [row.latency_s for row in rows] == pytest.approx([min(found)] * len(rows), rel=1e-9)
        moved += unrested[int(np.argmin(found))] > min(unrested) * (1 + 1e-9)
    assert moved  # fewer hops have won over a lower latency without them


def test_two_stages_of_a_plan_are_predicted_as_a_split(toy: Any) -> None:
    from validation.predicting import Inputs

    setting = _setting(toy)
    inputs = Inputs(
        model=setting.model, devices=setting.devices, timings=setting.timings, links=(setting.link,),
        batch=setting.batch, mode=SINGLE, source="stage1", sink="last", tcp_state="warm", operation=Operation(),
        backend="tcp", speed=1.0, control_delay_s=0.01, calibration=setting.calibration,
    )  # fmt: skip
    row = predict(setting).row(1)
    planned = predict_plans(inputs.placement, [inputs.plan((1,))])[0]
    assert planned.latency_s == row.latency_s
    assert planned.resting_s == pytest.approx(row.resting_s)
    # A transfer that is seen has the share of its own wakes; the rest is until it is computed.
    transfer_s = inputs.predict([(1,)])[1,].transfers_s[0]
    awake_s = Inputs.less(inputs, "resting").predict([(1,)])[1,].transfers_s[0]
    assert row.resting_s is not None
    assert transfer_s == pytest.approx(awake_s + row.resting_s[0] / 2)


@pytest.mark.parametrize("law", [{"later_s": -1e-3, "half_s": 0.1}, {"later_s": 1e-3, "half_s": 0.0}], ids=str)
def test_a_law_that_cannot_be_is_refused(law: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="expected a finite number"):
        Resting(**law)
