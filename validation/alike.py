"""What runs must have in common before one calibration is fitted to them, and the refusal that names a difference.

A parameter is of one machine in one state: with another backend, kernel, number of threads or congestion control it is
another number, and a fit over both would be neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hwrun.records import Run, Scalar
from paretosim.errors import UnlikeConditionsError
from paretosim.plan import Plan

# Of a worker: what stage times and message costs depend on. Frequency and load are of the moment.
_OF_WORKERS = ("threads", "cores", "cpu_model", "machine", "governor", "allocator", "kernel", "python", "torch")
# Of a testbed: as read back from the kernel, by the end of the name.
_OF_TESTBED = ("kind", "shaped", "namespaces")
_ENDINGS = (".offloads", "congestion_control")


def refuse_mixed(runs: Sequence[Run]) -> None:
    """Raise UnlikeConditionsError if the runs are not of one backend, machine and state of it."""
    first = runs[0]
    expected = _conditions(first)
    for run in runs:
        backends = {Plan.parse(cell.plan).backend for cell in run.cells}
        if len(backends) > 1:
            raise UnlikeConditionsError(
                f"{run.path}: backend: got {' and '.join(sorted(backends))} in one run, expected one; a calibration"
                " is of one backend: pick it with --backend"
            )
        found = _conditions(run)
        for what in dict.fromkeys((*expected, *found)):
            if found.get(what) != expected.get(what):
                raise UnlikeConditionsError(
                    f"{what}: {run.path} has {_shown(found.get(what))} and {first.path} {_shown(expected.get(what))};"
                    " what is fitted over both is true of neither: fit a calibration of each"
                )


def _conditions(run: Run) -> dict[str, object]:
    manifest = run.manifest
    backends = {Plan.parse(cell.plan).backend for cell in run.cells}
    found: dict[str, object] = {"backend": " ".join(sorted(backends)), "emulated": manifest.emulated}
    found |= {f"version of {name}": manifest.versions.get(name) for name in ("torch", "python", "kernel", "protocol")}
    found |= {f"sysctl {name}": value for name, value in manifest.sysctls.items()}
    found |= _picked(manifest.testbed)
    for number, worker in enumerate(manifest.workers, start=1):
        found |= {f"worker {number}: {name}": worker.get(name) for name in _OF_WORKERS}
    return found


def _picked(testbed: Mapping[str, Scalar]) -> dict[str, object]:
    return {
        f"testbed {name}": value
        for name, value in testbed.items()
        if name in _OF_TESTBED or name.endswith(_ENDINGS) or ".net." in name
    }


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)
