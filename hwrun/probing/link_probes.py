"""Probes of a sweep's hops: one before the first cell that has it and one after the last, both kept in the run.

A sweep that is measured in parts has such a pair for each part. The sweep of sizes, which lasts longer than all else of
a probe, is in the first and the last of a run: what messages and bytes cost is a matter of hosts, and not of minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Literal

from hwrun.planned_cell import UNSHAPED, Crossing
from hwrun.probing.link_check import may_lose, missed, most_held
from hwrun.probing.probe import ECHO_S
from hwrun.records import LinkMeasured, LinkProbe, WorkerClock
from hwrun.testbed import Testbed, Workers

_CONTROL_PINGS = 9
_ATTEMPTS = 3
# A machine may be busy for as long as another job lasts; a night of cells is not to be refused for that.
GIVEN_UP_S = 180.0


class LinkProbes:
    """Probes paths between hosts of an open testbed, each in the direction that batches cross it.

    Parameters
    ----------
    on_probe : given each probe as it was made.
    tolerance : relative; by how much a shaped link may miss what was asked for.
    swept : hops of which the run has a sweep of sizes from an earlier part.
    """

    def __init__(
        self,
        testbed: Testbed,
        workers: Workers,
        on_probe: Callable[[LinkProbe], None],
        tolerance: float,
        swept: Collection[Crossing] = (),
    ) -> None:
        self._tolerance = tolerance
        self._swept = set(swept)
        self._given_up: dict[Crossing, str] = {}
        self._given_up_until_s: dict[Crossing, float] = {}
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
            self._before[hop] = self._probe(hop, "before", sweeps=hop not in self._swept).measured
        return self._before[hop].in_brief()

    def missed_before(self, hop: Crossing) -> str | None:
        """In what the hop, to which the testbed is shaped, misses its link; None where it holds or none was asked.

        A probe that misses is made again: a busy moment is no property of the link. A link that misses every time is
        given up for some minutes, in which its cells cost nothing, and then probed anew.
        """
        if hop.link is None or self.before(hop) is None:
            return None
        if hop in self._given_up:
            if time.monotonic() < self._given_up_until_s[hop]:
                return self._given_up[hop]
            del self._given_up[hop]
            self._before[hop] = self._probe(hop, "before", sweeps=hop not in self._swept).measured
        problem = missed(hop.link, self._before[hop], self._tolerance)
        probes = [self._before[hop]]
        while problem is not None and len(probes) < _ATTEMPTS:
            self._before[hop] = self._probe(hop, "before", sweeps=hop not in self._swept).measured
            probes.append(self._before[hop])
            problem = missed(hop.link, self._before[hop], self._tolerance)
        if problem is None:
            return None
        self._given_up[hop] = problem + most_held(hop.link, probes)
        self._given_up_until_s[hop] = time.monotonic() + GIVEN_UP_S
        return self._given_up[hop]

    def given_up(self, hop: Crossing) -> str | None:
        """In what a hop missed its link each time, where it is given up now; None for any other."""
        return self._given_up.get(hop)

    def after(self, hop: Crossing, *, is_last: bool) -> str | None:
        """Probe the hop after its last cell, if it was probed before; in what it misses its link, None if it holds.

        Parameters
        ----------
        is_last : no cell of the run is left that has it.
        """
        if hop not in self._before or hop in self._given_up:
            return None
        self._testbed.shape({} if hop.link is None else {(hop.start, hop.end): hop.link})
        for _ in range(_ATTEMPTS):
            measured = self._probe(hop, "after", sweeps=is_last).measured
            problem = None if hop.link is None else missed(hop.link, measured, self._tolerance)
            if problem is None:
                return None
        return problem

    def control_delay_s(self, host: str) -> float:
        """One way of the control path to a host, which a dispatch takes once; timed once a sweep."""
        if host not in self._control_delays_s:
            round_trips_s = [exchange.round_trip_s for exchange in self._clock(host).exchanges]
            self._control_delays_s[host] = statistics.median(round_trips_s) / 2
        return self._control_delays_s[host]

    def _clock(self, host: str) -> WorkerClock:
        client = self._workers.client(host)
        return WorkerClock(worker=client.name, exchanges=tuple(client.exchange() for _ in range(_CONTROL_PINGS)))

    def _probe(self, hop: Crossing, moment: Literal["before", "after"], *, sweeps: bool) -> LinkProbe:
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        # Of a link that may lose segments only the sweep tells the rate.
        echo_s = ECHO_S if sweeps or (hop.link is not None and may_lose(hop.link)) else 0.0
        measured = self._workers.probe(hop, self._testbed.medium(hop.start, hop.end, hop.link), echo_s)
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
