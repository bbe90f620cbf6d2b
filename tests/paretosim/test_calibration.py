"""Calibrations: each term by hand on a toy chain, switched off, monotone, and neutral where it says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.calibration import (
    ANY_DEVICE,
    CALIBRATION_TERMS,
    NEUTRAL,
    TERMS,
    Calibration,
    DeviceTerms,
    MessageCost,
    Relay,
    Resting,
    check_terms,
)
from paretosim.errors import BadInputError, ProfileError, UnlikeConditionsError
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.prediction import Prediction, Row, predict
from paretosim.profiles import ProfileStore, write_profile
from paretosim.show.prediction_json import as_object
from paretosim.uncertainty.sampling import Doubts, uncertainty_of

# As in test_prediction: 0.1 and 0.3 s on the first device, 0.2 and 0.4 s on the second; cuts of 3200, 1600, 320 bytes.
OUTPUTS = (50, 10)
MODES = [
    Mode.named("single"), Mode.named("paced"), Mode.named("closed", window=2), Mode.named("burst", batches=3),
]  # fmt: skip
OPERATIONS = [Operation(), Operation(workers="serial"), Operation(slots=1)]


def _calibration(**fields: Any) -> Calibration:
    return Calibration(**{"schema_version": 2, "name": "toy", "backend": "tcp", **fields})


def _messages(**costs: MessageCost) -> dict[str, Any]:
    """A calibration's fields that say these costs of any device."""
    return {"devices": {ANY_DEVICE: DeviceTerms(**costs)}}


def _row(toy: Any, split: int = 1, *, mode: Mode = MODES[1], **fields: Any) -> Row:
    return predict(toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), mode=mode, **fields)).row(split)


def _with(toy: Any, split: int = 1, *, mode: Mode = MODES[1], setting: Any = None, **fields: Any) -> Row:
    return _row(toy, split, mode=mode, calibration=_calibration(**fields), **(setting or {}))


def _unlabelled(prediction: Prediction) -> Any:
    found = as_object(prediction)
    return {name: value for name, value in found.items() if name not in ("calibration", "identity")}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS, ids=("plain", "serial", "slots"))
@pytest.mark.parametrize("ends", [{}, {"source": "sink"}, {"sink": "first"}], ids=str)
def test_a_calibration_of_defaults_changes_nothing(
    toy: Any, mode: Mode, operation: Operation, ends: dict[str, str]
) -> None:
    setting = toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), mode=mode, operation=operation, **ends)
    with_one = msgspec.structs.replace(setting, calibration=_calibration(devices={"one": DeviceTerms()}))
    assert _unlabelled(predict(with_one)) == _unlabelled(predict(setting))


def test_a_stage_scales_and_adds_its_overhead(toy: Any) -> None:
    row = _with(toy, devices={"one": DeviceTerms(gamma=1.5, overhead_s=0.02)})
    assert row.stages_s == pytest.approx((0.1 * 1.5 + 0.02, 0.4))
    assert row.latency_s == pytest.approx(0.17 + 0.0128 + 0.05 + 0.4)


def test_an_empty_stage_takes_nothing(toy: Any) -> None:
    terms = DeviceTerms(gamma=2, overhead_s=1, kappa=0.5)
    assert _with(toy, 0, devices={"one": terms}).stages_s[0] == 0
    assert _with(toy, 2, devices={"two": terms}).stages_s[1] == 0


def test_overhead_is_not_divided_by_the_speed_of_an_emulation(toy: Any) -> None:
    row = _with(toy, devices={"one": DeviceTerms(gamma=2, overhead_s=0.02)}, setting={"speed": 10})
    assert row.stages_s[0] == pytest.approx(2 * 0.01 + 0.02)


def test_an_accelerator_launches_and_copies_both_ways(toy: Any) -> None:
    one, two = toy.device("one"), msgspec.structs.replace(toy.device("two"), accelerator="GPU")
    terms = {"two": DeviceTerms(launch_s=0.01, pcie_bytes_per_s=1e4)}
    row = _with(toy, devices=terms, setting={"devices": (one, two)})
    assert row.stages_s == pytest.approx((0.1, 0.4 + 0.01 + (1600 + 320) / 1e4))
    with pytest.raises(BadInputError, match="got launch_s or pcie_bytes_per_s of two, expected them of devices with"):
        _with(toy, devices=terms)


