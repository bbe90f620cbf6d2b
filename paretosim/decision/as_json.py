"""A space of decisions as JSON and CSV (docs/formats.md): what `predict` writes, with batch and window in every row."""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.decision.hypervolume import hypervolume
from paretosim.decision.space import Alone, Choice, DecisionSpace
from paretosim.decision.verdict import decision_verdict
from paretosim.energy import unknown_networks
from paretosim.indented_json import indented_json
from paretosim.objectives import costs_of
from paretosim.profiles import identity
from paretosim.show.prediction_json import as_object as prediction_object
from paretosim.show.result_json import csv_lines

SCHEMA_VERSION = 1
# Of a prediction: what is one thing at one batch and window, and is replaced here.
_REPLACED = ("batch", "window", "identity", "timing_kinds", "baselines", "rows", "recommended", "indistinguishable")


def as_json(space: DecisionSpace) -> bytes:
    """One JSON object, indented, with a final newline."""
    return indented_json(as_object(space))


def as_object(space: DecisionSpace) -> dict[str, Any]:
    """The space as plain dictionaries, lists and numbers."""
    objects = [prediction_object(prediction) for prediction in space.predictions]
    shared = {name: value for name, value in objects[0].items() if name not in _REPLACED}
    settings = [prediction.setting for prediction in space.predictions]
    asks_energy = any(objective.name == "energy" for objective in space.objectives)
    return {
        **shared,
        "schema_version": SCHEMA_VERSION,
        "batches": list(dict.fromkeys(setting.batch for setting in settings)),
        "windows": list(dict.fromkeys(setting.mode.window for setting in settings)),
        "objectives": [objective.name for objective in space.objectives],
        **({"network_power_unknown": unknown_networks(settings[0].devices)} if asks_energy else {}),
        "timing_kinds": {str(p.setting.batch): list(p.timing_kinds) for p in space.predictions},
        "identity": identity(*(entry["identity"] for entry in objects)),
        "baselines": {
            "first_device": [_alone(space, one) for one in space.alone if one.order == 0],
            "second_device": [_alone(space, one) for one in space.alone if one.order == 1],
        },
        "rows": [space.fields_of(choice) for choice in space.choices],
        "recommended": {
            **{objective.name: _place(space.best(objective.name)) for objective in space.objectives},
            "verdict": decision_verdict(space),
        },
        "hypervolume": _hypervolume(space),
    }


def as_csv(space: DecisionSpace) -> str:
    """One line per choice; a window that a mode does not have is left empty."""
    records = [{name: "" if value is None else value for name, value in row.items()} for row in space.records()]
    return "\n".join(csv_lines(records)) + "\n"


def _place(choice: Choice | None) -> dict[str, Any] | None:
    return None if choice is None else {"split": choice.row.split, "batch": choice.batch, "window": choice.window}


def _alone(space: DecisionSpace, one: Alone) -> dict[str, Any]:
    fields = {"batch": one.batch, "window": one.window, **msgspec.to_builtins(one.baseline)}
    return fields | space.asked_figures(one.figures)


def _hypervolume(space: DecisionSpace) -> dict[str, Any] | None:
    """Share of the box and its corners, in the objectives' own signs."""
    found = hypervolume(costs_of([c.figures for c in space.choices if c.comparable], space.objectives))
    if found is None:
        return None
    signs = [-1 if objective.maximised else 1 for objective in space.objectives]
    return {
        "share": found.share,
        "ideal": [sign * value for sign, value in zip(signs, found.ideal, strict=True)],
        "reference": [sign * value for sign, value in zip(signs, found.reference, strict=True)],
    }
