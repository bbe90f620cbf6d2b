"""Worker processes on the local testbed's hosts: started once, used by every plan, started again if one dies.

Control connections are unix sockets, which reach across network namespaces, so control is never shaped; data take
the testbed's paths. Weights live in one directory that the orchestrator and its workers share.

Each worker has cores of its own where there are enough, as hosts of a network have; also those whose stages only wait.
A worker that may run anywhere is woken now on its sender's core and now on another, and a transfer of the same bytes
then takes one of two times.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwrun.errors import PeerGoneError, TimedOutError
from hwrun.local.testbed import LOOPBACK_ADDRESS, Host, LocalTestbed
from hwrun.machine.steady import steady_environment, usable_cores
from hwrun.scratch import socket_in
from hwrun.testbed import DataPath
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.authentication import new_token
from hwrun.wire.sockets import listen
from hwrun.worker_client import WorkerClient
from hwrun.workers import SocketWorkers
from paretosim.link import Link

# Importing torch takes seconds on a busy machine.
_START_LIMIT_S = 60.0
# From when the kernel closes a dying process's sockets until it can be waited for, on a machine that is busy.
_DYING_S = 1.0


@dataclass
class _Running:
    process: subprocess.Popen[Any]
    client: WorkerClient


class LocalWorkers(SocketWorkers):
    """One worker a host of an open testbed, on cores of its own where there are enough. Use it as a context manager.

    Parameters
    ----------
    threads : of torch, and so cores, of each worker.
    allowed : factories of networks outside the catalogue that the workers may build.
    log_folder : gets `worker-A.log`, `worker-B.log` …, appended to; None lets workers log to our stderr.
    """

    def __init__(
        self,
        testbed: LocalTestbed,
        *,
        threads: int,
        log_folder: Path | None,
        allowed: Sequence[str] = (),
    ) -> None:
        super().__init__(testbed.names, Credentials(new_token()))
        self._testbed = testbed
        self._allowed = allowed
        self._threads = threads
        self._log_folder = log_folder
        self._running: dict[str, _Running] = {}

    def _reach(self) -> None:
        token_file = self.folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_bytes(self.credentials.token)
        self._start(list(self._testbed.hosts))

    @property
    def logs(self) -> str:
        """Where the logs are."""
        return "the workers' logs beside it say more"

    def client(self, host: str) -> WorkerClient:
        """The control connection to that host's worker."""
        return self._running[host].client

    def route(self, path: DataPath) -> LocalRoute:
        """How sockets take that path between the workers."""
        return LocalRoute(self._testbed, self, path)

    def _meeting(self, path: DataPath, hosts: Sequence[str]) -> tuple[Sequence[str], str]:
        for start, end in itertools.combinations(hosts, 2):
            self._testbed.join(start, end)  # Gloo, which RPC meets by, joins everybody with everybody
        hops = zip(itertools.pairwise(path.hosts), path.links, strict=True)
        self._testbed.steer([ends for ends, link in hops if link is None and ends[0] != ends[1]])
        addresses = [self._testbed.host(host).steered_address for host in hosts]
        return addresses, f"file://{self.folder}/rpc-{self._groups}"

    def deaths(self) -> str:
        """Which workers have ended though nobody asked them to, and how; empty where none has.

        A dying process's connections end before it does, so one whose connection is gone is given a moment.
        """
        for running in self._running.values():
            if running.client.gone is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(_DYING_S)
        ended = {name: running.process.poll() for name, running in self._running.items()}
        return "; ".join(
            f"worker {name} was killed by signal {-code}" if code < 0 else f"worker {name} ended with code {code}"
            for name, code in ended.items()
            if code is not None
        )

    def revive(self) -> None:
        """Start again every worker that died or stopped answering."""
        dead = []
        for host in self._testbed.hosts:
            running = self._running.get(host.name)
            if running is None or not _is_well(running):
                dead.append(host)
                if running is not None:
                    del self._running[host.name]
                    _end(running)
        if dead:
            self._start(dead)

    def _leave(self) -> None:
        for running in self._running.values():
            _end(running)
        self._running.clear()

    def kill(self) -> None:
        """End every worker at once, without asking; for a signal handler."""
        for running in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, hosts: list[Host]) -> None:
        started = [(host, self._spawn(host)) for host in hosts]
        for host, process in started:
            try:
                _await_ready(host.name, process)
                client = WorkerClient.dial(host.name, self._control_address(host), self.credentials)
            except BaseException:
                for _, other in started:
                    _kill(other)
                raise
            self._running[host.name] = _Running(process, client)

    def _control_address(self, host: Host) -> Address:
        return socket_in(self.folder, f"worker-{host.name}")

    def _spawn(self, host: Host) -> subprocess.Popen[Any]:
        argv = [sys.executable, "-m", "hwrun.cli", "worker", "--listen", str(self._control_address(host))]
        # In its namespace nobody else can reach a worker; on loopback it needs no more than loopback.
        reach = LOOPBACK_ADDRESS if self._testbed.outside(None) == "loopback" else "0.0.0.0"
        argv += ["--data-listen", f"{reach}:0", "--token-file", str(self.folder / "token"), "--once"]
        argv += ["--cache", str(self.folder / "weights"), "--threads", str(self._threads)]
        if reach == "0.0.0.0":
            argv += ["--trust-network"]  # the namespaces are ours: nobody else is on that network
        for factory in self._allowed:
            argv += ["--allow-module", factory]
        cores = usable_cores()
        position = [other.name for other in self._testbed.hosts].index(host.name)
        if len(cores) >= self._threads * len(self._testbed.hosts):
            own = cores[position * self._threads : (position + 1) * self._threads]
            argv += ["--cores", ",".join(map(str, own))]
        with contextlib.ExitStack() as stack:
            log = None
            if self._log_folder is not None:
                log = stack.enter_context((self._log_folder / f"worker-{host.name}.log").open("ab"))
            # A session of its own: Ctrl-C on the terminal is for the orchestrator, which then ends its workers.
            return host.spawn(
                argv,
                env=os.environ | steady_environment(self._threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )


def _await_ready(name: str, process: subprocess.Popen[Any]) -> None:
    """Wait for the one line that a worker prints when it is ready."""
    assert process.stdout is not None  # _spawn asked for a pipe
    deadline_s = time.monotonic() + _START_LIMIT_S
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
        if not ready:
            raise TimedOutError(f"worker {name}: not ready within {_START_LIMIT_S:g} s; see its log")
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            raise PeerGoneError(f"worker {name}: ended with code {process.wait()} before it was ready; see its log")
        line += piece


def _is_well(running: _Running) -> bool:
    return running.process.poll() is None and running.client.gone is None and running.client.answers()


def _end(running: _Running) -> None:
    running.client.close()  # started with --once: it ends when its orchestrator leaves
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(2.0)
    _kill(running.process)


def _kill(process: subprocess.Popen[Any]) -> None:
    """End it if it has not, and close the pipe of its first line."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


class LocalRoute:
    """The data path of one pipeline between the workers of a testbed."""

    def __init__(self, testbed: LocalTestbed, workers: LocalWorkers, path: DataPath) -> None:
        self._testbed = testbed
        self._workers = workers
        self._path = path
        self._sink_host = testbed.host(path.sink)
        for start, end in zip((path.sink, *path.hosts), (*path.hosts, path.sink), strict=True):
            testbed.join(start, end)

    def stage_address(self, position: int) -> Address:
        """Where the stage before, or the orchestrator at the sink, dials stage `position`."""
        path = self._path
        before, link = (path.hosts[position - 1], path.links[position - 1]) if position else (path.sink, path.way_back)
        port = self._workers.client(path.hosts[position]).welcome.data_port
        return Address(host=self._address_from(before, path.hosts[position], link), port=port)

    def _address_from(self, start: str, end: str, link: Link | None) -> str:
        return LOOPBACK_ADDRESS if start == end else self._testbed.host(end).address(link)

    def listen_for_results(self) -> tuple[socket.socket, Address]:
        """A unix socket where the last stage is on the sink's host, else a listener at the far end of the link."""
        if self._path.hosts[-1] == self._path.sink:
            address = socket_in(self._workers.folder, "results")
            return listen(address), address
        with self._sink_host.entered():
            listener = listen(Address(host=self._sink_host.address(self._path.way_back)))
        host, port = listener.getsockname()[:2]
        return listener, Address(host=host, port=port)

    def at_sink(self) -> AbstractContextManager[None]:
        """The calling thread is on the sink's host."""
        return self._sink_host.entered()

    def check(self) -> None:
        """Raise HwrunError if a relay of the testbed has ended."""
        self._testbed.check_usable()
