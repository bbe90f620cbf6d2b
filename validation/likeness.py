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
                f" {'; '.join(differences)}; take them one by one, or measure again under the same"
            )


def unlike(one: Manifest, other: Manifest) -> list[str]:
    """Every fact that differs, with both values.

    Of timings, of the ends of links and of workers' cores those that both runs have: of different models, devices or
    chains they are different ones, and workers in memory have none.
    """
    first, second = facts(one), facts(other)
    for some, others in ((of(one), of(other)) for of in (_timings, _link_ends, _worker_cores)):
        both = some.keys() & others.keys()
        first |= {name: some[name] for name in both}
        second |= {name: others[name] for name in both}
    return [
        f"{name}: {first.get(name, 'none')} and {second.get(name, 'none')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def _timings(manifest: Manifest) -> dict[str, str]:
    return {f"timing of {name}": digest for name, digest in manifest.timings.items()}


def _link_ends(manifest: Manifest) -> dict[str, str]:
    """As read back from the kernel at each end of a link: by what it is, whichever host or neighbour it is of.

    The names are such as `A.net.ipv4.tcp_rmem`, `A.direct.offloads` or, of longer chains, `A.direct-B.offloads`.
    """
    found: dict[str, set[str]] = {}
    for name, value in manifest.testbed.items():
        if name.endswith(("congestion_control", "offloads")) or ".net." in name:
            _, _, what = name.removeprefix("local.").partition(".")
            place, dot, rest = what.partition(".")
            found.setdefault(f"testbed {place.partition('-')[0]}{dot}{rest}", set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _worker_cores(manifest: Manifest) -> dict[str, str]:
    """How many each may run on: one that shares the other's is woken on either, which changes what a transfer takes."""
    cores = ", ".join(map(str, manifest.cores_each))
    return {"cores of a worker": cores} if cores else {}


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
        **{f"host {key}": str(manifest.host[key]) for key in _HOST if key in manifest.host},
        **{f"version of {name}": version for name, version in manifest.versions.items()},
        **{f"sysctl {name}": value for name, value in manifest.sysctls.items()},
        **workers,
    }
