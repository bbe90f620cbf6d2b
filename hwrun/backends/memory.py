"""Batches that stay in this process, over links that only take their time: for tests, and for a gate without noise.

An exchange joins the workers of one process. A link of it is the model's own, without TCP: a batch of S bytes occupies
it for (S + header_bytes·⌈S/mss_bytes⌉)·8/rate from when the one before it has left, and is there one delay later. The
sender is held until the batch has left; what is under way waits in order, in any number. So what a record of it says is
what the recursion says, but for the threads' own lateness: nothing is drawn, dropped or retransmitted.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence

import torch

from hwrun.backends.contract import Arrival
from hwrun.errors import BadUsageError, PeerGoneError, ProtocolError
from hwrun.records import Scalar
from hwrun.stages.runner import Cancelled, wait_until
from hwrun.wire.tensors import as_delivered
from paretosim.link import Link

SCHEME = "memory:"


class _Line:
    """One direction between two hosts: when what is sent next may start to leave."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_s = -math.inf

    def departure_s(self, now_s: float, busy_s: float) -> float:
        """When a batch that is given now and occupies the line for `busy_s` has left."""
        with self._lock:
            self._free_s = max(now_s, self._free_s) + busy_s
            return self._free_s


class MemoryExchange:
    """What joins the workers of one process: places where batches wait, and the links between hosts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inlets: dict[tuple[str, int], MemoryInlet] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._lines: dict[tuple[str, str], _Line] = {}

    def shape(self, links: Mapping[tuple[str, str], Link]) -> None:
        """Set the links of pairs of hosts, seen from the first of each; no other pair has one.

        Raises
        ------
        BadUsageError : a link with what is drawn, or with a queue: this one has neither.
        """
        both: dict[tuple[str, str], Link] = {}
        for (start, end), link in links.items():
            if link.jitter_s or link.loss or link.return_jitter_s or link.return_loss or link.limit_bytes is not None:
                raise BadUsageError(
                    f"link {link.name}: got jitter, loss or a limit, which links in memory do not have; use --backend"
                    " tcp for them"
                )
            both[start, end], both[end, start] = link, link.reverse()
        with self._lock:
            self._links, self._lines = both, {}

    def inlet(self, pipeline: str, position: int, limit_bytes: int) -> MemoryInlet:
        """Where stage `position` of a pipeline gets its batches from now on."""
        inlet = MemoryInlet(limit_bytes)
        with self._lock:
            self._inlets[pipeline, position] = inlet
        return inlet

    def outlet(self, address: str, pipeline: str, position: int) -> MemoryOutlet:
        """The way to stage `position` of a pipeline, over the link that `address` names.

        Raises
        ------
        PeerGoneError : there is no such stage.
        """
        start, _, end = address.removeprefix(SCHEME).partition(">")
        with self._lock:
            inlet = self._inlets.pop((pipeline, position), None)
            if inlet is None:
                raise PeerGoneError(f"memory: stage {position} of pipeline {pipeline} waits for nothing here")
            link = self._links.get((start, end))
            line = self._lines.setdefault((start, end), _Line())
        return MemoryOutlet(inlet, link, line)


def address(start: str, end: str) -> str:
    """The address of whatever is at host `end`, seen from host `start`."""
    return f"{SCHEME}{start}>{end}"


class MemoryInlet:
    """Batches that arrive from another thread; made by an exchange."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting: queue.SimpleQueue[tuple[int, tuple[torch.Tensor, ...], float, float] | None]
        self._waiting = queue.SimpleQueue()
        self._last_end_s = -math.inf
        self.gone = threading.Event()

    def put(self, sequence: int, tensors: tuple[torch.Tensor, ...], sent_s: float, arrival_s: float) -> None:
        """A batch that began to arrive `sent_s` and is whole at `arrival_s`."""
        self._waiting.put((sequence, tensors, sent_s, arrival_s))

    def receive(self) -> Arrival:
        """Wait until the next batch has arrived."""
        item = self._waiting.get()
        if item is None or self.gone.is_set():
            self._waiting.put(None)
            raise PeerGoneError("memory: the stage before is gone")
        sequence, tensors, start_s, arrival_s = item
        if (size := sum(tensor.nbytes for tensor in tensors)) > self._limit_bytes:
            raise ProtocolError(f"memory: got a batch of {size} bytes, at most {self._limit_bytes} were agreed")
        try:
            wait_until(arrival_s, self.gone.is_set)
        except Cancelled:
            raise PeerGoneError("memory: the stage before is gone") from None
        # As a receiver takes a header: when that is there, and what came before has been read.
        start_s, self._last_end_s = max(start_s, self._last_end_s), time.monotonic()
        return Arrival(sequence, tensors, start_s, self._last_end_s)

    @property
    def buffer_bytes(self) -> None:
        """There is no socket."""
        return

    def shut_down(self) -> None:
        """Wake both ends."""
        self.gone.set()
        self._waiting.put(None)

    def close(self) -> None:
        """The same: there is nothing to hold."""
        self.shut_down()


