"""Options that name a network outside the catalogue, read alike by every command that takes one."""

from __future__ import annotations

import argparse
import re

from hwrun.errors import BadUsageError
from hwrun.models.catalogue import MODEL_NAMES
from hwrun.models.network import TORCHVISION, Network, parse_arguments, parse_shape, torchvision_input

_NAME = re.compile(r"\w[\w.+-]{0,99}")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """`--module` or `--torchvision`, and what goes with either."""
    group = parser.add_argument_group("any other network, cut where its traced graph can be (docs/any-network.md)")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--module", metavar="PKG.MOD:FACTORY", help="what a factory of yours (or a class) returns")
    which.add_argument("--torchvision", metavar="NAME", help="a model of torchvision, such as vit_b_16")
    group.add_argument("--name", metavar="NAME", help="what its profile is called (default: the factory's name)")
    group.add_argument(
        "--input", metavar="SHAPE", help="of one sample, such as 3x224x224 (default: what torchvision's weights take)"
    )
    group.add_argument(
        "--arg", action="append", default=[], metavar="KEY=VALUE", help="an argument of the factory; may be repeated"
    )
    group.add_argument("--max-blocks", type=int, metavar="N", help="cut it into no more blocks than that")


def network_of(arguments: argparse.Namespace) -> tuple[Network, str] | None:
    """The network that was asked for and its profile's name; None where none was.

    Raises
    ------
    BadUsageError : options that only go with one, a shape that is missing, a name that cannot be.
    """
    if arguments.module is None and arguments.torchvision is None:
        for option in ("name", "input", "arg", "max_blocks"):
            if getattr(arguments, option):
                raise BadUsageError(
                    f"--{option.replace('_', '-')}: goes with --module or --torchvision, expected one of them"
                )
        return None
    if arguments.input is not None:
        shape = parse_shape(arguments.input)
    elif arguments.torchvision is not None:
        shape = torchvision_input(arguments.torchvision)
    else:
        raise BadUsageError("--input: is missing, expected the shape of one sample, such as --input 3x224x224")
    network = Network(
        reference=arguments.module or f"{TORCHVISION}:{arguments.torchvision}",
        input_shape=shape,
        arguments=parse_arguments(arguments.arg),
        max_blocks=arguments.max_blocks,
    )
    name = arguments.name or network.short_name
    if name in MODEL_NAMES:
        raise BadUsageError(
            f"--name: got {name}, whose blocks the catalogue lists; expected another name, or --model {name}"
        )
    if not _NAME.fullmatch(name):
        raise BadUsageError(f"--name: got {name!r}, expected letters, digits, _, ., + and -, such as my_unet")
    return network, name
