"""Probing a data path: what it sends, and what it makes of what arrived."""

import itertools
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import ProtocolError, TimedOutError
from hwrun.probing import probe
from hwrun.probing.probe import (
    BULK_PIECE_BYTES,
    ECHO_SIZES_BYTES,
    MIN_PINGS,
    RESTED_S,
    answer_probe,
    bulk_bytes,
    run_probe,
    second_half_goodput_bps,
    unheld_goodput_bps,
)
from hwrun.records import ClockExchange, EchoSample, clock_offset, echo_cost
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import MAGIC, VERSION, Kind
from hwrun.wire.sockets import prepared
from paretosim.link import Link

PAUSES_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def link(rate_bps):
    return Link(
        schema_version=1, name="l", rate_bps=rate_bps, one_way_delay_s=0.1, return_rate_bps=1e9, return_delay_s=0
    )


def connected(kind):
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return prepared(near), prepared(listener.accept()[0])


def probed(*, kind="unix", answer=answer_probe, pings=1, total_bytes=1000, echo_s=0.0, rested_s=0.0):
    near, far = connected(kind)
    dialling, listening = Connection(near, "near"), Connection(far, "far")
    thread = threading.Thread(target=answer, args=(listening,))
    thread.start()
    try:
        return run_probe(
            dialling, medium="loopback", pings=pings, bulk_bytes=total_bytes, echo_s=echo_s, rested_s=rested_s
        )
    finally:
        dialling.close()
        thread.join()
        listening.close()


def test_goodput_is_of_the_second_half_when_slow_start_is_over():
    slow_then_steady = [(1.0, 100), (3.0, 100), (3.5, 100), (4.0, 100)]
    assert second_half_goodput_bps(slow_then_steady) == 200 * 8 / 1.0


def test_bytes_that_waited_behind_a_lost_segment_did_not_come_faster_than_the_link():
    # A piece a second; the fourth is sent again after the sixth, and what waited for it comes with it.
    times_s = (1.0, 2.0, 3.0, 7.0, 7.0, 7.0, 8.0, 9.0)
    assert unheld_goodput_bps([(time_s, 100) for time_s in times_s]) == 800.0


@given(st.integers(16, 80), st.lists(st.integers(0, 79), max_size=4), st.integers(1, 4))
def test_goodput_is_never_above_the_rate_however_segments_are_lost(pieces, lost, later):
    wire = list(range(pieces))  # which piece crosses in each second
    for piece in lost:
        if piece < pieces:
            wire.remove(piece)
            wire.insert(min(piece + later, len(wire)), piece)
            wire.insert(piece, -1)  # the segment that was lost took its time too
    crossed_s = {piece: second + 1.0 for second, piece in enumerate(wire) if piece >= 0}
    whole_s = list(itertools.accumulate((crossed_s[piece] for piece in range(pieces)), max))
    found = unheld_goodput_bps([(time_s, 100) for time_s in whole_s])
    if later * len(lost) < pieces / 4 - 1:
        assert found <= 800 * (1 + 1e-9)


@pytest.mark.parametrize("arrivals", [[], [(1.0, 100)], [(1.0, 100), (1.0, 100)]])
def test_too_little_to_tell_is_none(arrivals):
    assert second_half_goodput_bps(arrivals) is None
    assert unheld_goodput_bps(arrivals) is None


def test_a_short_transfer_is_made_several_times_and_the_median_counts(monkeypatch):
    rates = iter((5.0, 1.0, 3.0, 9.0, 2.0, 4.0, 8.0, 6.0))
    monkeypatch.setattr(probe, "_bulk", lambda *_: (1000, next(rates)))
    found = probed()
    assert (found.goodput_bps, found.probe_bytes) == (4.0, 1000)
    monkeypatch.setattr(probe, "_LONG_BULK_S", -1.0)  # any is long
    assert probed().goodput_bps == 6.0


def test_each_transfer_is_timed_by_itself(monkeypatch):
    seen = []
    rate_of = probe.second_half_goodput_bps
    monkeypatch.setattr(probe, "second_half_goodput_bps", lambda a: (seen.append(sum(n for _, n in a)), rate_of(a))[1])
    found = probed(total_bytes=64_000)
    assert seen == [found.probe_bytes] * 7


def test_what_waited_is_left_out_only_where_something_was_sent_again(monkeypatch):
    monkeypatch.setattr(probe, "_MOST_BULKS", 1)
    monkeypatch.setattr(probe, "second_half_goodput_bps", lambda arrivals: 2e6)
    monkeypatch.setattr(probe, "unheld_goodput_bps", lambda arrivals: 1e6)
    assert probed().goodput_bps == 2e6
    counts = iter((3, 4))
    monkeypatch.setattr(probe, "_sent_again", lambda connection: next(counts))
    assert probed().goodput_bps == 1e6


