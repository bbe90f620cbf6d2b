"""The table at the end of a sweep, narrow enough for 80 columns: what all rows share is said once, above them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from hwrun.records import Scalar
from paretosim.console import stdout_console
from paretosim.indented_json import indented_json
from paretosim.units import format_duration

# Width of the table where stdout is no terminal: wide enough for its widest row.
_PLAIN_WIDTH = 130
_ROOM_FOR_NUMBERS = 60  # in columns: "370.2ms ±12.3%" and its like side by side
_CONDITIONS = ("model", "link", "mode", "backend", "workers", "tcp_state")
# What goes without saying.
_USUAL: dict[str, Scalar] = {"backend": "tcp", "workers": "overlapped", "tcp_state": "warm"}

SCHEMA_VERSION = 1  # of what --json prints


def show_summary(rows: Sequence[dict[str, Scalar]], folder: Path, *, as_json: bool) -> None:
    """The table (or JSON) on stdout, and where the run is."""
    if as_json:
        found = {"schema_version": SCHEMA_VERSION, "run": str(folder), "rows": rows}
        sys.stdout.buffer.write(indented_json(found))
        return
    console = stdout_console(_PLAIN_WIDTH)
    for line in _shared(rows):
        console.print(line, soft_wrap=True)
    console.print(_table(rows, is_narrow=console.width < _ROOM_FOR_NUMBERS))
    for held_back in dict.fromkeys(str(row["held_back"]) for row in rows if row["held_back"]):
        count = sum(row["held_back"] == held_back for row in rows)
        console.print(
            f"caution: a processor or GPU was held back in {count} of {len(rows)} rows ({held_back}): cool the device,"
            " or feed it better, and measure these again",
            soft_wrap=True,
        )
    for reason in dict.fromkeys(f"{row['status']}: {row['reason']}; {row['remedy']}" for row in rows if row["reason"]):
        console.print(reason, soft_wrap=True)
    console.print(f"run folder: {folder}", soft_wrap=True)


def _differing(rows: Sequence[dict[str, Scalar]]) -> list[str]:
    """Conditions that tell these rows apart."""
    return [name for name in _CONDITIONS if len({row[name] for row in rows}) > 1]


def _shared(rows: Sequence[dict[str, Scalar]]) -> list[str]:
    """Lines that say what all rows have in common."""
    if not rows:
        return []
    differing = _differing(rows)
    conditions = [
        str(rows[0][name]) for name in _CONDITIONS if name not in differing and rows[0][name] != _USUAL.get(name)
    ]  # fmt: skip
    lines = [f"measured: {', '.join(conditions)}"] if conditions else ["measured:"]
    checked = [row["bitwise_equal"] for row in rows if row["bitwise_equal"] is not None]
    if checked:
        same = sum(bool(equal) for equal in checked)
        lines.append(
            "output: same bits as the unsplit model's"
            if same == len(checked)
            else f"output: same bits as the unsplit model's in {same} of {len(checked)} rows, the others within 1e-4"
        )
    top1 = {(row["model"], row["top1"], row["top1_images"]) for row in rows}
    lines += [
        f"top-1 of {model}: {share:.1%} of {images} images, by the unsplit model"
        for model, share, images in sorted(top1, key=str)
        if isinstance(share, float)
    ]
    return lines


def _table(rows: Sequence[dict[str, Scalar]], *, is_narrow: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    conditions = _differing(rows)
    if conditions:  # in one column, which breaks between words where there is little room
        table.add_column(", ".join(name.replace("tcp_state", "TCP") for name in conditions))
    # A column in which nothing happened says nothing.
    late = any(row["overruns"] for row in rows)
    for heading in ("split", "repeats", "latency", "images/s", *(["late"] if late else [])):
        # Folded where even the numbers lack room: cut off, they would be lost.
        table.add_column(heading, justify="right", no_wrap=not is_narrow, overflow="fold")
    for row in rows:
        latency_s, throughput = row["latency_s"], row["throughput_per_s"]
        if isinstance(latency_s, float) and isinstance(throughput, float):
            measured = [
                format_duration(float(f"{latency_s:.4g}")) + _plus_minus(row["latency_spread"]),
                f"{throughput:.4g}" + _plus_minus(row["throughput_spread"]),
            ]
        else:
            measured = [str(row["status"]), ""]
        table.add_row(
            *([" ".join(str(row[name]) for name in conditions)] if conditions else []),
            str(row["cuts"]),
            f"{row['repeats_done']}/{row['repeats']}",
            *measured,
            *([str(row["overruns"])] if late else []),
        )
    return table


def _plus_minus(spread: Scalar) -> str:
    return f" ±{spread * 100:.1f}%" if isinstance(spread, float) else ""
