"""What probes say of a calibration directly: what a byte takes through sockets where there is hardly a wire.

A probe sends messages of 64 B to 64 MB and times each round trip. On an unshaped path of one machine bytes are copied
and nothing else, so its slope is what copying takes; on any other it is the link's rate, which a prediction has
already. The probe's cost of a message is that of one thread answering another at once. A pipeline's threads have slept
meanwhile and take longer to wake, so that cost is fitted, and the probe's stands beside it. How much longer
after how long a rest is what its messages after pauses tell, and no fit: cells of one model rest about as long.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hwrun.records import LinkProbe, RestingCost, Run, echo_cost, resting_cost
from validation.conditions import WIRELESS


@dataclass(frozen=True)
class Probed:
    """Medians over probes and their range: seconds a byte, and seconds of a message and its answer.

    `resting` is how much later a message comes after a rest; None where no probe paused, or where it made no odds.
    """

    per_byte_s: float
    low: float
    high: float
    per_message_s: float
    probes: int
    resting: RestingCost | None = None


def probed_copying(runs: Sequence[Run]) -> Probed | None:
    """Of the unshaped paths within one machine that cells of these runs crossed; None where none was probed.

    A run may be what is left of one, without the cells that are held out: what it probed for those is held out too.
    """
    probes = [
        probe.measured
        for run in runs
        if any(None in cell.links_asked for cell in run.cells)
        for probe in run.probes
        if _is_copying_alone(probe)
    ]
    costs = [cost for probe in probes if (cost := echo_cost(probe.echo)) is not None and cost.per_byte_s > 0]
    if not costs:
        return None
    per_byte = [cost.per_byte_s for cost in costs]
    return Probed(
        per_byte_s=statistics.median(per_byte),
        low=min(per_byte),
        high=max(per_byte),
        per_message_s=statistics.median(cost.per_message_s for cost in costs),
        probes=len(costs),
        resting=resting_cost([sample for probe in probes for sample in probe.rested]),
    )


def _is_copying_alone(probe: LinkProbe) -> bool:
    return probe.link_asked is None and probe.measured.medium in WIRELESS
