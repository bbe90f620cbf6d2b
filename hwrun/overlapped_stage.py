"""A deployed stage at work: receive, compute and send in three threads with bounded queues between them.

So a stage can receive batch n + 1 and send batch n − 1 while it computes batch n. A full queue stops the thread
before it, and a receive thread that stops reading makes TCP stop the sender: that is all the flow control.
Receive buffers go back to their pool when nothing views them any more.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hwrun.errors import HwrunError, ProtocolError
from hwrun.records import Phases
from hwrun.stage_runner import Cancelled, StageResult, StageRunner, sharpen_timer
from hwrun.wire.control import Collected
from hwrun.wire.frames import Kind
from hwrun.wire.handover import Handover, HandoverClosed
from hwrun.wire.tcp import BufferPool, Connection, buffer_bytes, tcp_info
from hwrun.wire.tensors import incoming, outgoing


@dataclass(frozen=True)
class _Arrived:
    sequence: int
    tensors: tuple[torch.Tensor, ...]
    buffer: memoryview | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class _Leaving:
    arrived: _Arrived
    result: StageResult


class OverlappedStage:
    """The three threads of a stage and what they recorded.

    Parameters
    ----------
    kept_input : the input batch that stage 1 runs on each dispatch; None where batches arrive on a connection.
    limit_bytes : the longest payload agreed for this plan.
    queue_depth : batches that may wait before computing, and before sending.
    on_failure : told once, with a reason, when the stage breaks down.
    """

    def __init__(
        self,
        runner: StageRunner,
        *,
        kept_input: tuple[torch.Tensor, ...] | None,
        limit_bytes: int,
        queue_depth: int,
        pool: BufferPool,
        threads: int,
        on_failure: Callable[[str], None],
    ) -> None:
        self._runner = runner
        self._kept_input = kept_input
        self._limit_bytes = limit_bytes
        self._pool = pool
        self._torch_threads = threads
        self._on_failure = on_failure
        # Dispatched batches are numbers without data, so a burst of them may wait in any number.
        self._arrived: Handover[_Arrived] = Handover(None if kept_input is not None else queue_depth)
        self._leaving: Handover[_Leaving] = Handover(queue_depth)
        self._phases: dict[int, Phases] = {}
        self._recording = threading.Lock()
        self._upstream: Connection | None = None
        self._downstream: Connection | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._failed = False

    def take_upstream(self, connection: Connection) -> None:
        """Receive batches from this connection from now on.

        Raises
        ------
        ProtocolError : the stage has its input already.
        """
        if self._kept_input is not None or self._upstream is not None:
            raise ProtocolError("data: this stage has its input already, expected one connection to it at most")
        self._upstream = connection
        self._start("receive", self._receive)

    def start(self, downstream: Connection) -> None:
        """Send what comes out to this connection; computing begins."""
        self._downstream = downstream
        self._start("compute", self._compute)
        self._start("send", self._send)

    def dispatch(self, sequence: int) -> None:
        """Run the kept input as batch `sequence`."""
        if self._kept_input is None:
            raise ProtocolError("dispatch: this stage gets its batches over a connection, not by dispatch")
        self._arrived.put(_Arrived(sequence, self._kept_input))

    def collect(self) -> Collected:
        """Phases recorded since the last call, by sequence number, and what the kernel says of both sockets.

        `send_end_s` is when the send call had returned: the last byte was then the kernel's, not yet the peer's,
        which may even hold it a moment earlier than this thread is scheduled again.
        """
        with self._recording:
            phases, self._phases = self._phases, {}
        sending = tcp_info(self._downstream.socket) if self._downstream else {}
        return Collected(
            phases=phases,
            tcp_info=sending,
            send_buffer_bytes=buffer_bytes(self._downstream, socket.SO_SNDBUF),
            receive_buffer_bytes=buffer_bytes(self._upstream, socket.SO_RCVBUF),
        )

    def cancel(self) -> None:
        """Let waiting for an emulated stage's time end; for a stage that is about to be stopped."""
        self._stopping.set()

    def stop(self) -> None:
        """Close both connections and wait for the threads."""
        self.cancel()
        self._arrived.close()
        self._leaving.close()
        for connection in (self._upstream, self._downstream):
            if connection is not None:
                connection.shut_down()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for connection in (self._upstream, self._downstream):
            if connection is not None:
                connection.close()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (HandoverClosed, Cancelled):
            return
        # RuntimeError is torch's own: shapes that do not fit the stage, no memory left.
        except (HwrunError, RuntimeError, OSError) as error:
            if not self._stopping.is_set() and not self._failed:
                self._failed = True
                self._on_failure(f"{name}: {error}")
            # Closing tells the neighbours, whose threads may be blocked on this one.
            self._arrived.close()
            self._leaving.close()
            for connection in (self._upstream, self._downstream):
                if connection is not None:
                    connection.shut_down()

    def _receive(self) -> None:
        assert self._upstream is not None  # started by take_upstream
        while True:
            message = self._upstream.receive(self._pool, self._limit_bytes)
            if message.header.kind is not Kind.BATCH:
                raise ProtocolError(f"data: got a {message.header.kind.name} frame, expected BATCH")
            self._arrived.put(
                _Arrived(message.header.sequence, incoming(message), message.buffer, message.start_s, message.end_s)
            )

    def _compute(self) -> None:
        sharpen_timer()
        torch.set_num_threads(self._torch_threads)
        while True:
            arrived = self._arrived.get()
            result = self._runner.run(arrived.tensors, self._stopping.is_set)
            if arrived.buffer is not None and not result.holds_inputs:
                self._pool.give(arrived.buffer)
            self._leaving.put(_Leaving(arrived, result))

    def _send(self) -> None:
        assert self._downstream is not None  # started by start
        while True:
            leaving = self._leaving.get()
            # Held until the batch is recorded: whoever holds its result and collects must find it.
            with self._recording:
                self._send_and_record(leaving, self._downstream)

    def _send_and_record(self, leaving: _Leaving, downstream: Connection) -> None:
        arrived, result = leaving.arrived, leaving.result
        start_s = time.monotonic()
        specs, payload = outgoing(result.tensors)
        downstream.send(Kind.BATCH, arrived.sequence, specs=specs, payload=payload)
        end_s = time.monotonic()
        if arrived.buffer is not None and result.holds_inputs:
            self._pool.give(arrived.buffer)
        self._phases[arrived.sequence] = Phases(
            receive_start_s=arrived.start_s,
            receive_end_s=arrived.end_s,
            compute_start_s=result.compute_start_s,
            compute_end_s=result.compute_end_s,
            send_start_s=start_s,
            send_end_s=end_s,
            overrun=result.overrun,
        )
