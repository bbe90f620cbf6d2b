"""Parameters that a fit may change: where each stands in a calibration, its scale, bounds, and what it falls back to.

They are in order of what is given up last: where two cannot be told apart, the later one is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from paretosim.calibration import ANY_DEVICE, Calibration, DeviceTerms
from validation.fitting.observations import Observed


@dataclass(frozen=True)
class Parameter:
    """A number of a calibration, by its path.

    `scale` is a usual size of it, in which the fit counts; `most` its upper bound, in scales. `inverse` ones stand in
    the file as a rate and are fitted as what they take per unit, so that 0 is infinitely fast. `default` says nothing.
    """

    path: str
    unit: str
    scale: float
    least: float = 0.0
    most: float = 1e4
    default: float = 0.0
    inverse: bool = False

    def written(self, value: float) -> float | None:
        """As it stands in the file."""
        if not self.inverse:
            return value
        return None if value <= 0 else 1 / value


# Of a device. What its name stands for in docs/model.md is there under "Calibration".
_OF_DEVICE = (
    Parameter("gamma", "", 1.0, least=0.2, most=5.0, default=1.0),
    Parameter("sending.message_s", "s", 1e-4),
    Parameter("overhead_s", "s", 1e-4),
    Parameter("leaving_s", "s", 1e-4),
    Parameter("arriving_s", "s", 1e-4),
    Parameter("returning.message_s", "s", 1e-4),
    Parameter("kappa", "", 0.1, most=50.0),
    Parameter("copying_s", "s", 1e-4),
    Parameter("copying_bytes_per_s", "bytes/s", 1e-10, inverse=True),
    Parameter("sending.bytes_per_s", "bytes/s", 1e-10, inverse=True),
    Parameter("receiving.message_s", "s", 1e-4),
    Parameter("receiving.bytes_per_s", "bytes/s", 1e-10, inverse=True),
    Parameter("returning.bytes_per_s", "bytes/s", 1e-9, inverse=True),
)
_OF_ACCELERATOR = (
    Parameter("launch_s", "s", 1e-3),
    Parameter("pcie_bytes_per_s", "bytes/s", 1e-10, inverse=True),
)
_OF_ALL = (Parameter("dispatch_s", "s", 1e-4), Parameter("framing_bytes", "bytes", 100.0, most=1e3))
_OF_RPC = (
    Parameter("rpc_answer_s", "s", 1e-3),
    Parameter("rpc_answers", "", 1.0, most=20.0, default=1.0),
    Parameter("rpc_round_trips", "", 1.0, most=20.0),
)
# What no fit has to find out, since the program that was measured is made so, and why. Left to a fit, what a busy
# relay takes would be round trips: over links of 0 and 1 ms it found 2.5 of them, where over 10 ms there are none.
MADE_SO = {
    "rpc_answers": "hwrun's backend has one call at a time, until its answer is there",
    "rpc_round_trips": "a message of hwrun's backend travels with its call",
}


def parameters_of(observed: Observed) -> tuple[Parameter, ...]:
    """All that could be fitted: of each device, or of any where devices are emulated, and of the backend."""
    found: list[Parameter] = []
    for key in device_keys(observed):
        own = list(_OF_DEVICE)
        if key == ANY_DEVICE:  # stage times of emulated devices are the prediction's own inputs
            own = [parameter for parameter in own if parameter.path not in ("gamma", "kappa")]
        elif any(d.accelerator for case in observed.cases for d in case.setting.devices if d.name == key):
            own += _OF_ACCELERATOR
        found += [_renamed(parameter, f"devices.{key}.{parameter.path}") for parameter in own]
    # How long a hop is held is seen before which of its ends takes part of that.
    held, calls = (_OF_RPC[:2], _OF_RPC[2:]) if any(c.setting.backend == "rpc" for c in observed.cases) else ((), ())
    return (*found[:2], *_OF_ALL[:1], *held, *found[2:], *calls, *_OF_ALL[1:])


def device_keys(observed: Observed) -> tuple[str, ...]:
    """Names that terms stand under: those of real devices, and of any device where they are emulated."""
    names = [ANY_DEVICE if case.emulated else device.name for case in observed.cases for device in case.setting.devices]
    return tuple(dict.fromkeys(names))


def _renamed(parameter: Parameter, path: str) -> Parameter:
    return Parameter(
        path, parameter.unit, parameter.scale, parameter.least, parameter.most, parameter.default, parameter.inverse
    )


def with_values(base: Calibration, parameters: Sequence[Parameter], values: Mapping[str, float]) -> Calibration:
    """The calibration with these parameters at these values (inverse ones per unit)."""
    devices: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for parameter in parameters:
        value: Any = parameter.written(values[parameter.path])
        if parameter.path.startswith("devices."):
            key, field = parameter.path.removeprefix("devices.").split(".", 1)
            part, dot, last = field.partition(".")
            own = devices.setdefault(key, {})
            if dot:
                own.setdefault(part, {})[last] = value
            else:
                own[part] = value
        else:
            whole[parameter.path] = value
    changed = {key: _with_fields(base.devices.get(key, DeviceTerms()), fields) for key, fields in devices.items()}
    return msgspec.structs.replace(base, devices={**base.devices, **changed}, **whole)


def _with_fields(terms: DeviceTerms, fields: Mapping[str, Any]) -> DeviceTerms:
    own = {
        name: msgspec.structs.replace(getattr(terms, name), **value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return msgspec.structs.replace(terms, **own)
