"""A deployed stage: what overlapped and serial ones have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hwrun.backends.contract import Arrival, Inlet, Outlet
from hwrun.errors import ProtocolError, in_words
from hwrun.records import Phases
from hwrun.stages.runner import Cancelled, StageResult, StageRunner
from hwrun.wire.control import Collected
from hwrun.wire.handover import Handover, HandoverClosed


@dataclass(frozen=True)
class Batch:
    """A batch in a stage: one that arrived, or the kept input dispatched under a number."""

    sequence: int
    tensors: tuple[torch.Tensor, ...]
    arrival: Arrival | None = None

    def release(self) -> None:
        """Give its memory back, if it came from somewhere."""
        if self.arrival is not None:
            self.arrival.release()


class Stage:
    """A stage's ends, its threads' lives and what they recorded; how they share the work is a subclass's.

    Parameters
    ----------
    kept_input : the input batch that stage 1 runs on each dispatch; None where batches arrive at an inlet.
    waiting : dispatched or arrived batches that may wait before computing; None for any number.
    threads : of torch.
    on_failure : told once, with a reason, when the stage breaks down.
    """

    def __init__(
        self,
        runner: StageRunner,
        *,
        kept_input: tuple[torch.Tensor, ...] | None,
        waiting: int | None,
        threads: int,
        on_failure: Callable[[str], None],
    ) -> None:
        self._runner = runner
        self._kept_input = kept_input
        self._torch_threads = threads
        self._on_failure = on_failure
        # Dispatched batches are numbers without data, so a burst of them may wait in any number.
        self._arrived: Handover[Batch] = Handover(None if kept_input is not None else waiting)
        self._phases: dict[int, Phases] = {}
        self._recording = threading.Lock()
        self._starting = threading.Lock()
        self._inlet: Inlet | None = None
        self._outlet: Outlet | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._failed = False

    def take_upstream(self, inlet: Inlet) -> None:
        """Receive batches there from now on.

        Raises
        ------
        ProtocolError : the stage has its input already.
        """
        if self._kept_input is not None or self._inlet is not None:
            raise ProtocolError("data: this stage has its input already, expected one connection to it at most")
        with self._starting:
            self._inlet = inlet
            self._started()

    def start(self, outlet: Outlet) -> None:
        """Send what comes out there; computing begins."""
        with self._starting:
            self._outlet = outlet
            self._started()

    def _started(self) -> None:
        """An end has come: begin what can begin with the ends there are."""
        raise NotImplementedError

    def dispatch(self, sequence: int) -> None:
        """Run the kept input as batch `sequence`."""
        if self._kept_input is None:
            raise ProtocolError("dispatch: this stage gets its batches over a connection, not by dispatch")
        self._arrived.put(Batch(sequence, self._kept_input))

    def collect(self) -> Collected:
        """Phases recorded since the last call, by sequence number, and what the kernel says of both sockets.

        `send_end_s` is when the send call had returned: the last byte was then the kernel's, not yet the peer's,
        which may even hold it a moment earlier than this thread is scheduled again.
        """
        with self._recording:
            phases, self._phases = self._phases, {}
        return Collected(
            phases=phases,
            tcp_info=self._outlet.tcp_info() if self._outlet else {},
            send_buffer_bytes=self._outlet.buffer_bytes if self._outlet else None,
            receive_buffer_bytes=self._inlet.buffer_bytes if self._inlet else None,
        )

    def cancel(self) -> None:
        """Let waiting for an emulated stage's time end; for a stage that is about to be stopped."""
        self._stopping.set()

    def stop(self) -> None:
        """Close both ends and wait for the threads."""
        self.cancel()
        self._wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for end in (self._inlet, self._outlet):
            if end is not None:
                end.close()

    def _wake(self) -> None:
        self._arrived.close()
        for end in (self._inlet, self._outlet):
            if end is not None:
                end.shut_down()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (HandoverClosed, Cancelled):
            return
        # Any: what a block raises on tensors that do not fit it, or for want of memory, is its author's choice.
        except Exception as error:
            if not self._stopping.is_set() and not self._failed:
                self._failed = True
                self._on_failure(f"{name}: {in_words(error)}")
            # Closing tells the neighbours, whose threads may be blocked on this one.
            self._wake()

    def _receive_one(self) -> Batch:
        assert self._inlet is not None  # whoever receives was started by it
        arrival = self._inlet.receive()
        return Batch(arrival.sequence, arrival.tensors, arrival)

    def _compute_one(self, batch: Batch) -> StageResult:
        result = self._runner.run(batch.tensors, self._stopping.is_set)
        if not result.holds_inputs:
            batch.release()
        return result

    def _send_one(self, batch: Batch, result: StageResult) -> None:
        assert self._outlet is not None  # whoever sends was started by it
        # Held until the batch is recorded: whoever holds its result and collects must find it.
        with self._recording:
            start_s = time.monotonic()
            self._outlet.send(batch.sequence, result.tensors)
            end_s = time.monotonic()
            if result.holds_inputs:
                batch.release()
            arrival = batch.arrival
            self._phases[batch.sequence] = Phases(
                receive_start_s=None if arrival is None else arrival.start_s,
                receive_end_s=None if arrival is None else arrival.end_s,
                compute_start_s=result.compute_start_s,
                compute_end_s=result.compute_end_s,
                send_start_s=start_s,
                send_end_s=end_s,
                overrun=result.overrun,
                copy_in_s=None if result.device_times is None else result.device_times.copy_in_s,
                copy_out_s=None if result.device_times is None else result.device_times.copy_out_s,
            )
