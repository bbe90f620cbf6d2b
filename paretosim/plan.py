"""Plans: what runs where. A value that prints, parses and round-trips."""

from __future__ import annotations

import re

import msgspec

from paretosim.errors import BadInputError

_PLAN = re.compile(
    r"(?P<model>[^@/\s]+)@(?P<stages>[^/\s]+)/b(?P<batch>\d+)/w(?P<window>\d+|-)/(?P<backend>\w+)/(?P<dtype>\w+)"
)
_STAGE = re.compile(r"(?P<device>[^\[\]+@/\s]+)\[(?P<first>\d+):(?P<last>\d+)\]")


class Stage(msgspec.Struct, frozen=True):
    """Blocks [first, last) on a device. An empty stage forwards what it gets."""

    device: str
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise BadInputError(f"stage {self}: expected 0 ≤ first ≤ last")

    def __str__(self) -> str:
        return f"{self.device}[{self.first}:{self.last}]"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Model, stages in order, batch size, window, backend and wire dtype.

    >>> str(Plan.parse("vgg16@rpi4b[0:14]+rtx4090[14:39]/b8/w-/tcp/f32"))
    'vgg16@rpi4b[0:14]+rtx4090[14:39]/b8/w-/tcp/f32'
    """

    model: str
    stages: tuple[Stage, ...]
    batch: int = 8
    window: int | None = None
    backend: str = "tcp"
    wire_dtype: str = "f32"

    def __post_init__(self) -> None:
        if len(self.stages) < 1:
            raise BadInputError("plan: got no stages, expected at least one")
        if self.stages[0].first != 0:
            raise BadInputError(f"plan: the first stage starts at block {self.stages[0].first}, expected 0")
        for before, after in zip(self.stages, self.stages[1:], strict=False):
            if before.last != after.first:
                raise BadInputError(f"plan: {before} is followed by {after}, expected a stage from {before.last}")
        if self.batch < 1:
            raise BadInputError(f"plan: got batch {self.batch}, expected 1 or more")
        if self.window is not None and self.window < 1:
            raise BadInputError(f"plan: got window {self.window}, expected 1 or more")

    def __str__(self) -> str:
        stages = "+".join(map(str, self.stages))
        window = "-" if self.window is None else self.window
        return f"{self.model}@{stages}/b{self.batch}/w{window}/{self.backend}/{self.wire_dtype}"

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where the chain is cut: the last block of every stage but the final one."""
        return tuple(stage.last for stage in self.stages[:-1])

    @property
    def split(self) -> int:
        """The one cut of a plan over two devices."""
        if len(self.stages) != 2:
            raise BadInputError(f"plan {self}: has {len(self.stages)} stages, expected 2 to speak of its split")
        return self.stages[0].last

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that prints as `text`."""
        match = _PLAN.fullmatch(text)
        stages = [_STAGE.fullmatch(part) for part in match["stages"].split("+")] if match else [None]
        if match is None or not all(stages):
            raise BadInputError(f"plan: got {text!r}, expected e.g. vgg16@rpi4b[0:14]+rtx4090[14:39]/b8/w1/tcp/f32")
        return cls(
            model=match["model"],
            stages=tuple(Stage(s["device"], int(s["first"]), int(s["last"])) for s in stages if s),
            batch=int(match["batch"]),
            window=None if match["window"] == "-" else int(match["window"]),
            backend=match["backend"],
            wire_dtype=match["dtype"],
        )

    @classmethod
    def two_devices(
        cls,
        model: str,
        blocks: int,
        split: int,
        devices: tuple[str, str],
        *,
        batch: int = 8,
        window: int | None = None,
    ) -> Plan:
        """The plan of `split` over two devices."""
        stages = (Stage(devices[0], 0, split), Stage(devices[1], split, blocks))
        return cls(model=model, stages=stages, batch=batch, window=window)
