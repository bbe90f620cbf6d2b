"""Whether several runs may stand in one report: the same machine, versions and settings, or the difference by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hwrun.records import Manifest, Run
from paretosim.errors import UnlikeConditionsError
from validation.conditions import shares_a_clock

# Of the host: what stays, unlike its load and the momentary clock.
_HOST = ("machine", "processor", "cores", "memory_bytes", "governor")
# Of a worker: what its speed depends on.
_WORKER = ("threads", "allocator", "cpu_model", "governor", "kernel", "python", "torch")


def check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs that cannot be pooled.

    Raises
    ------
    UnlikeConditionsError : names everything that differs, with both values.
    """
    ids = [run.manifest.run_id for run in runs]
    if twice := [run_id for run_id, count in Counter(ids).items() if count > 1]:
        raise UnlikeConditionsError(
            f"runs: got {', '.join(twice)} more than once, expected each run once; a run is known by its run_id"
        )
    first, *others = runs
    for other in others:
        if differences := unlike(first.manifest, other.manifest):
            raise UnlikeConditionsError(
                f"runs {first.manifest.run_id} and {other.manifest.run_id} were not made under like conditions:"
                f" {'; '.join(differences)}; report them one by one, or measure again under the same"
            )


def unlike(one: Manifest, other: Manifest) -> list[str]:
    """Every fact that differs, with both values. Runs of different models or devices have different timings."""
    first, second = facts(one), facts(other)
    both = one.timings.keys() & other.timings.keys()
    first |= {f"timing of {name}": one.timings[name] for name in both}
    second |= {f"timing of {name}": other.timings[name] for name in both}
    return [
        f"{name}: {first.get(name, 'none')} and {second.get(name, 'none')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def facts(manifest: Manifest) -> dict[str, str]:
    """What has to be alike, by name."""
    workers = {
        f"worker {key}": ", ".join(dict.fromkeys(str(worker.get(key, "none")) for worker in manifest.workers))
        for key in _WORKER
        if any(key in worker for worker in manifest.workers)
    }
    return {
        "stages": f"emulated at speed {manifest.speed:g}" if manifest.emulated else "real",
        "testbed": "one machine" if shares_a_clock(manifest) else str(manifest.testbed.get("kind")),
        # As read back from each end's kernel: what it shapes its packets by, whatever the host's own default is.
        **{
            f"testbed {name}": str(value)
            for name, value in manifest.testbed.items()
            if name.endswith(("congestion_control", "offloads")) or ".net." in name
        },
        **{f"host {key}": str(manifest.host[key]) for key in _HOST if key in manifest.host},
        **{f"version of {name}": version for name, version in manifest.versions.items()},
        **{f"sysctl {name}": value for name, value in manifest.sysctls.items()},
        **workers,
    }
