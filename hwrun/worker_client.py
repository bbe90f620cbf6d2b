"""A worker as the orchestrator sees it: requests over one control connection, answered in order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from hwrun.errors import HwrunError, PeerGoneError, TimedOutError
from hwrun.machine.conditions import alike_versions, version_differences
from hwrun.probing.probe import PINGS, RESTED_S, bulk_bytes
from hwrun.records import ClockExchange, LinkMeasured, Medium
from hwrun.shaping.on_the_wire import to_wire
from hwrun.shaping.setting import Path
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, dial_peer
from hwrun.wire.authentication import Purpose
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import answered, decode_control, receive_control, send_control
from hwrun.wire.frames import Kind, TensorSpec
from hwrun.wire.sockets import bound_sends
from paretosim.link import Link

if TYPE_CHECKING:  # it loads torch, which a command may only once its environment is fixed
    from hwrun.models.weights import WeightStore

# Loading a stage of vgg16 on a slow SD card is the longest that a worker is expected to take for one request.
REQUEST_LIMIT_S = 120.0
# What takes no work is answered at once, by a busy worker within seconds.
_LOOK_LIMIT_S = 30.0
# Where `answer_by_s` has passed: a worker that is well answers within this, and is not to be taken for one that hangs.
_LEAST_LIMIT_S = 1.0
# One that has others to serve says so within seconds; one with a GPU first has torch look for it.
_WELCOME_LIMIT_S = 30.0
_Reply = TypeVar("_Reply")


class WorkerClient:
    """One worker's control connection.

    It ends with the first request that is not answered in time: a late answer must not pass for the next one's.

    `on_failure`, where set, is told from another thread when the worker is gone or a stage of it has broken down: the
    pipeline concerned (None for all) and the reason. `gone` is why the connection ended, None while it stands.
    `answer_by_s`, where set, is the monotonic time by which requests are to be answered, however long each may take.
    """

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.on_failure: Callable[[str | None, str], None] | None = None
        self.answer_by_s: float | None = None
        self._connection = connection
        self._replies: queue.SimpleQueue[control.ControlMessage | HwrunError] = queue.SimpleQueue()
        self._closing = False
        self.gone: str | None = None
        own = alike_versions()
        connection.socket.settimeout(_WELCOME_LIMIT_S)
        send_control(connection, control.Hello(versions=own))
        self.welcome = receive_control(connection, BufferPool(), control.Welcome)
        connection.socket.settimeout(None)
        bound_sends(connection.socket)
        if differences := version_differences(own, self.welcome.versions, "orchestrator", f"worker {name}"):
            raise HwrunError(f"versions: {differences}; install the same on both")
        self._reader = threading.Thread(target=self._read, name=f"control of {name}", daemon=True)
        self._reader.start()

    @classmethod
    def dial(cls, name: str, address: Address, credentials: Credentials) -> WorkerClient:
        """The worker that listens at `address`.

        Raises
        ------
        PeerGoneError, TimedOutError, AuthenticationError, HwrunError : unreachable, busy, of another token or version.
        """
        connection = Connection(dial_peer(address, credentials, Purpose.CONTROL), f"worker {name}")
        try:
            return cls(name, connection)
        except BaseException:
            connection.close()
            raise

    def request(
        self, message: control.ControlMessage, expected: type[_Reply], limit_s: float = REQUEST_LIMIT_S
    ) -> _Reply:
        """Ask and wait for the answer.

        Raises
        ------
        RequestFailedError : the worker says why it could not.
        PeerGoneError, TimedOutError : it died, or says nothing within `limit_s`, or by `answer_by_s`.
        """
        send_control(self._connection, message)
        return self._reply(message, expected, limit_s)

    def dispatch(self, sequence: int) -> None:
        """Start batch `sequence` at stage 1, which keeps its input."""
        self._connection.send(Kind.DISPATCH, sequence)

    def deploy(
        self, request: control.DeployStage, specs: Sequence[TensorSpec] = (), payload: Sequence[memoryview] = ()
    ) -> str | None:
        """Deploy a stage, with its input batch where it keeps one; what it computes on, None for nothing."""
        send_control(self._connection, request)
        if request.keeps_input:
            self._connection.send(Kind.INPUT, specs=specs, payload=payload)
        return self._reply(request, control.Deployed, REQUEST_LIMIT_S).computes_on

    def supply(self, digests: Sequence[str], store: WeightStore) -> None:
        """Send the blocks that the worker's cache lacks, each from where an earlier transfer of it broke off."""
        missing = self.request(control.MissingBlocks(tuple(dict.fromkeys(digests))), control.Missing)
        for digest, held_bytes in zip(missing.digests, missing.held_bytes, strict=True):
            path = store.path(digest)
            size_bytes = path.stat().st_size
            offset_bytes = min(held_bytes, size_bytes)
            request = control.StoreBlock(digest=digest, size_bytes=size_bytes, offset_bytes=offset_bytes)
            send_control(self._connection, request)
            with path.open("rb") as file:
                file.seek(offset_bytes)
                while chunk := file.read(control.CHUNK_BYTES):
                    self._connection.send(Kind.CHUNK, payload=(chunk,))
            self._reply(request, control.Done, REQUEST_LIMIT_S)

    def exchange(self) -> ClockExchange:
        """One empty request and its answer on the control path: a round trip, and the two clocks compared."""
        sent_s = time.monotonic()
        far_s = self.request(control.Ping(), control.Pong).time_s
        return ClockExchange(sent_s=sent_s, arrived_s=far_s, answered_s=far_s, returned_s=time.monotonic())

    def answers(self) -> bool:
        """Whether it is there; one that hangs is gone from now on."""
        try:
            self.request(control.Ping(), control.Pong, _LOOK_LIMIT_S)
        except HwrunError:
            return False
        return True

    def shape(
        self, paths: Sequence[Path], interface: str | None, lease_s: float, except_ports: Sequence[int] = ()
    ) -> tuple[str, ...]:
        """Have the worker shape what it sends, instead of what it shaped before; the tc lines that it read back.

        Parameters
        ----------
        interface : None for the one that leads to the peers.
        lease_s : how long it holds after our last message.
        except_ports : stay unshaped for peers that name no ports.

        Raises
        ------
        RequestFailedError : it could not be set; then nothing is.
        """
        if not paths:
            self.request(control.UnshapeLink(), control.Done)
            return ()
        asked = tuple(to_wire(path) for path in paths)
        request = control.ShapeLink(paths=asked, except_ports=tuple(except_ports), interface=interface, lease_s=lease_s)
        return self.request(request, control.Shaped).lines

    def check_shape(self) -> tuple[str, ...]:
        """The tc lines that hold, and did all the time; raises RequestFailedError where they do not."""
        return self.request(control.CheckShape(), control.Shaped, _LOOK_LIMIT_S).lines

    def join_rpc(self, rank: int, size: int, rendezvous: str, address: str) -> None:
        """Let the worker be a member of an RPC group; returns once all have come."""
        request = control.JoinRpc(name=self.name, rank=rank, size=size, rendezvous=rendezvous, address=address)
        self.request(request, control.Done)

    def close(self) -> None:
        """Leave the worker; it ends what it runs for us."""
        self._closing = True
        self._connection.shut_down()
        self._reader.join()
        self._connection.close()

    def _reply(self, asked: control.ControlMessage, expected: type[_Reply], limit_s: float) -> _Reply:
        if self.answer_by_s is not None:
            limit_s = min(limit_s, max(self.answer_by_s - time.monotonic(), _LEAST_LIMIT_S))
        try:
            reply = self._replies.get(timeout=limit_s)
        except queue.Empty as error:
            late = TimedOutError(f"worker {self.name}: no answer to {type(asked).__name__} within {limit_s:.3g} s")
            self.gone = self.gone or str(late)
            self._connection.shut_down()
            raise late from error
        if isinstance(reply, HwrunError):
            self._replies.put(reply)  # the connection stays dead for whoever asks next
            raise reply
        return answered(reply, expected, f"worker {self.name}")

    def _read(self) -> None:
        pool = BufferPool()
        try:
            while True:
                message = self._connection.receive(pool, control.CONTROL_LIMIT_BYTES)
                decoded = decode_control(message)
                pool.give(message.buffer)
                if isinstance(decoded, control.StageFailed):
                    self._report(decoded.pipeline, f"worker {self.name}: {decoded.reason}")
                else:
                    self._replies.put(decoded)
        except HwrunError as error:
            self.gone = self.gone or str(error)
            self._replies.put(error if isinstance(error, PeerGoneError) else PeerGoneError(str(error)))
            if not self._closing:
                self._report(None, self.gone)

    def _report(self, pipeline: str | None, reason: str) -> None:
        if self.on_failure is not None:
            self.on_failure(pipeline, reason)


def probe_over(client: WorkerClient, address: str, medium: Medium, link: Link | None, echo_s: float) -> LinkMeasured:
    """What a worker's path to the data listener at `address` is, over a link.

    Messages after a pause are sent where the path is unshaped: the relay of an emulated link is no host that rests.

    Parameters
    ----------
    echo_s : how long a sweep of message sizes may take.
    """
    asked = control.ProbeLink(
        address=address,
        medium=medium,
        pings=PINGS,
        bulk_bytes=bulk_bytes(link),
        echo_s=echo_s,
        rested_s=RESTED_S if link is None else 0.0,
    )
    return client.request(asked, control.Probed).measured
