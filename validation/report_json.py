"""The report as one JSON object: the same numbers as the page, unrounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from paretosim import __version__
from paretosim.profiles import identity
from validation.assessment import Assessment, ConditionAssessment
from validation.fronts import FrontAgreement
from validation.join import Comparison
from validation.measured import Quantity, Repeat
from validation.scores import ErrorScore

SCHEMA_VERSION = 1


def as_json(assessments: Sequence[Assessment]) -> bytes:
    """The report, indented, with a final newline."""
    found = {
        "schema_version": SCHEMA_VERSION,
        "versions": {"paretosim": __version__},
        "runs": [_run(assessment) for assessment in assessments],
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def _run(assessment: Assessment) -> dict[str, Any]:
    joined = assessment.joined
    return {
        "run_id": assessment.run_id,
        "verdict": assessment.verdict,
        "manifest": joined.run.manifest,
        "dropped_lines": joined.run.dropped_lines,
        "superseded": joined.superseded,
        "missing": joined.missing,
        "scores": {**asdict(assessment.scores), "transfer_shaped": _score(assessment.shaped_transfer)},
        "conditions": [_condition(found) for found in assessment.conditions],
        "unjoined": [asdict(entry) for entry in joined.unjoined],
    }


def _score(score: ErrorScore | None) -> dict[str, Any] | None:
    return None if score is None else asdict(score)


def _condition(found: ConditionAssessment) -> dict[str, Any]:
    joined = found.joined
    setting = joined.prediction.setting
    return {
        "condition": {**asdict(joined.condition), "title": str(joined.condition), "origin": joined.condition.origin},
        "link_predicted": setting.link,
        "link_origin": joined.link_origin,
        "link_check": {**asdict(joined.link_check), "flags": joined.link_check.flags},
        "control_delay_s": setting.control_delay_s,
        "timings": [
            {
                "device": timing.device,
                "kind": kind,
                "identity": identity(timing),
                "error": None if timing.error is None else timing.error.relative,
            }
            for timing, kind in zip(setting.timings, joined.prediction.timing_kinds, strict=True)
        ],
        "notes": joined.notes,
        "scores": asdict(found.scores),
        "rank": {
            "latency": asdict(found.latency_rank),
            "throughput": asdict(found.throughput_rank),
            "transfer": asdict(found.transfer_rank),
        },
        "front": None if found.front is None else _front(found.front),
        "cells": [_cell(comparison) for comparison in joined.comparisons],
    }


def _front(front: FrontAgreement) -> dict[str, Any]:
    return {
        **asdict(front),
        "strict": {**asdict(front.strict), "f1": front.strict.f1},
        "tolerant": {**asdict(front.tolerant), "f1": front.tolerant.f1},
        "agrees": front.agrees,
    }


def _cell(cell: Comparison) -> dict[str, Any]:
    return {
        "split": cell.split,
        "plan": cell.plan,
        "activation_bytes": cell.activation_bytes,
        "latency_s": _quantity(cell.latency),
        "throughput_per_s": _quantity(cell.throughput),
        "stages_s": [_quantity(stage) for stage in cell.stages],
        "transfer_s": None if cell.transfer is None else _quantity(cell.transfer),
        "rest_s": cell.rest_s,
        "overruns": cell.overruns,
        "baselines": asdict(cell.baselines),
        "repeats": [_repeat(repeat) for repeat in cell.repeats],
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    return {**asdict(quantity), "error": quantity.error}


def _repeat(repeat: Repeat) -> dict[str, Any]:
    """Without the raw samples: those are in the run folder, under this `cell_id`."""
    return {
        "cell_id": repeat.cell_id,
        "repeat": repeat.repeat,
        "started_utc": repeat.started_utc,
        "latency_s": repeat.latency_s,
        "throughput_per_s": repeat.throughput_per_s,
        "batches": len(repeat.latency_samples_s),
        "overruns": repeat.overruns,
        "stage_runs": repeat.stage_runs,
        "retransmits": repeat.retransmits,
        "control_delay_s": repeat.control_delay_s,
        "output_check": repeat.output_check,
    }
