"""A worker: serves one orchestrator, runs the stages it is given, and outlives whatever a peer sends.

Two listeners. The control listener takes one orchestrator at a time; a second is told so and turned away. The
data listener takes activations from the stage before, and probes. Every connection proves the token before
anything of it is parsed; a bad frame closes that connection alone, with a line in the log.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

import torch

from hwrun.backends.memory import MemoryExchange
from hwrun.backends.rpc import RpcReach
from hwrun.doctor.gathering import gather
from hwrun.errors import HwrunError, PeerGoneError, ProtocolError, in_words
from hwrun.machine.clock_state import clock_state
from hwrun.machine.compute_device import available_devices
from hwrun.machine.conditions import alike_versions, version_differences
from hwrun.machine.sampling import Sampler, nvml_gpus
from hwrun.machine.steady import usable_cores
from hwrun.models.weights import WeightStore
from hwrun.probing.probe import MAX_ECHO_S, RESTED_S, answer_probe, run_probe
from hwrun.records import ComputeDevice, Scalar
from hwrun.shaping.kernel import read_all
from hwrun.shaping.on_the_wire import from_wire
from hwrun.shaping.session import ShapedSession
from hwrun.stages.deployed import DeployedStages
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, admit_peer, dial_peer
from hwrun.wire.authentication import Purpose
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import decode_control, send_control
from hwrun.wire.data_path import receive_hello
from hwrun.wire.frames import Kind
from hwrun.wire.sockets import bound_sends
from hwrun.wire.tensors import incoming

# Connections that have not proved the token yet; more are closed unread.
_MAX_UNPROVED = 16
# How long the next orchestrator waits for what the last one, which has left, still has here; shorter than any dialler's
# patience. And how often it looks whether that one has left.
_LEAVING_LIMIT_S = 3.0
_LEAVING_LOOK_S = 0.05


def _log_to_stderr(line: str) -> None:
    # A log on a full disk must not end the thread that wanted to say something.
    with contextlib.suppress(OSError):
        print(f"hwrun worker: {line}", file=sys.stderr, flush=True)


class Worker:
    """Serves orchestrators on `control_listener` and peers on `data_listener` until stopped.

    Without a data listener its peers are in this process.

    Parameters
    ----------
    credentials : what peers have to show; an empty token only where both listeners are local.
    threads : of torch, in every stage.
    once : end when the first orchestrator is gone.
    allowed : factories of networks that an orchestrator may ask for, besides the catalogue.
    exchange : joins it with other workers of this process; None in a process of its own.
    device : what its stages compute on that are asked for without one.
    rpc_reach : whom it may form groups of backend rpc, which is pickle, with.
    log : takes one line at a time; default stderr.
    """

    def __init__(
        self,
        control_listener: socket.socket,
        data_listener: socket.socket | None,
        *,
        credentials: Credentials,
        store: WeightStore,
        threads: int,
        once: bool = False,
        allowed: Collection[str] = (),
        conditions: dict[str, Scalar] | None = None,
        exchange: MemoryExchange | None = None,
        rpc_reach: RpcReach = "nobody",
        device: ComputeDevice = "cpu",
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._listeners = (control_listener,) if data_listener is None else (control_listener, data_listener)
        self._credentials = credentials
        self._store = store
        self._threads = threads
        self._once = once
        self._conditions = dict(conditions or {})
        self._log = log or _log_to_stderr
        self._pool = BufferPool()
        self._sampler = Sampler(nvml_gpus())
        self._session = threading.Lock()
        self._serving: Connection | None = None
        self._stages = DeployedStages(
            credentials=credentials,
            store=store,
            threads=threads,
            allowed=allowed,
            exchange=exchange,
            device=device,
            rpc_reach=rpc_reach,
        )
        control_port = () if control_listener.family == socket.AF_UNIX else (control_listener.getsockname()[1],)
        self._shaping = ShapedSession(control_port)
        self._stop_requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._unproved = threading.BoundedSemaphore(_MAX_UNPROVED)
        self._open: set[Connection] = set()
        self._open_lock = threading.Lock()

    def serve(self) -> None:
        """Take connections until `stop` is called, or with `once` until the orchestrator has left."""
        torch.set_num_threads(self._threads)
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        self._stop_requests.get()
        self._stopped.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            listener.close()
        with self._open_lock:
            for connection in self._open:
                connection.shut_down()
        self._stages.tear_down()

    def stop(self) -> None:
        """Make `serve` return; safe in a signal handler, where an Event could wait for itself."""
        self._stop_requests.put(None)

    def stop_unless_serving(self) -> None:
        """Make `serve` return if no orchestrator is connected."""
        if not self._session.locked():
            self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                stream, address = listener.accept()
            except OSError as error:
                if self._stopped.is_set() or listener.fileno() < 0:
                    return
                self._log(f"accept: {error}; waiting for descriptors")
                self._stopped.wait(0.1)
                continue
            peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a local peer"
            if not self._unproved.acquire(blocking=False):
                self._log(f"{peer}: closed unread, {_MAX_UNPROVED} connections have yet to prove the token")
                stream.close()
                continue
            is_control = listener is self._listeners[0]
            threading.Thread(target=self._admit, args=(stream, peer, is_control), daemon=True).start()

    def _admit(self, stream: socket.socket, peer: str, is_control: bool) -> None:
        try:
            try:
                admitted, purpose = admit_peer(stream, self._credentials)
            finally:
                self._unproved.release()
            if (purpose is Purpose.CONTROL) is not is_control:
                raise ProtocolError(f"hello: got purpose {purpose.name}, expected another on this port")
        except (HwrunError, OSError) as error:
            self._log(f"{peer}: closed: {error}")
            stream.close()
            return
        connection = Connection(admitted, peer)
        with self._open_lock:
            self._open.add(connection)
        keep = False
        try:
            if purpose is Purpose.CONTROL:
                bound_sends(admitted)
                self._control(connection)
            elif purpose is Purpose.PROBE:
                answer_probe(connection)
            else:
                self._take_data(connection)
                keep = True  # the stage closes it
        except (HwrunError, OSError) as error:
            if not self._stopped.is_set():
                self._log(f"{peer}: closed: {error}")
        finally:
            with self._open_lock:
                self._open.discard(connection)
            if not keep:
                connection.close()

    def _take_data(self, connection: Connection) -> None:
        hello = receive_hello(connection, control.DataHello)
        try:
            self._stages.take_connection(hello, connection)
        except ProtocolError as error:
            send_control(connection, control.Failed(str(error)))
            raise
        send_control(connection, control.Done())

    def _control(self, connection: Connection) -> None:
        if (reason := self._begin_session(connection)) is not None:
            send_control(connection, control.Refused(reason, busy=True))
            raise ProtocolError("control: a second orchestrator was turned away")
        try:
            hello = receive_hello(connection, control.Hello)
            own = alike_versions()
            if differences := version_differences(own, hello.versions, "worker", "orchestrator"):
                send_control(connection, control.Refused(f"{differences}; install the same on both"))
                raise ProtocolError(f"control: {differences}")
            data_port = self._listeners[1].getsockname()[1] if len(self._listeners) > 1 else 0
            send_control(
                connection,
                control.Welcome(
                    versions=own,
                    pid=os.getpid(),
                    data_port=data_port,
                    conditions=self._conditions,
                    devices=available_devices(),
                    qdiscs=read_all() if len(self._listeners) > 1 else {},
                ),
            )
            self._serve_orchestrator(connection)
        finally:
            self._stages.leave()
            self._sampler.stop()
            self._unshape()
            self._serving = None
            self._session.release()
            if self._once:
                self.stop()

    def _begin_session(self, connection: Connection) -> str | None:
        """Serve this orchestrator from now on; or why not.

        One that has left, or was killed, is still served until what it ran has ended: the next one, which may well be
        the same person's, waits for that.
        """
        deadline_s = time.monotonic() + _LEAVING_LIMIT_S
        while not self._session.acquire(timeout=_LEAVING_LOOK_S):
            serving = self._serving
            if serving is not None and not serving.peer_has_left() and serving is self._serving:
                return f"worker {os.getpid()} serves another orchestrator; wait until it is done, or use another worker"
            if time.monotonic() > deadline_s:
                return f"worker {os.getpid()} still ends what it ran for an orchestrator that has left; wait a moment"
        self._serving = connection
        return None

    def _serve_orchestrator(self, connection: Connection) -> None:
        while True:
            try:
                message = connection.receive(self._pool, control.CONTROL_LIMIT_BYTES)
            except PeerGoneError:
                return  # the orchestrator is done, or gone: both end the session
            self._shaping.heard()
            if message.header.kind is Kind.DISPATCH:
                self._stages.dispatch(message.header.sequence)
                continue
            request = decode_control(message)
            self._pool.give(message.buffer)
            try:
                reply = self._answer(request, connection)
            except ProtocolError:
                raise
            # Any other, the disk's, torch's, a network's own: the orchestrator is told, and the worker lives on.
            except Exception as error:
                self._log(f"{type(request).__name__}: {in_words(error)}")
                reply = control.Failed(in_words(error))
            send_control(connection, reply)

    def _answer(self, request: control.ControlMessage, connection: Connection) -> control.ControlMessage:
        match request:
            case control.Ping():
                return control.Pong(time.monotonic())
            case control.MissingBlocks():
                missing = tuple(digest for digest in request.digests if not self._store.has(digest))
                return control.Missing(missing, tuple(map(self._store.held_bytes, missing)))
            case control.StoreBlock():
                chunks = self._chunks(connection, request.size_bytes - request.offset_bytes)
                try:
                    self._store.receive(request.digest, request.offset_bytes, chunks)
                finally:
                    # What still comes of a block that cannot be kept must not be taken for the next request.
                    for _ in chunks:
                        pass
                return control.Done()
            case control.DeployStage():
                return self._deploy(request, connection)
            case control.Connect():
                self._stages.connect(request)
                return control.Done()
            case control.JoinRpc():
                self._stages.join_group(request)
                return control.Done()
            case control.ProbeLink():
                stream = dial_peer(Address.parse(request.address), self._credentials, Purpose.PROBE)
                probe = Connection(stream, request.address)
                try:
                    return control.Probed(
                        run_probe(
                            probe,
                            medium=request.medium,
                            pings=request.pings,
                            bulk_bytes=request.bulk_bytes,
                            echo_s=min(request.echo_s, MAX_ECHO_S),
                            rested_s=min(request.rested_s, RESTED_S),
                        )
                    )
                finally:
                    probe.close()
            case control.Collect():
                return self._stages.stage(request.pipeline, request.position).collect()
            case control.Watch():
                return self._watch(request.ending)
            case control.AskFacts():
                return control.Facts(gather())
            case control.ShapeLink():
                paths = [from_wire(path) for path in request.paths]
                return control.Shaped(
                    self._shaping.shape(paths, request.except_ports, request.interface, request.lease_s)
                )
            case control.CheckShape():
                return control.Shaped(self._shaping.check())
            case control.UnshapeLink():
                self._shaping.unshape()
                return control.Done()
            case control.TearDown():
                self._stages.tear_down()
                return control.Done()
            case _:
                raise ProtocolError(f"control: got {type(request).__name__}, expected a request")

    def _watch(self, ending: bool) -> control.Watched:
        samples = self._sampler.stop()
        clock = clock_state(usable_cores()[0])
        if not ending:
            self._sampler.start()
        return control.Watched(clock=clock, samples=samples if ending else ())

    def _chunks(self, connection: Connection, size_bytes: int) -> Iterator[memoryview]:
        left_bytes = size_bytes
        while left_bytes > 0:
            message = connection.receive(self._pool, control.CHUNK_BYTES)
            if message.header.kind is not Kind.CHUNK or not 0 < message.header.payload_bytes <= left_bytes:
                raise ProtocolError(
                    f"weights: got {message.header.kind.name} of {message.header.payload_bytes} bytes,"
                    f" expected CHUNK of 1 to {left_bytes}"
                )
            left_bytes -= message.header.payload_bytes
            yield message.buffer
            self._pool.give(message.buffer)

    def _deploy(self, request: control.DeployStage, connection: Connection) -> control.ControlMessage:
        self._stages.make_room(request)
        kept_input: tuple[torch.Tensor, ...] | None = None
        if request.keeps_input:
            message = connection.receive(BufferPool(), request.limit_bytes)
            if message.header.kind is not Kind.INPUT:
                raise ProtocolError(f"deploy: got a {message.header.kind.name} frame, expected INPUT")
            kept_input = incoming(message)
        return control.Deployed(
            self._stages.deploy(request, kept_input, lambda reason: self._report(connection, request.pipeline, reason))
        )

    def _report(self, connection: Connection, pipeline: str, reason: str) -> None:
        self._log(f"pipeline {pipeline}: {reason}")
        # The orchestrator may be gone too; then there is nobody to tell.
        with contextlib.suppress(PeerGoneError):
            send_control(connection, control.StageFailed(pipeline=pipeline, reason=reason))

    def _unshape(self) -> None:
        try:
            self._shaping.unshape()
        except HwrunError as error:
            self._log(f"unshaping: {error}")
