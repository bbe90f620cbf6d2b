"""The report as one JSON object: the same numbers as the page, unrounded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from paretosim import __version__
from paretosim.indented_json import indented_json
from paretosim.profiles import identity
from validation.assessment import Assessment, BasisScores, ConditionAssessment, basis_of
from validation.comparing import Comparison
from validation.fronts import FrontAgreement
from validation.measured import Quantity, Repeat
from validation.phase_errors import summaries
from validation.report import notes
from validation.verdict import verdict

SCHEMA_VERSION = 2


def as_json(assessment: Assessment) -> bytes:
    """The report, indented, with a final newline."""
    joined = assessment.joined
    calibrations = {
        cell.inputs.calibration.name: cell.inputs.calibration
        for cell in joined.comparisons
        if cell.inputs.calibration is not None
    }
    found = verdict(assessment)
    report = {
        "schema_version": SCHEMA_VERSION,
        "versions": {"paretosim": __version__},
        "headline": found.headline,
        "verdict": str(found),
        "cautions": found.cautions,
        "held_out": assessment.held_out,
        "tolerance": assessment.tolerance,
        "bootstrap": {**asdict(assessment.resampling), "over": assessment.draws},
        "bases": [_basis(basis) for basis in assessment.bases],
        "folds": [asdict(fold) for fold in assessment.folds],
        "phases": [asdict(summary) for summary in summaries(assessment.phases)],
        "ablation": [asdict(entry) for entry in assessment.ablation],
        "conditions": [_condition(condition) for condition in assessment.conditions],
        "unjoined": [asdict(entry) for entry in joined.unjoined],
        "superseded": joined.superseded,
        "missing": joined.missing,
        "calibrations": calibrations,
        "runs": [{"manifest": run.manifest, "dropped_lines": run.dropped_lines} for run in joined.runs],
        "limits": notes.limits(assessment),
    }
    return indented_json(report)


def _basis(found: BasisScores) -> dict[str, Any]:
    shaped = None if found.shaped_transfer is None else asdict(found.shaped_transfer)
    return {
        "basis": found.basis,
        "cells": found.cells,
        "records": found.records,
        "scores": {**asdict(found.scores), "transfer_shaped": shaped},
    }


def _condition(found: ConditionAssessment) -> dict[str, Any]:
    joined = found.joined
    inputs, condition = joined.inputs, joined.condition
    return {
        "condition": {
            **{name: getattr(condition, name) for name in condition.__dataclass_fields__},
            "title": str(condition),
            "origin": condition.origin,
        },
        "basis": found.basis,
        "links_predicted": inputs.links,
        "link_origin": joined.link_origin,
        "link_checks": [{**asdict(check), "flags": check.flags} for check in joined.link_checks],
        "control_delay_s": inputs.control_delay_s,
        "timings": [
            {
                "device": timing.device,
                "kind": kind,
                "identity": identity(timing),
                "error": None if timing.error is None else timing.error.relative,
            }
            for timing, kind in zip(inputs.timings, inputs.timing_kinds, strict=True)
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
        "label": cell.label,
        "cuts": cell.cuts,
        "plan": cell.plan,
        "basis": basis_of(cell),
        "calibration": None if cell.inputs.calibration is None else cell.inputs.calibration.name,
        "activation_bytes": cell.predicted.activation_bytes,
        "bottleneck": cell.predicted.bottleneck,
        "latency_s": _quantity(cell.latency),
        "throughput_per_s": _quantity(cell.throughput),
        "stages_s": [_quantity(stage) for stage in cell.stages],
        "transfers_s": [_quantity(transfer) for transfer in cell.transfers],
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
        "run_id": repeat.run_id,
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