def test_framing_goes_with_every_message(toy: Any) -> None:
    row = _with(toy, framing_bytes=400)
    assert row.links_s == pytest.approx(((1600 + 400) * 8 / 1e6,))
    assert row.activation_bytes == (1600,)
    nothing_crosses = _with(toy, 2, framing_bytes=400, setting={"sink": "first"})
    assert nothing_crosses.links_s == (0, 0)


def test_sending_occupies_the_link_and_receiving_is_a_station_of_its_own(toy: Any) -> None:
    costs = {"sending": MessageCost(message_s=0.01, bytes_per_s=16e3), "receiving": MessageCost(message_s=0.7)}
    row = _with(toy, **_messages(**costs))
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.11,)), (0.7,))
    assert row.links_s == pytest.approx((0.0128,))
    assert row.latency_s == pytest.approx(0.1 + 0.11 + 0.0128 + 0.05 + 0.7 + 0.4)
    assert (row.period_s, row.bottleneck) == (pytest.approx(0.7), "link1.receive")
    row = _with(toy, **_messages(sending=MessageCost(message_s=0.7)))
    assert (row.period_s, row.bottleneck) == (pytest.approx(0.7128), "link1")


HANDOVERS = {
    "devices": {
        "one": DeviceTerms(arriving_s=0.001, leaving_s=0.002, returning=MessageCost(message_s=0.003)),
        "two": DeviceTerms(arriving_s=0.01, leaving_s=0.02, returning=MessageCost(message_s=0.03, bytes_per_s=3200)),
    },
    "dispatch_s": 0.0001,
}


@pytest.mark.parametrize(
    ("ends", "split", "handovers_s"),
    [
        # dispatch; leaving the first, arriving at the second; leaving the second, 320 bytes on their way
        ({}, 1, (0.0001, 0.012, 0.02 + 0.03 + 0.1)),
        ({"source": "sink"}, 1, (0.0001, 0.001, 0.012, 0.15)),
        ({"sink": "first"}, 1, (0.0001, 0.012, 0.02, 0)),
        ({"sink": "first"}, 2, (0.0001, 0, 0, 0.002 + 0.003)),  # the result is where it is wanted
    ],
    ids=str,
)
def test_batches_wait_between_threads_and_hold_nothing(
    toy: Any, ends: dict[str, str], split: int, handovers_s: tuple[float, ...]
) -> None:
    for mode in MODES:
        plain, with_them = (_with(toy, split, mode=mode, setting=ends, **fields) for fields in ({}, HANDOVERS))
        assert (plain.handovers_s, with_them.handovers_s) == (None, pytest.approx(handovers_s))
        if mode.name in ("single", "paced"):
            assert with_them.latency_s == pytest.approx(plain.latency_s + sum(handovers_s))
        if mode.name == "paced":
            assert with_them.period_s == plain.period_s


def test_a_serial_worker_has_one_thread_and_sends_the_result_itself(toy: Any) -> None:
    serial = {"operation": Operation(workers="serial")}
    plain, with_them = (_with(toy, setting=serial, **fields) for fields in ({}, HANDOVERS))
    assert with_them.latency_s == pytest.approx(plain.latency_s + 0.0001 + 0.13)
    assert with_them.period_s == pytest.approx(0.4 + 0.13)


def test_the_slower_of_wire_and_sockets_occupies_the_link(toy: Any) -> None:
    slow = {"devices": {"one": DeviceTerms(copying_bytes_per_s=1e5), "two": DeviceTerms(copying_bytes_per_s=1e4)}}
    row = _with(toy, **slow)  # 0.0128 s on the wire, 0.16 s through the second device's sockets
    assert row.links_s + row.sending_s == pytest.approx((0.0128, 0.16 - 0.0128))
    assert row.latency_s == pytest.approx(0.1 + 0.16 + 0.05 + 0.4)
    fast = _with(toy, devices={"one": DeviceTerms(copying_bytes_per_s=2e5)})
    assert (fast.sending_s, fast.latency_s) == (None, pytest.approx(0.1 + 0.0128 + 0.05 + 0.4))
    for mode in MODES:
        recursion = {"operation": Operation(slots=100)}
        roomy, closed = (_with(toy, mode=mode, setting=s, **slow) for s in (recursion, {}))
        assert roomy.latency_s == pytest.approx(closed.latency_s, rel=1e-12)


