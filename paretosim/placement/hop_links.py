"""Links between any two of several devices: one for every hop, and hops of their own.

A hop of its own describes the path between two hosts, seen from the first: what it says of the way back holds for
the opposite hop, unless that has a link of its own too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from paretosim.errors import BadInputError, UnknownNameError
from paretosim.link import Link


class HopLinks(msgspec.Struct, frozen=True, kw_only=True):
    """`every` hop's link, and those of hops with one of their own, by positions (from 0) of both devices."""

    every: Link
    own: Mapping[tuple[int, int], Link] = {}

    def __post_init__(self) -> None:
        for link in (self.every, *self.own.values()):
            link.check_predictable()
        for start, end in self.own:
            if start == end or min(start, end) < 0:
                raise BadInputError(
                    f"link: got a hop from device {start + 1} to device {end + 1}, expected two devices"
                )

    def forward(self, start: int, end: int) -> Link:
        """The link that activations cross from one device to the next stage's."""
        return self._own(start, end) or self.every

    def back(self, start: int, end: int) -> Link:
        """The link from a chain's last device back to its first, which inputs or results cross."""
        return self._own(start, end) or self.every.reverse()

    def _own(self, start: int, end: int) -> Link | None:
        if (start, end) in self.own:
            return self.own[start, end]
        return self.own[end, start].reverse() if (end, start) in self.own else None


def positions_of(text: str, names: Sequence[str], option: str) -> tuple[int, ...]:
    """Positions (from 0) of the devices that `text` means: all of that name, or the one of that number from 1.

    Raises
    ------
    UnknownNameError : neither a device's name nor the number of one.
    """
    named = tuple(index for index, name in enumerate(names) if name == text)
    if named:
        return named
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= len(names):
        return (int(text) - 1,)
    from paretosim.profiles import nearest

    raise UnknownNameError(
        f"{option}: device: got {text!r}, expected one of {', '.join(dict.fromkeys(names))} or 1 to"
        f" {len(names)}{nearest(text, names)}"
    )
