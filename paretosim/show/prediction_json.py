"""A prediction as the JSON object and CSV rows whose spelling other programs rely on (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.indented_json import indented_json
from paretosim.mode import Arrivals
from paretosim.operation import Operation
from paretosim.prediction import Baseline, Prediction, Row
from paretosim.profiles import identity
from paretosim.resolution import indistinguishable
from paretosim.setting import Setting
from paretosim.show.result_json import (
    basis_fields,
    constraint_fields,
    csv_lines,
    ends_fields,
    link_object,
    load_fields,
    terms_identity,
    versions,
)
from paretosim.show.verdict import verdict
from paretosim.tabular import fields_of

SCHEMA_VERSION = 1


def as_json(prediction: Prediction) -> bytes:
    """The prediction as one JSON object, indented, with a final newline."""
    return indented_json(as_object(prediction))


def as_object(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain dictionaries, lists and numbers."""
    setting = prediction.setting
    recommended = prediction.recommended
    return {
        "schema_version": SCHEMA_VERSION,
        **load_fields(setting),
        **operation_object(setting),
        **ends_fields(setting),
        "splits": setting.splits,
        "links": [link_object(setting.link)],
        "hops": list(prediction.hops),
        **basis_fields(prediction),
        "constraints": constraint_fields(setting),
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


def row_object(row: Row) -> dict[str, Any]:
    """One split as a plain dictionary; `latency_from_start_s` in `burst` and percentiles in `open` only."""
    return fields_of(row)


def as_csv(prediction: Prediction) -> str:
    """One line per split; per-stage and per-link lists become numbered columns."""
    lines = csv_lines(prediction.records())
    return "\n".join(lines) + "\n"


def _baseline(baseline: Baseline) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(baseline)
    return fields
