"""Which cells a sweep has, in which order, and which would take too long. Pure: arithmetic on values."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from hwrun.errors import BadUsageError
from hwrun.feeding import fed_batches
from hwrun.records import cell_id
from paretosim.block import Model
from paretosim.errors import UnknownNameError
from paretosim.link import HEADER_BYTES_SHAPED, Link, parse_link
from paretosim.mode import Mode
from paretosim.plan import Plan, Stage
from paretosim.profiles import ProfileStore, nearest
from paretosim.units import format_duration

UNSHAPED = "unshaped"
Source = Literal["stage1", "sink"]
Sink = Literal["last", "first"]
# What a rate and a delay are set over: the testbed's own path, whose delay is nothing beside any that is asked for.
_BARE = Link(
    schema_version=1, name="veth", rate_bps=1e10, one_way_delay_s=0.0, return_rate_bps=1e10, return_delay_s=0.0
)


class PlannedCell(msgspec.Struct, frozen=True, kw_only=True):
    """A combination to measure."""

    plan: Plan
    mode: Mode
    link_name: str
    link: Link | None
    source: Source
    sink: Sink
    repeat: int

    @property
    def cell_id(self) -> str:
        """The same as that of the record it becomes."""
        return cell_id(self.plan, self.mode, self.link_name, self.link, self.source, self.sink, self.repeat)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that take part: with the sink at the first device, trailing empty ones are skipped."""
        stages = list(self.plan.stages)
        while self.sink == "first" and len(stages) > 1 and stages[-1].first == stages[-1].last:
            stages.pop()
        return tuple(stages)

    def __str__(self) -> str:
        return f"{self.plan} {self.mode} {self.link_name} #{self.repeat}"


def parse_splits(text: str, blocks: int) -> tuple[int, ...]:
    """Splits from `all` (0 … N), `interior` (1 … N−1) or numbers and ranges such as `14,18-21`."""
    if text == "all":
        return tuple(range(blocks + 1))
    if text == "interior":
        return tuple(range(1, blocks))
    splits: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise BadUsageError(f"--splits: got {text!r}, expected all, interior, or numbers such as 14,18-21")
        splits.extend(range(int(first), int(last or first) + 1))
    if over := [split for split in splits if split > blocks]:
        raise BadUsageError(f"--splits: got {over[0]}, expected 0 to {blocks}, the model's number of blocks")
    return tuple(dict.fromkeys(splits))


def parse_asked_link(text: str, store: ProfileStore) -> tuple[str, Link | None]:
    """Name and value of the link written as `unshaped`, a preset's name, or `RATE,DELAY` and what `parse_link` reads.

    The testbed counts Ethernet, IP and TCP headers against the rate, so that is what the link then says.
    """
    if text == UNSHAPED:
        return text, None
    if "," in text:
        link = parse_link(text, _BARE)
    else:
        try:
            link = store.link(text)
        except UnknownNameError as error:
            known = (UNSHAPED, *store.names("links"))
            raise BadUsageError(
                f"--link: got {text!r}, expected RATE,DELAY such as 5mbit,200ms, or one of"
                f" {', '.join(known)}{nearest(text, known)}"
            ) from error
    return link.name, msgspec.structs.replace(link, header_bytes=HEADER_BYTES_SHAPED)


def plan_cells(
    *,
    models: Sequence[tuple[Model, tuple[int, ...]]],
    devices: tuple[str, str],
    batch: int,
    links: Sequence[tuple[str, Link | None]],
    modes: Sequence[Mode],
    source: Source,
    sink: Sink,
    repeats: int,
    seed: int,
) -> tuple[PlannedCell, ...]:
    """Every combination once a repeat: repeats one after the other, each in a random order of its own.

    So drift of the machine meets every split alike, and a sweep that is cut short has whole repeats.
    """
    order = random.Random(seed)
    cells: list[PlannedCell] = []
    for repeat in range(repeats):
        round_of_cells = [
            PlannedCell(
                plan=Plan.two_devices(model.name, len(model.blocks), split, devices, batch=batch, window=mode.window),
                mode=mode,
                link_name=name,
                link=link,
                source=source,
                sink=sink,
                repeat=repeat,
            )
            for model, splits in models
            for split in splits
            for name, link in links
            for mode in modes
        ]
        order.shuffle(round_of_cells)
        cells += round_of_cells
    return tuple(cells)


def cells_identity(cells: Sequence[PlannedCell]) -> str:
    """A hash of which cells a sweep has, in their order."""
    return hashlib.sha256(" ".join(cell.cell_id for cell in cells).encode()).hexdigest()[:16]


def time_floor_s(cell: PlannedCell, model: Model, targets_s: tuple[float, ...] | None, batches: int) -> float:
    """Seconds that the cell takes at least, by bytes over rate, delays and emulated stage times alone.

    Parameters
    ----------
    targets_s : of each stage, 0 for an empty one; None where stages compute and nothing is known.
    batches : measured batches a sub-run.
    """
    stage_s = list(targets_s or ())
    cuts = [size * cell.plan.batch for size in model.cut_bytes()]
    link_s: list[float] = []
    delay_s = 0.0
    if cell.link is not None:
        if len(cell.stages) > 1:
            link_s.append(cuts[cell.plan.split] * 8 / cell.link.rate_bps)
            delay_s += cell.link.one_way_delay_s
        travels_back = [cuts[-1]] if cell.sink == "first" and len(cell.stages) > 1 else []
        travels_back += [cuts[0]] if cell.source == "sink" and cell.sink == "last" else []
        link_s += [size * 8 / cell.link.return_rate_bps for size in travels_back]
        delay_s += cell.link.return_delay_s * len(travels_back)
    alone_s = sum(stage_s) + sum(link_s) + delay_s
    count = fed_batches(cell.mode, batches)
    if cell.mode.name == "single":
        return count * alone_s
    return alone_s + (count - 1) * max((*stage_s, *link_s), default=0.0)


def too_long(floor_s: float, limit_s: float) -> tuple[str, str] | None:
    """Reason and remedy where a cell cannot be done in `limit_s`, else None."""
    if floor_s <= limit_s:
        return None
    return (
        f"its bytes, delays and stage times alone take {format_duration(round(floor_s, 1))},"
        f" more than --max-cell-time {format_duration(limit_s)}",
        f"resume with --max-cell-time {format_duration(float(-(-floor_s // 10) * 10))} or more, or leave the split out",
    )
