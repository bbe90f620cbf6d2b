"""Probes of a sweep's hops: one before the first cell that has it and one after the last, both kept in the run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from hwrun.probe import ECHO_S
from hwrun.records import LinkMeasured, LinkProbe, WorkerClock
from hwrun.sweep_cells import UNSHAPED, Crossing
from hwrun.testbed import Testbed, Workers

_CONTROL_PINGS = 9


class LinkProbes:
    """Probes paths between hosts of an open testbed, each in the direction that batches cross it.

    Parameters
    ----------
    on_probe : given each probe as it was made.
    """

    def __init__(self, testbed: Testbed, workers: Workers, on_probe: Callable[[LinkProbe], None]) -> None:
        self._testbed = testbed
        self._workers = workers
        self._on_probe = on_probe
        self._before: dict[Crossing, LinkMeasured] = {}
        self._control_delays_s: dict[str, float] = {}

    def before(self, hop: Crossing) -> LinkMeasured | None:
        """The hop, to which the testbed is shaped, as probed before its first cell; probed now if this is it.

        None within a host: nothing is crossed there.
        """
        if hop.start == hop.end:
            return None
        if hop not in self._before:
            self._before[hop] = self._probe(hop, "before").measured.in_brief()
        return self._before[hop]

    def after(self, hop: Crossing) -> None:
        """Probe the hop after its last cell, if it was probed before."""
        if hop in self._before:
            self._testbed.shape({} if hop.link is None else {(hop.start, hop.end): hop.link})
            self._probe(hop, "after")

    def control_delay_s(self, host: str) -> float:
        """One way of the control path to a host, which a dispatch takes once; timed once a sweep."""
        if host not in self._control_delays_s:
            round_trips_s = [exchange.round_trip_s for exchange in self._clock(host).exchanges]
            self._control_delays_s[host] = statistics.median(round_trips_s) / 2
        return self._control_delays_s[host]

    def _clock(self, host: str) -> WorkerClock:
        client = self._workers.client(host)
        return WorkerClock(worker=client.name, exchanges=tuple(client.exchange() for _ in range(_CONTROL_PINGS)))

    def _probe(self, hop: Crossing, moment: Literal["before", "after"]) -> LinkProbe:
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        measured = self._workers.probe(hop, self._testbed.medium(hop.start, hop.end, hop.link), ECHO_S)
        probe = LinkProbe(
            link_name=UNSHAPED if hop.link is None else hop.link.name,
            link_asked=hop.link,
            moment=moment,
            started_utc=started_utc,
            near=hop.start,
            far=hop.end,
            measured=measured,
            clocks=(self._clock(hop.start), self._clock(hop.end)),
        )
        self._on_probe(probe)
        return probe
