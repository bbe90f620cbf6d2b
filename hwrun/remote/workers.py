"""Workers on real hosts: dialled, not spawned; dialled again, and if need be started again, when one is gone."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from msgspec import structs

from hwrun.errors import HwrunError, PeerGoneError
from hwrun.remote.fleet import credentials_of, has_ended, require_sound, start_workers
from hwrun.remote.lab_file import RPC_PORTS, Lab, LabHost
from hwrun.scratch import socket_in
from hwrun.testbed import DataPath
from hwrun.wire.address import Address
from hwrun.wire.control import WorkerBusyError, WorkerRefusedError
from hwrun.wire.sockets import listen
from hwrun.worker_client import WorkerClient
from hwrun.workers import SocketWorkers

# A worker that lost its orchestrator needs a moment to notice.
_DIAL_AGAIN_LIMIT_S = 10.0
# One that its host restarts (docs/hwrun-worker.service) waits two seconds, and then imports torch: half a minute from
# an SD card (docs/testbed.md, "What each step takes"), and twice that where the card is busy.
_RESTART_LIMIT_S = 60.0
_DIAL_AGAIN_EVERY_S = 0.5


class RemoteWorkers(SocketWorkers):
    """The control connections to the workers of a testbed's hosts. Use it as a context manager.

    Parameters
    ----------
    hosts : names of those that take part.
    addresses : where each takes data, as numbers.
    """

    def __init__(self, lab: Lab, hosts: tuple[str, ...], addresses: Mapping[str, str]) -> None:
        super().__init__(hosts, credentials_of(lab))
        self._lab = lab
        self._addresses = addresses
        self._clients: dict[str, WorkerClient] = {}

    def _reach(self) -> None:
        for host in self.hosts:
            self._clients[host] = self._dialled(self._lab.host(host))

    @property
    def logs(self) -> str:
        """Where the logs are."""
        return "each worker's log, on its host, says more"

    def client(self, host: str) -> WorkerClient:
        """The control connection to that host's worker."""
        return self._clients[host]

    def deaths(self) -> str:
        """Which workers' connections have ended, and how; whether the worker has, only its host knows."""
        return "; ".join(
            f"worker {name} is gone ({client.gone})" for name, client in self._clients.items() if client.gone
        )

    def revive(self) -> None:
        """Dial every worker again whose connection has ended; one that does not come back is started over ssh.

        One that `hwrun up` started comes back in no other way, so it is started at once.

        Raises
        ------
        HwrunError : it does not come back.
        """
        for host in map(self._lab.host, self.hosts):
            client = self._clients[host.name]
            if client.gone is not None:
                client.close()
                self._clients[host.name] = self._revived(host, client.welcome.pid)

    def _revived(self, host: LabHost, pid: int) -> WorkerClient:
        with contextlib.suppress(PeerGoneError):
            return self._dialled(host)
        if not has_ended(self._lab, host, pid):
            with contextlib.suppress(PeerGoneError):
                return self._dialled(host, patience_s=_RESTART_LIMIT_S)
        # It was up when the sweep began, so it is to be up again.
        require_sound(start_workers(structs.replace(self._lab, hosts=(host,))))
        return self._dialled(host, patience_s=_DIAL_AGAIN_LIMIT_S)

    def _leave(self) -> None:
        """Each then waits for the next orchestrator."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def kill(self) -> None:
        """Nothing of it outlives this process: a worker ends what it runs for us when the connection ends."""

    def _meeting(self, path: DataPath, hosts: Sequence[str]) -> tuple[Sequence[str], str]:
        addresses = [self._addresses[name] for name in hosts]
        # A port of its own for each group: what an earlier one met by may still be open.
        port = self._lab.host(hosts[0]).rpc_port + self._groups % RPC_PORTS
        return addresses, f"tcp://{Address(host=addresses[0], port=port)}"

    def route(self, path: DataPath) -> RemoteRoute:
        """How data take that path."""
        return RemoteRoute(self._lab, path, socket_in(self.folder, "results"))

    def _dialled(self, host: LabHost, patience_s: float = 0.0) -> WorkerClient:
        """The host's worker; one that is busy is given some time, and one that is not there `patience_s`."""
        start_s = time.monotonic()
        while True:
            try:
                return WorkerClient.dial(host.name, host.control, self.credentials)
            except WorkerBusyError as error:
                if time.monotonic() - start_s > max(patience_s, _DIAL_AGAIN_LIMIT_S):
                    raise HwrunError(str(error)) from error  # it is there: no case for starting it again
            except WorkerRefusedError as error:
                raise HwrunError(f"{error}, and start it again: hwrun down, hwrun up") from error
            except PeerGoneError as error:
                if time.monotonic() - start_s >= patience_s:
                    raise PeerGoneError(f"worker {host.name}: {error}; start it with: hwrun up") from error
            time.sleep(_DIAL_AGAIN_EVERY_S)


class RemoteRoute:
    """The way of data between the workers of real hosts.

    Parameters
    ----------
    local_results : a unix socket for results that a worker on this very machine sends.
    """

    def __init__(self, lab: Lab, path: DataPath, local_results: Address) -> None:
        self._lab = lab
        self._stages = tuple(lab.host(name) for name in path.hosts)
        self._local_results = local_results

    def stage_address(self, position: int) -> Address:
        """Where stage `position` takes data."""
        return self._stages[position].data

    def listen_for_results(self) -> tuple[socket.socket, Address]:
        """A unix socket where the last stage is on this machine, else a listener at the address that faces its host."""
        last = self._stages[-1]
        if last.ssh is None:
            return listen(self._local_results), self._local_results
        listener = listen(Address(host=_own_address(last.data), port=self._lab.results_port))
        host, port = listener.getsockname()[:2]
        return listener, Address(host=host, port=port)

    def at_sink(self) -> AbstractContextManager[None]:
        """Results are taken on this machine, wherever the sink of the plan is."""
        return contextlib.nullcontext()

    def check(self) -> None:
        """The path has no parts of its own; a worker that is gone says so on its connection."""


def _own_address(there: Address) -> str:
    """This machine's address on the way to `there`, as the routing table has it; nothing is sent."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(there.host, there.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise PeerGoneError(f"results: no way to {there}: {error.strerror or error}") from error
