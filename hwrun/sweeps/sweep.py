"""A sweep: cells measured one after the other into a run folder, so that nothing done is lost or done twice."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from hwrun.errors import BadUsageError, HwrunError, PeerGoneError, RecordError
from hwrun.planned_cell import Crossing, PlannedCell
from hwrun.probing.link_check import remedy as link_remedy
from hwrun.records import (
    CELLS_NAME,
    MANIFEST_NAME,
    Cell,
    LinkProbe,
    Manifest,
    append_cell,
    append_probe,
    read_run,
    write_manifest,
)
from hwrun.reference import Given, References
from hwrun.scratch import remove_abandoned_folders
from hwrun.sweeps.bench import Bench
from hwrun.sweeps.manifest import manifest_of
from hwrun.sweeps.plan import SweepPlan, recorded
from hwrun.sweeps.resuming import refuse_unlike, without_probe_after
from hwrun.testbed import Site, Testbed, Workers


@dataclass(frozen=True, eq=False)
class _OpenSite:
    testbed: Testbed
    workers: Workers | None = None
    bench: Bench | None = None


class Sweep:
    """Measures what is left of a plan into a folder.

    Parameters
    ----------
    folder : the run folder; a new one must not exist or be empty.
    on_start, on_cell : told before a cell is measured, with all that are left, and of each record as it is written.
    on_note : told what went wrong beside the cells, in a line.
    on_workers : given all workers that run, each time that some have begun or ended (for whoever has to kill them).
    max_time_s : no cell is started when this much time has passed; None never ends.
    """

    def __init__(
        self,
        plan: SweepPlan,
        folder: Path,
        *,
        on_start: Callable[[PlannedCell, tuple[PlannedCell, ...]], None],
        on_cell: Callable[[Cell], None],
        on_note: Callable[[str], None],
        on_workers: Callable[[tuple[Workers, ...]], None],
        max_time_s: float | None = None,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._on_start = on_start
        self._on_cell = on_cell
        self._on_note = on_note
        self._on_workers = on_workers
        self._max_time_s = max_time_s
        self._running: tuple[Workers, ...] = ()
        # Cells of an earlier part that no probe of a hop came after: the next one before cells of it judges them too.
        self._unjudged: dict[tuple[Crossing, bool], tuple[str, ...]] = {}

    def run(self, command_line: Sequence[str], run_id: str, created_utc: str, *, resume: bool) -> int:
        """Measure every cell that is not done yet; how many were left because the time was over.

        Done cells are never measured again. Skipped ones are judged anew, so one that a larger time limit now
        allows is measured; failed ones are tried again.

        Raises
        ------
        BadUsageError : the folder holds another run or cannot be written, or the one to resume was made under unlike
            conditions; or a host has not what stages are to compute on.
        RecordError : what was measured cannot be written, as on a full disk.
        PeerGoneError : the testbed broke down; what is done is kept.
        """
        end_s = float("inf") if self._max_time_s is None else time.monotonic() + self._max_time_s
        remove_abandoned_folders()
        previous: dict[str, str] = {}
        swept: set[Crossing] = set()
        self._unjudged = {}
        with contextlib.ExitStack() as opened:
            if not resume:
                self._make_folder()
            opened.enter_context(_held(self._folder))
            if resume:
                # Conditions are compared below, once the testbed stands.
                earlier = read_run(self._folder)
                previous = {cell.cell_id: cell.status for cell in earlier.latest_cells()}
                self._unjudged = without_probe_after(earlier, self._plan.settings.link_tolerance)
                swept = {Crossing(p.near, p.far, p.link_asked) for p in earlier.probes if p.measured.echo}
            else:
                opened.callback(_remove_unused, self._folder)  # while it is held: another sweep may want it
            left = [cell for cell in self._plan.cells if previous.get(cell.cell_id) != "done"]
            reasons = {cell.cell_id: self._plan.skip_reason(cell) for cell in left}
            sites = self._open(opened, {c.plan.backend for c in left if reasons[c.cell_id] is None}, swept)
            for site in dict.fromkeys(sites.values()):
                self._require_devices(site, [c for c in left if sites[c.plan.backend] is site])
            manifest = self._manifest(sites, command_line, run_id, created_utc)
            if resume:
                self._continue(manifest)
            else:
                self._write(lambda: write_manifest(self._folder, manifest))
            last_over = {
                (sites[cell.plan.backend], hop): cell
                for cell in left
                if reasons[cell.cell_id] is None
                for hop in cell.hops
            }
            # Cells measured so far over each hop whose last cell is still to come.
            over: dict[tuple[_OpenSite, Crossing], list[str]] = {}
            for position, cell in enumerate(left):
                reason = reasons[cell.cell_id]
                if reason is not None:
                    if previous.get(cell.cell_id) != "skipped":
                        self._record(recorded(cell, self._plan, "skipped", reason=reason[0], remedy=reason[1]))
                    continue
                site = sites[cell.plan.backend]
                assert site.bench is not None  # there is a cell without a reason to skip it
                if time.monotonic() >= end_s:
                    for (where, hop), cell_ids in over.items():
                        self._probe_after(where, hop, cell_ids, is_last=False)
                    return sum(reasons[later.cell_id] is None for later in left[position:])
                self._on_start(cell, tuple(left[position:]))
                measured = site.bench.measure(cell)
                self._record(measured)
                self._judge_earlier(site.bench, cell, is_done=measured.status == "done")
                self._require_path(site.testbed)
                for hop in cell.hops:
                    over.setdefault((site, hop), []).append(cell.cell_id)
                for hop in cell.hops:
                    if last_over[site, hop] is cell and (site, hop) in over:
                        self._probe_after(site, hop, over.pop((site, hop)), is_last=True)
        return 0

    def _open(
        self, opened: contextlib.ExitStack, needed: Collection[str], swept: Collection[Crossing]
    ) -> dict[str, _OpenSite]:
        """By backend, every site of the plan with its testbed open, and with workers where a backend `needed` is.

        Workers take seconds to start, and cells that are only skipped need none. `swept` is as Bench takes it.
        """
        found: dict[int, _OpenSite] = {}
        for site in self._plan.sites.values():
            if id(site) in found:
                continue
            testbed = opened.enter_context(site.testbed())
            if not any(self._plan.sites[backend] is site for backend in needed):
                found[id(site)] = _OpenSite(testbed)
                continue
            workers = opened.enter_context(self._workers(site, testbed))
            found[id(site)] = _OpenSite(testbed, workers, self._bench(testbed, workers, swept))
        return {backend: found[id(site)] for backend, site in self._plan.sites.items()}

    def _require_devices(self, site: _OpenSite, cells: Sequence[PlannedCell]) -> None:
        if site.workers is None:
            return
        for name, asked in self._plan.host_devices(cells).items():
            has = site.workers.client(name).welcome.devices
            if lacking := asked - set(has):
                raise BadUsageError(
                    f"--device: got {', '.join(sorted(lacking))} for host {name}, whose worker can compute on"
                    f" {', '.join(has)}; expected one of these. A GPU that is there needs a torch that finds it"
                    " (hwrun worker --device says what it lacks)"
                )

    def _probe_after(self, site: _OpenSite, hop: Crossing, measured: Sequence[str], *, is_last: bool) -> None:
        """Probe a hop after its last cell; cells measured since the probe before are refused if it misses its link."""
        assert site.bench is not None  # a cell was measured there
        try:
            problem = site.bench.probe_after(hop, is_last=is_last)
        except (BadUsageError, RecordError):
            raise
        except HwrunError as error:
            self._on_note(f"link from {hop.start} to {hop.end}: its probe after the last cell failed: {error}")
            return
        if problem is not None:
            self._refuse(
                measured, f"not the link that was asked for, after its cells: {hop.start} to {hop.end}: {problem}"
            )

    def _judge_earlier(self, bench: Bench, cell: PlannedCell, *, is_done: bool) -> None:
        """Refuse cells of an earlier part, after which nobody probed, where their link misses now before this cell."""
        for hop in cell.hops:
            key = hop, cell.backend == "memory"
            problem = bench.missed(hop)
            if problem is None and not is_done:
                continue  # for another reason; its link may not even have been probed
            earlier = self._unjudged.pop(key, ())
            if earlier and problem is not None:
                self._refuse(
                    earlier,
                    "not the link that was asked for, at the first probe after its cells, when the sweep was resumed:"
                    f" {hop.start} to {hop.end}: {problem}",
                )

    def _refuse(self, cell_ids: Sequence[str], reason: str) -> None:
        """Record cells that were measured once more, as failed: samples stay, and a resumed sweep measures anew."""
        remedy = link_remedy(self._plan.settings.link_tolerance)
        refused = [cell for cell in read_run(self._folder).latest_cells() if cell.cell_id in cell_ids]
        refused = [cell for cell in refused if cell.status == "done"]
        for cell in refused:
            failed = structs.replace(cell, status="failed", reason=reason, remedy=remedy)
            self._write(functools.partial(append_cell, self._folder, failed))
        self._on_note(f"{len(refused)} cells refused: {reason}; {remedy}")

    def _require_path(self, testbed: Testbed) -> None:
        """End the sweep where the testbed has broken down: without its relay every cell would fail."""
        try:
            testbed.check_usable()
        except HwrunError as error:
            raise PeerGoneError(f"{error}: go on with: {resume_command(self._folder)}") from error

    def _make_folder(self) -> None:
        if (self._folder / MANIFEST_NAME).exists() or (self._folder / CELLS_NAME).exists():
            raise BadUsageError(f"-o {self._folder}: holds a run already; resume it, or give another folder")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadUsageError(f"-o {self._folder}: cannot be made: {error.strerror}; give another folder") from error

    def _continue(self, manifest: Manifest) -> None:
        """Refuse to go on under other conditions; add the workers where so far all cells were skipped."""
        recorded = read_run(self._folder).manifest
        refuse_unlike(recorded, manifest, self._folder)
        if manifest.workers and not recorded.workers:
            self._write(
                lambda: write_manifest(
                    self._folder, structs.replace(recorded, workers=manifest.workers, qdisc=manifest.qdisc)
                )
            )

    def _bench(self, testbed: Testbed, workers: Workers, swept: Collection[Crossing]) -> Bench:
        plan = self._plan
        given = Given(plan.images, plan.weights, plan.accuracy_images)
        references = References(workers.store, plan.threads, plan.settings.seed, plan.allowed, given)
        return Bench(testbed, workers, references, self._plan, self._record_probe, swept)

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise RecordError(f"{self._folder}: cannot be written: {error.strerror}; {self._way_on()}") from error

    def _way_on(self) -> str:
        if not (self._folder / MANIFEST_NAME).exists():
            return "nothing was measured yet. When there is room, start it again, or give another folder with -o"
        return f"what is in it is kept. When there is room, go on with: {resume_command(self._folder)}"

    @contextlib.contextmanager
    def _workers(self, site: Site, testbed: Testbed) -> Iterator[Workers]:
        before = self._running
        try:
            with site.workers(testbed, self._folder) as workers:
                self._running = (*before, workers)
                self._on_workers(self._running)
                yield workers
        finally:  # only now that they have ended: a second interrupt kills those that do not
            self._running = before
            self._on_workers(self._running)

    def _record(self, cell: Cell) -> None:
        self._write(lambda: append_cell(self._folder, cell))
        self._on_cell(cell)

    def _record_probe(self, probe: LinkProbe) -> None:
        self._write(lambda: append_probe(self._folder, probe))

    def _manifest(
        self,
        sites: Mapping[str, _OpenSite],
        command_line: Sequence[str],
        run_id: str,
        created_utc: str,
    ) -> Manifest:
        different = tuple(dict.fromkeys(sites.values()))
        descriptions = [site.testbed.description() for site in different]
        # A second site's keys begin with its kind.
        testbed = descriptions[0] | {f"{d['kind']}.{key}": d[key] for d in descriptions[1:] for key in d}
        return manifest_of(
            self._plan,
            command_line=command_line,
            run_id=run_id,
            created_utc=created_utc,
            testbed=testbed,
            workers=[
                site.workers.client(host).welcome.conditions
                for site in different
                if site.workers is not None
                for host in site.workers.hosts
            ],
            qdisc="; ".join(
                f"{name} {interface}: {found}"
                for site in different
                if site.workers is not None
                for name in site.workers.hosts
                for interface, found in site.workers.client(name).welcome.qdiscs.items()
            ),
        )


def resume_command(folder: Path) -> str:
    """What is typed to go on with the sweep in a folder."""
    return f"hwrun sweep --resume {shlex.quote(str(folder))}"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a run folder, so that no second sweep measures the same cells into it.

    Raises
    ------
    BadUsageError : another sweep holds it, or nothing can be written there.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadUsageError(f"{folder}: another sweep is measuring into it; wait until it is done") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadUsageError(f"{folder}: nothing can be written there; give a folder that you may write to")
        yield
    finally:
        os.close(descriptor)


def _remove_unused(folder: Path) -> None:
    """Remove a folder in which nothing was measured: a manifest at most, and logs in which nothing stands."""
    with contextlib.suppress(OSError):
        found = list(folder.iterdir())
        if all(path.name == MANIFEST_NAME or (path.suffix == ".log" and not path.stat().st_size) for path in found):
            for path in found:
                path.unlink()
            folder.rmdir()
