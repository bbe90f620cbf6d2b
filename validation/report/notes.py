"""Sentences that stand in every report: how to recompute it, and what it does not show."""

from __future__ import annotations

from validation.assessment import Assessment
from validation.conditions import shares_a_clock


def recompute(assessment: Assessment) -> str:
    """How a reader gets these numbers again."""
    how = assessment.resampling
    calibrated = any(cell.inputs.calibration is not None for cell in assessment.joined.comparisons)
    by = f" --hold-out {assessment.held_out}" if assessment.held_out else " --calibration FILE" if calibrated else ""
    return (
        f"Every number comes from manifest.json and cells.jsonl of {assessment.title}, the profiles named under"
        " “timing” in the provenance, and the calibrations listed. To compute them again: python -m validation"
        f" report RUN…{by} --tolerance {assessment.tolerance:g} --resamples {how.resamples} --seed {how.seed}. To"
        " measure again, use the command lines in the provenance. docs/validation.md says what each score means."
    )


def limits(assessment: Assessment) -> tuple[str, ...]:
    """What these numbers do not show."""
    joined, manifest = assessment.joined, assessment.joined.manifest
    found = [
        "Latency and throughput are read from the orchestrator's one clock; phases from each worker's own.",
        "Predictions are deterministic: host noise, congestion and thermal throttling appear as error, not as spread.",
        "Intervals say what the measurements' own noise does to a score of these cells, not what other cells would"
        " show.",
        "Fronts are taken over the measured splits only, whatever the devices' memory.",
    ]
    if any(basis.basis == "fitted" for basis in assessment.bases):
        found.append(
            "Errors of cells that a calibration was fitted on say how well it can agree, not how well it predicts."
        )
    if manifest.emulated:
        found.append(
            "Emulated stages take the time their profile says, so this cannot tell whether the profile is right;"
            " the timings' own errors stand beside each table."
        )
        if manifest.speed != 1:
            found.append(
                f"Stages run {manifest.speed:g} times as fast as the devices while the links do not, so"
                " these fronts are not those of the devices at their own speed."
            )
    if shares_a_clock(manifest):
        found.append("All hosts share one machine's cores, caches and kernel: a local testbed, not the devices.")
    if any(condition.link_origin == "probed" for condition in joined.conditions):
        found.append(
            "An unshaped link is predicted with what its own probe found, so the link's part of those predictions"
            " is no forecast; its reverse is taken to be as fast."
        )
    return tuple(found)
