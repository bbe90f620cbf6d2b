from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from hwrun.local.departure_queue import Shape
from hwrun.local.relay import Direction, Urgency

BYTE_PER_US = 8e6


class ListedFrames:
    """A source that holds frames and their arrivals in memory."""

    def __init__(self, *frames: tuple[float, bytes]) -> None:
        self.frames = list(frames)

    def take(self, limit: int) -> list[tuple[float, bytes]]:
        taken, self.frames = self.frames[:limit], self.frames[limit:]
        return taken


def at(time_s: float) -> Callable[[], float]:
    return lambda: time_s


def test_a_direction_passes_frames_on_unchanged_and_in_order_when_they_are_due() -> None:
    sent: list[bytes] = []
    source = ListedFrames((0.0, b"a" * 1000), (0.0, b"b" * 1000))
    direction = Direction(source, sent.append, Shape(BYTE_PER_US, delay_s=0.010))
    assert direction.take_in()
    direction.send_due(at(0.0109))
    assert sent == []
    direction.send_due(at(0.0111))
    assert sent == [b"a" * 1000]
    direction.send_due(at(0.0121))
    assert sent == [b"a" * 1000, b"b" * 1000]


def test_release_counts_from_the_arrival_however_late_the_frame_is_read() -> None:
    sent: list[bytes] = []
    direction = Direction(ListedFrames((1.0, b"a")), sent.append, Shape(None, delay_s=0.5))
    direction.take_in()
    assert direction.queue.next_release_s == 1.5
    direction.send_due(at(1.5))
    assert sent == [b"a"]


def test_taking_in_says_whether_anything_had_arrived() -> None:
    assert not Direction(ListedFrames(), bytes, Shape()).take_in()


def test_a_batch_is_bounded_so_that_releases_stay_punctual() -> None:
    direction = Direction(ListedFrames(*[(0.0, b"x" * 100)] * 40), bytes, Shape(None, delay_s=1.0))
    direction.take_in()
    assert 0 < len(direction.queue) < 40
    while direction.take_in():
        pass
    assert len(direction.queue) == 40


def test_a_frame_the_receiving_host_has_no_room_for_is_counted_as_lost() -> None:
    def refuse(_: bytes) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    direction = Direction(ListedFrames((0.0, b"a"), (0.0, b"b")), refuse, Shape())
    direction.take_in()
    direction.send_due(at(0.0))
    assert direction.counters(reset=True)["send_failures"] == 2
    assert direction.counters(reset=False)["send_failures"] == 0


def test_an_interface_that_is_gone_ends_the_relay() -> None:
    def fail(_: bytes) -> None:
        raise OSError(errno.ENETDOWN, "Network is down")

    direction = Direction(ListedFrames((0.0, b"a")), fail, Shape())
    direction.take_in()
    with pytest.raises(OSError, match="Network is down"):
        direction.send_due(at(0.0))


@pytest.mark.parametrize("is_awaited", [True, False])
def test_a_relay_without_its_interfaces_says_so_to_its_owner_and_to_nobody_else(is_awaited: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-m", "hwrun.local.relay", "--control-fd", str(theirs.fileno())]
        if not is_awaited:
            ours.close()
        done = subprocess.run(
            [*command, "--left", "nowhere0", "--right", "nowhere1"],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
        if is_awaited:
            assert "nowhere0 and nowhere1 cannot be relayed between: " in json.loads(ours.recv(4096))["error"]


@pytest.mark.parametrize(("started_as", "is_urgent"), [(os.SCHED_OTHER, True), (os.SCHED_IDLE, False)])
def test_a_relay_that_was_started_to_give_way_does_not_claim_priority(
    monkeypatch: pytest.MonkeyPatch, started_as: int, is_urgent: bool
) -> None:
    claimed: list[int] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: started_as)
    monkeypatch.setattr(os, "sched_setscheduler", lambda _, policy, __: claimed.append(policy))
    assert Urgency().permitted is is_urgent
    assert claimed == [os.SCHED_FIFO] * is_urgent
