"""The orchestrator: deploys a plan on workers, joins its data path, and feeds and empties it as one line.

Activations go from worker to worker; only dispatches (or inputs, where the source is the sink) and results pass
here. Every time of a batch's start and return is taken on this process's monotonic clock.
"""

from __future__ import annotations

import itertools
import math
import queue
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from hwrun.backends.contract import Arrival, Ends, Inlet, Landing, Outlet
from hwrun.errors import CellTimeOverError, HwrunError, PeerGoneError, TimedOutError
from hwrun.records import BackendName, ComputeDevice, Phases, Scalar, SocketBuffers, WorkerKind
from hwrun.stages.runner import Cancelled, sharpen_timer, wait_until
from hwrun.wire import control
from hwrun.wire.handover import Handover, HandoverClosed
from hwrun.wire.tensors import outgoing
from hwrun.worker_client import WorkerClient
from paretosim.plan import Stage

# Not a number that feeding will reach: the batch that primes emulated stages and is compared.
_PRIMING_SEQUENCE = 2**48
_CONNECT_LIMIT_S = 30.0
# How long a broken data connection waits for a worker to say, or by its end to show, what happened.
_CAUSE_LIMIT_S = 0.5
# How often waiting for a result is interrupted to see whether the path to it still stands.
_CHECK_INTERVAL_S = 1.0
# How much later than batches requests may be answered: a worker that is computing is torn down when its batch is done.
_GRACE_S = 30.0
# A worker answers Ping whatever its stages do, so one that does not hangs.
_PING_LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed: the stages that take part, in order, and how they run.

    `targets_s` are emulated compute times, None where stages compute. `digests` has one entry for each block of
    the model. `limit_bytes` is the longest tensor payload of any stage. With `cold` every batch goes from stage to
    stage on a connection of its own. `devices` are what stages compute on, None (or none said) for the workers' own.
    """

    model: str
    stages: tuple[Stage, ...]
    targets_s: tuple[float, ...] | None
    compute_each: bool
    digests: tuple[str, ...]
    inputs: tuple[torch.Tensor, ...]
    input_at_sink: bool
    batch: int
    seed: int
    limit_bytes: int
    queue_depth: int
    backend: BackendName = "tcp"
    workers: WorkerKind = "overlapped"
    cold: bool = False
    devices: tuple[ComputeDevice | None, ...] = ()


@dataclass(frozen=True)
class Collected:
    """What a pipeline's stages recorded: phases by batch, one entry a stage, and what TCP says of their sockets.

    `tcp_info` is of each stage's sending socket, `buffers` of each hop between two stages.
    """

    phases: dict[int, tuple[Phases, ...]]
    tcp_info: tuple[dict[str, Scalar], ...]
    buffers: tuple[SocketBuffers, ...]


class Pipeline:
    """A deployed plan at work: the `Line` that feeding feeds. Use it as a context manager.

    Parameters
    ----------
    workers : the one of each stage; several stages may run on one.
    limit_s : how long batches may take from when it is deployed, or from the last `renew`; requests have a little more.
        Deploying has bounds of its own.

    Attributes
    ----------
    computes_on : what each stage computes on, once deployed; None where it computes nothing.
    """

    def __init__(
        self,
        workers: Sequence[WorkerClient],
        ends: Ends,
        deployment: Deployment,
        limit_s: float,
    ) -> None:
        self._workers = tuple(workers)
        self._ends = ends
        self._deployment = deployment
        self._limit_s = limit_s
        self._deadline_s = math.inf
        self._name = secrets.token_hex(8)
        self._returned: queue.SimpleQueue[Arrival | HwrunError] = queue.SimpleQueue()
        self._inputs: Handover[int] = Handover(None)
        self._outlet: Outlet | None = None
        self._inlet: Inlet | None = None
        self._landing: Landing | None = None
        self._threads: list[threading.Thread] = []
        self._failure: str | None = None
        self._failed = threading.Event()
        self._closing = False
        self.computes_on: tuple[str | None, ...] = ()

    def __enter__(self) -> Self:
        sharpen_timer()  # paced dispatches are timed in the calling thread
        try:
            for worker in self._workers:
                worker.on_failure = self._fail
                if worker.gone is not None:
                    raise PeerGoneError(worker.gone)
            self._deploy()
            self._connect()
            self.renew(self._limit_s)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deploy(self) -> None:
        deployment = self._deployment
        specs, payload = outgoing(deployment.inputs)
        devices = deployment.devices or (None,) * len(deployment.stages)
        computes_on = []
        for position, (worker, stage) in enumerate(zip(self._workers, deployment.stages, strict=True)):
            request = control.DeployStage(
                pipeline=self._name,
                position=position,
                model=deployment.model,
                first=stage.first,
                last=stage.last,
                digests=deployment.digests[stage.first : stage.last],
                batch=deployment.batch,
                seed=deployment.seed,
                target_s=deployment.targets_s[position] if deployment.targets_s is not None else None,
                compute_each=deployment.compute_each,
                keeps_input=position == 0 and not deployment.input_at_sink,
                limit_bytes=deployment.limit_bytes,
                queue_depth=deployment.queue_depth,
                # The first stage's batches come from here, which is in no RPC group.
                backend="tcp" if position == 0 and deployment.backend == "rpc" else deployment.backend,
                workers=deployment.workers,
                cold_input=deployment.cold and position > 0,
                device=devices[position],
            )
            computes_on.append(worker.deploy(request, specs, payload))
        self.computes_on = tuple(computes_on)

    def _connect(self) -> None:
        self._landing = self._ends.results(self._name, len(self._workers), self._deployment.limit_bytes)
        self._start("results", self._receive_results)
        for position in reversed(range(len(self._workers))):
            is_last = position == len(self._workers) - 1
            address = self._landing.address if is_last else self._ends.stage_address(position + 1)
            cold = self._deployment.cold and not is_last
            request = control.Connect(pipeline=self._name, position=position, address=address, cold=cold)
            self._workers[position].request(request, control.Done, _CONNECT_LIMIT_S)
        if self._deployment.input_at_sink:
            self._outlet = self._ends.inputs(self._name)
            self._start("inputs", self._send_inputs)

    def renew(self, limit_s: float) -> None:
        """Give what comes next so long, from now on, whatever was left."""
        self._deadline_s = time.monotonic() + limit_s
        for worker in self._workers:
            worker.answer_by_s = self._deadline_s + _GRACE_S

    def dispatch(self, sequence: int) -> float:
        """Start a batch; when that was, on the monotonic clock. Inputs that travel are queued, in order."""
        self._check()
        dispatched_s = time.monotonic()
        if self._deployment.input_at_sink:
            try:
                self._inputs.put(sequence)
            except HandoverClosed:
                raise PeerGoneError(self._failure or "inputs: the pipeline is closed") from None
        else:
            self._workers[0].dispatch(sequence)
        return dispatched_s

    def take_returned(self) -> tuple[int, float]:
        """Wait for the next result; its number, and when its last byte was here."""
        arrival = self._take()
        arrival.release()
        return arrival.sequence, arrival.end_s

    def wait_until(self, time_s: float) -> None:
        """Return at that time of the monotonic clock.

        Raises
        ------
        PeerGoneError : the pipeline broke down meanwhile.
        TimedOutError : the time was over before.
        """
        try:
            wait_until(min(time_s, self._deadline_s), lambda: self._failure is not None)
        except Cancelled:
            self._check()
        if time_s > self._deadline_s:
            raise self._time_over()

    def prime(self) -> tuple[torch.Tensor, ...]:
        """Send one batch through that every stage computes for real unless it kept the result; a copy of the output."""
        self.dispatch(_PRIMING_SEQUENCE)
        arrival = self._take()
        outputs = tuple(tensor.clone() for tensor in arrival.tensors)
        arrival.release()
        return outputs

    def collect(self) -> Collected:
        """What each stage recorded since the last call."""
        parts = [
            worker.request(control.Collect(pipeline=self._name, position=position), control.Collected)
            for position, worker in enumerate(self._workers)
        ]
        sequences = set.intersection(*(set(part.phases) for part in parts))
        return Collected(
            phases={number: tuple(part.phases[number] for part in parts) for number in sequences},
            tcp_info=tuple(part.tcp_info for part in parts),
            buffers=tuple(
                SocketBuffers(send_bytes=sender.send_buffer_bytes, receive_bytes=receiver.receive_buffer_bytes)
                for sender, receiver in itertools.pairwise(parts)
            ),
        )

    def close(self) -> None:
        """Tear down what stands of it; the workers keep their weights and wait for the next plan."""
        self._closing = True
        self._failed.set()
        self._inputs.close()
        # From the last to the first, so that none sees the one before it leave while it is still to work.
        for worker in reversed(self._workers):
            if worker.gone is None:
                # A worker that cannot even tear down is found dead, and restarted, by whoever uses it next.
                try:
                    worker.request(control.TearDown(pipeline=self._name), control.Done, _CONNECT_LIMIT_S)
                except HwrunError as error:
                    worker.gone = worker.gone or str(error)
        if self._landing is not None:
            self._landing.close()
        for end in (self._outlet, self._inlet):
            if end is not None:
                end.shut_down()
        for thread in self._threads:
            thread.join()
        for end in (self._outlet, self._inlet):
            if end is not None:
                end.close()
        for worker in self._workers:
            worker.on_failure = worker.answer_by_s = None

    def _start(self, name: str, work: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except HandoverClosed:
            return
        except (HwrunError, OSError) as error:
            # A data connection that ends is an effect; its cause comes over control, perhaps a moment later.
            self._failed.wait(_CAUSE_LIMIT_S)
            self._fail(None, str(error))

    def _receive_results(self) -> None:
        assert self._landing is not None  # _connect opened it
        self._inlet = self._landing.accept()
        while True:
            self._returned.put(self._inlet.receive())

    def _send_inputs(self) -> None:
        assert self._outlet is not None  # _connect dialled it
        while True:
            self._outlet.send(self._inputs.get(), self._deployment.inputs)

    def _take(self) -> Arrival:
        item = None
        while item is None:
            left_s = self._deadline_s - time.monotonic()
            try:
                item = self._returned.get(timeout=max(0.0, min(left_s, _CHECK_INTERVAL_S)))
            except queue.Empty:
                self._ends.check()
                if left_s <= _CHECK_INTERVAL_S:
                    raise self._time_over() from None
        if isinstance(item, HwrunError):
            self._returned.put(item)
            raise item
        return item

    def _time_over(self) -> TimedOutError:
        """Why not all batches are back in time: workers that hang, or else nothing but that they take longer."""
        silent = []
        for worker in dict.fromkeys(self._workers):
            try:
                worker.request(control.Ping(), control.Pong, _PING_LIMIT_S)
            except HwrunError as error:
                silent.append(str(error))
        if silent:
            return TimedOutError("; ".join(silent))
        return CellTimeOverError("results: not all were back within the cell's time limit")

    def _fail(self, pipeline: str | None, reason: str) -> None:
        if self._closing or pipeline not in (None, self._name) or self._failure is not None:
            return
        self._failure = reason
        self._failed.set()
        self._inputs.close()
        self._returned.put(PeerGoneError(reason))

    def _check(self) -> None:
        if self._failure is not None:
            raise PeerGoneError(self._failure)
