"""Every published row beside what is predicted of it without it: both stages, the network time, and its standing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paretosim.pareto import is_nondominated
from paretosim.prediction import Row
from paretosim.transfer_time import serialisation_s
from validation.left_out import StageFit
from validation.paper.evidence import Evidence
from validation.published import PublishedRow

Standing = Literal["on the front", "near the front", "off the front"]


@dataclass(frozen=True)
class RowVerdict:
    """A row, its stages left out, its network time predicted, and where the split then stands among those offered.

    `latency_s` is on the paper's clock. `throughput_loss` and `latency_loss` are relative to the predicted best split,
    0 where it is this one; ranks are from 1. `standing` counts a split as near the front where it is on it once made
    better by the profiles' error. `contradictions` are the arithmetic of what the row is part of.
    """

    row: PublishedRow
    stages: tuple[StageFit, StageFit]
    network_s: float
    activation_bytes: int
    throughput_per_s: float
    latency_s: float
    standing: Standing
    throughput_rank: int
    latency_rank: int
    throughput_loss: float
    latency_loss: float
    splits: int
    profile_error: float
    contradictions: tuple[str, ...]

    @property
    def network_error(self) -> float:
        """Relative to the published network time."""
        return self.network_s / self.row.network_s - 1


def judge_rows(evidence: Evidence) -> tuple[RowVerdict, ...]:
    """All rows of both tables, in order."""
    return tuple(_judge(evidence, row) for row in evidence.rows)


def _judge(evidence: Evidence, row: PublishedRow) -> RowVerdict:
    found = evidence.predicted(row.table, row.model, unseen=row)
    offered = evidence.offered(found)
    own = found.row(row.split)
    link = evidence.link_of(row.table)
    error = evidence.error_of(row.table, row.model)
    payload = own.activation_bytes[0]
    return RowVerdict(
        row=row,
        stages=evidence.stage_fits(row),
        network_s=float(serialisation_s(payload, link)) + link.one_way_delay_s,
        activation_bytes=payload,
        throughput_per_s=own.throughput_per_s,
        latency_s=own.latency_s,
        standing=standing(offered, own, error),
        throughput_rank=1 + sum(other.throughput_per_s > own.throughput_per_s for other in offered),
        latency_rank=1 + sum(other.latency_s < own.latency_s for other in offered),
        throughput_loss=1 - own.throughput_per_s / max(other.throughput_per_s for other in offered),
        latency_loss=own.latency_s / min(other.latency_s for other in offered) - 1,
        splits=len(offered),
        profile_error=error,
        contradictions=tuple(
            f"{entry.kind}: {entry.arithmetic}" for entry in evidence.reconstruction.contradictions if row in entry.rows
        ),
    )


def front_of(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those that no other dominates, from the lowest latency up."""
    kept = is_nondominated([(row.latency_s, -row.throughput_per_s) for row in rows])
    return tuple(sorted((row for row, keep in zip(rows, kept, strict=True) if keep), key=lambda row: row.latency_s))


def standing(rows: Sequence[Row], own: Row, error: float) -> Standing:
    """Of one split among all: on the front, on it once made better by `error` in both objectives, or off it."""
    if own in front_of(rows):
        return "on the front"
    others = [(row.latency_s, -row.throughput_per_s) for row in rows if row is not own]
    better = (own.latency_s / (1 + error), -own.throughput_per_s * (1 + error))
    return "near the front" if is_nondominated([better, *others])[0] else "off the front"
