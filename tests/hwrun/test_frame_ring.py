from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

import pytest

from hwrun.errors import HwrunError
from hwrun.local.frame_ring import SLOT_BYTES, FrameRing

WALL_AHEAD_S = 1_000_000.0
FRAME_START = 66


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.wall_ahead_s = WALL_AHEAD_S

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s + self.wall_ahead_s


class Kernel:
    """The other side of a ring of four slots, as packet_mmap's documentation describes it."""

    def __init__(self, memory: mmap.mmap, clock: Clock) -> None:
        self._memory, self._clock, self._slot = memory, clock, 0

    def deliver(self, frame: bytes, length: int | None = None) -> bool:
        offset = self._slot * SLOT_BYTES
        if struct.unpack_from("=I", self._memory, offset)[0] != 0:
            return False  # the ring is full
        stamp_s = self._clock.wall()
        whole_s = int(stamp_s)
        header = (1, len(frame) if length is None else length, len(frame), FRAME_START, FRAME_START + 14)
        struct.pack_into(
            "=IIIHHII", self._memory, offset, *header, whole_s, round((stamp_s - whole_s) * 1e9) % 1_000_000_000
        )
        self._memory[offset + FRAME_START : offset + FRAME_START + len(frame)] = frame
        self._slot = (self._slot + 1) % 4
        return True


Parts = tuple[Kernel, FrameRing, Clock]


@pytest.fixture
def parts() -> Iterator[Parts]:
    clock = Clock()
    with mmap.mmap(-1, 4 * SLOT_BYTES) as memory:
        yield Kernel(memory, clock), FrameRing(memory, clock.monotonic, clock.wall), clock


def test_frames_come_out_whole_in_order_and_with_their_arrival(parts: Parts) -> None:
    kernel, ring, clock = parts
    clock.now_s = 101.0
    kernel.deliver(b"first")
    clock.now_s = 101.5
    kernel.deliver(b"second")
    clock.now_s = 103.0
    times, frames = zip(*ring.take(10), strict=True)
    assert frames == (b"first", b"second")
    assert times == pytest.approx((101.0, 101.5), abs=1e-6)
    assert ring.take(10) == []


def test_slots_are_handed_back_and_used_again(parts: Parts) -> None:
    kernel, ring, _ = parts
    for turn in range(5):
        frames = [b"%d" % (turn * 3 + number) for number in range(3)]
        assert all(kernel.deliver(frame) for frame in frames)
        assert [frame for _, frame in ring.take(10)] == frames


def test_no_more_are_taken_than_asked(parts: Parts) -> None:
    kernel, ring, _ = parts
    for frame in (b"a", b"b", b"c", b"d"):
        assert kernel.deliver(frame)
    assert not kernel.deliver(b"no room")
    assert [frame for _, frame in ring.take(3)] == [b"a", b"b", b"c"]
    assert [frame for _, frame in ring.take(3)] == [b"d"]


@pytest.mark.parametrize(("step_s", "expected_s"), [(3600.0, 100.5), (-3600.0, 102.0)])
def test_a_wall_clock_that_was_set_cannot_move_an_arrival_out_of_the_sleep(
    parts: Parts, step_s: float, expected_s: float
) -> None:
    kernel, ring, clock = parts
    clock.now_s = 100.5
    assert ring.take(1) == []
    clock.now_s = 101.0
    kernel.deliver(b"frame")
    clock.wall_ahead_s += step_s
    clock.now_s = 102.0
    assert ring.take(1) == [(expected_s, b"frame")]


def test_an_oversized_frame_is_refused_with_its_cause(parts: Parts) -> None:
    kernel, ring, _ = parts
    kernel.deliver(b"x" * 100, length=9000)
    with pytest.raises(HwrunError, match="got a frame of 9000 bytes, expected at most 1518; an offload"):
        ring.take(1)
