"""A timing that is there already, and what of it another one of the same model on the same device goes on with.

Predictions draw lines between the batch sizes of one file, so all of them must have been measured in the same way and
under the same conditions. What changes by the minute (load, temperature, the clock of the moment) is not among these:
it shows in the repeats.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Mapping, Sequence

from hwrun.models.block_timing import Measured
from hwrun.records import Scalar
from paretosim.timing import BatchTiming, Timing

FORCED = "kept with --force although"
# By their names in a timing's conditions.
_ALIKE = (
    "threads", "cores", "cpu_model", "machine", "frequency_max_hz", "governor", "allocator", "kernel", "python",
    "torch", "dtype", "accelerator", "cuda", "cudnn", "cudnn_tf32",
)  # fmt: skip


# More repeats tell more of the same; how many there are of each size, its samples say.
_REPEATS = re.compile(r"\d+( to \d+)? repeats")


def how_measured(repeats: Collection[int], warmup: int) -> str:
    """In a sentence, how `hwrun profile` measures; `repeats` are those of every batch size."""
    least, most = min(repeats), max(repeats)
    return (
        "hwrun profile: blocks run in sequence with a clock read between them, interleaved with spans run in one go;"
        f" {least if least == most else f'{least} to {most}'} repeats after {warmup} that were not kept"
    )


def differences(timing: Timing, how: str, blocks: Sequence[str], conditions: Mapping[str, Scalar]) -> list[str]:
    """What keeps a timing from going on with batch sizes that are measured now; empty where nothing does.

    Parameters
    ----------
    how, blocks, conditions : what one that is measured now would have.
    """
    pairs: dict[str, tuple[Scalar, Scalar]] = {
        "kind": (timing.kind, "measured"),
        "how": (_REPEATS.sub("repeats", timing.how), _REPEATS.sub("repeats", how)),
    }
    pairs |= {name: (timing.conditions.get(name), conditions.get(name)) for name in _ALIKE}
    found = [f"{name}: there {there!r}, here {here!r}" for name, (there, here) in pairs.items() if there != here]
    if any(tuple(block.name for block in entry.blocks) != tuple(blocks) for entry in timing.batches):
        found.append(f"blocks: there {len(timing.batches[0].blocks)}, here {len(blocks)}, or of other names")
    if not all(_has_repeats(entry) for entry in timing.batches):
        found.append("raw repeats: not all are there")
    return found


def kept_batches(timing: Timing, measured_now: Collection[int]) -> tuple[Measured, ...]:
    """Its batch sizes that are not measured now, by their raw repeats."""
    return tuple(Measured.of(entry) for entry in timing.batches if entry.batch not in measured_now)


def kept_notes(timing: Timing, measured_now: Collection[int]) -> tuple[str, ...]:
    """Its notes but those on batch sizes that are measured now; where it has one size alone, they do not name it."""
    found = []
    for note in timing.notes:
        about = re.match(rf"{FORCED} batch (\d+): ", note)
        if about is None and len(timing.batches) == 1:
            found.append(note.replace(f"{FORCED} ", f"{FORCED} batch {timing.batches[0].batch}: ", 1))
        elif about is None or int(about[1]) not in measured_now:
            found.append(note)
    return tuple(found)


def _has_repeats(entry: BatchTiming) -> bool:
    """Whether it holds all that its error is computed from."""
    spans_s = {(span.first, span.last): span.samples_s for span in entry.spans}
    if (0, len(entry.blocks)) not in spans_s:
        return False
    # A spread takes two, and is relative, as is what the sum of blocks is off by.
    repeats = [*(block.samples_s for block in entry.blocks), *spans_s.values()]
    return all(len(samples) > 1 for samples in repeats) and all(map(statistics.median, spans_s.values()))
