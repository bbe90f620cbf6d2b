"""Calibrations: what devices, messages and a backend cost beside what profiles and the link say.

Each term of the model that is fitted or probed has its parameter here (docs/model.md, "Calibration"). At its default a
parameter says nothing: a calibration of defaults alone leaves every prediction as it is without one, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import msgspec

from paretosim.errors import BadInputError

Backend = Literal["tcp", "rpc", "memory"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
CalibrationTerm = Literal[
    "scale", "overhead", "launch", "copies", "contention", "framing", "sending", "receiving", "copying", "dispatch",
    "handover", "returning", "resting", "rpc", "answers", "relay",
]  # fmt: skip
CALIBRATION_TERMS: tuple[CalibrationTerm, ...] = get_args(CalibrationTerm)
# Those of the link, which need no calibration.
LinkTerm = Literal["headers", "window-cap", "slow-start", "delay"]
LINK_TERMS: tuple[LinkTerm, ...] = get_args(LinkTerm)
Term = CalibrationTerm | LinkTerm
TERMS: tuple[Term, ...] = (*CALIBRATION_TERMS, *LINK_TERMS)

SCHEMA_VERSION = 2
# The fields that hold parameters, which intervals can be of.
_PARAMETERS = (
    "devices",
    "framing_bytes",
    "dispatch_s",
    "rpc_round_trips",
    "rpc_s",
    "rpc_answers",
    "rpc_answer_s",
    "relay",
    "resting",
)
# The key of every device that a calibration does not name: what emulated devices taught of their host holds for all.
ANY_DEVICE = "*"


def check_schema_version(found: int) -> None:
    """Refuse a calibration of another schema.

    Raises
    ------
    BadInputError : of an older one it says what has changed.
    """
    if found == 1:
        raise BadInputError(
            "schema_version: got 1, expected 2, in which sending and receiving are each device's"
            " (devices.NAME.sending; NAME * is any device) and intervals have an interval_level;"
            " move them there, or fit it again"
        )
    if found != SCHEMA_VERSION:
        raise BadInputError(f"schema_version: got {found}, expected {SCHEMA_VERSION}")


def _check_above_zero(value: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        found = getattr(value, field)
        if found is not None and not 0 < found < math.inf:
            raise BadInputError(f"{field}: got {found}, expected a finite number above zero")


def _check_not_negative(value: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        if not 0 <= getattr(value, field) < math.inf:
            raise BadInputError(f"{field}: got {getattr(value, field)}, expected a finite number of 0 or more")


class MessageCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one side of a transfer: a and β of a + S / β; `bytes_per_s` None is infinitely fast."""

    message_s: float = 0.0
    bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        _check_not_negative(self, "message_s")
        _check_above_zero(self, "bytes_per_s")


class DeviceTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a device: γ, o, κ, its side of a transfer, what passing a batch on takes, and those of its accelerator.

    A socket takes or gives a message in `copying_s` and at most `copying_bytes_per_s`, beside the wire. A batch waits
    `arriving_s` from its last byte until it is computed, and `leaving_s` from then until it is sent; its result's way
    to an orchestrator on the same host takes `returning`. Rates of None are infinitely fast.
    """

    gamma: float = 1.0
    overhead_s: float = 0.0
    kappa: float = 0.0
    sending: MessageCost = MessageCost()
    receiving: MessageCost = MessageCost()
    copying_s: float = 0.0
    copying_bytes_per_s: float | None = None
    arriving_s: float = 0.0
    leaving_s: float = 0.0
    returning: MessageCost = MessageCost()
    launch_s: float = 0.0
    pcie_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        _check_above_zero(self, "gamma", "copying_bytes_per_s", "pcie_bytes_per_s")
        _check_not_negative(self, "overhead_s", "kappa", "copying_s", "arriving_s", "leaving_s", "launch_s")


class Relay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hop from a master to the second device, where activations go over one; a rate of None is memory's."""

    rate_bps: float | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        _check_above_zero(self, "rate_bps")
        _check_not_negative(self, "delay_s")


