"""What is computed from a probe's raw samples: costs per message and byte, and the offset of two clocks."""

import os
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import RecordError
from hwrun.records import (
    ClockExchange,
    EchoSample,
    LinkMeasured,
    LinkProbe,
    Manifest,
    RestedSample,
    append_probe,
    clock_offset,
    echo_cost,
    read_run,
    resting_cost,
    write_manifest,
)

SIZES = tuple(64 * 4**power for power in range(11))


def line(per_message_s, per_byte_s, sizes=SIZES, repeats=5, noise=lambda: 1.0):
    return [
        EchoSample(
            size_bytes=size,
            round_trips_s=tuple((per_message_s + size * per_byte_s) * noise() for _ in range(repeats)),
        )
        for size in sizes
    ]


@given(st.floats(1e-5, 0.5), st.floats(1e-11, 1e-5))
def test_an_exact_line_is_found_again(per_message_s, per_byte_s):
    cost = echo_cost(line(per_message_s, per_byte_s))
    assert cost.per_message_s == pytest.approx(per_message_s, rel=1e-6)
    assert cost.per_byte_s == pytest.approx(per_byte_s, rel=1e-6)
    assert cost.spread == pytest.approx(0, abs=1e-9)


def test_one_interrupted_round_trip_in_five_moves_neither_cost_much():
    draw = random.Random(1)
    spoiled = line(1e-4, 1e-9, noise=lambda: draw.gauss(1, 0.02) * (10 if draw.random() < 0.2 else 1))
    cost = echo_cost(spoiled)
    assert cost.per_message_s == pytest.approx(1e-4, rel=0.1)
    assert cost.per_byte_s == pytest.approx(1e-9, rel=0.1)


def test_costs_are_never_negative():
    falling = [EchoSample(size_bytes=size, round_trips_s=(0.01 - size * 1e-6,)) for size in (64, 256, 1024)]
    assert echo_cost(falling).per_byte_s == 0
    steep = [EchoSample(size_bytes=size, round_trips_s=(size**2 * 1e-9,)) for size in (64, 256, 1024)]
    assert echo_cost(steep).per_message_s == 0


@pytest.mark.parametrize("sizes", [(), (64,)])
def test_one_size_has_no_slope(sizes):
    assert echo_cost(line(1e-4, 1e-9, sizes=sizes)) is None


PAUSES_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def rested(later_s, half_s, *, sizes=(64, 2**20), pauses=PAUSES_S, noise=lambda: 1.0):
    return [
        RestedSample(
            pause_s=pause_s,
            size_bytes=size,
            round_trips_s=tuple(
                (2e-4 + size * 1e-10 + later_s * pause_s / (pause_s + half_s)) * noise() for _ in range(5)
            ),
        )
        for size in sizes
        for pause_s in pauses
    ]


@given(st.floats(1e-5, 0.1), st.floats(min(PAUSES_S[1:]), max(PAUSES_S)))
def test_an_exact_cost_of_resting_is_found_again(later_s, half_s):
    cost = resting_cost(rested(later_s, half_s))
    assert cost.later_s == pytest.approx(later_s, rel=0.01)
    assert cost.half_s == pytest.approx(half_s, rel=0.01)
    assert cost.after_s(0.1) == pytest.approx(later_s * 0.1 / (0.1 + half_s), rel=0.01)


@pytest.mark.parametrize("half_s", [1e-5, 1e-3, 5.0])
def test_a_law_says_nothing_of_pauses_that_were_not_tried(half_s):
    draw = random.Random(3)
    cost = resting_cost(rested(7e-4, half_s, noise=lambda: draw.gauss(1, 0.05)))
    assert min(PAUSES_S[1:]) <= cost.half_s <= max(PAUSES_S)
    if half_s < 0.005:  # all of it has come by the shortest pause, and what is left between two others is noise
        assert cost.after_s(0.2) < 3e-4


def test_one_interrupted_message_in_five_moves_the_cost_of_resting_little():
    draw = random.Random(2)
    spoiled = rested(7e-4, 0.06, noise=lambda: draw.gauss(1, 0.02) * (20 if draw.random() < 0.1 else 1))
    cost = resting_cost(spoiled)
    assert cost.later_s == pytest.approx(7e-4, rel=0.15)
    assert cost.after_s(0.1) == pytest.approx(resting_cost(rested(7e-4, 0.06)).after_s(0.1), rel=0.1)


def test_a_pause_after_which_most_messages_were_interrupted_does_not_bend_the_cost_of_resting():
    samples = rested(7e-4, 0.06)
    assert samples[-1].pause_s == 0.2
    spoiled = [*samples[:-1], msgspec.structs.replace(samples[-1], round_trips_s=(0.004,) * 3 + (0.001,) * 2)]
    assert resting_cost(spoiled).later_s == pytest.approx(7e-4, rel=0.02)


