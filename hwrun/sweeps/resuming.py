"""Going on with a run: whether its conditions are those of now, and which of its cells no probe came after. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from hwrun.errors import BadUsageError
from hwrun.planned_cell import Crossing
from hwrun.probing.link_check import missed
from hwrun.records import LinkMeasured, Manifest, Run

# What a resumed sweep must have in common with what it continues; what hosts are called and their load may differ.
_MATTERS = (
    "emulated",
    "speed",
    "timings",
    "versions",
    "seed",
    "data",
    "weights",
    "cells_planned",
    "cells_identity",
    "batches_per_cell",
    "compute_devices",
)
# Of the testbed, and of each of its hosts by the testbed file: over which path data go, and what they meet at its end.
_TESTBED_MATTERS = ("kind", "shaped", "hosts", "tls", "orchestrator_on")
_HOST_MATTERS = ("address", "data_address", "threads", "cores")
# Of each worker, as it said itself: what makes it another machine, or lets the same one compute at another pace.
_WORKER_MATTERS = (
    "cpu_model",
    "machine",
    "frequency_max_hz",
    "governor",
    "threads",
    "device",
    "allocator",
    "kernel",
    "python",
    "torch",  # with its build, which the handshake lets differ between hosts
)


def refuse_unlike(recorded: Manifest, now: Manifest, folder: Path) -> None:
    """Raise BadUsageError if continuing `recorded` under the conditions of `now` would mix unlike cells."""
    differences = [
        f"{what}: the folder's is {was!r}, this one's {is_now!r}"
        for name, one, other in _compared(recorded, now)
        for what, was, is_now in _apart(name, one, other)
    ]
    if differences:
        raise BadUsageError(
            f"--resume {folder}: {'; '.join(differences)}; start a new run instead, or go on under what the folder has"
        )


def _compared(recorded: Manifest, now: Manifest) -> Iterator[tuple[str, object, object]]:
    """What must be alike: its name, in the run as recorded, and now."""
    for name in _MATTERS:
        yield name, getattr(recorded, name), getattr(now, name)
    hosts = str(now.testbed.get("hosts")).split(",")
    for name in (*_TESTBED_MATTERS, *(f"{host}.{field}" for host in hosts for field in _HOST_MATTERS)):
        yield f"testbed {name}", recorded.testbed.get(name), now.testbed.get(name)
    if recorded.cores_each and now.cores_each:  # a transfer between workers that share cores is another one
        yield "cores of a worker", recorded.cores_each, now.cores_each
    # Workers of cells that are all skipped or done are not started, so there may be fewer of them.
    if len(recorded.workers) == len(now.workers) == len(hosts):
        for host, one, other in zip(hosts, recorded.workers, now.workers, strict=True):
            for name in _WORKER_MATTERS:
                if name in one and name in other:
                    yield f"worker {host} {name}", one[name], other[name]


def _apart(name: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    """Where two values differ, by name: of mappings, such as versions, those of their entries that do."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys((*one, *other)):
            yield from _apart(f"{name} {key}", one.get(key), other.get(key))
    elif one != other:
        yield name, one, other


def without_probe_after(run: Run, tolerance: float) -> dict[tuple[Crossing, bool], tuple[str, ...]]:
    """Cells that are done and after which no probe has found their link to hold, by shaped hop.

    Those of a part that was interrupted, or that crashed. Beside each hop: whether it is one of backend `memory`.

    Parameters
    ----------
    tolerance : relative; by how much a shaped link may miss what was asked for.
    """
    last_before: dict[tuple[Crossing, bool], LinkMeasured] = {}
    for probe in run.probes:
        if probe.link_asked is None or missed(probe.link_asked, probe.measured, tolerance) is not None:
            continue
        hop = Crossing(probe.near, probe.far, probe.link_asked), probe.measured.medium == "memory"
        if probe.moment == "before":
            last_before[hop] = probe.measured.in_brief()
        else:
            last_before.pop(hop, None)
    found: dict[tuple[Crossing, bool], tuple[str, ...]] = {}
    for cell in run.latest_cells():
        ends = itertools.pairwise(cell.hosts)
        for (start, end), asked, measured in zip(ends, cell.links_asked, cell.links_measured, strict=False):
            hop = Crossing(start, end, asked), measured is not None and measured.medium == "memory"
            # A cell repeats the probe before it, and by that is known to be of the part which that began.
            if cell.status == "done" and measured is not None and last_before.get(hop) == measured:
                found[hop] = (*found.get(hop, ()), cell.cell_id)
    return found
