"""Timings: how long each block of a model takes on a device, and how that is known."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from paretosim.block import Model
from paretosim.errors import BadInputError

Kind = Literal["measured", "reconstructed", "extrapolated"]
# The condition that says from which batch sizes a timing was extrapolated to another.
EXTRAPOLATED_FROM = "extrapolated_from_batches"
# Of a time: by how much less than this a line may leave its bounds without a word.
ROUNDING = 1e-9


def median(samples: Sequence[float]) -> float:
    """The middle of the samples, or the mean of both middles; `statistics` would cost every start some milliseconds.

    >>> median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])
    (2.0, 2.5)
    """
    ordered = sorted(samples)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


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
        return median(self.samples_s) if self.value_s is None else self.value_s


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
        return median(self.samples_s)


class BatchTiming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Block times at one batch size, and spans measured in one go where there are any."""

    batch: int
    blocks: tuple[BlockTiming, ...]
    spans: tuple[SpanTiming, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise BadInputError(f"batch: got {self.batch}, expected 1 or more")
        if not self.blocks:
            raise BadInputError("blocks: got none, expected at least one")
        if not any(self.seconds):
            raise BadInputError(f"blocks at batch {self.batch}: all take 0 s, expected one or more above zero")
        for span in self.spans:
            if span.last > len(self.blocks):
                raise BadInputError(f"span [{span.first}, {span.last}): expected an end of {len(self.blocks)} or less")

    @functools.cached_property
    def seconds(self) -> tuple[float, ...]:  # medians of raw repeats, asked for by everything that is predicted
        """Seconds of each block for one whole batch."""
        return tuple(block.seconds for block in self.blocks)


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

    def check_belongs(self, model: Model, device: str) -> None:
        """Make sure that these are times of `model`'s blocks on `device`.

        Raises
        ------
        BadInputError : another model or device, or other blocks than the model profile has.
        """
        if (self.device, self.model) != (device, model.name):
            raise BadInputError(f"timing: got {self.model!r} on {self.device!r}, expected {model.name!r} on {device!r}")
        timed, known = [entry.name for entry in self.batches[0].blocks], [block.name for block in model.blocks]
        if timed != known:
            # The first that differs; a list that ends there has None.
            pairs = enumerate(itertools.zip_longest(timed, known), start=1)
            number, (of_timing, of_model) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
            raise BadInputError(
                f"timing of {model.name!r} on {device!r}: its blocks differ from the model profile's: it has"
                f" {len(timed)} and the profile {len(known)}, and block {number} is {of_timing!r} and not {of_model!r};"
                " profile the device again with: hwrun profile"
            )

    def at_batch(self, batch: int) -> tuple[tuple[float, ...], Kind]:
        """Seconds of each block at `batch`, and the kind they then are.

        Between two profiled sizes each block is affine in the batch and of the profile's kind. With a single profiled
        size another one is scaled linearly and is `extrapolated`. Source: docs/model.md, "Batch size".

        Raises
        ------
        BadInputError : outside of what a timing of several sizes was profiled at (see `extrapolated_to`).
        """
        if batch < 1:
            raise BadInputError(f"batch: got {batch}, expected 1 or more")
        entries = self._ascending
        for entry in entries:
            if entry.batch == batch:
                return entry.seconds, self.kind
        if len(entries) == 1:
            return _scaled(entries[0], batch), "extrapolated"
        if not entries[0].batch < batch < entries[-1].batch:
            sizes = [entry.batch for entry in entries]
            listed = ", ".join(map(str, sizes))
            raise BadInputError(
                f"batch: got {batch}, but {self.model} on {self.device} was profiled at batches {listed};"
                f" expected {sizes[0]} to {sizes[-1]}, or --extrapolate of paretosim (extrapolate=True), or"
                f" that size profiled as these were, into the same folder: hwrun profile --batch {batch}"
            )
        before, after = self.neighbours(batch)
        share = (batch - before.batch) / (after.batch - before.batch)
        pairs = zip(before.seconds, after.seconds, strict=True)
        return tuple(min(max(a + share * (b - a), min(a, b)), max(a, b)) for a, b in pairs), self.kind

    def neighbours(self, batch: int) -> tuple[BatchTiming, BatchTiming]:
        """The two profiled sizes around `batch`, or the nearest two where it is outside; needs two sizes."""
        entries = self._ascending
        pairs = list(itertools.pairwise(entries))
        return next((pair for pair in pairs if batch <= pair[1].batch), pairs[-1])

    def extrapolated_to(self, batch: int) -> Timing:
        """This timing where it says what `batch` takes, else one for that size alone, `extrapolated`.

        Each block goes on along the line through the nearest two sizes, its fixed part kept between nothing and
        all of the nearest time: no block gets faster with more images, nor slower for each with more of them.
        Source: docs/model.md, "Batch size".
        """
        entries = self._ascending
        if len(entries) == 1 or entries[0].batch <= batch <= entries[-1].batch:
            return self
        before, after = self.neighbours(batch)
        nearest = before if batch < before.batch else after
        fixed_s, held = [], 0
        for a, b, near in zip(before.seconds, after.seconds, nearest.seconds, strict=True):
            intercept = a - (b - a) / (after.batch - before.batch) * before.batch
            fixed_s.append(min(max(intercept, 0.0), near))
            held += abs(fixed_s[-1] - intercept) > ROUNDING * near
        blocks = tuple(
            BlockTiming(name=block.name, value_s=fixed + (near - fixed) * batch / nearest.batch)
            for block, near, fixed in zip(nearest.blocks, nearest.seconds, fixed_s, strict=True)
        )
        sizes = f"{before.batch} and {after.batch}"
        note = f"batch {batch} lies outside the profiled ones and is extrapolated from batches {sizes}"
        if held:
            note += f"; {held} of {len(blocks)} blocks, whose line falls or begins below zero, are held at its bounds"
        return msgspec.structs.replace(
            self,
            kind="extrapolated",
            batches=(BatchTiming(batch=batch, blocks=blocks),),
            conditions={**self.conditions, EXTRAPOLATED_FROM: sizes},
            notes=(*self.notes, note),
        )

    @property
    def _ascending(self) -> list[BatchTiming]:
        return sorted(self.batches, key=lambda entry: entry.batch)


def _scaled(entry: BatchTiming, batch: int) -> tuple[float, ...]:
    return tuple(value * batch / entry.batch for value in entry.seconds)