class Resting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By how much a message comes later after its hosts have rested for p seconds: `later_s` · p / (p + `half_s`)."""

    later_s: float
    half_s: float

    def __post_init__(self) -> None:
        _check_not_negative(self, "later_s")
        _check_above_zero(self, "half_s")


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of one backend, with what they were fitted on.

    `devices` are by name; `ANY_DEVICE` among them is every one that is not named, else those have the defaults.
    `framing_bytes` go with every message beside its tensors. A dispatch takes `dispatch_s` beside its control delay. A
    batch takes `rpc_round_trips` round trips of `rpc_s` each beside the link's own, and its hop takes no other for
    `rpc_answers` round trips of `rpc_answer_s` each more: a call returns when its answer is there. `resting` is of all
    hosts, where a batch is alone in its pipeline. `intervals` are by a
    parameter's path (`devices.rpi4b.sending.message_s`), lower end first, and hold the true value with probability
    `interval_level`; `hashes` are of what it was fitted on, by name. `agreeing` of the `starts` of the fit ended at the
    same minimum.
    """

    schema_version: int
    name: str
    backend: Backend
    devices: dict[str, DeviceTerms] = {}
    framing_bytes: int = 0
    dispatch_s: float = 0.0
    rpc_round_trips: float = 0.0
    rpc_s: float = 0.0
    rpc_answers: float = 0.0
    rpc_answer_s: float = 0.0
    relay: Relay | None = None
    resting: Resting | None = None
    title: str = ""
    fitted_on: tuple[str, ...] = ()
    hashes: dict[str, str] = {}
    starts: int | None = None
    agreeing: int | None = None
    interval_level: float | None = None
    intervals: dict[str, tuple[float, float]] = {}

    def __post_init__(self) -> None:
        check_schema_version(self.schema_version)
        if not self.name:
            raise BadInputError("name: got none, expected that of the file without .json")
        _check_not_negative(
            self, "framing_bytes", "dispatch_s", "rpc_round_trips", "rpc_s", "rpc_answers", "rpc_answer_s"
        )
        if (self.starts, self.agreeing) != (None, None) and not 1 <= (self.agreeing or 0) <= (self.starts or 0):
            raise BadInputError(
                f"agreeing: got {self.agreeing} of {self.starts} starts, expected 1 or more of as many starts or more,"
                " or neither"
            )
        if self.intervals and self.interval_level is None:
            raise BadInputError(
                "interval_level: got none beside intervals, expected how probably they hold the true value, such as 0.9"
            )
        if self.interval_level is not None and not 0 < self.interval_level < 1:
            raise BadInputError(f"interval_level: got {self.interval_level}, expected a probability between 0 and 1")
        for path, (low, high) in self.intervals.items():
            if not -math.inf < low <= high < math.inf:
                raise BadInputError(f"intervals.{path}: got {low} to {high}, expected two finite ends, the lower first")
            if not low <= (value := self.value_at(path)) <= high:
                raise BadInputError(
                    f"intervals.{path}: got {low} to {high}, expected one that holds the value, {value}"
                )

    @property
    def is_disputed(self) -> bool:
        """Whether most starts of its fit ended elsewhere, so that another fit of the same may well differ."""
        return self.starts is not None and self.agreeing is not None and 2 * self.agreeing <= self.starts

    def of(self, device: str) -> DeviceTerms:
        """The terms of that device: its own, else those of any device, else the defaults."""
        return self.devices.get(device) or self.devices.get(ANY_DEVICE) or DeviceTerms()

    def steps_to(self, path: str) -> tuple[str, ...]:
        """The names on a parameter's path; a device's own may hold dots."""
        for device in sorted(self.devices, key=len, reverse=True):
            of_device = f"devices.{device}."
            if path.startswith(of_device):
                return ("devices", device, *path.removeprefix(of_device).split("."))
        return tuple(path.split("."))

    def value_at(self, path: str) -> float:
        """The parameter at a path such as `devices.rpi4b.gamma`.

        Raises
        ------
        BadInputError : nothing is there, or nothing that is a number.
        """
        steps = self.steps_to(path)
        found: Any = self if steps[0] in _PARAMETERS else None
        for name in steps:
            if isinstance(found, dict):
                found = found.get(name)
            else:
                found = getattr(found, name) if name in getattr(found, "__struct_fields__", ()) else None
        if not isinstance(found, int | float):
            raise BadInputError(
                f"intervals.{path}: got no number there, expected the path of a parameter that has one, such as"
                " devices.rpi4b.gamma"
            )
        return float(found)

    def _field_of(self, path: str) -> str:
        """The field of a device's terms, or of the calibration, that a path leads to or through."""
        first, *more = self.steps_to(path)
        return more[1] if first == "devices" else first

    def without(self, *terms: Term) -> Calibration:
        """This calibration with those terms off, and with the intervals of what is left.

        Raises
        ------
        BadInputError : a term of another name.
        """
        check_terms(terms)
        neutral = DeviceTerms()
        own: dict[str, Any] = {field: getattr(neutral, field) for term, field in _OF_DEVICES if term in terms}
        whole: dict[str, Any] = {field: getattr(NEUTRAL, field) for term, field in _OF_ALL if term in terms}
        devices = {name: msgspec.structs.replace(found, **own) for name, found in self.devices.items()}
        bare = msgspec.structs.replace(self, devices=devices, intervals={}, **whole)
        off = {*own, *whole}
        left = {path: ends for path, ends in self.intervals.items() if self._field_of(path) not in off}
        return msgspec.structs.replace(bare, intervals=left)

    def active_terms(self) -> tuple[CalibrationTerm, ...]:
        """Those that say something, in the order of `CALIBRATION_TERMS`."""
        devices = self.devices.values()
        says = {
            "scale": any(found.gamma != 1 for found in devices),
            "overhead": any(found.overhead_s for found in devices),
            "launch": any(found.launch_s for found in devices),
            "copies": any(found.pcie_bytes_per_s is not None for found in devices),
            "contention": any(found.kappa for found in devices),
            "framing": self.framing_bytes > 0,
            "sending": any(found.sending != MessageCost() for found in devices),
            "receiving": any(found.receiving != MessageCost() for found in devices),
            "copying": any(found.copying_s or found.copying_bytes_per_s is not None for found in devices),
            "dispatch": self.dispatch_s > 0,
            "handover": any(found.arriving_s or found.leaving_s for found in devices),
            "returning": any(found.returning != MessageCost() for found in devices),
            "resting": self.resting is not None and self.resting.later_s > 0,
            "rpc": self.rpc_round_trips > 0,
            "answers": self.rpc_answers > 0,
            "relay": self.relay is not None,
        }
        return tuple(term for term in CALIBRATION_TERMS if says[term])