def _of_both(one: float, two: float) -> dict[str, Any]:
    """Costs that tell both hosts and both sides apart: (one + 0.01, one + 0.02), (two + 0.01, two + 0.02)."""
    return {
        "devices": {
            name: DeviceTerms(sending=MessageCost(message_s=c + 0.01), receiving=MessageCost(message_s=c + 0.02))
            for name, c in (("one", one), ("two", two))
        }
    }


def test_each_host_has_its_own_costs_of_messages(toy: Any) -> None:
    costs = _of_both(0.1, 0.2)
    row = _with(toy, **costs)
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.11,)), pytest.approx((0.22,)))
    # Inputs leave the orchestrator, which is at the sink, so beside the second device.
    row = _with(toy, **costs, setting={"source": "sink"})
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.21, 0.11)), pytest.approx((0.12, 0.22)))
    # With the sink first, the result comes back to the first device's host.
    row = _with(toy, **costs, setting={"sink": "first"})
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.11, 0.21)), pytest.approx((0.22, 0.12)))
    # A master is beside the second device, and forwards what it receives.
    row = _with(toy, **costs, relay=Relay())
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.11, 0.21)), pytest.approx((0.22, 0.22)))
    serial = _with(toy, **costs, setting={"source": "sink", "operation": Operation(workers="serial")})
    assert serial.latency_s == pytest.approx(0.21 + 0.0256 + 0.12 + 0.1 + 0.11 + 0.0128 + 0.05 + 0.22 + 0.4)
    assert serial.period_s == pytest.approx(0.22 + 0.4)
    without = _with(toy, **costs, setting={"without": ("sending",)})
    assert (without.sending_s, without.receiving_s) == (None, pytest.approx((0.22,)))


def test_a_device_that_is_not_named_is_any_device(toy: Any) -> None:
    any_device = DeviceTerms(gamma=2, sending=MessageCost(message_s=0.3), receiving=MessageCost(message_s=0.4))
    row = _with(toy, devices={ANY_DEVICE: any_device})
    assert row.stages_s == pytest.approx((0.2, 0.8))
    assert (row.sending_s, row.receiving_s) == (pytest.approx((0.3,)), pytest.approx((0.4,)))
    # A named device has its own terms alone, and nothing of any device's.
    row = _with(toy, devices={ANY_DEVICE: any_device, "one": DeviceTerms(gamma=3)})
    assert (row.stages_s, row.sending_s) == (pytest.approx((0.3, 0.8)), None)
    assert row.receiving_s == pytest.approx((0.4,))
    off = _with(toy, devices={ANY_DEVICE: any_device}, setting={"without": ("scale", "sending", "receiving")})
    assert (off.stages_s, off.sending_s, off.receiving_s) == (pytest.approx((0.1, 0.4)), None, None)


def test_serial_workers_send_and_receive_themselves(toy: Any) -> None:
    costs = _messages(sending=MessageCost(message_s=0.15), receiving=MessageCost(message_s=0.25))
    row = _with(toy, **costs, setting={"operation": Operation(workers="serial")})
    assert row.latency_s == pytest.approx(0.1 + 0.15 + 0.0128 + 0.05 + 0.25 + 0.4)
    assert (row.period_s, row.bottleneck) == (pytest.approx(0.65), "stage2")
    ends = _with(toy, **costs, setting={"operation": Operation(workers="serial"), "source": "sink"})
    # Input: 3200 bytes, sent by the orchestrator and received by the first worker.
    assert ends.latency_s == pytest.approx(0.15 + 0.0256 + 0.25 + 0.1 + 0.15 + 0.0128 + 0.05 + 0.25 + 0.4)
    back = _with(toy, **costs, setting={"operation": Operation(workers="serial"), "sink": "first"})
    assert back.latency_s == pytest.approx(0.1 + 0.15 + 0.0128 + 0.05 + 0.25 + 0.4 + 0.15 + 0.00256 + 0.25)
    assert back.period_s == pytest.approx(0.25 + 0.4 + 0.15)


