"""`paretosim-validate reconstruct`: the shipped device profiles from the published stage times, and how far off."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretosim.command_line import DONE
from paretosim.indented_json import indented_json
from paretosim.profiles import ProfileStore, shipped_directory, write_profile
from paretosim.whole_file import require_writable
from validation.errors import MissingExtraError
from validation.left_out import StageFit, median_error
from validation.published import PublishedRow, StageTime, read_published
from validation.reconstruct import GPU, PI, Reconstruction, reconstruct
from validation.report.tables import Column, Table
from validation.report.terminal import console_for_tables, print_table

if TYPE_CHECKING:
    from paretosim.block import Model

_SCHEMA_VERSION = 1
_FLAGS = {
    "longer_is_faster": "a",
    "exceeds_total": "b",
    "totals_differ": "c",
    "out_of_line": "d",
    "beats_the_wire": "e",
}
_TITLES = {
    "longer_is_faster": "longer runs of blocks published as faster than shorter ones inside them",
    "exceeds_total": "stages published as slower than the whole model",
    "beats_the_wire": "network times that beat a 1 Gbit/s wire (not used in any fit)",
    "totals_differ": "totals of one model that differ by more than their noise",
    "out_of_line": "stage times far from what the fit without their row says",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `paretosim-validate reconstruct`."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("profiles"),
        metavar="DIR",
        help="profile directory (default: profiles)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show everything, write nothing")
    parser.add_argument("--json", action="store_true", help="print the same data as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Fit, show, and write two device profiles and a timing of each model on each device."""
    if importlib.util.find_spec("scipy") is None:
        raise MissingExtraError(
            "reconstruct: fitting needs scipy, which is not installed; pip install 'paretosim[report]'"
        )
    if not arguments.dry_run:
        require_writable(arguments.output)
    models, rows = _inputs()
    reconstruction = reconstruct(models, rows)
    paths = _write(reconstruction, arguments.output) if not arguments.dry_run else []
    if arguments.json:
        sys.stdout.write(indented_json(as_json(reconstruction, rows, paths)).decode())
    else:
        _show(reconstruction, rows, paths)
    return DONE


def _inputs() -> tuple[dict[str, Model], tuple[PublishedRow, ...]]:
    store = ProfileStore()
    models = {name: store.model(name) for name in store.names("models")}
    rows = read_published(
        shipped_directory() / "published", {name: len(model.blocks) for name, model in models.items()}
    )
    return {name: model for name, model in models.items() if any(row.model == name for row in rows)}, rows


def _write(reconstruction: Reconstruction, folder: Path) -> list[Path]:
    paths = []
    for device in reconstruction.devices:
        paths.append(folder / "devices" / f"{device.name}.json")
        write_profile(paths[-1], device)
    for timing in reconstruction.timings:
        paths.append(folder / "timings" / timing.device / f"{timing.model}.json")
        write_profile(paths[-1], timing)
    return paths


def as_json(reconstruction: Reconstruction, rows: Sequence[PublishedRow], paths: Sequence[Path]) -> dict[str, Any]:
    """What the tables show, as one object."""
    law = reconstruction.judged.fit.law
    return {
        "schema_version": _SCHEMA_VERSION,
        "headline": {device: reconstruction.headline_error(device) for device in (PI, GPU)},
        "law": {
            "multiply_adds_per_s": law.multiply_adds_per_s,
            "bytes_per_s": law.bytes_per_s,
            "overhead_s": law.overhead_s,
            "model_factors": dict(reconstruction.judged.fit.model_factors),
            "model_spread": reconstruction.judged.regularisation.model_spread,
            "segment_spread": reconstruction.judged.regularisation.segment_spread,
        },
        "rows": [_row_json(stage, _kinds(reconstruction, stage.time)) for stage in _in_row_order(reconstruction, rows)],
        "medians": [
            {"device": device, "model": model, "fitted_error": fitted, "left_out_error": left_out, "stages": count}
            for device, model, fitted, left_out, count in _medians(reconstruction)
        ],
        "contradictions": [
            {"kind": entry.kind, "rows": [row.name for row in entry.rows], "arithmetic": entry.arithmetic}
            for entry in reconstruction.contradictions
        ],
        "written": [str(path) for path in paths],
    }


def _row_json(stage: StageFit, kinds: Sequence[str]) -> dict[str, Any]:
    row = stage.time.row
    return {
        "table": row.table,
        "model": row.model,
        "index": row.index,
        "split": row.split,
        "stage": stage.time.stage,
        "device": stage.time.device,
        "published_s": stage.time.seconds,
        "fitted_s": stage.fitted_s,
        "fitted_error": stage.fitted_error,
        "left_out_s": stage.left_out_s,
        "left_out_error": stage.left_out_error,
        "flags": list(kinds),
    }


