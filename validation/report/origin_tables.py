"""Tables of where a report comes from, and of what is not in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from paretosim.plan import Plan
from paretosim.profiles import identity
from validation.assessment import Assessment, ConditionAssessment
from validation.comparing import Comparison
from validation.join import Unjoined
from validation.report.tables import Column, Table, words
from validation.scores import WITHIN
from validation.wording import NONE, percent

_NUMBER = re.compile(r"\d+(\.\d+)?")


def unjoined_table(unjoined: Sequence[Unjoined]) -> Table:
    """Cells that are not compared, with reason and remedy; those of one model, link and reason in one row."""
    groups: dict[tuple[str, ...], list[Unjoined]] = {}
    for entry in unjoined:
        plan = Plan.parse(entry.plan)
        devices = " → ".join(stage.device for stage in plan.stages)
        about = (plan.model, devices, plan.backend, entry.link_name)
        groups.setdefault((entry.status, *about, entry.reason, entry.remedy), []).append(entry)
    rows = []
    for (status, model, devices, backend, link, reason, remedy), entries in groups.items():
        cuts = dict.fromkeys(Plan.parse(entry.plan).cuts for entry in entries)
        splits = ", ".join("|".join(map(str, own)) or NONE for own in sorted(cuts))
        modes = ", ".join(sorted({entry.mode for entry in entries}))
        repeats = ", ".join(map(str, sorted({entry.repeat for entry in entries})))
        rows.append((status, model, devices, splits, backend, modes, link, repeats, str(len(entries)), reason, remedy))
    columns = (
        Column("status", words=True, once=True), Column("model", words=True, once=True),
        Column("devices", words=True, once=True, priority=3), Column("splits", words=True),
        Column("backend", words=True, once=True, priority=2), Column("modes", words=True, once=True),
        Column("link", words=True, once=True), Column("repeats", words=True, once=True, priority=4),
        Column("cells"), Column("reason", words=True, once=True), Column("what to do", words=True, once=True),
    )  # fmt: skip
    return Table("Cells not compared", columns, tuple(rows))


def unjoined_overview(unjoined: Sequence[Unjoined]) -> Table:
    """Cells that are not compared, those in one row whose reasons differ in their numbers alone."""
    groups: dict[tuple[str, ...], list[Unjoined]] = {}
    for entry in unjoined:
        key = (entry.status, *(_NUMBER.sub("#", text) for text in (entry.reason, entry.remedy)))
        groups.setdefault(key, []).append(entry)
    rows = []
    for (status, *_), entries in groups.items():
        models = dict.fromkeys(Plan.parse(entry.plan).model for entry in entries)
        links = dict.fromkeys(entry.link_name for entry in entries)
        alike = len({(entry.reason, entry.remedy) for entry in entries}) == 1
        reason = entries[0].reason if alike else f"such as: {entries[0].reason}"
        rows.append((status, str(len(entries)), ", ".join(models), ", ".join(links), reason, entries[0].remedy))
    columns = (
        Column("status", words=True, once=True), Column("cells"), Column("models", words=True),
        Column("links", words=True, once=True), Column("reason", words=True),
        Column("what to do", words=True, once=True),
    )  # fmt: skip
    return Table("Cells not compared", columns, tuple(rows))


def doubt_table(assessment: Assessment) -> Table:
    """What contradicts what: inverted pairs, links that miss, large errors, overruns, unequal outputs."""
    return Table(
        "Contradictions and large errors",
        words("kind", "condition", "what"),
        tuple(
            (kind, str(found.joined.condition), what)
            for found in assessment.conditions
            for kind, what in (
                *_doubts(found),
                *(doubt for cell in found.joined.comparisons for doubt in _of_cell(cell)),
            )
        ),
        (
            "Pairs in the wrong order, links that miss by more than 5 %, errors beyond 10 %, overruns and unequal"
            " outputs.",
        ),
    )


def _doubts(found: ConditionAssessment) -> Iterator[tuple[str, str]]:
    for name, rank in (("latency", found.latency_rank), ("throughput", found.throughput_rank)):
        for pair in rank.inversions:
            yield (
                "order",
                f"{name} of split {pair.larger} was measured larger than of {pair.smaller} ({pair.measured[0]:.4g} and"
                f" {pair.measured[1]:.4g}) and predicted smaller ({pair.predicted[0]:.4g} and {pair.predicted[1]:.4g})",
            )
    for check in found.joined.link_checks:
        if check.flags:
            yield "link", f"as probed it misses what was asked for: {', '.join(check.flags)}"
    cells = found.joined.comparisons
    if overruns := sum(cell.overruns for cell in cells):
        runs = sum(repeat.stage_runs for cell in cells for repeat in cell.repeats)
        worst = max(cells, key=lambda cell: cell.overruns)
        yield "host", f"too slow for its targets in {overruns} of {runs} stage runs, most at split {worst.label}"


def _of_cell(cell: Comparison) -> Iterator[tuple[str, str]]:
    for name, quantity in (("latency", cell.latency), ("throughput", cell.throughput)):
        if quantity.error is not None and abs(quantity.error) > WITHIN:
            noise = "unknown" if quantity.noise_floor is None else percent(quantity.noise_floor)
            yield "error", f"{name} of split {cell.label} is off by {quantity.error:+.1%} (noise floor {noise})"
    if any(r.output_check is not None and not r.output_check.bitwise_equal for r in cell.repeats):
        yield "output", f"split {cell.label}: the output differed from the unsplit model's"


def calibration_table(assessment: Assessment) -> Table:
    """Calibrations that predictions were made with, and what they were fitted on."""
    found = {
        cell.inputs.calibration.name: cell.inputs.calibration
        for cell in assessment.joined.comparisons
        if cell.inputs.calibration is not None
    }
    rows = tuple(
        (
            name,
            calibration.backend,
            ", ".join(calibration.active_terms()) or "none",
            "; ".join(calibration.fitted_on) or "not said",
            ", ".join(f"{what} {digest}" for what, digest in calibration.hashes.items()) or "none",
        )
        for name, calibration in sorted(found.items())
    )
    return Table("Calibrations", words("calibration", "backend", "terms", "fitted on", "hashes"), rows)


def provenance_table(assessment: Assessment) -> Table:
    """What the runs ran on, flattened from their manifests."""
    joined = assessment.joined
    rows: list[tuple[str, str]] = []
    for run in joined.runs:
        manifest = run.manifest
        rows += [
            ("run", manifest.run_id),
            ("created (UTC)", manifest.created_utc),
            ("command line", " ".join(manifest.command_line)),
            ("cells planned", str(manifest.cells_planned)),
            ("cells recorded", str(len(run.cells))),
            ("half-written lines dropped", str(run.dropped_lines)),
            ("seed", str(manifest.seed)),
        ]
    manifest = joined.manifest
    rows += [
        ("earlier attempts left out", str(joined.superseded)),
        ("planned but not recorded", str(joined.missing)),
        ("stages", "real" if not manifest.emulated else f"emulated, speed ×{manifest.speed:g}"),
    ]
    timings = {
        f"{timing.device}/{timing.model}": f"{identity(timing)} (found now: stages computed, the run rests on none)"
        for condition in joined.conditions
        for timing in condition.inputs.timings
    }
    timings |= {name: digest for run in joined.runs for name, digest in run.manifest.timings.items()}
    for label, values in (
        ("testbed", manifest.testbed),
        ("host", manifest.host),
        ("version", manifest.versions),
        ("timing", timings),
        ("sysctl", manifest.sysctls),
    ):
        rows += [(f"{label}: {key}", str(value)) for key, value in sorted(values.items())]
    for number, worker in enumerate(manifest.workers, start=1):
        rows.append((f"worker {number}", ", ".join(f"{key}={value}" for key, value in sorted(worker.items()))))
    rows.append(("qdisc", manifest.qdisc or "none recorded"))
    several = "Testbed, host, versions and settings are of the first run; the others are alike in them."
    notes = (several,) if len(joined.runs) > 1 else ()
    return Table("Provenance", words("what", "value"), tuple(rows), notes)
