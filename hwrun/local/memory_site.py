"""A testbed without a network: workers are threads of this process, and links only take their time.

For tests, for a gate whose figures no scheduler of packets disturbs, and to see a plan run anywhere, without rights.
Control is as everywhere, over unix sockets; batches stay in memory (hwrun/backends/memory.py). Every record says so:
its plan's backend and the medium of its links are `memory`. Stages that compute for real share one process, so such a
sweep says nothing of a device; emulated ones only wait.
"""

from __future__ import annotations

import contextlib
import itertools
import platform
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hwrun.errors import BadUsageError
from hwrun.records import LinkMeasured, Medium, Scalar
from hwrun.sweeps.cells import Crossing, PlannedCell
from hwrun.testbed import DataPath, Testbed
from paretosim.link import Link

if TYPE_CHECKING:
    from hwrun.backends.memory import MemoryEnds, MemoryExchange
    from hwrun.models.weights import WeightStore
    from hwrun.worker import Worker
    from hwrun.worker_client import WorkerClient

# Hand-overs between threads must not wait for the default 5 ms slice of the interpreter to end.
_SWITCH_INTERVAL_S = 0.0005
_PINGS = 7
_BULK_BYTES = 2**20
_BULKS = 8
# A probe is to last no longer on a slow link.
_BULK_S = 0.25


class MemoryTestbed:
    """Hosts that are names, and an exchange that joins them. Use it as a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __enter__(self) -> Self:
        from hwrun.backends.memory import MemoryExchange

        self.exchange: MemoryExchange = MemoryExchange()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def shape(self, links: Mapping[tuple[str, str], Link], *, any_port: bool = False) -> None:
        """Set the exchange's links."""
        self.exchange.shape(links)

    def medium(self, start: str, end: str, link: Link | None) -> Medium:
        """Memory."""
        return "memory"

    def counters(self, *, reset: bool = False) -> dict[str, int | float]:
        """Nothing is counted: nothing can be lost."""
        return {}

    def check_usable(self) -> None:
        """Memory does not break."""

    def description(self) -> dict[str, Scalar]:
        """That there is no network."""
        return {"kind": "memory", "shaped": True, "hosts": ",".join(self.names), "kernel": platform.release()}


@dataclass
class _Running:
    worker: Worker
    thread: threading.Thread
    client: WorkerClient


class MemoryWorkers:
    """A worker a host, each a few threads of this process. Use it as a context manager."""

    def __init__(
        self, testbed: MemoryTestbed, *, threads: int, allowed: Sequence[str], log_folder: Path | None
    ) -> None:
        from hwrun.wire.admission import Credentials
        from hwrun.wire.authentication import new_token

        self._testbed = testbed
        self._threads = threads
        self._allowed = allowed
        self._log_folder = log_folder
        self.credentials = Credentials(new_token())
        self._running: dict[str, _Running] = {}
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        from hwrun.models.weights import WeightStore
        from hwrun.scratch import scratch_folder

        self._resources.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._folder = self._resources.enter_context(scratch_folder())
        self.store: WeightStore = WeightStore(self._folder / "weights")
        try:
            for host in self.hosts:
                self._start(host)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, host: str) -> None:
        from hwrun.machine.steady import conditions
        from hwrun.wire.address import Address
        from hwrun.wire.sockets import listen
        from hwrun.worker import Worker
        from hwrun.worker_client import WorkerClient

        address = Address(path=str(self._folder / f"worker-{host}"))
        log = None
        if self._log_folder is not None:
            file = (self._log_folder / f"worker-{host}.log").open("a", buffering=1)
            self._resources.callback(file.close)

            def log(line: str) -> None:
                # The log may be closed already when a worker's last connection ends.
                with contextlib.suppress(ValueError, OSError):
                    print(f"hwrun worker: {line}", file=file)

        worker = Worker(
            listen(address),
            None,
            credentials=self.credentials,
            store=self.store,
            threads=self._threads,
            once=True,
            allowed=self._allowed,
            conditions=conditions(self._threads),
            exchange=self._testbed.exchange,
            log=log,
        )
        thread = threading.Thread(target=worker.serve, name=f"worker {host}", daemon=True)
        thread.start()
        self._running[host] = _Running(worker, thread, WorkerClient.dial(host, address, self.credentials))

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts."""
        return self._testbed.names

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
        from hwrun.backends.memory import MemoryEnds

        return MemoryEnds(self._testbed.exchange, path.hosts, path.sink)

    def probe(self, hop: Crossing, medium: Medium, echo_s: float) -> LinkMeasured:
        """Messages of a byte there and back, then long ones, over the exchange's own links; timed, not computed."""
        import torch

        from hwrun.backends.memory import address

        exchange = self._testbed.exchange
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

    def close(self) -> None:
        """End every worker and remove what they shared."""
        for running in self._running.values():
            self._end(running)
        self._running.clear()
        self._resources.close()


@dataclass(frozen=True)
class MemorySite:
    """Workers in this process, not yet started."""

    hosts: tuple[str, ...]
    threads: int
    allowed: Sequence[str] = field(default=())

    def refuses(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Cells over connections: there are none to be cold."""
        if cell.tcp_state == "cold":
            return "in memory no connection is cold", "measure cold cells with --backend tcp"
        return None

    def remark(self, cells: Sequence[PlannedCell]) -> str:
        """That nothing crosses a network."""
        return "backend memory: links only take their time, and stages that compute share this process"

    def testbed(self) -> MemoryTestbed:
        """An exchange."""
        return MemoryTestbed(self.hosts)

    def workers(self, testbed: Testbed, log_folder: Path) -> MemoryWorkers:
        """Threads a host."""
        if not isinstance(testbed, MemoryTestbed):
            raise BadUsageError(f"testbed: got {type(testbed).__name__}, expected the one that this site opened")
        return MemoryWorkers(testbed, threads=self.threads, allowed=self.allowed, log_folder=log_folder)
