"""What workers have in common wherever they run: the weights they are supplied from, and pipelines over sockets."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from hwrun.backends.rpc import RpcEnds, join_group
from hwrun.backends.tcp import SocketEnds
from hwrun.errors import HwrunError
from hwrun.models.weights import WeightStore
from hwrun.planned_cell import Crossing
from hwrun.probing.link_probes import GIVEN_UP_S
from hwrun.records import LinkMeasured, Medium
from hwrun.scratch import scratch_folder
from hwrun.testbed import DataPath, Route
from hwrun.wire.admission import Credentials
from hwrun.worker_client import WorkerClient, probe_over


class OpenWorkers(ABC):
    """A worker a host, while a sweep has them. Use it as a context manager.

    `folder` and `store`, in it, are there while it is open.
    """

    def __init__(self, hosts: tuple[str, ...], credentials: Credentials) -> None:
        self.hosts = hosts
        self.credentials = credentials
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.folder = self._resources.enter_context(scratch_folder())
        self.store = WeightStore(self.folder / "weights")
        try:
            self._reach()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave every worker as it was found, and remove what they shared."""
        self._leave()
        self._resources.close()

    @abstractmethod
    def _reach(self) -> None:
        """Start, or dial, every worker."""

    @abstractmethod
    def _leave(self) -> None:
        """End, or hang up on, every worker; some may not have been reached."""

    @abstractmethod
    def client(self, host: str) -> WorkerClient:
        """The control connection to that host's worker."""


class SocketWorkers(OpenWorkers):
    """Workers whose data take sockets, or calls between their processes."""

    def __init__(self, hosts: tuple[str, ...], credentials: Credentials) -> None:
        super().__init__(hosts, credentials)
        # The RPC group that stands: its hosts and their processes; and how many there have been.
        self._group: tuple[tuple[str, int], ...] | None = None
        self._groups = 0
        # One that did not come together, why, and until when that is not tried again: members wait for one another.
        self._apart: tuple[tuple[tuple[str, int], ...], HwrunError, float] | None = None

    @abstractmethod
    def route(self, path: DataPath) -> Route:
        """How sockets take that path between the workers."""

    @abstractmethod
    def _meeting(self, path: DataPath, hosts: Sequence[str]) -> tuple[Sequence[str], str]:
        """The address of each host, to which calls take the path's links, and where the next group meets."""

    def ends(self, path: DataPath) -> SocketEnds | RpcEnds:
        """A pipeline's ends over that path."""
        sockets = SocketEnds(self.route(path), self.credentials)
        if path.backend != "rpc":
            return sockets
        self._join_group(path)
        return RpcEnds(sockets, path.hosts)

    def _join_group(self, path: DataPath) -> None:
        """Let the path's workers be one RPC group, unless they are it already, and their calls take the path's links.

        An agent listens for good where the first one of its process did (TensorPipeAgent::guessAddress remembers it),
        so what changes is the way to its address.
        """
        hosts = tuple(dict.fromkeys(path.hosts))
        addresses, rendezvous = self._meeting(path, hosts)
        group = tuple((host, self.client(host).welcome.pid) for host in hosts)
        if group == self._group:
            return
        if self._apart is not None and self._apart[0] == group and time.monotonic() < self._apart[2]:
            raise HwrunError(str(self._apart[1]))
        self._group = None
        self._groups += 1
        members = [(self.client(host), address) for host, address in zip(hosts, addresses, strict=True)]
        try:
            join_group(members, rendezvous)
        except HwrunError as error:
            self._apart = group, error, time.monotonic() + GIVEN_UP_S
            raise
        self._group = group

    def probe(self, hop: Crossing, medium: Medium, echo_s: float) -> LinkMeasured:
        """What the path from one host to another is."""
        address = self.route(DataPath((hop.start, hop.end), (hop.link,), hop.end, hop.link)).stage_address(1)
        return probe_over(self.client(hop.start), str(address), medium, hop.link, echo_s)