# The field that says nothing more where the term is off.
_OF_DEVICES: tuple[tuple[Term, str], ...] = (
    ("scale", "gamma"), ("overhead", "overhead_s"), ("contention", "kappa"), ("launch", "launch_s"),
    ("copies", "pcie_bytes_per_s"), ("sending", "sending"), ("receiving", "receiving"),
    ("returning", "returning"), ("copying", "copying_s"), ("copying", "copying_bytes_per_s"),
    ("handover", "arriving_s"), ("handover", "leaving_s"),
)  # fmt: skip
_OF_ALL: tuple[tuple[Term, str], ...] = (
    ("framing", "framing_bytes"), ("dispatch", "dispatch_s"), ("rpc", "rpc_round_trips"), ("answers", "rpc_answers"),
    ("answers", "rpc_answer_s"), ("relay", "relay"), ("resting", "resting"),
)  # fmt: skip
# What a prediction without a calibration has.
NEUTRAL = Calibration(schema_version=SCHEMA_VERSION, name="none", backend="tcp")


def check_terms(terms: tuple[str, ...] | list[str], what: str = "without") -> None:
    """Refuse what is not a term's name.

    Raises
    ------
    BadInputError : lists the known ones.
    """
    for term in terms:
        if term not in TERMS:
            raise BadInputError(f"{what}: got {term!r}, expected a term: one of {', '.join(TERMS)}")