def test_each_size_is_compared_with_itself():
    slow, quick = rested(7e-4, 0.06, sizes=(2**26,)), rested(7e-4, 0.06, sizes=(64,))
    assert resting_cost(slow + quick).later_s == pytest.approx(7e-4, rel=0.01)
    # After two pauses beside none, a size says nothing.
    assert resting_cost(slow[:3] + quick) == resting_cost(quick)


def test_that_threads_sleep_at_all_is_no_cost_of_how_long_they_do():
    awake = [
        msgspec.structs.replace(sample, round_trips_s=(1e-4,) * 5) if sample.pause_s == 0 else sample
        for sample in rested(7e-4, 0.06)
    ]
    assert resting_cost(awake) == resting_cost(rested(7e-4, 0.06))


@pytest.mark.parametrize("pauses", [(), (0.0,), (0.01, 0.1), (0.0, 0.01, 0.1)])
def test_without_three_pauses_resting_costs_nobody_knows_what(pauses):
    assert resting_cost(rested(7e-4, 0.06, pauses=pauses)) is None


@pytest.mark.parametrize("later_s", [0.0, -1e-4])
def test_where_messages_come_no_later_resting_has_no_cost(later_s):
    assert resting_cost(rested(later_s, 0.06)) is None


def exchange(offset_s, there_s, back_s, sent_s=5.0):
    arrived_s = sent_s + there_s + offset_s
    return ClockExchange(
        sent_s=sent_s,
        arrived_s=arrived_s,
        answered_s=arrived_s + 0.01,
        returned_s=sent_s + there_s + 0.01 + back_s,
    )


@given(st.floats(-1e4, 1e4), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
def test_the_true_offset_is_within_the_stated_error_however_unlike_the_ways(offset_s, ways):
    found = clock_offset([exchange(offset_s, there_s, back_s) for there_s, back_s in ways])
    assert abs(found.offset_s - offset_s) <= found.error_s + 1e-9
    assert found.error_s == pytest.approx(min(there_s + back_s for there_s, back_s in ways) / 2, abs=1e-9)


def test_like_ways_give_the_offset_itself():
    found = clock_offset([exchange(100.0, 0.2, 0.2), exchange(100.0, 0.9, 0.1)])
    assert found.offset_s == pytest.approx(100.0)


def test_no_exchange_is_no_offset():
    with pytest.raises(RecordError, match="got no exchange"):
        clock_offset([])


MEASURED = LinkMeasured(
    medium="relay",
    rtt_samples_s=(0.2, 0.21),
    goodput_bps=4.8e6,
    probe_bytes=1_250_000,
    echo=(EchoSample(size_bytes=64, warmup_s=(0.3,), round_trips_s=(0.2, 0.2)),),
    echo_left_out_bytes=(256,),
    rested=(RestedSample(pause_s=0.1, size_bytes=64, round_trips_s=(0.2004,)),),
    clock=(exchange(0.0, 0.1, 0.1),),
    near_tcp={"cwnd": 10},
    far_tcp={"cwnd": 12},
)


def probe(moment):
    return LinkProbe(
        link_name="5mbit,200ms",
        link_asked=None,
        moment=moment,
        started_utc="2026-01-01T00:00:00+00:00",
        near="A",
        far="B",
        measured=MEASURED,
    )


def test_cells_repeat_round_trips_and_goodput_alone():
    brief = MEASURED.in_brief()
    assert (brief.rtt_samples_s, brief.goodput_bps, brief.probe_bytes, brief.medium) == (
        MEASURED.rtt_samples_s, MEASURED.goodput_bps, MEASURED.probe_bytes, MEASURED.medium
    )  # fmt: skip
    assert (brief.echo, brief.rested, brief.clock, brief.near_tcp) == ((), (), (), {})


def test_probes_of_before_messages_were_sent_after_pauses_are_read():
    earlier = msgspec.to_builtins(MEASURED)
    del earlier["rested"]
    assert msgspec.json.decode(msgspec.json.encode(earlier), type=LinkMeasured) == msgspec.structs.replace(
        MEASURED, rested=()
    )


def test_probes_of_a_run_are_read_in_order_and_a_half_written_one_is_dropped(tmp_path):
    manifest = Manifest(
        run_id="r", created_utc="", command_line=(), testbed={}, workers=(), emulated=False, speed=1.0, timings={},
        versions={}, host={}, sysctls={}, qdisc="", seed=0, cells_planned=0,
    )  # fmt: skip
    write_manifest(tmp_path, manifest)
    assert read_run(tmp_path).probes == ()
    append_probe(tmp_path, probe("before"))
    with (tmp_path / "probes.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(probe("after"))[:50])
    append_probe(tmp_path, probe("after"))
    run = read_run(tmp_path)
    assert run.probes == (probe("before"), probe("after"))
    assert run.dropped_lines == 1


def test_what_was_appended_is_on_the_disk_before_the_sweep_goes_on(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").read_bytes()))
    append_probe(tmp_path, probe("before"))
    assert synced[-1] == (tmp_path / "probes.jsonl").read_bytes() != b""
