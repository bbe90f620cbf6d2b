"""Batches as remote procedure calls of torch.distributed.rpc (TensorPipe): what the paper compares sockets with.

Workers of one pipeline are a group: one agent a process, joined by name. A stage sends a batch by calling a function
at the next stage's worker and waiting for its answer, which comes once that stage has taken the batch: an extra round
trip a batch, no reuse of buffers, a copy into freshly allocated tensors. Between two processes of one host TensorPipe
would pass any shaped link by through shared memory, so plain TCP is forced, on the interface that the link is of.

RPC is pickle by nature and asks for no token: whoever reaches an agent's port runs code in its process, and whoever is
met at a rendezvous has what it sends unpickled. So a worker joins no group unless it was told that it may trust its
network, or only its own user can ask it to, by a unix socket: then on loopback, with those who meet at a file. The
orchestrator is in no group: dispatches, inputs and results take the ways of the TCP backend within the sink's host.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

import psutil
import torch

from hwrun.backends.contract import Arrival
from hwrun.backends.tcp import SocketEnds, TcpLanding, TcpOutlet
from hwrun.errors import HwrunError, PeerGoneError, ProtocolError
from hwrun.records import Scalar
from hwrun.wire.handover import Handover, HandoverClosed

if TYPE_CHECKING:
    from hwrun.worker_client import WorkerClient

SCHEME = "rpc:"
# Whom a worker may form groups with: nobody, processes of its host, or every host of its network.
RpcReach = Literal["nobody", "loopback", "network"]
# Longer than any message of a cell takes; a peer's death is seen by its connection, not by waiting.
_CALL_LIMIT_S = 3600.0
# How long the members of a group wait for one another, at the rendezvous and again where they join hands; both together
# are within the orchestrator's patience.
_JOIN_LIMIT_S = 45.0
# A rendezvous by TCP that is given up after that time; torch's own waits for half an hour.
_BOUNDED_TCP = "hwrun-tcp"
# Calls that may be in progress: one blocks for each stage whose queue is full.
_THREADS = 8


class RpcInlet:
    """Batches that arrive by call."""

    def __init__(self, key: tuple[str, int], limit_bytes: int) -> None:
        self._key = key
        self._limit_bytes = limit_bytes
        self._waiting: Handover[Arrival | ProtocolError] = Handover(1)

    def put(self, sequence: int, tensors: tuple[torch.Tensor, ...]) -> None:
        """Take a batch in; returns when there is room for it."""
        end_s = time.monotonic()
        size = sum(tensor.nbytes for tensor in tensors)
        if size > self._limit_bytes:
            self._waiting.put(ProtocolError(f"rpc: got a batch of {size} bytes, at most {self._limit_bytes} agreed"))
            return
        self._waiting.put(Arrival(sequence, tensors, None, end_s))

    def receive(self) -> Arrival:
        """Wait for the next call."""
        try:
            item = self._waiting.get()
        except HandoverClosed:
            raise PeerGoneError("rpc: the stage before is gone") from None
        if isinstance(item, ProtocolError):
            raise item
        return item

    @property
    def buffer_bytes(self) -> None:
        """The sockets are TensorPipe's."""
        return

    def shut_down(self) -> None:
        """Wake the stage and whoever calls."""
        _inlets.pop(self._key, None)
        self._waiting.close()

    def close(self) -> None:
        """The same: there is nothing to hold."""
        self.shut_down()


# Where calls find their stage: they name functions of a module, so this is the process's.
_inlets: dict[tuple[str, int], RpcInlet] = {}


def _deliver(pipeline: str, position: int, sequence: int, tensors: tuple[torch.Tensor, ...]) -> str | None:
    """Hand a batch to its stage; why not, where it could not be."""
    inlet = _inlets.get((pipeline, position))
    if inlet is None:
        return f"stage {position} of pipeline {pipeline} is not deployed here"
    try:
        inlet.put(sequence, tensors)
    except HandoverClosed:
        return f"stage {position} of pipeline {pipeline} has ended"
    return None


def _end(pipeline: str, position: int) -> None:
    inlet = _inlets.get((pipeline, position))
    if inlet is not None:
        inlet.shut_down()


