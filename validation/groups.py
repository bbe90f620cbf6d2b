"""Groups of conditions, by the names that tables and bars have for them: of a backend, link, model, devices, mode."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from validation.assessment import assess
from validation.conditions import Condition
from validation.fronts import DEFAULT_TOLERANCE
from validation.join import Joined
from validation.report.as_json import as_json
from validation.resampling import Resampling

# Figures are held against bars themselves: intervals are for people.
_NO_INTERVALS = Resampling(resamples=0)


def names_of(condition: Condition) -> tuple[str, str, str, str, str]:
    """Of its link, model, devices, mode and backend, each the name of a group that it is in."""
    devices = " → ".join(condition.devices)
    return condition.link_name, condition.model, devices, f"mode {condition.mode.name}", condition.backend


def report_on(joined: Joined, group: Collection[str] = ()) -> dict[str, Any]:
    """The report's JSON, without ablation and intervals, on those conditions that have all of these names."""
    chosen = tuple(found for found in joined.conditions if set(names_of(found.condition)).issuperset(group))
    own = dataclasses.replace(joined, conditions=chosen)
    made: dict[str, Any] = json.loads(as_json(assess(own, DEFAULT_TOLERANCE, _NO_INTERVALS, ablated=False)))
    return made
