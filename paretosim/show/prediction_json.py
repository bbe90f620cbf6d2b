"""A prediction as the JSON object and CSV rows whose spelling other programs rely on (docs/formats.md)."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from paretosim import __version__
from paretosim.in_effect import Termed, terms_in_effect
from paretosim.link import Link
from paretosim.mode import Arrivals
from paretosim.operation import Operation
from paretosim.prediction import Baseline, Prediction, Row
from paretosim.profiles import identity
from paretosim.resolution import indistinguishable
from paretosim.setting import Setting
from paretosim.show.verdict import verdict
from paretosim.tabular import fields_of

SCHEMA_VERSION = 1
_LINK_FIELDS = (
    "name", "rate_bps", "one_way_delay_s", "return_rate_bps", "return_delay_s", "header_bytes", "mss_bytes",
    "wmax_bytes",
)  # fmt: skip


def as_json(prediction: Prediction) -> bytes:
    """The prediction as one JSON object, indented, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(as_object(prediction)), indent=1) + b"\n"


def as_object(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain dictionaries, lists and numbers."""
    setting = prediction.setting
    recommended = prediction.recommended
    return {
        "schema_version": SCHEMA_VERSION,
        "model": setting.model.name,
        "mode": setting.mode.name,
        "batch": setting.batch,
        "backend": setting.backend,
        "window": setting.mode.window,
        "burst_batches": setting.mode.batches,
        **operation_object(setting),
        "source": setting.source,
        "sink": setting.sink,
        "tcp_state": setting.tcp_state,
        "splits": setting.splits,
        "links": [link_object(setting.link)],
        "hops": list(prediction.hops),
        "devices": [device.name for device in setting.devices],
        "timing_kinds": list(prediction.timing_kinds),
        "profile_error": prediction.profile_error,
        "profile_errors": [msgspec.to_builtins(timing.error) for timing in setting.timings],
        "calibration": calibration_object(setting),
        **({"without": list(setting.without)} if setting.without else {}),
        "control_delay_s": setting.control_delay_s,
        "constraints": {
            "max_latency_s": setting.max_latency_s,
            "min_throughput_per_s": setting.min_throughput_per_s,
            "frame_rate_per_s": setting.frame_rate_per_s,
        },
        "versions": versions(),
        "identity": setting_identity(prediction),
        "seed": setting.operation.seed if setting.operation.draws(setting.mode) else None,
        "baselines": {
            "first_device": _baseline(prediction.baselines[0]),
            "second_device": _baseline(prediction.baselines[1]),
        },
        "rows": [row_object(row) for row in prediction.rows],
        "recommended": {
            "latency": recommended.latency,
            "throughput": recommended.throughput,
            "knee": recommended.knee,
            "verdict": verdict(prediction),
        },
        "indistinguishable": {
            objective: indistinguishable(prediction, getattr(recommended, objective), objective)
            for objective in ("latency", "throughput")
        },
    }


def link_object(link: Link) -> dict[str, Any]:
    """What of a link a prediction goes by."""
    return {field: getattr(link, field) for field in _LINK_FIELDS}


def versions() -> dict[str, str]:
    """Of what computed it."""
    return {"paretosim": __version__, "numpy": np.__version__, "python": platform.python_version()}


def operation_object(setting: Setting) -> dict[str, Any]:
    """How the pipeline is operated; buffers of sockets only where they matter."""
    operation, arrivals = setting.operation, setting.mode.arrivals
    serial = operation.workers == "serial"
    received = operation.receive_buffer_bytes
    return {
        "rate_per_s": arrivals.rate_per_s if isinstance(arrivals, Arrivals) else None,
        "arrivals": arrivals.process if isinstance(arrivals, Arrivals) else None,
        "batches": operation.batches,
        "workers": operation.workers,
        "buffers": operation.slots,
        "send_buffer_bytes": operation.send_buffer_bytes if serial else None,
        "receive_buffer_bytes": (setting.link.wmax_bytes if received is None else received) if serial else None,
        "clock": operation.clock,
    }


def setting_identity(prediction: Prediction) -> str:
    """Hash of all inputs: equal predictions come from equal inputs."""
    setting = prediction.setting
    parameters = msgspec.json.encode(
        [
            setting.batch, setting.mode, setting.splits, setting.source, setting.sink, setting.tcp_state, setting.speed,
            setting.control_delay_s, setting.max_latency_s, setting.min_throughput_per_s, setting.frame_rate_per_s,
        ]
    )  # fmt: skip
    # Only where it says something, so that what was there before it keeps its hash.
    operated: list[msgspec.Struct | str] = [] if setting.operation == Operation() else [setting.operation]
    operated += terms_identity(setting)
    return identity(setting.model, *setting.devices, *setting.timings, setting.link, *operated, parameters.decode())


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


def row_object(row: Row) -> dict[str, Any]:
    """One split as a plain dictionary; `latency_from_start_s` in `burst` and percentiles in `open` only."""
    return fields_of(row)


def as_csv(prediction: Prediction) -> str:
    """One line per split; per-stage and per-link lists become numbered columns."""
    lines = csv_lines(prediction.records())
    return "\n".join(lines) + "\n"


def csv_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A heading and one line per row; all rows have the same names."""
    assert len({tuple(row) for row in rows}) == 1
    cells = ([_cell(value) for value in row.values()] for row in rows)
    return [",".join(map(_cell, rows[0])), *map(",".join, cells)]


def _cell(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def _baseline(baseline: Baseline) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(baseline)
    return fields