def test_transfers_slow_the_stages_beside_them(toy: Any) -> None:
    terms = {"one": DeviceTerms(kappa=0.5), "two": DeviceTerms(kappa=0.25)}
    assert _with(toy, devices=terms).stages_s == pytest.approx((0.1 + 0.5 * 0.0128, 0.4 + 0.25 * 0.0128))
    slow = predict(toy.setting(outputs=OUTPUTS, link=toy.link(1e4), calibration=_calibration(devices=terms)))
    assert slow.row(1).stages_s == pytest.approx((0.1 * 1.5, 0.4 * 1.25))  # 1.28 s on the link, longer than either


@pytest.mark.parametrize(
    "mode", [Mode.named("single"), Mode.named("closed", window=1), Mode.named("burst", batches=1)], ids=str
)
def test_a_batch_alone_contends_with_nothing(toy: Any, mode: Mode) -> None:
    row = _with(toy, mode=mode, devices={"one": DeviceTerms(kappa=0.5)})
    assert row.stages_s == pytest.approx((0.1, 0.4))


def test_rpc_waits_round_trips_before_it_sends(toy: Any) -> None:
    link = toy.link(1e6, 0.05, return_delay_s=0.03)
    calibration = _calibration(backend="rpc", rpc_round_trips=2, rpc_s=0.01)
    row = predict(
        toy.setting(outputs=OUTPUTS, link=link, backend="rpc", calibration=calibration, sink="first")
    ).row(1)  # fmt: skip
    assert row.sending_s == pytest.approx((2 * (0.08 + 0.01), 0))
    assert row.latency_s == pytest.approx(0.1 + 0.18 + 0.0128 + 0.05 + 0.4 + 0.00256 + 0.03)


def test_waking_a_receiver_goes_on_beside_the_wire(toy: Any) -> None:
    # 1600 B at 1 Mbit/s are 12.8 ms: a reader that takes 5 ms to wake is awake by then, one of 20 ms is not.
    for waking_s, link_s in ((0.005, 0.0128), (0.02, 0.02)):
        devices = {"*": DeviceTerms(copying_s=waking_s)}
        calibration = _calibration(devices=devices)
        setting = toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), calibration=calibration)
        assert predict(setting).row(1).latency_s == pytest.approx(0.1 + link_s + 0.05 + 0.4)
        assert calibration.active_terms() == ("copying",)
        assert calibration.without("copying").active_terms() == ()


def test_a_call_holds_its_hop_until_the_answer_is_there(toy: Any) -> None:
    link = toy.link(1e6, 0.3, return_delay_s=0.2)
    setting = toy.setting(outputs=OUTPUTS, link=link, backend="rpc", calibration=_calibration(backend="rpc"))
    held = msgspec.structs.replace(setting, calibration=_calibration(backend="rpc", rpc_answers=1))
    row, before = predict(held).row(1), predict(setting).row(1)
    assert row.latency_s == before.latency_s == pytest.approx(0.1 + 0.0128 + 0.3 + 0.4)
    assert (before.bottleneck, row.bottleneck) == ("stage2", "link1")
    assert row.period_s == pytest.approx(0.0128 + 0.5)
    costly = msgspec.structs.replace(setting, calibration=_calibration(backend="rpc", rpc_answers=1, rpc_answer_s=0.04))
    assert predict(costly).row(1).latency_s == before.latency_s
    assert predict(costly).row(1).period_s == pytest.approx(0.0128 + 0.5 + 0.04)


def test_a_serial_worker_waits_for_its_message_to_leave_and_for_the_answer(toy: Any) -> None:
    link = toy.link(1e6, 0.3, return_delay_s=0.2)
    serial = {"backend": "rpc", "operation": Operation(workers="serial"), "link": link}
    row = predict(toy.setting(outputs=OUTPUTS, calibration=_calibration(backend="rpc", rpc_answers=1), **serial)).row(1)
    assert row.latency_s == pytest.approx(0.1 + 0.0128 + 0.3 + 0.4)  # the batch is long gone
    assert (row.bottleneck, row.period_s) == ("stage1", pytest.approx(0.1 + 0.0128 + 0.5))


