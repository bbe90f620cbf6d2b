"""Short names of conditions: what tells them apart, beside what they all share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from validation.assessment import ConditionAssessment


@dataclass(frozen=True)
class Labels:
    """A name for each of some conditions, and what is left out of all of them."""

    shared: str
    names: dict[int, str]

    @classmethod
    def of(cls, conditions: Sequence[ConditionAssessment]) -> Labels:
        """By what differs between these; a single one has its whole name."""
        parts = [{**dict(found.joined.condition.parts), "prediction": found.basis} for found in conditions]
        keys = list(dict.fromkeys(key for own in parts for key in own))
        differing = [key for key in keys if len({own.get(key) for own in parts}) > 1]
        if not differing:
            differing, keys = keys, []
        names = {
            id(found): ", ".join(own[key] for key in differing if key in own)
            for found, own in zip(conditions, parts, strict=True)
        }
        return cls(", ".join(parts[0][key] for key in keys if key not in differing) if parts else "", names)

    def __getitem__(self, found: ConditionAssessment) -> str:
        return self.names[id(found)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What all share, as a sentence, if anything."""
        return (f"All conditions: {self.shared}.",) if self.shared else ()
