"""Timings: how long each block of a model takes on a device, and how that is known."""

from __future__ import annotations

import math
import statistics
from typing import Literal

import msgspec

from paretosim.errors import BadInputError

Kind = Literal["measured", "reconstructed", "extrapolated"]


class BlockTiming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of one block for one whole batch: raw repeats where measured, else one value."""

    name: str
    samples_s: tuple[float, ...] = ()
    value_s: float | None = None

    def __post_init__(self) -> None:
        if bool(self.samples_s) == (self.value_s is not None):
            raise BadInputError(f"block {self.name!r}: expected either samples_s or value_s, and not both")
        for seconds in (*self.samples_s, *(() if self.value_s is None else (self.value_s,))):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise BadInputError(f"block {self.name!r}: got {seconds} s, expected a finite time of 0 or more")

    @property
    def seconds(self) -> float:
        """The median of the repeats, or the one value."""
        return statistics.median(self.samples_s) if self.value_s is None else self.value_s


class SpanTiming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw repeats of blocks [first, last) run in one go: a prefix, a suffix or the whole model."""

    first: int
    last: int
    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        where = f"span [{self.first}, {self.last})"
        if not 0 <= self.first < self.last:
            raise BadInputError(f"{where}: expected 0 ≤ first < last")
        if not self.samples_s:
            raise BadInputError(f"{where}, samples_s: got none, expected at least one")
        for seconds in self.samples_s:
            if not (math.isfinite(seconds) and seconds >= 0):
                raise BadInputError(f"{where}: got {seconds} s, expected a finite time of 0 or more")

    @property
    def seconds(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.samples_s)


class BatchTiming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Block times at one batch size, and spans measured in one go where there are any."""

    batch: int
    blocks: tuple[BlockTiming, ...]
    spans: tuple[SpanTiming, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise BadInputError(f"batch: got {self.batch}, expected 1 or more")
        if not self.blocks:
            raise BadInputError("blocks: got none, expected at least one")
        if not any(block.seconds for block in self.blocks):
            raise BadInputError(f"blocks at batch {self.batch}: all take 0 s, expected one or more above zero")
        for span in self.spans:
            if span.last > len(self.blocks):
                raise BadInputError(f"span [{span.first}, {span.last}): expected an end of {len(self.blocks)} or less")


class TimingError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The headline error of a timing: relative error of a stage time, and how it was obtained."""

    relative: float
    meaning: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.relative) and self.relative >= 0):
            raise BadInputError(f"error.relative: got {self.relative}, expected a finite number of 0 or more")


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each block of `model` takes on `device`, at one or more batch sizes.

    `kind` says how it is known and stands beside every result made from it; `how` says it in a sentence,
    `conditions` are what it was taken under (threads, versions, clock), `notes` what a user should know.
    """

    schema_version: int
    device: str
    model: str
    kind: Kind
    how: str
    batches: tuple[BatchTiming, ...]
    error: TimingError | None = None
    conditions: dict[str, str | int | float | bool | None] = {}
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.schema_version != 1:
            raise BadInputError(f"schema_version: got {self.schema_version}, expected 1")
        if not self.batches:
            raise BadInputError("batches: got none, expected at least one")
        sizes = [entry.batch for entry in self.batches]
        if len(set(sizes)) != len(sizes):
            raise BadInputError(f"batches: got sizes {sizes}, expected each once")
        first = self.batches[0]
        for entry in self.batches:
            if [b.name for b in entry.blocks] != [b.name for b in first.blocks]:
                raise BadInputError(f"batches: block names at batch {entry.batch} differ from batch {first.batch}")

    def at_batch(self, batch: int) -> tuple[tuple[float, ...], Kind]:
        """Seconds of each block at `batch`, and the kind they then are.

        A batch size that was not profiled is scaled linearly from the nearest one and is `extrapolated`.
        """
        if batch < 1:
            raise BadInputError(f"batch: got {batch}, expected 1 or more")
        nearest = min(self.batches, key=lambda entry: (abs(math.log(entry.batch / batch)), entry.batch))
        seconds = tuple(block.seconds for block in nearest.blocks)
        if nearest.batch == batch:
            return seconds, self.kind
        return tuple(value * batch / nearest.batch for value in seconds), "extrapolated"
