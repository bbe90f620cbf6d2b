"""The published tables as values: stage times of six networks on two Pis, and on a Pi with a GPU server.

`profiles/published/` carries tables II and III of Masud et al., "Where to Split? A Pareto-Front Analysis of DNN
Partitioning for Edge Inference". Their column `split` is the authors' own index P, which `split_of_index`
turns into our split s.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

from validation.errors import PublishedTableError

TableName = Literal["pi_to_pi", "pi_to_gpu"]
TABLES: tuple[TableName, ...] = ("pi_to_pi", "pi_to_gpu")
PUBLISHED_BATCH = 8  # section V: "an inference batch size of eight"
DEVICES: dict[TableName, tuple[str, str]] = {"pi_to_pi": ("rpi4b", "rpi4b"), "pi_to_gpu": ("rpi4b", "rtx4090")}

# The authors' residual networks count from behind the four stem blocks; in their Inception the 16th block is the
# auxiliary head, which their splits step over.
_RESNET_STEM_BLOCKS = 4
_INCEPTION_LAST_BEFORE_AUXILIARY = 15
_MEMORY_COLUMNS: dict[TableName, tuple[str, str]] = {
    "pi_to_pi": ("stage1_mem_pct", "stage2_mem_pct"),
    "pi_to_gpu": ("stage1_mem_pct", "gpu_mem_pct"),
}


@dataclass(frozen=True)
class PublishedRow:
    """One split of one table; seconds are per batch of eight.

    `resolution_s` is half the last printed digit of each stage time: what rounding alone can hide.
    """

    table: TableName
    model: str
    index: int
    split: int
    stages_s: tuple[float, float]
    resolution_s: tuple[float, float]
    network_s: float
    memory_fraction: tuple[float, float]

    @property
    def name(self) -> str:
        """As the paper writes it, with the table: `alexnet P10 (pi_to_pi)`."""
        return f"{self.model} P{self.index} ({self.table})"


@dataclass(frozen=True)
class StageTime:
    """A published time of blocks [first, last) of a model on a device, seconds per batch."""

    row: PublishedRow
    stage: int
    device: str
    first: int
    last: int
    seconds: float
    resolution_s: float

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.row.model


def split_of_index(model: str, index: int) -> int:
    """Split s of the authors' index P: the number of blocks on the first device.

    The residual networks have s = P + 4; Inception s = P up to 15 and P + 1 behind the auxiliary head; the others
    s = P.

    >>> split_of_index("resnet18", 2), split_of_index("inception_v3", 15), split_of_index("inception_v3", 19)
    (6, 15, 20)
    """
    if model in ("resnet18", "resnet50"):
        return index + _RESNET_STEM_BLOCKS
    if model == "inception_v3" and index > _INCEPTION_LAST_BEFORE_AUXILIARY:
        return index + 1
    return index


def read_published(folder: Path, block_counts: Mapping[str, int]) -> tuple[PublishedRow, ...]:
    """All rows of `pi_to_pi.csv` and `pi_to_gpu.csv` in `folder`, in file order.

    Parameters
    ----------
    block_counts : blocks of each model, against which splits are checked.

    Raises
    ------
    PublishedTableError : no such table, or a row that is not of its columns; says file, line and field.
    """
    return tuple(row for table in TABLES for row in _read_table(folder / f"{table}.csv", table, block_counts))


def stage_times(rows: Sequence[PublishedRow], block_counts: Mapping[str, int], device: str) -> tuple[StageTime, ...]:
    """Every published stage time that was taken on `device`."""
    found = []
    for row in rows:
        bounds = (0, row.split, block_counts[row.model])
        for stage, stage_device in enumerate(DEVICES[row.table]):
            if stage_device == device:
                found.append(
                    StageTime(
                        row=row,
                        stage=stage + 1,
                        device=device,
                        first=bounds[stage],
                        last=bounds[stage + 1],
                        seconds=row.stages_s[stage],
                        resolution_s=row.resolution_s[stage],
                    )
                )
    return tuple(found)


def _read_table(path: Path, table: TableName, block_counts: Mapping[str, int]) -> list[PublishedRow]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PublishedTableError(f"{path}: cannot be read: {error.strerror}") from error
    return [
        _row(record, f"{path}, line {number}", table, block_counts)
        for number, record in enumerate(csv.DictReader(lines), start=2)
    ]


def _row(
    record: Mapping[str, str | None], where: str, table: TableName, block_counts: Mapping[str, int]
) -> PublishedRow:
    model = record.get("model") or ""
    if model not in block_counts:
        raise PublishedTableError(f"{where}: model: got {model!r}, expected one of {', '.join(sorted(block_counts))}")
    index_text = record.get("split") or ""
    if not index_text.isdecimal():
        raise PublishedTableError(f"{where}: split: got {index_text!r}, expected the paper's index, a whole number")
    split = split_of_index(model, int(index_text))
    if not 0 < split < block_counts[model]:
        raise PublishedTableError(
            f"{where}: split: P{index_text} is split {split}, expected 1 to {block_counts[model] - 1} of {model}"
        )
    times = [_number(record, column, where) for column in ("stage1_s", "stage2_s", "network_s")]
    memory = [_number(record, column, where)[0] / 100 for column in _MEMORY_COLUMNS[table]]
    return PublishedRow(
        table=table,
        model=model,
        index=int(index_text),
        split=split,
        stages_s=(times[0][0], times[1][0]),
        resolution_s=(times[0][1], times[1][1]),
        network_s=times[2][0],
        memory_fraction=(memory[0], memory[1]),
    )


def _number(record: Mapping[str, str | None], column: str, where: str) -> tuple[float, float]:
    """The value of a cell and half a unit of its last printed digit."""
    text = record.get(column)
    try:
        value = Decimal(text or "")
    except InvalidOperation as error:
        raise PublishedTableError(f"{where}: {column}: got {text!r}, expected a number") from error
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not (math.isfinite(value) and value > 0):
        raise PublishedTableError(f"{where}: {column}: got {text!r}, expected a finite number above 0")
    return float(value), 0.5 * 10.0**exponent