class RpcOutlet:
    """Batches that leave by call."""

    def __init__(self, to: str, pipeline: str, position: int) -> None:
        self._to, self._pipeline, self._position = to, pipeline, position
        # What a call came to, or None for having been shut down.
        self._outcomes: queue.SimpleQueue[torch.futures.Future[str | None] | None] = queue.SimpleQueue()
        self._gone = False

    def send(self, sequence: int, tensors: Sequence[torch.Tensor]) -> None:
        """Call the next stage; returns when it has taken the batch."""
        from torch.distributed import rpc

        arguments = (self._pipeline, self._position, sequence, tuple(tensors))
        try:
            call = rpc.rpc_async(self._to, _deliver, args=arguments, timeout=_CALL_LIMIT_S)
            call.add_done_callback(self._outcomes.put)
            outcome = self._outcomes.get()
            if outcome is None or self._gone:
                self._outcomes.put(None)
                raise PeerGoneError(f"rpc: the call to {self._to} was given up")
            refusal = outcome.value()
        # RuntimeError: TensorPipe's own.
        except RuntimeError as error:
            raise PeerGoneError(f"rpc: {self._to}: {str(error).splitlines()[0]}") from error
        if refusal is not None:
            raise PeerGoneError(f"rpc: {self._to}: {refusal}")

    def tcp_info(self) -> dict[str, Scalar]:
        """The sockets are TensorPipe's."""
        return {}

    @property
    def buffer_bytes(self) -> None:
        """The sockets are TensorPipe's."""
        return

    def shut_down(self) -> None:
        """Give the call up, and tell the next stage, if it can still be reached."""
        if self._gone:
            return
        self._gone = True
        self._outcomes.put(None)
        from torch.distributed import rpc

        with contextlib.suppress(RuntimeError):
            rpc.rpc_async(self._to, _end, args=(self._pipeline, self._position), timeout=5.0)

    def close(self) -> None:
        """The same: there is nothing to hold."""
        self.shut_down()


class RpcMember:
    """This process's membership in a group, which it has one of at a time.

    Parameters
    ----------
    reach : whom it may form groups with.
    """

    def __init__(self, *, reach: RpcReach) -> None:
        self._reach = reach
        self._joined = False

    def join(self, name: str, rank: int, size: int, rendezvous: str, address: str) -> None:
        """Be member `rank` of a group of `size`, and wait until all have come; a former group is left.

        Parameters
        ----------
        rendezvous : `file:///PATH` or `tcp://HOST:PORT`, the same for all members.
        address : of this host, where others of the group reach it.

        Raises
        ------
        HwrunError : this torch has no RPC, the group is beyond this member's reach, or somebody did not come.
        """
        if not torch.distributed.is_available() or not torch.distributed.rpc.is_available():
            raise HwrunError("backend rpc: this torch was built without torch.distributed.rpc; use --backend tcp")
        self._require_reach(rendezvous, address)
        self.leave()
        interface = next(
            (name for name, known in psutil.net_if_addrs().items() if any(a.address == address for a in known)), None
        )
        if interface is None:
            raise HwrunError(f"backend rpc: no interface of this host has the address {address}")
        # TensorPipe and Gloo read these when an agent is made; the agent then listens there alone. Not so the store of
        # a rendezvous by TCP: it listens on every address of the first member's host.
        os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface
        from torch.distributed import rpc

        options = rpc.TensorPipeRpcBackendOptions(
            num_worker_threads=_THREADS,
            rpc_timeout=_JOIN_LIMIT_S,
            init_method=_bounded(rendezvous),
            _transports=["uv"],
            _channels=["basic"],
        )
        # It counts groups within a process, and how often members of these names have met, and looks for the others
        # under those numbers; a worker that was started again counts anew. Every group has a rendezvous of its own, so
        # all may call it the first, and what is left of one that did not come together is not to be found under that.
        rpc._init_counter = 0
        rpc.api._all_gather_sequence_id.clear()
        rpc.api._all_gather_sequence_id_to_states.clear()
        self._joined = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Gloo's being deprecated inside torch itself
                rpc.init_rpc(name, rank=rank, world_size=size, rpc_backend_options=options)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        except (RuntimeError, ValueError) as error:
            self.leave()
            raise HwrunError(f"backend rpc: the group did not come together: {str(error).splitlines()[0]}") from error

    def leave(self) -> None:
        """Leave the group without waiting for the others; harmless in none."""
        if not self._joined:
            return
        from torch.distributed import rpc

        self._joined = False
        for inlet in list(_inlets.values()):
            inlet.shut_down()
        with contextlib.suppress(RuntimeError):
            rpc.shutdown(graceful=False)

    def inlet(self, pipeline: str, position: int, limit_bytes: int) -> RpcInlet:
        """Where stage `position` of a pipeline is called."""
        self._require_group()
        inlet = _inlets[pipeline, position] = RpcInlet((pipeline, position), limit_bytes)
        return inlet

    def outlet(self, address: str, pipeline: str, position: int) -> RpcOutlet:
        """The way to stage `position` of a pipeline at the member that `address` names."""
        self._require_group()
        return RpcOutlet(address.removeprefix(SCHEME), pipeline, position)

    def _require_reach(self, rendezvous: str, address: str) -> None:
        why = "RPC unpickles, and so runs, whatever reaches its port or meets it, and asks for no token"
        remedy = "Start the worker with --trust-network if every host of its network may do so"
        if self._reach == "nobody":
            raise HwrunError(
                "backend rpc: got a worker that others than its user can give orders to, expected --listen unix:PATH:"
                f" {why}. {remedy}"
            )
        if self._reach == "network":
            return
        if not ipaddress.ip_address(address).is_loopback:
            raise HwrunError(f"backend rpc: got {address}, expected loopback: {why}. {remedy}")
        if not rendezvous.startswith("file:"):
            raise HwrunError(
                f"backend rpc: got a rendezvous at {rendezvous}, expected a file of this host: {why}. {remedy}"
            )

    def _require_group(self) -> None:
        if not self._joined:
            raise HwrunError("backend rpc: this worker is in no group, expected it to have joined one first")


