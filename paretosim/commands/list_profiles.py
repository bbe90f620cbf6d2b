"""`paretosim list`: models, devices, timings, links and calibrations that are known."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from paretosim.calibration import Calibration
from paretosim.console import stdout_console
from paretosim.indented_json import indented_json
from paretosim.profiles import ProfileStore
from paretosim.units import format_bytes, format_duration, format_rate

# More runs than this would make the row of a calibration longer than all else.
_MOST_NAMED = 3


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim list`."""
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: Namespace) -> int:
    """Print what every profile directory holds."""
    store = ProfileStore(arguments.profiles)
    if arguments.json:
        _print_json(store)
        return 0
    from rich.table import Table

    console = stdout_console(width_elsewhere=160)
    tables = [
        Table("model", "blocks", "parameters", "GFLOPs an image", "input", title="models"),
        Table("device", "cores", "memory", "accelerator", "title", title="devices"),
        Table("device", "model", "kind", "batch", "error", title="timings"),
        Table("link", "forward", "back", "source", title="links"),
        Table("calibration", "backend", "terms", "fitted on", "title", title="calibrations"),
    ]
    for name in store.names("models"):
        model = store.model(name)
        tables[0].add_row(
            name,
            str(len(model.blocks)),
            f"{model.parameters:,}",
            f"{sum(block.flops for block in model.blocks) / 1e9:.2f}",
            "×".join(map(str, model.input.shape)),
        )
    for name in store.names("devices"):
        device = store.device(name)
        memory = "unknown" if device.memory_bytes is None else format_bytes(device.memory_bytes)
        tables[1].add_row(name, str(device.cores or "unknown"), memory, device.accelerator or "none", device.title)
        for model_name in store.timed_models(name):
            timing = store.timing(name, model_name)
            error = "unknown" if timing.error is None else f"{timing.error.relative:.1%}"
            batches = ", ".join(str(entry.batch) for entry in timing.batches)
            tables[2].add_row(name, model_name, timing.kind, batches, error)
    for name in store.names("links"):
        link = store.link(name)
        tables[3].add_row(
            name,
            f"{format_rate(link.rate_bps)}, {format_duration(link.one_way_delay_s)}",
            f"{format_rate(link.return_rate_bps)}, {format_duration(link.return_delay_s)}",
            link.source,
        )
    for name in store.names("calibrations"):
        calibration = store.calibration(name)
        tables[4].add_row(
            name,
            calibration.backend,
            ", ".join(calibration.active_terms()) or "none",
            _fitted_on(calibration),
            calibration.title,
        )
    for table in tables:
        table.box = None
        table.title_justify = "left"
        table.title_style = "bold"
        console.print(table)
        console.print()
    return 0


def _fitted_on(calibration: Calibration) -> str:
    """The runs by name; of many, how many: the file names all of them."""
    runs = calibration.fitted_on
    return f"{len(runs)} runs" if len(runs) > _MOST_NAMED else ", ".join(runs) or "not said"


def _print_json(store: ProfileStore) -> None:
    devices = store.names("devices")
    found = {
        "models": store.names("models"),
        "devices": devices,
        "timings": [
            {"device": device, "model": model, "kind": store.timing(device, model).kind}
            for device in devices
            for model in store.timed_models(device)
        ],
        "links": store.names("links"),
        "calibrations": store.names("calibrations"),
    }
    sys.stdout.write(indented_json(found).decode())
