"""Predictions side by side as JSON and CSV (docs/formats.md): each panel as `paretosim predict` writes it."""

from __future__ import annotations

from typing import Any

from paretosim.indented_json import indented_json
from paretosim.show.prediction_json import as_object as prediction_object
from paretosim.show.result_json import csv_lines
from paretosim.side_by_side.panels import SideBySide
from paretosim.side_by_side.verdict import front_verdict, is_one_point

SCHEMA_VERSION = 1


def as_json(found: SideBySide) -> bytes:
    """One JSON object, indented, with a final newline."""
    return indented_json(as_object(found))


def as_object(found: SideBySide) -> dict[str, Any]:
    """All panels as plain dictionaries, lists and numbers; `prediction` is the object of `predict --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "figure": found.figure,
        "title": found.title,
        "panels": [
            {
                "model": panel.setting.model.name,
                "devices": [device.name for device in panel.setting.devices],
                "link": panel.setting.link.name,
                "front": [row.split for row in panel.front],
                "one_point": is_one_point(panel),
                "verdict": front_verdict(panel),
                "prediction": prediction_object(panel),
            }
            for panel in found.panels
        ],
    }


def as_csv(found: SideBySide) -> str:
    """The lines of `predict --csv` of all panels, after columns that say which panel."""
    return "\n".join(csv_lines(found.records())) + "\n"
