"""A run folder: what it holds, its writer and its reader.

`manifest.json` says what the run ran on, `cells.jsonl` has one line per measured cell, appended and fsynced, and
`probes.jsonl` one line per probe of a link, before its cells and after.
"""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from hwrun.errors import RecordError
from hwrun.records.cells import SCHEMA_VERSION, Cell, ComputeDevice
from hwrun.records.links import LinkProbe, Scalar
from paretosim.indented_json import indented_json
from paretosim.whole_file import write_whole


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run ran on: enough to refuse joining it with unlike conditions, and to do it again."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_utc: str
    command_line: tuple[str, ...]
    testbed: dict[str, Scalar]
    workers: tuple[dict[str, Scalar], ...]
    emulated: bool
    speed: float
    timings: dict[str, str]  # "device/model" → identity of the timing the targets come from; none where stages compute
    versions: dict[str, str]
    host: dict[str, Scalar]
    sysctls: dict[str, str]
    qdisc: str
    seed: int
    data: str = "synthetic"  # or a description of the images and their identity
    weights: dict[str, str] = {}  # model → SHA-256 of the file that was given; others are random, by the seed
    cells_planned: int
    cells_identity: str = ""  # hash of which cells were planned, in their order: a resumed sweep has the same
    batches_per_cell: int | None = None
    compute_devices: tuple[ComputeDevice, ...] = ()  # as asked: of every stage, or of each; empty is the workers' own

    @property
    def cores_each(self) -> tuple[int, ...]:
        """How many cores workers could run on, each number once; empty where none had cores of its process's own."""
        listed = (worker.get("cores") for worker in self.workers)
        return tuple(dict.fromkeys(len(cores.split(",")) for cores in listed if isinstance(cores, str)))


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder as read: `dropped_lines` counts half-written lines of an interrupted sweep."""

    path: Path
    manifest: Manifest
    cells: tuple[Cell, ...]
    probes: tuple[LinkProbe, ...] = ()
    dropped_lines: int = 0

    def latest_cells(self) -> tuple[Cell, ...]:
        """The last record of each combination, which is the one that counts.

        A resumed sweep tries again what was skipped or failed, and what was done is refused by one more record where
        its link turned out to be another than was asked for.
        """
        return tuple({cell.cell_id: cell for cell in self.cells}.values())


MANIFEST_NAME = "manifest.json"
CELLS_NAME = "cells.jsonl"
PROBES_NAME = "probes.jsonl"
# Of files of lines in a run that is kept and no longer written to.
COMPRESSED_SUFFIX = ".xz"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    raw = indented_json(manifest)
    write_whole(folder / MANIFEST_NAME, lambda unfinished: unfinished.write_bytes(raw))


def append_cell(folder: Path, cell: Cell) -> None:
    """Append one cell and wait until it is on the disk."""
    _append(folder / CELLS_NAME, msgspec.json.encode(cell))


def append_probe(folder: Path, probe: LinkProbe) -> None:
    """Append one probe and wait until it is on the disk."""
    _append(folder / PROBES_NAME, msgspec.json.encode(probe))


def _append(path: Path, line: bytes) -> None:
    """Append a line. A half-written last one, left by a crash, is ended first, so that it cannot swallow this one."""
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_run(folder: Path) -> Run:
    """The run in `folder`; lines that a crash left half-written are dropped and counted.

    Raises
    ------
    RecordError : no run there, or of another schema.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)
    except OSError as error:
        raise RecordError(
            f"{folder}: holds no {MANIFEST_NAME} ({error.strerror}); expected a folder that hwrun sweep wrote"
        ) from error
    except msgspec.DecodeError as error:
        raise RecordError(
            f"{folder / MANIFEST_NAME}: {error}; expected one that hwrun sweep wrote, whole; restore it, or measure"
            " anew into another folder"
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise RecordError(
            f"{folder}: schema_version: got {manifest.schema_version}, expected {SCHEMA_VERSION}; read it with the"
            " version that wrote it, or measure again"
        )
    cells, dropped_cells = _read_lines(folder / CELLS_NAME, Cell)
    probes, dropped_probes = _read_lines(folder / PROBES_NAME, LinkProbe)
    return Run(
        path=folder,
        manifest=manifest,
        cells=tuple(cells),
        probes=tuple(probes),
        dropped_lines=dropped_cells + dropped_probes,
    )


_Line = TypeVar("_Line")


def _read_lines(path: Path, kind: type[_Line]) -> tuple[list[_Line], int]:
    """What a file of JSON lines holds, and how many half-written ones were dropped; nothing where there is no file."""
    found: list[_Line] = []
    dropped = 0
    for number, line in enumerate(content_of(path).split(b"\n"), start=1):
        if not line:
            continue
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.ValidationError as error:
            raise RecordError(
                f"{path}, line {number}: {error}; expected a record of this version of hwrun sweep; take the line out"
                " or measure again"
            ) from error
        except msgspec.DecodeError:
            dropped += 1
    return found, dropped


def content_of(path: Path) -> bytes:
    """What is in a file and before it, where a run that was kept compact went on, in its compressed stead.

    Raises
    ------
    RecordError : it cannot be read, or is not whole.
    """
    compressed = path.with_name(path.name + COMPRESSED_SUFFIX)
    try:
        earlier = lzma.decompress(compressed.read_bytes()) if compressed.exists() else b""
        return earlier + (path.read_bytes() if path.exists() else b"")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}; expected a file of lines") from error
    except lzma.LZMAError as error:
        raise RecordError(f"{compressed}: {error}; expected lines compressed with xz, whole; restore it") from error
