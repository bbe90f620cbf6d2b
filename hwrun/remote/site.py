"""Real hosts as the place to measure at: those of a testbed file, on the network that joins them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwrun.planned_cell import PlannedCell
from hwrun.remote.lab_file import Lab
from hwrun.remote.testbed import RemoteTestbed, numeric_address
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
        """Shaped cells between hosts that no interface lies between, or whose results would pass the shaped path by."""
        if cell.backend == "rpc":
            wary = [name for name in dict.fromkeys(cell.hosts) if not self.lab.host(name).trust_network]
            if wary:
                return (
                    f"RPC is pickle and asks for no token, and {' and '.join(wary)} must not trust the network",
                    "set trust_network in the testbed file if everybody on that network may run code there, or --local",
                )
        if not cell.is_shaped:
            return None
        for host in map(self.lab.host, dict.fromkeys(cell.hosts)):
            if ipaddress.ip_address(numeric_address(host)).is_loopback:
                return (
                    f"host {host.name} takes data at {host.data.host}, the loopback interface, which is not shaped",
                    "measure it unshaped, give the host an address of its network, or sweep with --local",
                )
        sink = self.lab.host(cell.sink_host)
        if cell.source == "sink" and sink.ssh is not None:
            return (
                f"inputs come from this machine and not from {sink.name}, over a path that is not shaped",
                f"run the sweep on {sink.name}",
            )
        if len(cell.stages) > 1 and cell.sink == "first" and (sink.ssh is not None or not self.lab.results_port):
            return (
                f"results are wanted on {sink.name}, and their way there is shaped only if they are taken there, at a"
                " known port",
                f"run the sweep on {sink.name}, with results_port set in the testbed file",
            )
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
        return self._workers(testbed)

    @contextlib.contextmanager
    def _workers(self, testbed: Testbed) -> Iterator[RemoteWorkers]:
        from hwrun.remote.workers import RemoteWorkers

        assert isinstance(testbed, RemoteTestbed)  # this very site opened it
        with RemoteWorkers(self.lab, self.hosts, testbed.addresses) as workers:
            testbed.reach(workers.client)
            try:
                yield workers
            finally:
                testbed.reach(None)
