from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from hwrun.departure_queue import Shape
from hwrun.errors import HwrunError
from hwrun.relay import Direction

Wire = tuple[socket.socket, Direction, socket.socket]
BYTE_PER_US = 8e6


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Where frames go in, the direction under test, and where they come out."""
    sender, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    target, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sender, source, target, receiver:
        for end in (source, target, receiver):
            end.setblocking(False)
        yield sender, Direction(source, target, Shape(BYTE_PER_US, delay_s=0.010)), receiver


def at(time_s: float) -> Callable[[], float]:
    return lambda: time_s


def test_a_direction_passes_frames_on_unchanged_and_in_order_when_they_are_due(wire: Wire) -> None:
    sender, direction, receiver = wire
    for content in (b"a" * 1000, b"b" * 1000):
        sender.send(content)
    assert direction.take_in(at(0.0))
    direction.send_due(at(0.0109))
    with pytest.raises(BlockingIOError):
        receiver.recv(2048)
    direction.send_due(at(0.0111))
    assert receiver.recv(2048) == b"a" * 1000
    with pytest.raises(BlockingIOError):
        receiver.recv(2048)
    direction.send_due(at(0.0121))
    assert receiver.recv(2048) == b"b" * 1000


def test_taking_in_says_whether_anything_had_arrived(wire: Wire) -> None:
    _, direction, _ = wire
    assert not direction.take_in(at(0.0))


def test_a_batch_is_bounded_so_that_releases_stay_punctual(wire: Wire) -> None:
    sender, direction, _ = wire
    for _ in range(40):
        sender.send(b"x" * 100)
    direction.take_in(at(0.0))
    assert 0 < len(direction.queue) < 40
    while direction.take_in(at(0.0)):
        pass
    assert len(direction.queue) == 40


def test_an_oversized_frame_is_refused_with_its_cause(wire: Wire) -> None:
    sender, direction, _ = wire
    sender.send(b"x" * 9000)
    with pytest.raises(HwrunError, match="expected at most 1514; an offload"):
        direction.take_in(at(0.0))


def test_a_frame_that_came_during_sleep_counts_from_when_the_kernel_got_it() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        source.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        source.bind(("127.0.0.1", 0))
        direction = Direction(source, sender, Shape(None, delay_s=1.0))
        # The kernel begins to stamp frames on arrival a moment after the first socket asked for it.
        deadline_s = time.monotonic() + 5.0
        while True:
            empty_at_s = time.monotonic()
            sender.sendto(b"x", source.getsockname())
            sent_s = time.monotonic()
            time.sleep(0.05)
            direction.take_in_first(time.monotonic, empty_at_s)
            arrived_s = direction.queue.next_release_s - 1.0
            assert empty_at_s <= arrived_s <= time.monotonic()
            if arrived_s < sent_s + 0.01:
                return
            assert time.monotonic() < deadline_s, "no arrival was told from the time of reading"
            direction.queue.reshape(Shape(None, delay_s=0.9))
            direction.queue.reshape(Shape(None, delay_s=1.0))


def test_a_clock_that_was_set_cannot_move_an_arrival_out_of_the_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        source.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        source.bind(("127.0.0.1", 0))
        real_s = time.time
        for step_s, expected_s in ((3600.0, 7.0), (-3600.0, 9.0)):
            direction = Direction(source, sender, Shape(None, delay_s=1.0))
            sender.sendto(b"x", source.getsockname())
            monkeypatch.setattr(time, "time", lambda step_s=step_s: real_s() + step_s)
            direction.take_in_first(at(9.0), empty_at_s=7.0)
            assert direction.queue.next_release_s == expected_s + 1.0