def test_a_relay_is_one_more_hop(toy: Any) -> None:
    relay = Relay(rate_bps=1e6, delay_s=0.02)
    found = predict(
        toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), calibration=_calibration(relay=relay), sink="first")
    )
    row = found.row(1)
    assert found.hops == ("link1", "relay", "return")
    assert row.links_s == pytest.approx((0.0128, 0.0128, 0.00256))
    assert row.delays_s == pytest.approx((0.05, 0.02, 0))
    assert row.latency_s == pytest.approx(0.1 + 0.0128 + 0.05 + 0.0128 + 0.02 + 0.4 + 0.00256)
    costs = _messages(sending=MessageCost(message_s=0.3), receiving=MessageCost(message_s=0.2))
    memory = _with(toy, relay=Relay(), **costs)
    assert memory.latency_s == pytest.approx(0.1 + 0.3 + 0.0128 + 0.05 + 0.2 + 0.3 + 0.2 + 0.4)
    serial = _with(toy, relay=Relay(), **costs, setting={"operation": Operation(workers="serial")})
    assert (serial.latency_s, serial.bottleneck) == (pytest.approx(memory.latency_s), "stage2")
    assert serial.period_s == pytest.approx(0.2 + 0.4)


def test_both_recursion_and_closed_forms_know_all_terms(toy: Any) -> None:
    fields = {**FULL, "relay": Relay(rate_bps=3e5, delay_s=0.01)}
    for ends in ({}, {"source": "sink"}, {"sink": "first"}):
        plain = _with(toy, mode=MODES[3], setting=ends, **fields)
        roomy = _with(toy, mode=MODES[3], setting={**ends, "operation": Operation(slots=100)}, **fields)
        assert roomy.latency_s == pytest.approx(plain.latency_s, rel=1e-12)
        assert roomy.period_s == pytest.approx(plain.period_s, rel=1e-12)
        assert roomy.latency_from_start_s == pytest.approx(plain.latency_from_start_s, rel=1e-12)


FULL: dict[str, Any] = {
    "devices": {
        "one": DeviceTerms(
            gamma=1.2, overhead_s=0.01, kappa=0.3, sending=MessageCost(message_s=0.003, bytes_per_s=1e6),
            receiving=MessageCost(message_s=0.002), arriving_s=0.001, leaving_s=0.002, copying_bytes_per_s=2e5,
        ),
        "two": DeviceTerms(
            gamma=0.9, overhead_s=0.02, sending=MessageCost(message_s=0.001, bytes_per_s=3e6),
            receiving=MessageCost(message_s=0.004, bytes_per_s=2e6), arriving_s=0.003, leaving_s=0.004,
            returning=MessageCost(message_s=0.005, bytes_per_s=4e6),
        ),
    },
    "framing_bytes": 80,
    "dispatch_s": 0.006,
    "rpc_round_trips": 1.5,
    "rpc_s": 0.001,
    "rpc_answers": 0.5,
    "rpc_answer_s": 0.02,
    "relay": Relay(),
    "resting": Resting(later_s=0.02, half_s=0.5),
}  # fmt: skip


def test_each_term_can_be_switched_off(toy: Any) -> None:
    accelerated = msgspec.structs.replace(toy.device("two"), accelerator="GPU")
    receiving = MessageCost(message_s=0.004)
    devices = {
        **FULL["devices"],
        "two": DeviceTerms(
            gamma=0.9, launch_s=0.01, pcie_bytes_per_s=1e5, receiving=receiving, returning=MessageCost(message_s=0.005),
            copying_bytes_per_s=1e4,
        ),
    }  # fmt: skip
    calibration = _calibration(**{**FULL, "devices": devices})
    assert calibration.active_terms() == CALIBRATION_TERMS
    for term in CALIBRATION_TERMS:
        assert term not in calibration.without(term).active_terms()
        assert len(calibration.without(term).active_terms()) == len(CALIBRATION_TERMS) - 1
    setting = toy.setting(
        outputs=OUTPUTS, devices=(toy.device("one"), accelerated), link=toy.link(1e6, 0.05), tcp_state="cold"
    )
    full = msgspec.structs.replace(setting, calibration=calibration)
    for term in CALIBRATION_TERMS:
        full = msgspec.structs.replace(full, mode=Mode.named("single" if term == "resting" else "paced"))
        without = predict(msgspec.structs.replace(full, without=(term,))).row(1)
        if term == "answers":  # which hold a hop, and no batch waits for
            assert (without.answering_s, predict(full).row(1).answering_s) == (None, pytest.approx((0.035, 0)))
            continue
        assert without.latency_s != predict(full).row(1).latency_s
    off = predict(msgspec.structs.replace(full, without=CALIBRATION_TERMS))
    assert [row.latency_s for row in off.rows] == [row.latency_s for row in predict(setting).rows]