def _kinds(reconstruction: Reconstruction, time: StageTime) -> list[str]:
    """Kinds of contradiction that this stage's row is part of; network times are not a stage's."""
    kinds = (
        entry.kind
        for entry in reconstruction.contradictions
        if time.device == PI and time.row in entry.rows and entry.kind != "beats_the_wire"
    )
    return list(dict.fromkeys(kinds))


def _in_row_order(reconstruction: Reconstruction, rows: Sequence[PublishedRow]) -> list[StageFit]:
    order = {row: number for number, row in enumerate(rows)}
    return sorted(reconstruction.stages, key=lambda stage: (order[stage.time.row], stage.time.stage))


def _medians(reconstruction: Reconstruction) -> list[tuple[str, str, float, float, int]]:
    """Per device: each model, then all, then all that no contradiction names."""
    found = []
    for device in (PI, GPU):
        stages = reconstruction.stages_of(device)
        groups: dict[str, Sequence[StageFit]] = {
            model: reconstruction.stages_of(device, model) for model in dict.fromkeys(s.time.model for s in stages)
        }
        groups["all"] = stages
        if unflagged := [stage for stage in stages if not _kinds(reconstruction, stage.time)]:
            groups["all but flagged"] = unflagged
        for name, group in groups.items():
            fitted, left_out = (
                median_error(errors) for errors in ((s.fitted_error for s in group), (s.left_out_error for s in group))
            )
            found.append((device, name, fitted, left_out, len(group)))
    return found


def _show(reconstruction: Reconstruction, rows: Sequence[PublishedRow], paths: Sequence[Path]) -> None:
    from rich.text import Text

    console = console_for_tables()
    print_table(console, _rows_table(reconstruction, rows), elsewhere="--json")
    print_table(console, _medians_table(reconstruction))
    console.print()
    law = reconstruction.judged.fit.law
    ridge = reconstruction.judged.regularisation
    lines = [
        f"Headline: the left-out median, {reconstruction.headline_error(PI):.1%} on {PI} and"
        f" {reconstruction.headline_error(GPU):.1%} on {GPU}.",
        "The median over unflagged rows flatters: flag d is given by the left-out error itself.",
        f"{PI} before corrections: {law.multiply_adds_per_s / 1e9:.1f} G multiply-adds/s,"
        f" {law.bytes_per_s / 1e9:.2f} GB/s, {law.overhead_s * 1e3:.2f} ms a call; ridge of"
        f" {ridge.model_spread:g} on models and {ridge.segment_spread:g} on segments, chosen by left-out error.",
        f"{GPU}: overhead-bound; each model's one row is met by construction, and left out it is the others' median.",
    ]
    for kind, flag in _FLAGS.items():
        entries = [entry for entry in reconstruction.contradictions if entry.kind == kind]
        lines += ["", f"Contradictory rows ({flag}), {_TITLES[kind]}: {len(entries) or 'none'}"]
        lines += [f"  {entry.arithmetic}" for entry in entries]
    lines += ["", *(f"wrote {path}" for path in paths)] if paths else ["", "wrote nothing (--dry-run)"]
    for line in lines:
        console.print(Text(line))


def _rows_table(reconstruction: Reconstruction, rows: Sequence[PublishedRow]) -> Table:
    found = []
    for stage in _in_row_order(reconstruction, rows):
        row = stage.time.row
        found.append(
            (
                row.model, row.table, str(row.index), str(row.split), str(stage.time.stage),
                f"{stage.time.seconds:.3f}", f"{stage.fitted_s:.3f}", f"{stage.fitted_error:+.1%}",
                f"{stage.left_out_s:.3f}", f"{stage.left_out_error:+.1%}",
                " ".join(_FLAGS[kind] for kind in _kinds(reconstruction, stage.time)),
            )
        )  # fmt: skip
    return Table(
        "Published stage times, seconds per batch of 8",
        (
            Column("model", words=True), Column("table", words=True), Column("P"), Column("split"), Column("stage"),
            Column("published"), Column("time", "fitted", priority=1), Column("error", "fitted"),
            Column("time", "left out", priority=1), Column("error", "left out"), Column("flags", words=True),
        ),
        tuple(found),
    )  # fmt: skip


def _medians_table(reconstruction: Reconstruction) -> Table:
    return Table(
        "Median absolute errors",
        (
            Column("device", words=True), Column("model", words=True), Column("stages"), Column("fitted"),
            Column("left out"),
        ),
        tuple(
            (device, model, str(count), f"{fitted:.1%}", f"{left_out:.1%}")
            for device, model, fitted, left_out, count in _medians(reconstruction)
        ),
    )  # fmt: skip
