"""What a sweep asks of the place it measures at: hosts, the network between them, and a worker on each.

Three contracts. A `Site` says what can be measured there and opens the rest; a `Testbed` is its hosts and their
network; `Workers` are the processes on them and the paths that data take. `hwrun/local` implements them on one machine;
anything else that does is measured by the very same bench. Hosts are known by name, and a link always lies between two
of them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hwrun.planned_cell import Crossing, PlannedCell
from hwrun.records import BackendName, LinkMeasured, Medium, Scalar
from paretosim.link import Link
from paretosim.plan import Stage

if TYPE_CHECKING:
    from hwrun.backends.contract import Ends
    from hwrun.models.weights import WeightStore
    from hwrun.wire.address import Address
    from hwrun.wire.admission import Credentials
    from hwrun.worker_client import WorkerClient


class Route(Protocol):
    """How sockets reach each part of one pipeline."""

    def stage_address(self, position: int) -> Address:
        """Where the stage before (for the first: the orchestrator at the sink) dials stage `position`."""

    def listen_for_results(self) -> tuple[socket.socket, Address]:
        """A listener for the results, at the host where they are wanted, and where the last stage dials it."""

    def at_sink(self) -> AbstractContextManager[None]:
        """The calling thread is on the host where results are wanted."""

    def check(self) -> None:
        """Raise HwrunError where the path itself is gone: what was under way on it never arrives."""


@dataclass(frozen=True)
class DataPath:
    """What the data of a pipeline cross, by the names of hosts.

    `hosts` are those of the stages that take part, `links` those asked of the hops between them (None is unshaped, or
    within one host), `way_back` of the path between `sink` and the other end of the chain. `backend` carries batches
    between stages.

    Where only stages can use a backend, the way between the sink and the chain's far end has a stage without blocks at
    the sink, which forwards: `leads` before the plan's stages, for inputs, `trails` after them, for results.
    """

    hosts: tuple[str, ...]
    links: tuple[Link | None, ...]
    sink: str
    way_back: Link | None
    backend: BackendName = "tcp"
    leads: bool = False
    trails: bool = False

    @classmethod
    def of(cls, cell: PlannedCell) -> DataPath:
        """The path of a cell's batches."""
        hosts, sink = cell.stage_hosts, cell.sink_host
        links = cell.links[: len(hosts) - 1]
        leads = cell.backend == "rpc" and cell.source == "sink" and sink != hosts[0]
        trails = cell.backend == "rpc" and sink != hosts[-1]
        hosts = (*((sink,) if leads else ()), *hosts, *((sink,) if trails else ()))
        links = (*((cell.way_back,) if leads else ()), *links, *((cell.way_back,) if trails else ()))
        return cls(hosts, links, sink, cell.way_back, cell.backend, leads, trails)

    def with_forwarders(self, stages: Sequence[Stage]) -> tuple[Stage, ...]:
        """The plan's stages, and those that forward."""
        first, last = stages[0], stages[-1]
        leading = (Stage(first.device, 0, 0),) if self.leads else ()
        trailing = (Stage(last.device, last.last, last.last),) if self.trails else ()
        return (*leading, *stages, *trailing)

    @property
    def own(self) -> slice:
        """Which of all stages are the plan's."""
        return slice(int(self.leads), len(self.hosts) - int(self.trails))


class Testbed(Protocol):
    """An open testbed: its hosts and the network between them.

    Every method raises HwrunError where the testbed has broken down; `check_usable` does nothing else.
    """

    def shape(self, links: Mapping[tuple[str, str], Link], *, any_port: bool = False, hold_s: float = 0.0) -> None:
        """Make the path of each pair of hosts what its link says, seen from the first of the pair.

        It holds when this returns, verified where the kernel can be asked, and until the next call; pairs that are not
        named may keep what they had, for nothing measured crosses them shaped. A pair's unshaped path stays usable.

        Parameters
        ----------
        any_port : data take ports that nobody knows beforehand, as RPC's do: all that passes between the two hosts is
            shaped, but for control.
        hold_s : how long its hosts may hear nothing of us meanwhile, beyond the usual: a whole cell.
        """

    def medium(self, start: str, end: str, link: Link | None) -> Medium:
        """What carries data from one host to another over that link; `loopback` within a host."""

    def counters(self, *, reset: bool = False) -> Mapping[str, Scalar]:
        """What shaping counted since the last reset, or what is found set now, flat; empty where nothing is shaped.

        Raises HwrunError also where the links are no longer as `shape` made them.
        """

    def check_usable(self) -> None:
        """Raise HwrunError unless it is open and whatever it consists of still runs."""

    def description(self) -> dict[str, Scalar]:
        """What this testbed is, as read back and not as asked, for the manifest; `kind` and `shaped` are in it."""


class Workers(Protocol):
    """One worker a host, dialled and of our version; `store` holds the weights that they are supplied from."""

    @property
    def credentials(self) -> Credentials:
        """What workers show each other and us."""

    @property
    def store(self) -> WeightStore:
        """Weights on the orchestrator's side."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts, in their order."""

    @property
    def logs(self) -> str:
        """Where what the workers logged says more of a failure, in words."""

    def client(self, host: str) -> WorkerClient:
        """The control connection to that host's worker."""

    def revive(self) -> None:
        """Bring every worker back that died or stopped answering; called before each cell.

        Raises
        ------
        HwrunError : one cannot be brought back.
        """

    def deaths(self) -> str:
        """Which workers have ended though nobody asked them to, and how; empty where none has, or nobody can know."""

    def kill(self) -> None:
        """End at once whatever would outlive this process; for a signal handler."""

    def ends(self, path: DataPath) -> Ends:
        """What the orchestrator holds of a pipeline over that path: SocketEnds of a Route, where data take sockets."""

    def probe(self, hop: Crossing, medium: Medium, echo_s: float) -> LinkMeasured:
        """What a path is, from its first host's worker to its second's, as shaped now (hwrun/probing/probe.py).

        Parameters
        ----------
        medium : what the testbed says that the path is.
        echo_s : how long a sweep of message sizes may take.
        """


class Site(Protocol):
    """A place to measure at, before anything of it is opened."""

    def refuses(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Reason and remedy where a cell cannot be measured here, None where it can. Asked before anything starts."""

    def remark(self, cells: Sequence[PlannedCell]) -> str:
        """What whoever reads measurements of these cells should know of the place; empty where there is nothing."""

    def testbed(self) -> AbstractContextManager[Testbed]:
        """Open the testbed; leaving the context removes every trace of it."""

    def workers(self, testbed: Testbed, log_folder: Path) -> AbstractContextManager[Workers]:
        """Start, or reach, the workers; leaving the context leaves them as they were found.

        Parameters
        ----------
        log_folder : gets what workers that are started here log, a file each, appended to.
        """
