"""Probes of a sweep's links: one before the first cell over a link and one after the last, both kept in the run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from hwrun.local.testbed import LocalTestbed
from hwrun.local.workers import LocalRoute, LocalWorkers
from hwrun.probe import ECHO_S, bulk_bytes
from hwrun.records import LinkMeasured, LinkProbe, WorkerClock
from hwrun.wire import control
from paretosim.link import Link

_PINGS = 7
_CONTROL_PINGS = 9


@dataclass(frozen=True)
class LinkBefore:
    """What every cell over a link repeats of the probe before it."""

    measured: LinkMeasured
    control_delay_s: float


class LinkProbes:
    """Probes the links of an open testbed, from its first worker to its last.

    Parameters
    ----------
    on_probe : given each probe as it was made.
    """

    def __init__(self, testbed: LocalTestbed, workers: LocalWorkers, on_probe: Callable[[LinkProbe], None]) -> None:
        self._testbed = testbed
        self._workers = workers
        self._on_probe = on_probe
        self._before: dict[tuple[str, Link | None], LinkBefore] = {}

    def before(self, name: str, link: Link | None) -> LinkBefore:
        """The link, to which the testbed is shaped, as probed before its first cell; probed now if this is it."""
        key = (name, link)
        if key not in self._before:
            probe = self._probe(name, link, "before")
            # One way of the control path, which a dispatch takes once.
            round_trips_s = [exchange.round_trip_s for clock in probe.clocks for exchange in clock.exchanges]
            self._before[key] = LinkBefore(probe.measured.in_brief(), statistics.median(round_trips_s) / 2)
        return self._before[key]

    def after(self, name: str, link: Link | None) -> None:
        """Probe the link after its last cell, if it was probed before."""
        if (name, link) in self._before:
            self._testbed.shape(link)
            self._probe(name, link, "after")

    def _probe(self, name: str, link: Link | None, moment: Literal["before", "after"]) -> LinkProbe:
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        clients = self._workers.clients
        route = LocalRoute(self._testbed, self._workers, link, "last", len(clients))
        asked = control.ProbeLink(
            address=str(route.stage_address(len(clients) - 1)),
            medium=self._testbed.medium(link),
            pings=_PINGS,
            bulk_bytes=bulk_bytes(link),
            echo_s=ECHO_S,
        )
        measured = clients[0].request(asked, control.Probed).measured
        probe = LinkProbe(
            link_name=name,
            link_asked=link,
            moment=moment,
            started_utc=started_utc,
            near=clients[0].name,
            far=clients[-1].name,
            measured=measured,
            clocks=tuple(
                WorkerClock(worker=client.name, exchanges=tuple(client.exchange() for _ in range(_CONTROL_PINGS)))
                for client in (clients[0], clients[-1])
            ),
        )
        self._on_probe(probe)
        return probe