def test_terms_of_the_link_can_be_switched_off(toy: Any) -> None:
    link = toy.link(1e6, 0.05, header_bytes=100, wmax_bytes=5000)  # 8 · 5000 / 0.05 = 0.8 Mbit/s
    setting = toy.setting(outputs=OUTPUTS, link=link, tcp_state="cold", inputs=1000)

    def row(*terms: str) -> Row:
        return predict(msgspec.structs.replace(setting, without=terms)).row(0)

    assert row().links_s == pytest.approx(((32000 + 3200) * 8 / 0.8e6,))
    assert row("headers").links_s == pytest.approx((32000 * 8 / 0.8e6,))
    assert row("window-cap").links_s == pytest.approx(((32000 + 3200) * 8 / 1e6,))
    assert row().stalls_s[0] > 0 == row("slow-start").stalls_s[0]
    assert row("delay").delays_s == (0,)
    assert row("delay").stalls_s == row().stalls_s


def test_an_unknown_term_is_told_the_known_ones(command: Callable[..., tuple[int, str, str]], profiles: Path) -> None:
    with pytest.raises(BadInputError, match=f"without: got 'gamma', expected a term: one of {', '.join(TERMS)}"):
        check_terms(["gamma"])
    code, _, error = command(
        "predict", "--profiles", profiles, "--model", "toy", "--devices", "one,two", "--without", "gamma"
    )
    assert (code, "--without: got 'gamma', expected a term" in error) == (2, True)


PARAMETERS = {
    "overhead_s": (0, 1), "kappa": (0, 2), "gamma": (0.1, 3), "message_s": (0, 1), "framing_bytes": (0, 10_000),
    "rpc_round_trips": (0, 5), "inverse_bytes_per_s": (1e-9, 1e-2),
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PARAMETERS)), st.floats(0, 1), st.floats(0, 1), st.sampled_from(MODES),
    st.sampled_from(OPERATIONS[::2]), st.floats(4, 8),
)  # fmt: skip
def test_no_prediction_gets_better_when_a_cost_grows(
    toy: Any, name: str, a: float, b: float, mode: Mode, operation: Operation, rate: float
) -> None:
    low, high = PARAMETERS[name]
    rows = []
    for share in sorted((a, b)):
        value = low + share * (high - low)
        if name in ("overhead_s", "kappa", "gamma"):
            found = {**FULL, "devices": {"one": DeviceTerms(**{name: value}), "two": DeviceTerms(kappa=0.1)}}
        elif name == "message_s":
            found = {**FULL, **_messages(sending=MessageCost(message_s=value), receiving=MessageCost(message_s=value))}
        elif name == "inverse_bytes_per_s":
            found = {**FULL, **_messages(receiving=MessageCost(bytes_per_s=1 / value))}
        else:
            found = {**FULL, name: int(value) if name == "framing_bytes" else value}
        rows.append(
            predict(
                toy.setting(
                    outputs=OUTPUTS, link=toy.link(10**rate, 0.05, return_delay_s=0.01), mode=mode,
                    operation=operation, calibration=_calibration(**found),
                )
            ).rows
        )  # fmt: skip
    for cheap, dear in zip(*rows, strict=True):
        assert cheap.latency_s <= dear.latency_s * (1 + 1e-11)
        assert cheap.period_s <= dear.period_s * (1 + 1e-11)


def test_samples_of_block_times_go_through_the_same_terms(toy: Any) -> None:
    calibration = _calibration(**FULL)
    setting = toy.setting(outputs=OUTPUTS, link=toy.link(1e6, 0.05), error=0.0, calibration=calibration)
    found = predict(setting)
    for row, doubt in zip(found.rows, uncertainty_of(found, Doubts(samples=100)).splits, strict=True):
        assert doubt.latency_p50_s == pytest.approx(row.latency_s, rel=1e-9)
        assert doubt.throughput_p50_per_s == pytest.approx(row.throughput_per_s, rel=1e-9)


