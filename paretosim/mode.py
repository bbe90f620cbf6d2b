"""Modes: how batches are fed to a pipeline, so that what is measured is what is predicted."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from paretosim.errors import BadInputError

ModeName = Literal["single", "paced", "closed", "burst", "open"]
# Those with a closed form, which hwrun can feed too. `open` is predicted only.
MODE_NAMES: tuple[ModeName, ...] = ("single", "paced", "closed", "burst")
ALL_MODE_NAMES: tuple[ModeName, ...] = get_args(ModeName)
ArrivalProcess = Literal["deterministic", "poisson"]
ARRIVAL_PROCESSES: tuple[ArrivalProcess, ...] = get_args(ArrivalProcess)
DEFAULT_WINDOW = 4
# The paper's programs send 8 batches at once (13 for some models).
DEFAULT_BURST_BATCHES = 8
# Far above what any run holds at once.
MAX_BATCHES = 2**20


class Arrivals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How batches arrive in mode `open`: `rate_per_s` of them a second, evenly spaced or as a Poisson process."""

    rate_per_s: float
    process: ArrivalProcess = "deterministic"

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s < float("inf"):
            raise BadInputError(f"rate: got {self.rate_per_s} batches/s, expected a finite number above zero")


class Mode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mode and its parameter: `window` in `closed`, `batches` (at once) in `burst`, `arrivals` in `open`.

    `arrivals` is absent and not null elsewhere, so that what was recorded of the other modes reads, prints and
    hashes as it did before there was one.

    >>> str(Mode.named("closed"))
    'closed(window=4)'
    """

    name: ModeName
    window: int | None = None
    batches: int | None = None
    arrivals: Arrivals | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.window is not None) != (self.name == "closed"):
            raise BadInputError(f"mode {self.name}: got window {self.window}, expected one in mode closed only")
        if (self.batches is not None) != (self.name == "burst"):
            raise BadInputError(f"mode {self.name}: got batches {self.batches}, expected them in mode burst only")
        if isinstance(self.arrivals, Arrivals) != (self.name == "open"):
            got = "a rate" if isinstance(self.arrivals, Arrivals) else "no rate"
            raise BadInputError(f"mode {self.name}: got {got}, expected one in mode open, and there only")
        for what, value in (("a window of {}", self.window), ("{} batches", self.batches)):
            if value is not None and not 1 <= value <= MAX_BATCHES:
                raise BadInputError(f"mode {self.name}: got {what.format(value)}, expected 1 to {MAX_BATCHES}")

    def __str__(self) -> str:
        if self.window is not None:
            return f"closed(window={self.window})"
        if self.batches is not None:
            return f"burst(batches={self.batches})"
        if isinstance(self.arrivals, Arrivals):
            return f"open(rate={self.arrivals.rate_per_s:g}/s, {self.arrivals.process})"
        return self.name

    @classmethod
    def named(
        cls, name: ModeName, *, window: int | None = None, batches: int | None = None, arrivals: Arrivals | None = None
    ) -> Mode:
        """The mode of that name, its parameter at the default where not given and where there is one."""
        if name == "closed" and window is None:
            window = DEFAULT_WINDOW
        if name == "burst" and batches is None:
            batches = DEFAULT_BURST_BATCHES
        return cls(name=name, window=window, batches=batches, arrivals=arrivals or msgspec.UNSET)