class MemoryOutlet:
    """Batches that leave for another thread; made by an exchange."""

    def __init__(self, inlet: MemoryInlet, link: Link | None, line: _Line) -> None:
        self._inlet = inlet
        self._link = link
        self._line = line

    def send(self, sequence: int, tensors: Sequence[torch.Tensor]) -> None:
        """Hand over a copy, as a wire does; returns when it has left."""
        now_s = time.monotonic()
        delivered = as_delivered(tensors)
        busy_s, delay_s = self._times_s(sum(tensor.nbytes for tensor in delivered))
        departure_s = self._line.departure_s(now_s, busy_s)
        if self._inlet.gone.is_set():
            raise PeerGoneError("memory: the stage behind is gone")
        self._inlet.put(sequence, delivered, departure_s - busy_s + delay_s, departure_s + delay_s)
        try:
            wait_until(departure_s, self._inlet.gone.is_set)
        except Cancelled:
            raise PeerGoneError("memory: the stage behind is gone") from None

    def _times_s(self, size_bytes: int) -> tuple[float, float]:
        link = self._link
        if link is None:
            return 0.0, 0.0
        wire_bytes = size_bytes + link.header_bytes * math.ceil(size_bytes / link.mss_bytes)
        return wire_bytes * 8 / link.rate_bps, link.one_way_delay_s

    def tcp_info(self) -> dict[str, Scalar]:
        """There is no socket."""
        return {}

    @property
    def buffer_bytes(self) -> None:
        """There is no socket."""
        return

    def shut_down(self) -> None:
        """Wake both ends."""
        self._inlet.shut_down()

    def close(self) -> None:
        """The same: there is nothing to hold."""
        self.shut_down()


class MemoryLanding:
    """Where results arrive within the process."""

    def __init__(self, inlet: MemoryInlet, address: str) -> None:
        self._inlet = inlet
        self.address = address

    def accept(self) -> MemoryInlet:
        """Nobody has to be waited for."""
        return self._inlet

    def close(self) -> None:
        """Wake whoever receives."""
        self._inlet.shut_down()


class MemoryEnds:
    """A pipeline's ends in memory.

    Parameters
    ----------
    hosts : of the stages; `sink` is where the orchestrator is.
    """

    def __init__(self, exchange: MemoryExchange, hosts: Sequence[str], sink: str) -> None:
        self._exchange = exchange
        self._places = (sink, *hosts, sink)

    def stage_address(self, position: int) -> str:
        """The link to the stage from the one before, or from the sink."""
        return address(*self._places[position : position + 2])

    def results(self, pipeline: str, position: int, limit_bytes: int) -> MemoryLanding:
        """An inlet of the exchange."""
        return MemoryLanding(self._exchange.inlet(pipeline, position, limit_bytes), self.stage_address(position))

    def inputs(self, pipeline: str) -> MemoryOutlet:
        """The way from the sink to the first stage."""
        return self._exchange.outlet(self.stage_address(0), pipeline, 0)

    def check(self) -> None:
        """Memory does not break."""