def test_a_slow_link_is_probed_for_about_two_seconds_and_no_link_beyond_its_bounds():
    assert bulk_bytes(link(5e6)) == 1_250_000
    assert bulk_bytes(link(1e6)) == 256 * 2**10
    assert bulk_bytes(link(1e12)) == bulk_bytes(None) == 32 * 2**20


def test_a_very_slow_link_is_probed_for_ten_seconds_at_most_and_still_in_eight_pieces():
    assert bulk_bytes(link(80e3)) == 100_000
    assert bulk_bytes(link(1.0)) == 16 * 2**10
    found = probed(total_bytes=16 * 2**10)
    assert found.probe_bytes == 16 * 2**10
    assert found.goodput_bps > 0


def test_a_probe_over_a_path_that_went_silent_ends(monkeypatch):
    monkeypatch.setattr(probe, "SILENCE_LIMIT_S", 0.05)
    near, far = socket.socketpair()
    ask = {"medium": "loopback", "pings": 1, "bulk_bytes": 1000, "echo_s": 1.0, "rested_s": 1.0}
    for end, work in ((near, lambda c: run_probe(c, **ask)), (far, answer_probe)):
        connection = Connection(end, "silent")
        with pytest.raises(TimedOutError, match="said nothing in time"):
            work(connection)
    near.close()
    far.close()


def test_a_probe_counts_its_round_trips_and_its_bytes():
    found = probed(total_bytes=20 * BULK_PIECE_BYTES + 1)
    assert len(found.rtt_samples_s) == MIN_PINGS
    assert all(sample > 0 for sample in found.rtt_samples_s)
    assert found.probe_bytes == 21 * BULK_PIECE_BYTES
    assert found.goodput_bps > 0


def test_without_time_for_it_there_is_no_sweep_of_sizes_and_all_are_named_as_left_out(monkeypatch):
    monkeypatch.setattr(probe, "ECHO_SIZES_BYTES", (64, 256))
    found = probed(echo_s=0.0)
    assert found.echo == ()
    assert found.echo_left_out_bytes == (64, 256)


def test_a_sweep_of_sizes_goes_from_64_bytes_to_64_mebibytes_where_the_path_is_fast():
    found = probed(kind="tcp", echo_s=6.0)
    sizes = tuple(sample.size_bytes for sample in found.echo)
    assert sizes + found.echo_left_out_bytes == ECHO_SIZES_BYTES
    assert (sizes[0], ECHO_SIZES_BYTES[-1]) == (64, 64 * 2**20)
    assert len(sizes) >= 6
    assert all(len(sample.warmup_s) == 1 and 2 <= len(sample.round_trips_s) <= 9 for sample in found.echo)
    cost = echo_cost(found.echo)
    assert 0 < cost.per_message_s < 0.1
    assert 0 < cost.per_byte_s < 1e-6
    for end in (found.near_tcp, found.far_tcp):
        assert {"rtt_s", "cwnd", "send_buffer_bytes", "receive_buffer_bytes", "congestion_control"} <= set(end)


def slow_answer(per_byte_s):
    """A far end that takes its time for every byte, as a slow link would."""

    class Slow(Connection):
        def send(self, kind, sequence=0, *, specs=(), payload=()):
            if kind is Kind.ECHO:
                time.sleep(self.last_bytes * per_byte_s)
            super().send(kind, sequence, specs=specs, payload=payload)

        def receive(self, pool, limit_bytes):
            message = super().receive(pool, limit_bytes)
            self.last_bytes = message.header.payload_bytes
            return message

    return lambda connection: answer_probe(Slow(connection.socket, "slow"))


def test_a_slow_path_is_not_sent_what_it_cannot_carry_in_the_time_there_is():
    start_s = time.monotonic()
    found = probed(answer=slow_answer(1e-5), echo_s=0.6, rested_s=0.7)
    assert time.monotonic() - start_s < 10
    # 4 KiB takes 41 ms and 16 KiB 164 ms, of which three or more fit; 64 KiB would take 655 ms each.
    assert found.echo[-1].size_bytes <= 16384
    assert found.echo_left_out_bytes == ECHO_SIZES_BYTES[len(found.echo) :]
    assert echo_cost(found.echo).per_byte_s == pytest.approx(1e-5, rel=0.5)
    # What is not known to be quick is not sent after pauses, and of rounds of 0.4 s one is begun.
    assert {(sample.size_bytes, len(sample.round_trips_s)) for sample in found.rested} == {(64, 1)}


