"""A testbed without a network: workers are threads of this process, and links only take their time.

For tests, for a gate whose figures no scheduler of packets disturbs, and to see a plan run anywhere, without rights.
Control is as everywhere, over unix sockets; batches stay in memory (hwrun/backends/memory.py). Every record says so:
its plan's backend and the medium of its links are `memory`. Stages that compute for real share one process, so such a
sweep says nothing of a device; emulated ones only wait.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hwrun.errors import BadUsageError
from hwrun.planned_cell import PlannedCell
from hwrun.records import Medium, Scalar
from hwrun.testbed import Testbed
from paretosim.link import Link

if TYPE_CHECKING:
    from hwrun.backends.memory import MemoryExchange
    from hwrun.local.memory_workers import MemoryWorkers


class MemoryTestbed:
    """Hosts that are names, and an exchange that joins them. Use it as a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __enter__(self) -> Self:
        from hwrun.backends.memory import MemoryExchange

        self.exchange: MemoryExchange = MemoryExchange()
        return self

    def __exit__(self, *_: object) -> None:
        return

    def shape(self, links: Mapping[tuple[str, str], Link], *, any_port: bool = False, hold_s: float = 0.0) -> None:
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
        from hwrun.local.memory_workers import MemoryWorkers

        if not isinstance(testbed, MemoryTestbed):
            raise BadUsageError(f"testbed: got {type(testbed).__name__}, expected the one that this site opened")
        return MemoryWorkers(
            testbed.names, testbed.exchange, threads=self.threads, allowed=self.allowed, log_folder=log_folder
        )
