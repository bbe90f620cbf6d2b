"""This machine as the place to measure at: as many hosts as the plans need, all of them here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwrun.errors import BadUsageError
from hwrun.local.namespaces import availability
from hwrun.local.testbed import LocalTestbed
from hwrun.planned_cell import PlannedCell
from hwrun.testbed import Testbed

if TYPE_CHECKING:
    from hwrun.local.workers import LocalWorkers


@dataclass(frozen=True)
class LocalSite:
    """A local testbed and its workers, not yet opened.

    Parameters
    ----------
    hosts : their names.
    threads, allowed : of the workers, as LocalWorkers takes them.
    computing : whether stages compute, on cores that the relays of shaped links then have to share.
    seed : of the delays and losses that links with jitter or loss draw.
    """

    hosts: tuple[str, ...]
    threads: int
    computing: bool
    allowed: Sequence[str] = ()
    seed: int = 0

    def refuses(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Shaped cells where network namespaces are not permitted."""
        permitted = availability()
        if cell.is_shaped and permitted.how == "none":
            return permitted.reason or "shaping is not permitted", permitted.remedy or "run as root"
        if cell.tcp_state == "cold" and cell.backend != "tcp":
            return "connections of backend rpc are TensorPipe's own, which stay warm", "measure cold cells with tcp"
        return None

    def remark(self, cells: Sequence[PlannedCell]) -> str:
        """Nothing: the orchestrator is on every host."""
        return ""

    def testbed(self) -> LocalTestbed:
        """With namespaces where they are permitted, else on loopback."""
        permitted = availability()
        is_shaped = permitted.how != "none" and not permitted.needs_reexec
        # A relay that floats would be now on the core of one computing stage and now on another's.
        return LocalTestbed(shaped=is_shaped, names=self.hosts, seed=self.seed, beside_computing=self.computing)

    def workers(self, testbed: Testbed, log_folder: Path) -> LocalWorkers:
        """A process a host."""
        from hwrun.local.workers import LocalWorkers

        if not isinstance(testbed, LocalTestbed):
            raise BadUsageError(f"testbed: got {type(testbed).__name__}, expected the one that this site opened")
        return LocalWorkers(testbed, threads=self.threads, log_folder=log_folder, allowed=self.allowed)