def test_every_pause_is_there_with_every_size_that_is_quick_as_often_as_there_were_rounds():
    found = probed(kind="tcp", echo_s=2.0, rested_s=RESTED_S)
    times_s = {(sample.size_bytes, sample.pause_s): sample.round_trips_s for sample in found.rested}
    assert times_s.keys() == {(size, pause_s) for size in (64, 2**20) for pause_s in PAUSES_S}
    assert {len(each) for each in times_s.values()} <= {1, 2, 3, 4, 5}
    assert len({len(each) for each in times_s.values()}) == 1


def test_each_pause_is_waited_for_and_whole_rounds_end_in_the_time_there_is(monkeypatch):
    now = SimpleNamespace(s=0.0)
    slept = []

    def sleep(pause_s):
        slept.append(pause_s)
        now.s += pause_s

    def exchange(connection, pool, number, payload):
        sent_s, now.s = now.s, now.s + 0.02
        return ClockExchange(sent_s=sent_s, arrived_s=0.0, answered_s=0.0, returned_s=now.s)

    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: now.s, sleep=sleep))
    monkeypatch.setattr(probe, "_exchange", exchange)
    echo = [EchoSample(size_bytes=size, round_trips_s=(0.02,)) for size in (64, 2**20)]
    found = probe._rested(None, None, echo, 5.0)
    # A round takes 0.77 s of pauses and 16 exchanges of 20 ms, two of them not kept: there are four in five seconds.
    rounds = [slept[first : first + 14] for first in range(0, len(slept), 14)]
    assert [sorted(each) for each in rounds] == [sorted(PAUSES_S * 2)] * 4
    assert len(set(map(tuple, rounds))) == 4  # nothing always follows the same
    assert now.s == pytest.approx(4 * 1.09)
    assert all(sample.round_trips_s == pytest.approx((0.02,) * 4) for sample in found)
    now.s = 0.0
    assert len(probe._rested(None, None, echo, 100.0)[0].round_trips_s) == 5
    assert probe._rested(None, None, echo, 1.0) == ()


def test_no_size_that_its_link_takes_long_for_is_sent_after_pauses():
    quick, slow = EchoSample(size_bytes=64, round_trips_s=(0.01,)), EchoSample(size_bytes=64, round_trips_s=(0.06,))
    long = EchoSample(size_bytes=2**20, round_trips_s=(0.06,))
    near, far = socket.socketpair()
    thread = threading.Thread(target=answer_probe, args=(Connection(far, "far"),))
    thread.start()
    connection = Connection(near, "near")
    assert {sample.size_bytes for sample in probe._rested(connection, BufferPool(), [quick, long], 0.5)} == {64}
    assert probe._rested(connection, BufferPool(), [slow, long], 0.5) == ()
    probe.send_control(connection, probe.Done())
    thread.join()
    near.close()
    far.close()


def test_without_a_sweep_of_sizes_no_message_is_sent_after_a_pause():
    assert probed(echo_s=0.0, rested_s=RESTED_S).rested == ()


def test_a_path_that_nobody_told_to_be_slow_is_not_kept_busy_for_minutes(monkeypatch):
    monkeypatch.setattr(probe, "_LONGEST_BULK_S", 0.2)
    # A piece of 64 KiB takes 66 ms: three of them, and not the five hundred that were asked for.
    found = probed(answer=slow_answer(1e-6), total_bytes=32 * 2**20)
    assert found.probe_bytes <= 4 * BULK_PIECE_BYTES


def test_the_offset_of_a_process_to_itself_is_nothing_within_its_error():
    found = probed(kind="tcp", pings=20)
    offset = clock_offset(found.clock)
    assert abs(offset.offset_s) <= offset.error_s
    assert offset.error_s <= min(found.rtt_samples_s) / 2
    assert len(found.clock) == len(found.rtt_samples_s) == 20


def test_an_answer_that_is_none_is_refused():
    def wrong(connection):
        connection.receive(BufferPool(), 64)
        connection.send(Kind.ECHO, 7, payload=(b"0" * 16,))

    with pytest.raises(ProtocolError, match="got ECHO 7 of 16 bytes, expected ECHO 0 of 16"):
        probed(answer=wrong)


def test_the_far_end_takes_no_message_longer_than_the_longest_of_the_sweep():
    near, far = socket.socketpair()
    near.sendall(struct.pack(">4sBBHQQ", MAGIC, VERSION, Kind.PING, 0, 0, 2**63))
    with pytest.raises(ProtocolError, match=f"expected at most {ECHO_SIZES_BYTES[-1]}"):
        answer_probe(Connection(far, "near"))
    near.close()
    far.close()
