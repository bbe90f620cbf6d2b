"""Workers that are threads of this process, and probes of the links between them."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hwrun.backends.memory import MemoryEnds, MemoryExchange, address
from hwrun.machine.steady import conditions
from hwrun.planned_cell import Crossing
from hwrun.records import LinkMeasured, Medium
from hwrun.scratch import socket_in
from hwrun.testbed import DataPath
from hwrun.wire.admission import Credentials
from hwrun.wire.authentication import new_token
from hwrun.wire.sockets import listen
from hwrun.worker import Worker
from hwrun.worker_client import WorkerClient
from hwrun.workers import OpenWorkers

# Hand-overs between threads must not wait for the default 5 ms slice of the interpreter to end.
_SWITCH_INTERVAL_S = 0.0005
_PINGS = 7
_BULK_BYTES = 2**20
_BULKS = 8
# A probe is to last no longer on a slow link.
_BULK_S = 0.25


@dataclass
class _Running:
    worker: Worker
    thread: threading.Thread
    client: WorkerClient


class MemoryWorkers(OpenWorkers):
    """A worker a host, each a few threads of this process. Use it as a context manager."""

    def __init__(
        self,
        hosts: tuple[str, ...],
        exchange: MemoryExchange,
        *,
        threads: int,
        allowed: Sequence[str],
        log_folder: Path | None,
    ) -> None:
        super().__init__(hosts, Credentials(new_token()))
        self._exchange = exchange
        self._threads = threads
        self._allowed = allowed
        self._log_folder = log_folder
        self._running: dict[str, _Running] = {}

    def _reach(self) -> None:
        self._resources.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        for host in self.hosts:
            self._start(host)

    def _start(self, host: str) -> None:
        control = socket_in(self.folder, f"worker-{host}")
        log = None
        if self._log_folder is not None:
            file = (self._log_folder / f"worker-{host}.log").open("a", buffering=1)
            self._resources.callback(file.close)

            def log(line: str) -> None:
                # The log may be closed already when a worker's last connection ends.
                with contextlib.suppress(ValueError, OSError):
                    print(f"hwrun worker: {line}", file=file)

        worker = Worker(
            listen(control),
            None,
            credentials=self.credentials,
            store=self.store,
            threads=self._threads,
            once=True,
            allowed=self._allowed,
            # The process's cores are those of all its workers, and of none.
            conditions={name: value for name, value in conditions(self._threads).items() if name != "cores"},
            exchange=self._exchange,
            log=log,
        )
        thread = threading.Thread(target=worker.serve, name=f"worker {host}", daemon=True)
        thread.start()
        self._running[host] = _Running(worker, thread, WorkerClient.dial(host, control, self.credentials))

    @property
    def logs(self) -> str:
        """Where the logs are."""
        return "the workers' logs beside it say more"

    def client(self, host: str) -> WorkerClient:
        """The control connection to that host's worker."""
        return self._running[host].client

    def revive(self) -> None:
        """Start again a worker whose connection has ended."""
        for host, running in list(self._running.items()):
            if running.client.gone is not None or not running.thread.is_alive():
                self._end(running)
                self._start(host)

    def deaths(self) -> str:
        """Threads of this process do not die alone."""
        return ""

    def kill(self) -> None:
        """They end with this process."""

    def ends(self, path: DataPath) -> MemoryEnds:
        """A pipeline's ends in the exchange."""
        return MemoryEnds(self._exchange, path.hosts, path.sink)

    def probe(self, hop: Crossing, medium: Medium, echo_s: float) -> LinkMeasured:
        """Messages of a byte there and back, then long ones, over the exchange's own links; timed, not computed."""
        exchange = self._exchange
        there, back = (exchange.inlet("probe", position, _BULK_BYTES) for position in (0, 1))
        out = exchange.outlet(address(hop.start, hop.end), "probe", 0)
        home = exchange.outlet(address(hop.end, hop.start), "probe", 1)
        small = (torch.zeros(1, dtype=torch.uint8),)
        round_trips_s = []
        for number in range(_PINGS):
            start_s = time.monotonic()
            out.send(number, small)
            home.send(there.receive().sequence, small)
            round_trips_s.append(back.receive().end_s - start_s)
        size = _BULK_BYTES if hop.link is None else int(min(_BULK_BYTES, hop.link.rate_bps / 8 * _BULK_S / _BULKS))
        bulk = (torch.zeros(max(size, 64), dtype=torch.uint8),)

        def send_all() -> None:
            for number in range(_BULKS):
                out.send(number, bulk)

        sender = threading.Thread(target=send_all)
        sender.start()
        arrivals_s = [there.receive().end_s for _ in range(_BULKS)]
        sender.join()
        intervals_s = [after - before for before, after in itertools.pairwise(arrivals_s)]
        return LinkMeasured(
            medium=medium,
            rtt_samples_s=tuple(round_trips_s),
            goodput_bps=bulk[0].nbytes * 8 / statistics.median(intervals_s),
            probe_bytes=_BULKS * bulk[0].nbytes,
        )

    def _end(self, running: _Running) -> None:
        running.client.close()  # with `once`, it ends when its orchestrator leaves
        running.thread.join(2.0)
        if running.thread.is_alive():
            running.worker.stop()
            running.thread.join()

    def _leave(self) -> None:
        for running in self._running.values():
            self._end(running)
        self._running.clear()
