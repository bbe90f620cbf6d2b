"""Sentences that stand in every report: how to recompute it, and what it does not show."""

from __future__ import annotations

from validation.assessment import Assessment

MERGING = (
    "Each run is scored by itself. Runs are never pooled: they may differ in host, versions, speed or emulation, and"
    " a mean over unlike conditions says nothing about either."
)


def recompute(assessment: Assessment) -> str:
    """How a reader gets these numbers again."""
    manifest = assessment.joined.run.manifest
    return (
        f"Every number comes from manifest.json and cells.jsonl of run {manifest.run_id} and the profiles named under"
        " “timing” in its provenance. To compute them again: python -m validation report RUN. To measure again, use"
        " the command line in the provenance."
    )


def limits(assessment: Assessment) -> tuple[str, ...]:
    """What these numbers do not show."""
    joined = assessment.joined
    found = [
        "Latency and throughput are read from the orchestrator's one clock; phases from each worker's own.",
        "Predictions are deterministic: host noise, congestion and thermal throttling appear as error, not as spread.",
        "Only two stages over TCP sockets with 32-bit floats are predicted; other cells are refused, not scored.",
        "Fronts are taken over the measured splits only, whatever the devices' memory.",
    ]
    if joined.run.manifest.emulated:
        found.append(
            "Emulated stages take the time their profile says, so this run cannot tell whether the profile is right;"
            " the timings' own errors stand beside each table."
        )
        if joined.run.manifest.speed != 1:
            found.append(
                f"Stages run {joined.run.manifest.speed:g} times as fast as the devices while the links do not, so"
                " these fronts are not those of the devices at their own speed."
            )
    if joined.run.manifest.testbed.get("kind") == "local":
        found.append("All hosts share one machine's cores, caches and kernel: a local testbed, not the devices.")
    if any(condition.link_origin == "probed" for condition in joined.conditions):
        found.append(
            "An unshaped link is predicted with what its own probe found, so the link's part of those predictions"
            " is no forecast; its reverse is taken to be as fast."
        )
    return tuple(found)
