"""Devices: what a stage runs on, and what it has room for."""

from __future__ import annotations

import msgspec

from paretosim.errors import BadInputError


class NetworkPower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a radio or NIC adds to its device's power: for each byte on the wire, and `transfer_w` while they pass."""

    sent_j_per_byte: float
    received_j_per_byte: float
    transfer_w: float = 0.0

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if not 0 <= getattr(self, field) < float("inf"):
                raise BadInputError(f"network_power.{field}: got {getattr(self, field)}, expected 0 or more")


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device, with the source of each figure in `sources`.

    `memory_bytes` is what a stage's weights and activations live in (the accelerator's, where there is one);
    `reserved_bytes` of it are taken by the system, Python and torch before any stage is loaded.
    None stands for a figure nobody has given: a memory of None fits everything and is shown as unknown. Where
    `network_power` is not known there is no such field, and a device is hashed and written as one that never had it.
    """

    schema_version: int
    name: str
    title: str
    cores: int | None = None
    memory_bytes: int | None = None
    reserved_bytes: int = 0
    accelerator: str | None = None
    idle_power_w: float | None = None
    busy_power_w: float | None = None
    network_power: NetworkPower | msgspec.UnsetType = msgspec.UNSET
    sources: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.schema_version != 1:
            raise BadInputError(f"schema_version: got {self.schema_version}, expected 1")
        if not self.name or any(c in "@+[],/= " for c in self.name):
            raise BadInputError(f"name: got {self.name!r}, expected one without any of @ + [ ] , / = or spaces")
        for field in ("cores", "memory_bytes", "idle_power_w", "busy_power_w"):
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise BadInputError(f"{field}: got {value}, expected more than zero, or null where unknown")
        if self.idle_power_w is not None and self.busy_power_w is not None and self.busy_power_w < self.idle_power_w:
            raise BadInputError(f"busy_power_w: got {self.busy_power_w}, expected idle_power_w or more")
        if not 0 <= self.reserved_bytes <= (self.memory_bytes or float("inf")):
            raise BadInputError(f"reserved_bytes: got {self.reserved_bytes}, expected 0 to memory_bytes")

    @property
    def usable_bytes(self) -> float:
        """Bytes left for a stage; infinite where the memory is unknown."""
        return float("inf") if self.memory_bytes is None else float(self.memory_bytes - self.reserved_bytes)
