"""An explanation as the JSON object that `paretosim predict --explain --json` prints (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.explanation.explaining import Explanation
from paretosim.explanation.text import sentences
from paretosim.indented_json import indented_json
from paretosim.prediction import Prediction
from paretosim.show.prediction_json import row_object, setting_identity
from paretosim.show.result_json import calibration_object

SCHEMA_VERSION = 1


def as_json(prediction: Prediction, explanation: Explanation) -> bytes:
    """The explanation as one JSON object, indented, with a final newline."""
    return indented_json(as_object(prediction, explanation))


def as_object(prediction: Prediction, explanation: Explanation) -> dict[str, Any]:
    """The explanation as plain dictionaries, lists and numbers."""
    setting, changes = explanation.setting, explanation.changes
    return {
        "schema_version": SCHEMA_VERSION,
        "identity": setting_identity(prediction),
        "model": setting.model.name,
        "devices": [device.name for device in setting.devices],
        "mode": setting.mode.name,
        "backend": setting.backend,
        "calibration": calibration_object(setting),
        "without": list(setting.without),
        "row": row_object(explanation.row),
        "unloaded_s": explanation.unloaded_s,
        "terms": [msgspec.to_builtins(term) for term in explanation.terms],
        "stations": [msgspec.to_builtins(station) for station in explanation.stations],
        "binding": {
            "limit": explanation.limit,
            "station": explanation.binds,
            "interval_s": explanation.interval_s,
            "slowest_s": explanation.slowest_s,
            "second": explanation.second,
            "second_s": explanation.second_s,
            "slack_s": explanation.slack_s,
            "changes": [msgspec.to_builtins(change) for change in changes],
            "sentences": sentences(explanation),
        },
    }
