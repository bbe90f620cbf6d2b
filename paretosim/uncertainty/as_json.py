"""A prediction and what its inputs leave open, as one JSON object and as CSV (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.indented_json import indented_json
from paretosim.prediction import Prediction
from paretosim.profiles import identity
from paretosim.show.prediction_json import as_object, setting_identity
from paretosim.show.result_json import csv_lines
from paretosim.show.verdict import verdict
from paretosim.tabular import fields_of
from paretosim.uncertainty.sampling import Uncertainty
from paretosim.uncertainty.text import doubt_sentences


def as_json(prediction: Prediction, found: Uncertainty) -> bytes:
    """The object of `paretosim predict --json` with intervals and probabilities, indented, with a final newline."""
    return indented_json(uncertain_object(prediction, found))


def uncertain_object(prediction: Prediction, found: Uncertainty) -> dict[str, Any]:
    """As plain values. `seed`, `identity`, `indistinguishable` and the verdict are those of the samples."""
    plain = as_object(prediction)
    doubts = found.doubts
    return plain | {
        "identity": identity(setting_identity(prediction), doubts),
        "seed": doubts.seed,
        "uncertainty": {
            "samples": doubts.samples,
            "seed": doubts.seed,
            "rate_spread": doubts.rate_spread,
            "delay_spread": doubts.delay_spread,
            "error_model": msgspec.to_builtins(doubts.error_model),
            "devices": msgspec.to_builtins(found.devices),
            "fast_ends": found.fast_ends,
            "gain_over_first": msgspec.to_builtins(found.gain_over_first),
            "qualifying_probability": found.qualifying_probability,
        },
        "rows": [
            row | {"uncertainty": _of_split(split)} for row, split in zip(plain["rows"], found.splits, strict=True)
        ],
        "recommended": plain["recommended"] | {"verdict": verdict(prediction, doubt_sentences(prediction, found))},
        "indistinguishable": dict(found.alike),
    }


def as_csv(prediction: Prediction, found: Uncertainty) -> str:
    """One line per split: the columns of the prediction, then those of its uncertainty."""
    return "\n".join(csv_lines(records(prediction, found))) + "\n"


def records(prediction: Prediction, found: Uncertainty) -> list[dict[str, Any]]:
    """The rows as flat dictionaries of plain values, as `Prediction.records` with more columns."""
    return [
        record | {f"uncertainty.{name}": value for name, value in _of_split(split).items()}
        for record, split in zip(prediction.records(), found.splits, strict=True)
    ]


def _of_split(split: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in fields_of(split).items() if name != "split"}
