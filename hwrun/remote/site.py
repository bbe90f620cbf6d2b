"""Real hosts as the place to measure at: those of a testbed file, on the network that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwrun.remote.lab_file import Lab
from hwrun.remote.testbed import RemoteTestbed
from hwrun.sweep_cells import PlannedCell
from hwrun.testbed import Testbed, Workers

if TYPE_CHECKING:
    from hwrun.remote.workers import RemoteWorkers


@dataclass(frozen=True)
class RemoteSite:
    """The hosts of a testbed file that take part in a sweep.

    Parameters
    ----------
    hosts : their names, in any order.
    """

    lab: Lab
    hosts: tuple[str, ...]

    def refuses(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Shaped cells: the hosts' network is measured as it is."""
        if cell.is_shaped:
            return "the links of a testbed's hosts are not shaped", "measure them unshaped, or sweep with --local"
        return None

    def remark(self, cells: Sequence[PlannedCell]) -> str:
        """That results travel further than predicted, where this machine is not the sink."""
        apart = sorted({cell.sink_host for cell in cells if self.lab.host(cell.sink_host).ssh is not None})
        if not apart:
            return ""
        return (
            f"hwrun sweep: results are wanted on {', '.join(apart)} and taken on this machine: every latency has their"
            f" way here in it. Run the sweep on {apart[0]} to leave that out"
        )

    def testbed(self) -> RemoteTestbed:
        """The network between the hosts as it stands."""
        return RemoteTestbed(self.lab, self.hosts)

    def workers(self, testbed: Testbed, log_folder: Path) -> AbstractContextManager[Workers]:
        """The workers that `hwrun up` (or the hosts' own systemd) has started; they log on their hosts."""
        return self._workers()

    def _workers(self) -> RemoteWorkers:
        from hwrun.remote.workers import RemoteWorkers

        return RemoteWorkers(self.lab, self.hosts)
