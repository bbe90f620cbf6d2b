"""Which blocks may run on which devices: pins and forbids, read as a user writes them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.block import Model
from paretosim.errors import BadInputError, UnknownNameError
from paretosim.placement.hop_links import positions_of


class Pin(msgspec.Struct, frozen=True):
    """A block (from 0) that has to run on one of some devices (positions from 0)."""

    block: int
    devices: tuple[int, ...]


class Forbid(msgspec.Struct, frozen=True):
    """Blocks (from 0) that may not run on some devices (positions from 0)."""

    devices: tuple[int, ...]
    blocks: tuple[int, ...]


def may_run(devices: int, blocks: int, pins: Sequence[Pin], forbids: Sequence[Forbid]) -> NDArray[np.bool_]:
    """(devices, blocks): whether a block may run on a device.

    >>> may_run(2, 3, [Pin(0, (1,))], [Forbid((1,), (2,))]).tolist()
    [[False, True, True], [True, True, False]]
    """
    allowed = np.ones((devices, blocks), dtype=np.bool_)
    for pin in pins:
        others = [device for device in range(devices) if device not in pin.devices]
        allowed[others, pin.block] = False
    for forbid in forbids:
        allowed[np.ix_(forbid.devices, forbid.blocks)] = False
    return allowed


def parse_pin(text: str, model: Model, names: Sequence[str]) -> Pin:
    """The pin written as `BLOCK:DEVICE`; a block is named or numbered from 1, and so is a device.

    Raises
    ------
    BadInputError : not of that form, or an unknown block or device.
    """
    block, colon, device = text.rpartition(":")
    if not (colon and block and device):
        raise BadInputError(f"--pin: got {text!r}, expected BLOCK:DEVICE such as {model.blocks[0].name}:{names[0]}")
    return Pin(_block(block, model, "--pin"), positions_of(device, names, "--pin"))


def parse_forbid(text: str, model: Model, names: Sequence[str]) -> Forbid:
    """The forbid written as `DEVICE`, or as `DEVICE:BLOCK,BLOCK…` with blocks, or numbers such as `3-7`.

    Raises
    ------
    BadInputError : not of that form, or an unknown block or device.
    """
    device, colon, blocks = text.partition(":")
    if not device or (colon and not blocks):
        raise BadInputError(
            f"--forbid: got {text!r}, expected DEVICE, or DEVICE:BLOCK,BLOCK… such as {names[0]}:1-3 or"
            f" {names[0]}:{model.blocks[-1].name}"
        )
    positions = positions_of(device, names, "--forbid")
    if not colon:
        return Forbid(positions, tuple(range(len(model.blocks))))
    found: set[int] = set()
    for part in blocks.split(","):
        found.update(_blocks(part.strip(), model))
    return Forbid(positions, tuple(sorted(found)))


def _blocks(text: str, model: Model) -> range:
    first, dash, last = text.partition("-")
    if dash and text not in {block.name for block in model.blocks} and first.isdecimal() and last.isdecimal():
        one, two = _block(first, model, "--forbid"), _block(last, model, "--forbid")
        if one > two:
            raise BadInputError(f"--forbid: got blocks {text!r}, expected the lower number first")
        return range(one, two + 1)
    block = _block(text, model, "--forbid")
    return range(block, block + 1)


def _block(text: str, model: Model, option: str) -> int:
    names = [block.name for block in model.blocks]
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= len(names):
        return int(text) - 1
    from paretosim.profiles import nearest

    shown = ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:6])}, …, {', '.join(names[-3:])}"
    raise UnknownNameError(
        f"{option}: block: got {text!r}, expected 1 to {len(names)} or a block of {model.name}"
        f" ({shown}){nearest(text, names)}"
    )