def test_the_baselines_know_their_device(toy: Any) -> None:
    terms = {"one": DeviceTerms(gamma=2, overhead_s=0.1, kappa=1)}
    found = predict(toy.setting(outputs=OUTPUTS, link=toy.link(), calibration=_calibration(devices=terms)))
    assert found.baselines[0].latency_s == pytest.approx(2 * 0.4 + 0.1)
    assert found.baselines[1].latency_s == pytest.approx(0.6)


def test_another_backend_is_refused(toy: Any) -> None:
    with pytest.raises(UnlikeConditionsError, match=r"got one of backend rpc, expected one of tcp.*--backend rpc"):
        _with(toy, backend="rpc")
    with pytest.raises(BadInputError, match="got rpc without a calibration"):
        _row(toy, backend="rpc")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema_version": 3}, "schema_version: got 3, expected 2"),
        ({"intervals": {"rpc_s": (1.0, 2.0)}}, "interval_level: got none beside intervals, expected how probably"),
        ({"interval_level": 90.0}, "interval_level: got 90.0, expected a probability between 0 and 1"),
        ({"framing_bytes": -1}, "framing_bytes: got -1, expected a finite number of 0 or more"),
        ({"rpc_s": float("nan")}, "rpc_s: got nan"),
        ({"interval_level": 0.9, "intervals": {"rpc_s": (2.0, 1.0)}}, r"intervals.rpc_s: got 2.0 to 1.0"),
        ({"name": ""}, "name: got none"),
        ({"starts": 5, "agreeing": 6}, "agreeing: got 6 of 5 starts, expected 1 or more of as many starts or more"),
        ({"starts": 5}, "agreeing: got None of 5 starts"),
        ({"agreeing": 1}, "agreeing: got 1 of None starts"),
    ],
)
def test_a_calibration_that_means_nothing_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        _calibration(**fields)


@pytest.mark.parametrize(
    ("noun", "fields"),
    [(DeviceTerms, {"gamma": 0.0}), (DeviceTerms, {"kappa": -1.0}), (MessageCost, {"bytes_per_s": 0.0})],
)
def test_a_parameter_out_of_range_is_refused(noun: Any, fields: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match=next(iter(fields))):
        noun(**fields)


@pytest.mark.parametrize(
    ("path", "ends", "said"),
    [
        (
            "devices.two.gamma",
            (1.0, 2.0),
            r"devices\.two\.gamma: got no number there, expected the path of a parameter",
        ),
        ("devices.one.copying_bytes_per_s", (1.0, 2.0), "got no number there"),  # infinitely fast
        ("devices.one", (1.0, 2.0), "got no number there"),
        ("name", (1.0, 2.0), "got no number there"),
        ("schema_version", (1.0, 2.0), "got no number there"),  # a number, and no parameter
        ("framing_bytes.more", (1.0, 2.0), "got no number there"),
        ("relay.rate_bps", (1.0, 2.0), "got no number there"),
        (
            "devices.one.gamma",
            (1.3, 1.4),
            r"devices\.one\.gamma: got 1\.3 to 1\.4, expected one that holds the value, 1\.2",
        ),
    ],
)
def test_a_file_whose_interval_is_not_of_a_parameter_or_does_not_hold_it_is_not_read(
    tmp_path: Path, path: str, ends: tuple[float, float], said: str
) -> None:
    sound = _calibration(
        devices={"one": DeviceTerms(gamma=1.2)}, interval_level=0.9, intervals={"devices.one.gamma": (1.2, 1.3)}
    )
    file = tmp_path / "mine.json"
    write_profile(file, sound)
    assert ProfileStore().calibration(str(file)) == sound
    written = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({**written, "intervals": {path: ends}}))
    with pytest.raises(ProfileError, match=rf"mine\.json: intervals\..*{said}"):
        ProfileStore().calibration(str(file))


