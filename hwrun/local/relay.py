"""The packet relay: a process that carries frames between two interfaces, each direction shaped on its own.

It stands where the kernel has no netem, and where none may be had: packet sockets work unprivileged in a user
namespace. One loop drains both sockets' rings into the departure queues, sends what is due, and sleeps until the
next release or frame. `select` is its clock: it takes microseconds, where epoll counts milliseconds. The process is
light (no NumPy, no torch) and ends with its control socket.

Stages that compute beside it lose what it takes from their cores: waking for each frame it took 0.15 to 0.25 of one at
50 Mbit/s, and the stage whose core that was, which chance decided anew in each cell, took 1.4 to 1.6 times as long.
`--moderated` wakes it at most once a millisecond for all frames that have come and are due, as a network card's
interrupt moderation does (ethtool(8), rx-usecs), which costs it half of that and a frame at most a millisecond; when
each arrived is still known, so the rate is the one asked. `--core` keeps it on one core, the same in every cell.

Control is one JSON object per message over a SOCK_SEQPACKET socket, each answered by one: `{"op": "shape", "forward":
{…}, "backward": {…}}`, `{"op": "counters", "reset": false}`. The first message is the relay's own: that it is ready.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import gc
import json
import math
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hwrun.local.departure_queue import Counters, DepartureQueue, Shape
from hwrun.local.frame_ring import FrameRing, open_packet_socket, read_overruns
from hwrun.local.namespace_entry import tighten_timers

CONTROL_MESSAGE_BYTES = 65536
# Frames taken from one socket before due ones are sent: about 50 µs of work, so that releases stay punctual.
_BATCH_FRAMES = 16
# Falling asleep and waking costs about this much, so a nearer release is waited for awake.
_SPIN_S = 20e-6
# After a longer sleep, waking takes up to hundreds of microseconds more (a virtual machine's idle core). That is learnt
# and the relay gets up so much earlier; between frames closer than this, a late one is made up for by the next.
_LONG_SLEEP_S, _MOST_EARLY_S, _LEARNING_RATE = 1e-3, 400e-6, 0.2
# In a stretch without sleep, the control socket is looked at this often.
_CONTROL_INTERVAL_S = 10e-3
# Between two looks of a moderated relay.
_MODERATION_S = 1e-3


class Urgency:
    """Real-time priority, where permitted, for as long as the relay leaves most of its core to others.

    A first-in-first-out task is never preempted by an ordinary one. A relay that needs a whole core misses the rate
    whatever it does, and would starve a worker pinned to that core: above `_YIELD_SHARE` it competes as an equal, below
    `_CLAIM_SHARE` it is urgent again; its own processor time says which. It is never urgent on an only core, nor where
    it was started to give way to others (SCHED_IDLE): it would take from those what its own sweep does not.
    """

    _YIELD_SHARE, _CLAIM_SHARE, _INTERVAL_S = 0.97, 0.5, 0.5

    def __init__(self) -> None:
        self.permitted = False
        self.claimed = False
        if len(os.sched_getaffinity(0)) > 1 and os.sched_getscheduler(0) != os.SCHED_IDLE:
            # Refused without CAP_SYS_NICE or RLIMIT_RTPRIO; the ready message tells.
            with contextlib.suppress(PermissionError):
                self._claim()
                self.permitted = True
        self._since_s, self._spent_s = time.monotonic(), time.thread_time()
        self.next_look_s = self._since_s + self._INTERVAL_S if self.permitted else math.inf

    def _claim(self) -> None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        self.claimed = True

    def look(self, now_s: float) -> None:
        """Take or give up the priority by the share of a core used since the last look."""
        spent_s = time.thread_time()
        share = (spent_s - self._spent_s) / (now_s - self._since_s)
        if self.claimed and share > self._YIELD_SHARE:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            self.claimed = False
        elif not self.claimed and share < self._CLAIM_SHARE:
            self._claim()
        self._since_s, self._spent_s = now_s, spent_s
        self.next_look_s = now_s + self._INTERVAL_S


class FrameSource(Protocol):
    """Where a direction's frames come from."""

    def take(self, limit: int) -> Sequence[tuple[float, bytes]]:
        """Up to `limit` frames and when each arrived, seconds, oldest first."""


