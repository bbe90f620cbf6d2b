"""Hosts that have rested: messages come later, where a batch is alone in its pipeline and nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paretosim.calibration import Calibration, DeviceTerms, MessageCost, Resting
from paretosim.errors import BadInputError
from paretosim.explanation.explaining import explain
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.placing import place
from paretosim.placement.setting import PlacementSetting
from paretosim.prediction import Row, predict
from paretosim.rates.rate_map import Range, rate_map
from paretosim.setting import Setting

LAW = Resting(later_s=0.03, half_s=0.2)
SINGLE = Mode.named("single")
# A wire of next to no time; of the 50 · 4 · 8 bytes at 160 kbit/s 80 ms.
FAST_BPS, SLOW_BPS = 1e12, 160e3


def _setting(toy: Any, *, backend: Any = "tcp", rate_bps: float = FAST_BPS, **fields: Any) -> Setting:
    calibration = Calibration(schema_version=2, name="rested", backend=backend, resting=LAW)
    options = {
        "link": toy.link(rate_bps, 0.05), "outputs": (50, 10), "mode": SINGLE, "control_delay_s": 0.01,
        "calibration": calibration, **fields,
    }  # fmt: skip
    setting: Setting = toy.setting(backend=backend, **options)
    return setting


def _both(setting: Setting, split: int = 1) -> tuple[Row, Row]:
    """With hosts that rest, and without."""
    bare = msgspec.structs.replace(setting, without=("resting",))
    return predict(setting).row(split), predict(bare).row(split)


def _later_s(rested_s: float) -> float:
    return LAW.later_s * rested_s / (rested_s + LAW.half_s)


@pytest.mark.parametrize("workers", ["overlapped", "serial"])
@pytest.mark.parametrize(("backend", "wakes"), [("tcp", 1), ("rpc", 3), ("memory", 0)])
def test_over_hardly_a_wire_a_message_comes_later_by_each_thread_that_wakes(
    toy: Any, backend: Any, wakes: int, workers: Any
) -> None:
    rested, plain = _both(_setting(toy, backend=backend, operation=Operation(workers=workers)))
    assert rested.latency_s == pytest.approx(plain.latency_s + wakes * _later_s(plain.latency_s), abs=1e-6)
    assert rested.stages_s == plain.stages_s
    assert rested.links_s == plain.links_s
    if wakes:
        assert rested.resting_s == pytest.approx((wakes * _later_s(plain.latency_s),), abs=1e-6)


def test_a_receiver_wakes_while_slow_start_waits_for_acknowledgements(toy: Any) -> None:
    """And is late by the rest of it, where the waits are shorter."""
    link = toy.link(FAST_BPS, 0.0, return_delay_s=0.002)
    late_s = {}
    for size in (5, 100_000):  # a batch of 8 crosses at once, and in several rounds
        rested, plain = _both(_setting(toy, link=link, outputs=(size, 10), tcp_state="cold"))
        assert plain.stalls_s[0] < _later_s(plain.latency_s)
        late_s[size] = rested.latency_s - plain.latency_s
        assert late_s[size] == pytest.approx(_later_s(plain.latency_s) - plain.stalls_s[0], abs=1e-4)
    assert late_s[100_000] < late_s[5] - 0.002


@pytest.mark.parametrize(("backend", "wakes"), [("tcp", 0), ("rpc", 1)])
def test_what_wakes_while_bytes_cross_does_not_show_behind_a_longer_wire(toy: Any, backend: Any, wakes: int) -> None:
    rested, plain = _both(_setting(toy, backend=backend, rate_bps=SLOW_BPS))
    assert plain.links_s[0] > 2 * LAW.later_s
    assert rested.latency_s == pytest.approx(plain.latency_s + wakes * _later_s(plain.latency_s), rel=1e-9)


def test_of_a_wire_nearly_as_long_the_rest_of_it_shows(toy: Any) -> None:
    terms = DeviceTerms(copying_s=0.075)
    calibration = Calibration(schema_version=2, name="rested", backend="tcp", resting=LAW, devices={"*": terms})
    rested, plain = _both(_setting(toy, rate_bps=SLOW_BPS, calibration=calibration))
    shown_s = 0.075 + _later_s(plain.latency_s) - plain.links_s[0]
    assert 0 < shown_s < _later_s(plain.latency_s)
    assert rested.latency_s == pytest.approx(plain.latency_s + shown_s, rel=1e-9)


def test_the_hop_of_the_result_is_one_too_and_what_is_not_crossed_is_none(toy: Any) -> None:
    for split, hops in ((1, 2), (2, 0)):
        rested, plain = _both(_setting(toy, sink="first"), split)
        assert rested.latency_s == pytest.approx(plain.latency_s + hops * _later_s(plain.latency_s), abs=1e-6)


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
    assert rested.latency_s == pytest.approx(plain.latency_s + _later_s(plain.latency_s), abs=1e-6)
    assert rested.period_s == pytest.approx(rested.latency_s, rel=1e-9)


def test_what_devices_cost_is_part_of_the_time_that_they_rest(toy: Any) -> None:
    terms = DeviceTerms(gamma=2, sending=MessageCost(message_s=0.1))
    calibration = Calibration(schema_version=2, name="rested", backend="tcp", resting=LAW, devices={"*": terms})
    rested, plain = _both(_setting(toy, calibration=calibration))
    assert rested.latency_s == pytest.approx(plain.latency_s + _later_s(plain.latency_s), abs=1e-6)


def test_an_explanation_says_where_it_waits(toy: Any) -> None:
    setting = _setting(toy)
    rested, plain = _both(setting)
    found = {(term.station, term.term): term.seconds for term in explain(predict(setting), 1).terms}
    assert found["link1", "resting"] == pytest.approx(_later_s(plain.latency_s), abs=1e-6)
    assert sum(found.values()) == pytest.approx(rested.latency_s)


@pytest.mark.parametrize("law", [{"later_s": -1e-3, "half_s": 0.1}, {"later_s": 1e-3, "half_s": 0.0}], ids=str)
def test_a_law_that_cannot_be_is_refused(law: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="expected a finite number"):
        Resting(**law)


def test_maps_and_placements_leave_it_out_and_say_so(toy: Any) -> None:
    setting = _setting(toy)
    found = rate_map(setting, Range(1e5, 1e9), Range(1e-3, 0.1))
    assert found.setting.without == ("resting",)
    busy = msgspec.structs.replace(setting, mode=Mode.named("paced"))
    assert rate_map(busy, Range(1e5, 1e9), Range(1e-3, 0.1)).setting == busy
    plan = PlacementSetting(
        model=setting.model, devices=setting.devices, timings=setting.timings, links=HopLinks(every=setting.link),
        batch=setting.batch, mode=SINGLE, control_delay_s=setting.control_delay_s, calibration=setting.calibration,
    )  # fmt: skip
    placed = place(plan)
    assert placed.setting.without == ("resting",)
    _, plain = _both(setting, placed.rows[0].plan.stages[0].last)
    assert placed.rows[0].latency_s <= plain.latency_s
