"""Compact runs: what a report needs of a run folder, small enough to be kept beside the code.

Times of one cell are counted from its first and rounded to a microsecond, a hundredth of what any phase lasts: in a
local testbed all of them are of one clock, and only differences mean anything. Series that no score is made of (load,
what the relay counted, the worker's processes) are left out. Lines are compressed with xz; `read_run` reads them as
they are.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import msgspec

from hwrun.records import CELLS_NAME, COMPRESSED_SUFFIX, MANIFEST_NAME, PROBES_NAME, Cell, Run
from paretosim.errors import BadInputError
from paretosim.whole_file import write_whole

_DIGITS = 6
# Fields that are times of a clock; others in seconds are durations.
_MOMENTS = ("_start_s", "_end_s", "dispatched_s", "returned_s")


def compact(run: Run, folder: Path) -> Path:
    """Write the run's manifest, cells and probes into `folder`, which must not hold a run.

    Raises
    ------
    BadInputError : the run is not of one clock, or the folder holds a run already.
    """
    if run.manifest.testbed.get("kind") != "local":
        raise BadInputError(f"{run.path}: its times are of several clocks, expected a run of a local testbed")
    if (folder / MANIFEST_NAME).exists():
        raise BadInputError(f"{folder}: holds a run already; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [msgspec.json.encode(without_ballast(cell)) for cell in run.cells]
    _write(folder / CELLS_NAME, b"\n".join(lines) + b"\n")
    if run.probes:
        kept = [msgspec.structs.replace(probe, clocks=()) for probe in run.probes]
        _write(folder / PROBES_NAME, b"\n".join(map(msgspec.json.encode, kept)) + b"\n")
    # Last: a folder with a manifest holds a run, and one that was interrupted before is written anew.
    manifest = (run.path / MANIFEST_NAME).read_bytes()
    write_whole(folder / MANIFEST_NAME, lambda unfinished: unfinished.write_bytes(manifest))
    return folder


def _write(path: Path, content: bytes) -> None:
    with lzma.open(f"{path}{COMPRESSED_SUFFIX}", "wb", preset=9 | lzma.PRESET_EXTREME) as file:
        file.write(content)


def without_ballast(cell: Cell) -> Cell:
    """The cell with short times, and without what no score is made of."""
    starts = [batch.dispatched_s for subrun in cell.subruns for batch in (*subrun.warmup, *subrun.batches)]
    first_s = min(starts, default=0.0)

    def shifted(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: shifted(item, key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [shifted(item, name) for item in value]
        if isinstance(value, float) and name.endswith(_MOMENTS):
            return round(value - first_s, _DIGITS)
        return value

    subruns = shifted(msgspec.to_builtins(cell.subruns))
    fields: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(cell, subruns=(), load=(), relay={}, watched=())
    )
    return msgspec.convert({**fields, "subruns": subruns}, Cell)
