"""Modes: how batches are fed to a pipeline, so that what is measured is what is predicted."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from paretosim.errors import BadInputError

ModeName = Literal["single", "paced", "closed", "burst"]
MODE_NAMES: tuple[ModeName, ...] = get_args(ModeName)
DEFAULT_WINDOW = 4
# The paper's programs send 8 batches at once (13 for some models).
DEFAULT_BURST_BATCHES = 8
# Far above what any run holds at once.
MAX_BATCHES = 2**20


class Mode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mode and its parameter: `window` in `closed`, `batches` (at once) in `burst`, none elsewhere.

    >>> str(Mode.named("closed"))
    'closed(window=4)'
    """

    name: ModeName
    window: int | None = None
    batches: int | None = None

    def __post_init__(self) -> None:
        if (self.window is not None) != (self.name == "closed"):
            raise BadInputError(f"mode {self.name}: got window {self.window}, expected one in mode closed only")
        if (self.batches is not None) != (self.name == "burst"):
            raise BadInputError(f"mode {self.name}: got batches {self.batches}, expected them in mode burst only")
        for value in (self.window, self.batches):
            if value is not None and not 1 <= value <= MAX_BATCHES:
                raise BadInputError(f"mode {self.name}: got {value} batches, expected 1 to {MAX_BATCHES}")

    def __str__(self) -> str:
        if self.window is not None:
            return f"closed(window={self.window})"
        if self.batches is not None:
            return f"burst(batches={self.batches})"
        return self.name

    @classmethod
    def named(cls, name: ModeName, *, window: int | None = None, batches: int | None = None) -> Mode:
        """The mode of that name, its parameter at the default where not given."""
        if name == "closed" and window is None:
            window = DEFAULT_WINDOW
        if name == "burst" and batches is None:
            batches = DEFAULT_BURST_BATCHES
        return cls(name=name, window=window, batches=batches)
