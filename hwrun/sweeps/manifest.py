"""What a run folder says of the sweep as a whole: its plan, and the hosts that it ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwrun.machine.conditions import host, sysctls, versions
from hwrun.records import Manifest, Scalar
from hwrun.sweeps.cells import cells_identity
from hwrun.sweeps.plan import SweepPlan


def manifest_of(
    plan: SweepPlan,
    *,
    command_line: Sequence[str],
    run_id: str,
    created_utc: str,
    testbed: Mapping[str, Scalar],
    workers: Sequence[dict[str, Scalar]],
    qdisc: str,
) -> Manifest:
    """The manifest of a plan on a testbed, as this machine and its versions are now."""
    settings = plan.settings
    return Manifest(
        run_id=run_id,
        created_utc=created_utc,
        command_line=tuple(command_line),
        testbed=dict(testbed),
        workers=tuple(workers),
        emulated=settings.emulated,
        speed=settings.speed,
        timings=plan.timings,
        versions=versions(),
        host=host(),
        sysctls=sysctls(),
        qdisc=qdisc,
        seed=settings.seed,
        data=plan.data_description,
        weights=plan.weights_identity(),
        cells_planned=len(plan.cells),
        cells_identity=cells_identity(plan.cells),
        batches_per_cell=settings.batches,
        compute_devices=plan.devices,
    )
