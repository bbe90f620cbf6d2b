"""The stages that a worker runs: how each is made, how its batches come and go, and how all of them end.

All are of one pipeline: the first stage of another one ends whatever was deployed before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from hwrun.backends import memory, rpc
from hwrun.backends.cold_tcp import ColdTcpInlet, ColdTcpOutlet
from hwrun.backends.contract import Outlet
from hwrun.backends.memory import MemoryExchange
from hwrun.backends.tcp import TcpInlet, dial_outlet
from hwrun.errors import HwrunError, ProtocolError
from hwrun.machine.compute_device import accelerator, describe_device
from hwrun.models.weights import WeightStore, load_stage
from hwrun.records import ComputeDevice
from hwrun.stages.overlapped import OverlappedStage
from hwrun.stages.runner import ActivationCache, StageRunner
from hwrun.stages.serial import SerialStage
from hwrun.stages.stage import Stage
from hwrun.stages.turns import Turns
from hwrun.wire import control
from hwrun.wire.admission import Credentials
from hwrun.wire.connection import Connection
from hwrun.wire.control import MAX_LIMIT_BYTES, MAX_QUEUE_DEPTH


@dataclass(frozen=True)
class _Deployed:
    stage: Stage
    limit_bytes: int
    cold_inlet: ColdTcpInlet | None


class DeployedStages:
    """Stages by position.

    Parameters
    ----------
    threads : of torch, in every stage.
    allowed : factories of networks that may be built, besides the catalogue.
    exchange : joins it with other workers of this process; None in a process of its own.
    device : what stages compute on that are asked for without one.
    rpc_reach : whom it may form groups of backend rpc, which is pickle, with.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        store: WeightStore,
        threads: int,
        allowed: Collection[str],
        exchange: MemoryExchange | None,
        device: ComputeDevice,
        rpc_reach: rpc.RpcReach,
    ) -> None:
        self._credentials = credentials
        self._store = store
        self._threads = threads
        self._allowed = frozenset(allowed)
        self._exchange = exchange
        self._device = device
        self._rpc = rpc.RpcMember(reach=rpc_reach)
        self._activations = ActivationCache()
        # Of emulated stages: a device computes one at a time.
        self._turns = Turns()
        self._pipeline = ""
        self._deployed: dict[int, _Deployed] = {}

    def make_room(self, request: control.DeployStage) -> None:
        """End what cannot stand beside the stage that is asked for.

        Raises
        ------
        ProtocolError : what is asked for is beyond any bound.
        """
        if not 0 < request.limit_bytes <= MAX_LIMIT_BYTES:
            raise ProtocolError(f"deploy: got messages of {request.limit_bytes} bytes, at most {MAX_LIMIT_BYTES}")
        if not 1 <= request.queue_depth <= MAX_QUEUE_DEPTH:
            raise ProtocolError(f"deploy: got queue depth {request.queue_depth}, expected 1 to {MAX_QUEUE_DEPTH}")
        if request.pipeline != self._pipeline or request.position in self._deployed:
            self.tear_down()

    def deploy(
        self,
        request: control.DeployStage,
        kept_input: tuple[torch.Tensor, ...] | None,
        on_failure: Callable[[str], None],
    ) -> str | None:
        """Make the stage and load its weights, where it needs them; what it computes on, None for nothing.

        Parameters
        ----------
        kept_input : what it runs on each dispatch; None where batches arrive.
        on_failure : told once, with a reason, when it breaks down.
        """

        def load() -> torch.nn.Module:
            return load_stage(request.model, request.first, request.last, request.digests, self._store, self._allowed)

        device = request.device or self._device
        runner = StageRunner(
            load if request.last > request.first else None,
            target_s=request.target_s,
            compute_each=request.compute_each,
            keeps_inputs=request.keeps_input,
            # Results wait to be sent, are sent, and are computed, all at once.
            device=accelerator(device, request.queue_depth + 2),
            turns=self._turns,
            cache=self._activations,
            key=(request.model, request.first, request.last, request.digests, request.batch, request.seed),
        )
        runner.load()
        stage: Stage
        if request.workers == "serial":
            stage = SerialStage(runner, kept_input=kept_input, threads=self._threads, on_failure=on_failure)
        else:
            stage = OverlappedStage(
                runner,
                kept_input=kept_input,
                queue_depth=request.queue_depth,
                threads=self._threads,
                on_failure=on_failure,
            )
        arrives = kept_input is None
        cold_inlet = ColdTcpInlet() if arrives and request.backend == "tcp" and request.cold_input else None
        self._pipeline = request.pipeline
        self._deployed[request.position] = _Deployed(stage, request.limit_bytes, cold_inlet)
        # Over TCP the stage before dials us.
        place = (request.pipeline, request.position, request.limit_bytes)
        if arrives and request.backend == "memory":
            stage.take_upstream(self._shared_memory().inlet(*place))
        elif arrives and request.backend == "rpc":
            stage.take_upstream(self._rpc.inlet(*place))
        elif cold_inlet is not None:
            stage.take_upstream(cold_inlet)
        computes = request.last > request.first and request.target_s is None
        return describe_device(device) if computes else None

    def take_connection(self, hello: control.DataHello, connection: Connection) -> None:
        """Let a stage's batches arrive over this connection.

        Raises
        ------
        ProtocolError : no such stage is deployed here, or it has its input already.
        """
        deployed = self._deployed.get(hello.position) if hello.pipeline == self._pipeline else None
        if deployed is None:
            raise ProtocolError(f"stage {hello.position} of pipeline {hello.pipeline} is not deployed here")
        # As many rooms as can wait and be worked on at once; they go with the connection, whose sizes are its own.
        inlet = TcpInlet(connection, 2 * MAX_QUEUE_DEPTH + 3, deployed.limit_bytes)
        if deployed.cold_inlet is not None:
            deployed.cold_inlet.add(inlet)
        else:
            deployed.stage.take_upstream(inlet)

    def join_group(self, request: control.JoinRpc) -> None:
        """Be a member of a group for backend rpc."""
        self._rpc.join(request.name, request.rank, request.size, request.rendezvous, request.address)

    def connect(self, request: control.Connect) -> None:
        """Let a stage dial the next one and start working."""
        stage = self.stage(request.pipeline, request.position)
        stage.start(self._outlet(request.address, request.pipeline, request.position + 1, cold=request.cold))

    def dispatch(self, sequence: int) -> None:
        """Run the first stage's kept input."""
        if 0 not in self._deployed:
            raise ProtocolError("dispatch: no first stage is deployed")
        self._deployed[0].stage.dispatch(sequence)

    def stage(self, pipeline: str, position: int) -> Stage:
        """The stage at that position.

        Raises
        ------
        HwrunError : there is none.
        """
        if pipeline != self._pipeline or position not in self._deployed:
            raise HwrunError(f"pipeline {pipeline}: no stage {position} of it is deployed here")
        return self._deployed[position].stage

    def tear_down(self) -> None:
        """End every stage; weights stay cached."""
        ending, self._deployed = self._deployed, {}
        self._pipeline = ""
        for deployed in ending.values():
            deployed.stage.cancel()
        for position in sorted(ending, reverse=True):  # none is to see the one before it leave while it is at work
            ending[position].stage.stop()
        if ending:
            # A traced module holds itself in a circle, so its weights would stay until the collector happens to run:
            # some forty deployments of vgg16 came to 3 GB.
            ending.clear()
            del deployed
            gc.collect()

    def leave(self) -> None:
        """End every stage, and leave the group for backend rpc."""
        self.tear_down()
        self._rpc.leave()

    def _shared_memory(self) -> MemoryExchange:
        if self._exchange is None:
            raise HwrunError("backend memory: this worker is a process of its own; use workers of one process, or tcp")
        return self._exchange

    def _outlet(self, address: str, pipeline: str, position: int, *, cold: bool) -> Outlet:
        """The way to the next stage, by the backend that the address is of."""
        if address.startswith(memory.SCHEME):
            return self._shared_memory().outlet(address, pipeline, position)
        if address.startswith(rpc.SCHEME):
            return self._rpc.outlet(address, pipeline, position)
        if cold:
            return ColdTcpOutlet(lambda: dial_outlet(address, self._credentials, pipeline, position))
        return dial_outlet(address, self._credentials, pipeline, position)