def _bounded(rendezvous: str) -> str:
    """The same rendezvous, which members give up after _JOIN_LIMIT_S, as they do Gloo's joining hands after it."""
    from torch.distributed import rpc
    from torch.distributed.rendezvous import register_rendezvous_handler

    # Made for the group that forms agents, which then do without it; 25 days as torch has it.
    rpc.constants.DEFAULT_PROCESS_GROUP_TIMEOUT = timedelta(seconds=_JOIN_LIMIT_S)
    if not rendezvous.startswith("tcp:"):
        return rendezvous  # what looks for something in a file has RPC's own limit
    with contextlib.suppress(RuntimeError):  # it is known already
        register_rendezvous_handler(_BOUNDED_TCP, _meet_by_tcp)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return f"{_BOUNDED_TCP}:{rendezvous.removeprefix('tcp:')}"


def _meet_by_tcp(url: str, **_: object) -> Iterator[tuple[object, int, int]]:
    """The store, the rank and the size, as torch's handler of tcp:// gives them, but within _JOIN_LIMIT_S."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # there, and documented

    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    rank, size = int(asked["rank"]), int(asked["world_size"])
    assert parts.hostname is not None  # the orchestrator's rendezvous has both
    assert parts.port is not None
    yield (
        TCPStore(
            parts.hostname,
            parts.port,
            size,
            is_master=rank == 0,
            timeout=timedelta(seconds=_JOIN_LIMIT_S),
            multi_tenant=True,
        ),
        rank,
        size,
    )


def join_group(members: Sequence[tuple[WorkerClient, str]], rendezvous: str) -> None:
    """Make these workers one group, each at its address; returns once all have come.

    Raises what the first says that does not join: the others only say that they waited for it.

    Parameters
    ----------
    rendezvous : where they meet, as RpcGroup.join reads it; the first is its host.
    """
    with ThreadPoolExecutor(max_workers=len(members)) as joining:
        asked = [
            joining.submit(client.join_rpc, rank, len(members), rendezvous, address)
            for rank, (client, address) in enumerate(members)
        ]
        for joined in as_completed(asked):
            joined.result()


class RpcEnds:
    """A pipeline's ends where stages call one another, and its input and results take sockets within the sink's host.

    Parameters
    ----------
    hosts : of the stages, which are the names of the group's members.
    """

    def __init__(self, sockets: SocketEnds, hosts: Sequence[str]) -> None:
        self._sockets = sockets
        self._hosts = hosts

    def stage_address(self, position: int) -> str:
        """The member that runs the stage."""
        return f"{SCHEME}{self._hosts[position]}"

    def results(self, pipeline: str, position: int, limit_bytes: int) -> TcpLanding:
        """A listener at the sink."""
        return self._sockets.results(pipeline, position, limit_bytes)

    def inputs(self, pipeline: str) -> TcpOutlet:
        """A connection from the sink to the first stage."""
        return self._sockets.inputs(pipeline)

    def check(self) -> None:
        """Raise HwrunError where the path is gone."""
        self._sockets.check()