def test_a_term_that_is_off_has_no_interval() -> None:
    calibration = _calibration(
        devices={"one": DeviceTerms(gamma=1.2, overhead_s=0.01)}, relay=Relay(delay_s=0.1), interval_level=0.9,
        intervals={"devices.one.gamma": (1.1, 1.3), "devices.one.overhead_s": (0.0, 0.1), "relay.delay_s": (0.0, 1.0)},
    )  # fmt: skip
    assert calibration.without("scale", "relay").intervals == {"devices.one.overhead_s": (0.0, 0.1)}


def test_a_calibration_is_read_by_name_and_by_path(tmp_path: Path, profiles: Path) -> None:
    calibration = _calibration(
        **FULL, interval_level=0.9, intervals={"devices.one.gamma": (1.1, 1.3)}, hashes={"run": "ab"}
    )
    write_profile(profiles / "calibrations" / "toy.json", calibration)
    store = ProfileStore([profiles])
    assert store.calibration("toy") == calibration == store.calibration(str(profiles / "calibrations" / "toy.json"))
    (tmp_path / "broken.json").write_text('{"schema_version": 2, "name": "x", "backend": "udp"}')
    with pytest.raises(ProfileError, match=r"backend: got 'udp'"):
        store.calibration(str(tmp_path / "broken.json"))
    with pytest.raises(BadInputError, match=r"calibration: got 'toi', expected one of .*toy"):
        store.calibration("toi")


def test_another_file_with_a_version_is_not_taken_for_an_old_calibration(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "run_id": "a"}')
    with pytest.raises(ProfileError, match=r"manifest\.json: Object contains unknown field `run_id`"):
        ProfileStore([]).calibration(str(tmp_path / "manifest.json"))


@pytest.mark.parametrize("fields", ['"sending": {"message_s": 0.1}', '"framing_bytes": 8'])
def test_a_calibration_of_the_old_schema_says_what_has_changed(tmp_path: Path, fields: str) -> None:
    (tmp_path / "old.json").write_text(f'{{"schema_version": 1, "name": "old", "backend": "tcp", {fields}}}')
    with pytest.raises(ProfileError, match=r"old\.json: schema_version: got 1, expected 2, in which sending and"):
        ProfileStore([]).calibration(str(tmp_path / "old.json"))


def test_predict_says_which_calibration_and_terms(command: Callable[..., tuple[int, str, str]], profiles: Path) -> None:
    path = profiles / "mine.json"
    write_profile(path, _calibration(devices={"one": DeviceTerms(gamma=1.5)}, fitted_on=("run7",)))
    words = ("predict", "--profiles", profiles, "--model", "toy", "--devices", "one,two")
    plain = json.loads(command(*words, "--json")[1])
    code, output, _ = command(*words, "--calibration", path, "--json")
    found = json.loads(output)
    assert code == 0
    assert found["calibration"]["name"] == "toy"
    assert len(found["calibration"]["hash"]) == 16
    assert found["calibration"]["terms"] == ["scale"]
    assert found["identity"] != plain["identity"]
    off = json.loads(command(*words, "--calibration", path, "--without", "scale", "--json")[1])
    assert off["rows"] == plain["rows"] != found["rows"]
    assert off["without"] == ["scale"]
    text = command(*words, "--calibration", path, "--without", "delay")[1]
    assert f"calibration toy ({found['calibration']['hash']}, tcp, fitted on run7): scale; nothing of two" in text
    assert "terms switched off: delay" in text
    anyone = _calibration(devices={"one": DeviceTerms(), ANY_DEVICE: DeviceTerms(gamma=1.5)})
    write_profile(profiles / "any.json", anyone)
    assert "scale; two as any device" in command(*words, "--calibration", profiles / "any.json")[1]
    code, output, _ = command("map", *words[1:], "--calibration", path, "--json")
    assert code == 0
    assert json.loads(output)["calibration"]["name"] == "toy"
    assert "calibration toy" in command("map", *words[1:], "--calibration", path)[1]
    write_profile(path, _calibration(devices={"one": DeviceTerms(kappa=0.5)}))
    code, output, _ = command("map", *words[1:], "--calibration", path, "--json")
    assert (code, json.loads(output)["calibration"]["terms"]) == (0, ["contention"])


def test_the_neutral_calibration_says_nothing() -> None:
    assert NEUTRAL.active_terms() == ()
