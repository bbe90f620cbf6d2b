"""What the JSON objects and CSV lines of all results are made of (docs/formats.md)."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from paretosim import __version__
from paretosim.in_effect import Termed, terms_in_effect
from paretosim.link import Link
from paretosim.profiles import identity
from paretosim.setting import AnySetting

if TYPE_CHECKING:
    from paretosim.timing import Kind

_LINK_FIELDS = (
    "name", "rate_bps", "one_way_delay_s", "return_rate_bps", "return_delay_s", "header_bytes", "mss_bytes",
    "wmax_bytes",
)  # fmt: skip


class Found(Protocol):
    """What was predicted: a prediction, or a placement."""

    @property
    def setting(self) -> AnySetting: ...
    @property
    def timing_kinds(self) -> tuple[Kind, ...]: ...
    @property
    def profile_error(self) -> float | None: ...


def load_fields(setting: AnySetting) -> dict[str, Any]:
    """The model, and how batches of it are fed."""
    return {
        "model": setting.model.name,
        "mode": setting.mode.name,
        "batch": setting.batch,
        "backend": setting.backend,
        "window": setting.mode.window,
        "burst_batches": setting.mode.batches,
    }


def ends_fields(setting: AnySetting) -> dict[str, Any]:
    """Where inputs are and results are wanted, and the state of connections between."""
    return {"source": setting.source, "sink": setting.sink, "tcp_state": setting.tcp_state}


def basis_fields(found: Found) -> dict[str, Any]:
    """What it rests on: devices, how their timings are known, and the calibration."""
    setting = found.setting
    return {
        "devices": [device.name for device in setting.devices],
        "timing_kinds": list(found.timing_kinds),
        "profile_error": found.profile_error,
        "profile_errors": [msgspec.to_builtins(timing.error) for timing in setting.timings],
        "calibration": calibration_object(setting),
        **({"without": list(setting.without)} if setting.without else {}),
        "control_delay_s": setting.control_delay_s,
    }


def constraint_fields(setting: AnySetting) -> dict[str, Any]:
    """What a recommended choice has to meet."""
    return {
        "max_latency_s": setting.max_latency_s,
        "min_throughput_per_s": setting.min_throughput_per_s,
        "frame_rate_per_s": setting.frame_rate_per_s,
    }


def link_object(link: Link) -> dict[str, Any]:
    """What of a link a prediction goes by."""
    return {field: getattr(link, field) for field in _LINK_FIELDS}


def versions() -> dict[str, str]:
    """Of what computed it."""
    return {"paretosim": __version__, "numpy": np.__version__, "python": platform.python_version()}


def terms_identity(setting: Termed) -> list[msgspec.Struct | str]:
    """What a hash of inputs takes in of backend, calibration and terms that are off; nothing at the defaults."""
    found: list[msgspec.Struct | str] = [] if setting.backend == "tcp" else [f"backend {setting.backend}"]
    if setting.calibration is not None:
        found.append(setting.calibration)
    if setting.without:
        found.append(f"without {' '.join(sorted(setting.without))}")
    return found


def calibration_object(setting: Termed) -> dict[str, Any] | None:
    """Name and hash of the calibration, and the terms of it that say something; None without one."""
    calibration = setting.calibration
    if calibration is None:
        return None
    return {
        "name": calibration.name,
        "hash": identity(calibration),
        "backend": calibration.backend,
        "terms": list(terms_in_effect(setting).active_terms()),
        "fitted_on": list(calibration.fitted_on),
    }


def csv_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A heading and one line per row; all rows have the same names."""
    assert len({tuple(row) for row in rows}) == 1
    cells = ([_cell(value) for value in row.values()] for row in rows)
    return [",".join(map(_cell, rows[0])), *map(",".join, cells)]


def _cell(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
