"""Batches over TCP, each on a connection of its own that has carried nothing before: what slow start costs.

A connection is dialled and proved ahead, while the batch before is under way, so that no handshake is in a batch's
time; what it has exchanged by then is a few hundred bytes, which do not open its congestion window. It carries one
batch and is closed. Batches that follow each other faster than connections can be dialled wait for them, so a full line
is not measured so.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

import torch

from hwrun.backends.contract import Arrival
from hwrun.backends.tcp import TcpInlet, TcpOutlet
from hwrun.errors import HwrunError, PeerGoneError
from hwrun.records import Scalar


class ColdTcpInlet:
    """Batches that arrive one a connection; connections are added as they are accepted, in order."""

    def __init__(self) -> None:
        self._accepted: queue.SimpleQueue[TcpInlet | None] = queue.SimpleQueue()
        self._current: TcpInlet | None = None
        self._gone = False
        self._buffer_bytes: int | None = None

    def add(self, inlet: TcpInlet) -> None:
        """The next batch arrives there."""
        if self._gone:
            inlet.close()
            return
        self._accepted.put(inlet)

    def receive(self) -> Arrival:
        """Wait for the next connection, and for its batch."""
        inlet = self._accepted.get()
        if inlet is None or self._gone:
            self._accepted.put(None)
            if inlet is not None:
                inlet.close()
            raise PeerGoneError("data: the stage before is gone")
        self._current = inlet
        try:
            arrival = inlet.receive()
            self._buffer_bytes = inlet.buffer_bytes
        except HwrunError:
            self.shut_down()  # a connection without a batch is one that was dialled ahead when its stage ended
            raise
        finally:
            self._current = None
            inlet.close()
        return arrival

    @property
    def buffer_bytes(self) -> int | None:
        """SO_RCVBUF of the last connection when its batch had arrived."""
        return self._buffer_bytes

    def shut_down(self) -> None:
        """End what is under way and what waits."""
        self._gone = True
        if (current := self._current) is not None:
            current.shut_down()
        self._accepted.put(None)

    def close(self) -> None:
        """Close connections that carried nothing."""
        self._gone = True
        with contextlib.suppress(queue.Empty):
            while True:
                inlet = self._accepted.get_nowait()
                if inlet is not None:
                    inlet.close()
        self.shut_down()


class ColdTcpOutlet:
    """Batches that leave one a connection.

    Parameters
    ----------
    dial : makes a connection to the next stage, accepted by it.
    """

    def __init__(self, dial: Callable[[], TcpOutlet]) -> None:
        self._dial = dial
        self._dialled: queue.SimpleQueue[TcpOutlet | HwrunError] = queue.SimpleQueue()
        self._dialling: threading.Thread | None = None
        self._current: TcpOutlet | None = None
        self._gone = False
        self._tcp_info: dict[str, Scalar] = {}
        self._buffer_bytes: int | None = None
        self._dialled.put(dial())  # the first one here, so that a stage that cannot be reached is told at once

    def send(self, sequence: int, tensors: Sequence[torch.Tensor]) -> None:
        """Send on a fresh connection, and have the next one dialled."""
        outlet = self._dialled.get()
        if isinstance(outlet, HwrunError):
            self._dialled.put(outlet)
            raise outlet
        if self._gone:
            outlet.close()
            raise PeerGoneError("data: shut down")
        self._current = outlet
        try:
            outlet.send(sequence, tensors)
            self._tcp_info, self._buffer_bytes = outlet.tcp_info(), outlet.buffer_bytes
        finally:
            self._current = None
            # What the kernel holds is still sent: the far end says nothing that could break it off.
            outlet.close()
        self._dialling = threading.Thread(target=self._dial_next, name="dial", daemon=True)
        self._dialling.start()

    def _dial_next(self) -> None:
        try:
            outlet = self._dial()
        except HwrunError as error:
            self._dialled.put(error)
            return
        if self._gone:
            outlet.close()
        self._dialled.put(outlet)

    def tcp_info(self) -> dict[str, Scalar]:
        """TCP_INFO of the last connection when its batch was the kernel's."""
        return self._tcp_info

    @property
    def buffer_bytes(self) -> int | None:
        """SO_SNDBUF of the last connection when its batch was the kernel's."""
        return self._buffer_bytes

    def shut_down(self) -> None:
        """End what is under way; whoever waits for a connection is told."""
        self._gone = True
        if (current := self._current) is not None:
            current.shut_down()
        self._end_dialled()
        self._dialled.put(PeerGoneError("data: shut down"))

    def _end_dialled(self) -> None:
        """Close a connection that was dialled and carried nothing."""
        with contextlib.suppress(queue.Empty):
            while True:
                outlet = self._dialled.get_nowait()
                if isinstance(outlet, TcpOutlet):
                    outlet.close()

    def close(self) -> None:
        """Wait for a dial under way, too."""
        self.shut_down()
        if self._dialling is not None:
            self._dialling.join()
        self._end_dialled()
