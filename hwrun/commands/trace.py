"""`hwrun trace`: write the profiles of catalogue models, or of any other network."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote

from hwrun.commands.network_options import add_network_options, network_of
from hwrun.errors import BadUsageError
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry
from paretosim.block import Model
from paretosim.command_line import DONE
from paretosim.profiles import write_profile
from paretosim.units import format_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun trace`."""
    parser.add_argument("--model", nargs="+", metavar="NAME", help=f"{', '.join(MODEL_NAMES)}, or all (default)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("profiles"),
        metavar="DIR",
        help="profile directory (default: profiles)",
    )
    add_network_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trace the models asked for and write one file each."""
    asked = network_of(arguments)
    if asked is not None:
        if arguments.model is not None:
            raise BadUsageError("--model: names models of the catalogue, expected it without --module or --torchvision")
        from hwrun.models.model_profile import describe_network

        network, name = asked
        model = describe_network(network, name)
        _write(arguments.output, model)
        print(_cuts(model))
        print(
            f"time it with: hwrun profile {network.options} --name {name} --device-name …"
            f" -o {quote(str(arguments.output))}"
        )
        return DONE
    chosen = arguments.model or ["all"]
    names = MODEL_NAMES if chosen == ["all"] else [catalogue_entry(name).name for name in chosen]
    from hwrun.models.model_profile import (
        describe_model,  # torch takes seconds to import: not before the names are checked
    )

    for name in names:
        _write(arguments.output, describe_model(name))
    return DONE


def _write(directory: Path, model: Model) -> None:
    path = directory / "models" / f"{model.name}.json"
    write_profile(path, model)
    gflops = sum(block.flops for block in model.blocks) / 1e9
    print(f"{path}: {len(model.blocks)} blocks, {model.parameters} parameters, {gflops:.3f} G multiply-adds")


def _cuts(model: Model) -> str:
    """What the cuts between the blocks carry, in a line."""
    inner = model.blocks[:-1]
    if not inner:
        return "one block: this network has no cut that could be carried"
    several = sum(len(block.outputs) > 1 for block in inner)
    sizes = [block.output_bytes for block in inner]
    return (
        f"{len(inner)} cuts between them, {several} of several tensors, of {format_bytes(min(sizes))} to"
        f" {format_bytes(max(sizes))} a sample; traced by {model.origin['traced_by']}"
    )
