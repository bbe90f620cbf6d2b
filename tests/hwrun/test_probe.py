"""Probing a data path: what it sends, and what it makes of what arrived."""

import socket
import threading

import pytest

from hwrun import probe
from hwrun.errors import TimedOutError
from hwrun.probe import BULK_PIECE_BYTES, MIN_PINGS, answer_probe, bulk_bytes, run_probe, second_half_goodput_bps
from hwrun.wire.tcp import Connection
from paretosim.link import Link


def link(rate_bps):
    return Link(
        schema_version=1, name="l", rate_bps=rate_bps, one_way_delay_s=0.1, return_rate_bps=1e9, return_delay_s=0
    )


def test_goodput_is_of_the_second_half_when_slow_start_is_over():
    slow_then_steady = [(1.0, 100), (3.0, 100), (3.5, 100), (4.0, 100)]
    assert second_half_goodput_bps(slow_then_steady) == 200 * 8 / 1.0


@pytest.mark.parametrize("arrivals", [[], [(1.0, 100)], [(1.0, 100), (1.0, 100)]])
def test_too_little_to_tell_is_none(arrivals):
    assert second_half_goodput_bps(arrivals) is None


def test_a_slow_link_is_probed_for_about_two_seconds_and_no_link_beyond_its_bounds():
    assert bulk_bytes(link(5e6)) == 1_250_000
    assert bulk_bytes(link(1e6)) == 256 * 2**10
    assert bulk_bytes(link(1e12)) == bulk_bytes(None) == 32 * 2**20


def test_a_very_slow_link_is_probed_for_ten_seconds_at_most_and_still_in_eight_pieces():
    assert bulk_bytes(link(80e3)) == 100_000
    assert bulk_bytes(link(1.0)) == 16 * 2**10
    near, far = socket.socketpair()
    dialling, listening = Connection(near, "near"), Connection(far, "far")
    thread = threading.Thread(target=answer_probe, args=(listening,))
    thread.start()
    probed = run_probe(dialling, 1, 16 * 2**10)
    thread.join()
    assert probed.bulk_bytes == 16 * 2**10
    assert probed.goodput_bps > 0
    dialling.close()
    listening.close()


def test_a_probe_over_a_path_that_went_silent_ends(monkeypatch):
    monkeypatch.setattr(probe, "SILENCE_LIMIT_S", 0.05)
    near, far = socket.socketpair()
    for end, work in ((near, lambda c: run_probe(c, 1, 1000)), (far, answer_probe)):
        connection = Connection(end, "silent")
        with pytest.raises(TimedOutError, match="said nothing in time"):
            work(connection)
    near.close()
    far.close()


def test_a_probe_counts_its_round_trips_and_its_bytes():
    near, far = socket.socketpair()
    dialling, listening = Connection(near, "near"), Connection(far, "far")
    thread = threading.Thread(target=answer_probe, args=(listening,))
    thread.start()
    probed = run_probe(dialling, 1, 20 * BULK_PIECE_BYTES + 1)
    thread.join()
    assert len(probed.rtt_samples_s) == MIN_PINGS
    assert all(sample > 0 for sample in probed.rtt_samples_s)
    assert probed.bulk_bytes == 21 * BULK_PIECE_BYTES
    assert probed.goodput_bps > 0
    dialling.close()
    listening.close()
