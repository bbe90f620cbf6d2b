"""`hwrun trace`: write the profiles of catalogue models."""

from __future__ import annotations

import argparse
from pathlib import Path

from hwrun.catalogue import MODEL_NAMES, catalogue_entry
from paretosim.command_line import DONE
from paretosim.profiles import write_profile


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun trace`."""
    parser.add_argument(
        "--model", nargs="+", default=["all"], metavar="NAME", help=f"{', '.join(MODEL_NAMES)}, or all (default)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("profiles"),
        metavar="DIR",
        help="profile directory (default: profiles)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Trace the models asked for and write one file each."""
    names = MODEL_NAMES if arguments.model == ["all"] else [catalogue_entry(name).name for name in arguments.model]
    from hwrun.model_profile import describe_model  # torch takes seconds to import: not before the names are checked

    for name in names:
        model = describe_model(name)
        path = arguments.output / "models" / f"{name}.json"
        write_profile(path, model)
        gflops = sum(block.flops for block in model.blocks) / 1e9
        print(f"{path}: {len(model.blocks)} blocks, {model.parameters} parameters, {gflops:.3f} G multiply-adds")
    return DONE