class Direction:
    """Frames from a source through a departure queue to where they are sent."""

    def __init__(self, source: FrameSource, send: Callable[[bytes], object], shape: Shape) -> None:
        self.queue = DepartureQueue(shape)
        self._take, self._send = source.take, send
        self._send_failures = 0

    def take_in(self) -> bool:
        """Move a batch of arrived frames into the queue; False when there was none."""
        frames = self._take(_BATCH_FRAMES)
        offer = self.queue.offer
        for arrival_s, frame in frames:
            offer(frame, arrival_s)
        return bool(frames)

    def send_due(self, clock: Callable[[], float]) -> None:
        """Send every frame whose release time has come."""
        queue = self.queue
        if queue.next_release_s > clock():
            return
        while (frame := queue.release(clock())) is not None:
            try:
                self._send(frame)
            except OSError as error:
                # The receiving host's backlog is full: a frame lost on the way, counted. Anything else ends the relay.
                if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                    raise
                self._send_failures += 1

    def counters(self, *, reset: bool) -> dict[str, int | float]:
        """What this direction did since the last reset."""
        found = dataclasses.asdict(self.queue.counters) | {"send_failures": self._send_failures}
        if reset:
            self.queue.counters = Counters()
            self._send_failures = 0
        return found


class Relay:
    """Both directions, the control socket, and the loop over them.

    Parameters
    ----------
    left, right : of each side the packet socket and what arrived at it.
    moderated : wake at most once in `_MODERATION_S`.
    core : to stay on; None for wherever the system puts it.
    """

    def __init__(
        self,
        left: tuple[socket.socket, FrameSource],
        right: tuple[socket.socket, FrameSource],
        control: socket.socket,
        *,
        moderated: bool = False,
        core: int | None = None,
    ) -> None:
        self._left, self._right, self._control = left[0], right[0], control
        self._moderated, self._core = moderated, core
        self._forward = Direction(left[1], self._right.send, Shape())
        self._backward = Direction(right[1], self._left.send, Shape())
        self._overruns = [0, 0]
        self._urgency = Urgency()  # which asks how many cores there are
        if core is not None:
            os.sched_setaffinity(0, {core})
        self._since_s, self._spent_s = time.monotonic(), time.process_time()

    def run(self) -> None:
        """Relay until the control socket is closed."""
        ready: dict[str, object] = {"ready": True, "realtime_priority": self._urgency.permitted}
        if self._core is not None:
            ready["core"] = self._core
        if self._moderated:
            ready["moderation_s"] = _MODERATION_S
        self._answer(ready)
        if self._moderated:
            self._run_moderated()
        else:
            self._run_frame_by_frame()

    def _run_moderated(self) -> None:
        forward, backward, urgency, clock = self._forward, self._backward, self._urgency, time.monotonic
        watched = [self._left, self._right, self._control]
        next_control_s = 0.0
        while True:
            for direction in (forward, backward):
                while direction.take_in():
                    pass
                direction.send_due(clock)
            now_s = clock()
            if now_s > urgency.next_look_s:
                urgency.look(now_s)
            pause_s = min(forward.queue.next_release_s, backward.queue.next_release_s) - now_s
            if pause_s < math.inf:
                # What arrives meanwhile is due a delay later at the soonest, so nothing is missed by not looking.
                soonest_s = min(forward.queue.shape.delay_s, backward.queue.shape.delay_s)
                time.sleep(max(_MODERATION_S, min(pause_s, soonest_s)))
                if clock() < next_control_s:
                    continue
            readable = select.select(watched, (), (), 0.0 if pause_s < math.inf else None)[0]
            next_control_s = clock() + _CONTROL_INTERVAL_S
            if self._control in readable and not self._obey():
                return

    def _run_frame_by_frame(self) -> None:
        forward, backward, urgency, clock = self._forward, self._backward, self._urgency, time.monotonic
        watched = [self._left, self._right, self._control]
        next_control_s = awake_until_s = early_s = 0.0
        while True:
            arrived = forward.take_in()
            arrived |= backward.take_in()
            forward.send_due(clock)
            backward.send_due(clock)
            now_s = clock()
            if now_s > urgency.next_look_s:
                urgency.look(now_s)
            pause_s = min(forward.queue.next_release_s, backward.queue.next_release_s) - now_s
            if arrived or pause_s < _SPIN_S or now_s < awake_until_s:
                if now_s < next_control_s:
                    continue
                readable = select.select(watched, (), (), 0.0)[0]
            elif pause_s < _LONG_SLEEP_S:
                readable = select.select(watched, (), (), pause_s)[0]
            else:
                awake_until_s = now_s + pause_s  # unless something arrives before
                readable = select.select(watched, (), (), None if pause_s == math.inf else pause_s - early_s)[0]
                if readable:
                    awake_until_s = 0.0
                else:
                    overslept_s = clock() - (awake_until_s - early_s)
                    early_s += _LEARNING_RATE * (min(overslept_s, _MOST_EARLY_S) - early_s)
            next_control_s = clock() + _CONTROL_INTERVAL_S
            if self._control in readable and not self._obey():
                return

    def _obey(self) -> bool:
        """Do what one control message asks and answer it; False when the other side is gone."""
        try:
            message = self._control.recv(CONTROL_MESSAGE_BYTES)
        except ConnectionResetError:
            return False
        if not message:
            return False
        request: dict[str, Any] = json.loads(message)
        if request["op"] == "shape":
            self._forward.queue.reshape(Shape(**request["forward"]))
            self._backward.queue.reshape(Shape(**request["backward"]))
            self._answer({"shaped": True})
        elif request["op"] == "counters":
            self._answer(self._counters(reset=request["reset"]))
        else:
            self._answer({"error": f"op: got {request['op']!r}, expected shape or counters"})
        return True

    def _counters(self, *, reset: bool) -> dict[str, object]:
        now_s, spent_s = time.monotonic(), time.process_time()
        busy_share = (spent_s - self._spent_s) / (now_s - self._since_s)
        if reset:
            self._since_s, self._spent_s = now_s, spent_s
        for side, packet in enumerate((self._left, self._right)):
            self._overruns[side] += read_overruns(packet)
        overruns = self._overruns.copy()
        if reset:
            self._overruns = [0, 0]
        return {
            "forward": self._forward.counters(reset=reset) | {"overruns": overruns[0]},
            "backward": self._backward.counters(reset=reset) | {"overruns": overruns[1]},
            "busy_share": busy_share,
        }

    def _answer(self, message: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the next read sees that the other side is gone
            self._control.send(json.dumps(message).encode())


def main(argv: Sequence[str]) -> int:
    """Relay between two interfaces of the namespace this process is in."""
    parser = argparse.ArgumentParser(prog="hwrun.local.relay", allow_abbrev=False)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--left", required=True, help="interface whose frames go forward")
    parser.add_argument("--right", required=True, help="interface whose frames go backward")
    parser.add_argument("--moderated", action="store_true", help="wake at most once a millisecond")
    parser.add_argument("--core", type=int, help="stay on this one")
    arguments = parser.parse_args(argv)
    tighten_timers()
    gc.disable()  # the loop makes no cycles, and a collection would be a pause
    with socket.socket(fileno=arguments.control_fd) as control:
        try:
            left, right = open_packet_socket(arguments.left), open_packet_socket(arguments.right)
        except OSError as error:  # not permitted; or the owner was interrupted, and took its interfaces away
            refusal = f"{arguments.left} and {arguments.right} cannot be relayed between: {error.strerror or error}"
            with contextlib.suppress(BrokenPipeError):  # nobody is left to tell
                control.send(json.dumps({"error": refusal}).encode())
            return 1
        with left[0], right[0]:
            rings = (FrameRing(memory, time.monotonic, time.time) for _, memory in (left, right))
            ends = (left[0], next(rings)), (right[0], next(rings))
            Relay(*ends, control, moderated=arguments.moderated, core=arguments.core).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
