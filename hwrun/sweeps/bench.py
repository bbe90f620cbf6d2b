"""The bench: an open testbed with workers on it, and how one planned cell becomes a measured one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import psutil

from hwrun.errors import BadUsageError, CellTimeOverError, ProtocolError, in_words
from hwrun.feeding import Fed, FedRun, feed
from hwrun.models.model_source import recorded_reference
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.planned_cell import Crossing, PlannedCell
from hwrun.probing.link_check import LinkMissedError
from hwrun.probing.link_check import remedy as link_remedy
from hwrun.probing.link_probes import LinkProbes
from hwrun.records import BatchRecord, Cell, LinkProbe, Phases, Scalar, SubRun
from hwrun.reference import References, compare, require_equal
from hwrun.sweeps.cell_duration import smaller_than_a_round_trip
from hwrun.sweeps.plan import SweepPlan, recorded
from hwrun.sweeps.watching import Watching
from hwrun.testbed import DataPath, Testbed, Workers
from paretosim.units import format_duration

# A cell's batches may take this many times --max-cell-time before they are given up, and never less than a minute:
# where the option is short, one hiccup of a busy machine is no hang.
_PATIENCE = 3.0
_LEAST_PATIENCE_S = 60.0
# What the first batch may take beyond that: emulated stages compute it for real, and an accelerator warms up.
_FIRST_BATCH_S = 60.0


class Bench:
    """Measures the cells of a plan, one at a time.

    Parameters
    ----------
    on_probe : given each probe of a link as it was made.
    swept : hops of which the run has a sweep of sizes already.
    """

    def __init__(
        self,
        testbed: Testbed,
        workers: Workers,
        references: References,
        plan: SweepPlan,
        on_probe: Callable[[LinkProbe], None],
        swept: Collection[Crossing] = (),
    ) -> None:
        self._testbed = testbed
        self._workers = workers
        self._references = references
        self._plan = plan
        self._settings = plan.settings
        self._probes = LinkProbes(testbed, workers, on_probe, plan.settings.link_tolerance, swept)

    def measure(self, cell: PlannedCell) -> Cell:
        """The cell, done or failed with the reason; workers that died are started again for the next one."""
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        found: dict[str, Any] = {}
        reason = remedy = None
        try:
            self._workers.revive()
            self._measure(cell, found)
        except BadUsageError:
            raise
        # Any other, the testbed's, torch's, a network's own: the sweep goes on with the next cell.
        except Exception as error:
            # What a peer saw of a death is an effect; the death is the reason.
            deaths, seen = self._workers.deaths(), in_words(error)
            reason = deaths if seen in deaths else ": ".join(part for part in (deaths, seen) if part)
            remedy = f"resume the sweep to try it again; {self._workers.logs}"
            if isinstance(error, LinkMissedError):
                remedy = link_remedy(self._settings.link_tolerance)
            elif isinstance(error, CellTimeOverError) and not deaths:
                limit = format_duration(max(self._settings.max_cell_time_s, _LEAST_PATIENCE_S / _PATIENCE))
                remedy = (
                    f"resume with more than --max-cell-time {limit}: a cell's batches are given up after {_PATIENCE:g}"
                    f" times that; {self._workers.logs}"
                )
        return recorded(
            cell,
            self._plan,
            "done" if reason is None else "failed",
            reason=reason,
            remedy=remedy,
            started_utc=started_utc,
            queue_depth=self._settings.queue_depth if cell.workers == "overlapped" else None,
            **found,
        )

    def missed(self, hop: Crossing) -> str | None:
        """In what a hop missed its link before its last cell; None where it held or was not probed."""
        return self._probes.given_up(hop)

    def probe_after(self, hop: Crossing, *, is_last: bool) -> str | None:
        """Probe a hop once more, after its cells; in what it misses its link, None where it holds.

        Parameters
        ----------
        is_last : no cell of the run is left that has it.

        Raises
        ------
        HwrunError : it cannot be probed; the cells stand, without what it would have said of drift.
        """
        self._workers.revive()
        return self._probes.after(hop, is_last=is_last)

    def _measure(self, cell: PlannedCell, found: dict[str, Any]) -> None:
        """Add what is found, as it is, by the names of Cell's fields: a cell that fails keeps what it has."""
        model = self._plan.models[cell.plan.model]
        source = recorded_reference(model)
        reference = self._references.of(source, cell.plan.batch)
        blocks = len(model.blocks)
        if len(reference.digests) != blocks:
            raise ProtocolError(
                f"model {cell.plan.model}: its profile has {blocks} blocks and what builds it {len(reference.digests)},"
                " expected the same; run: hwrun trace"
            )
        path = DataPath.of(cell)
        stages = path.with_forwarders(cell.stages)
        clients = [self._workers.client(host) for host in path.hosts]
        for client, stage in zip(clients, stages, strict=True):
            client.supply(reference.digests[stage.first : stage.last], self._workers.store)
        patience_s = _PATIENCE * self._settings.max_cell_time_s
        first_batch_s = _FIRST_BATCH_S + patience_s
        self._testbed.shape(cell.pair_links(), any_port=cell.backend == "rpc", hold_s=first_batch_s)
        misses = [f"{hop.start} to {hop.end}: {why}" for hop in cell.hops if (why := self._probes.missed_before(hop))]
        links = tuple(self._probes.before(hop) for hop in cell.hops)
        found |= {"link_measured": links[0] if links else None, "later_links_measured": links[1:]}
        if misses:
            raise LinkMissedError(f"not the link that was asked for: {'; '.join(misses)}")
        found["control_delay_s"] = self._probes.control_delay_s(cell.hosts[0])
        targets_s = self._plan.targets_s(cell)
        deployment = Deployment(
            model=reference.source,
            stages=stages,
            targets_s=None if targets_s is None else (*(0.0,) * path.leads, *targets_s, *(0.0,) * path.trails),
            compute_each=self._settings.compute_each,
            digests=reference.digests,
            inputs=reference.inputs,
            input_at_sink=cell.source == "sink" and not path.leads,
            batch=cell.plan.batch,
            seed=self._settings.seed,
            limit_bytes=max(model.cut_bytes()) * cell.plan.batch,
            queue_depth=self._settings.queue_depth,
            backend=cell.backend,
            workers=cell.workers,
            cold=cell.tcp_state == "cold",
            devices=(*(None,) * path.leads, *self._plan.stage_devices(cell), *(None,) * path.trails),
        )
        ends = self._workers.ends(path)
        with Pipeline(clients, ends, deployment, first_batch_s) as pipeline:
            found["computed_on"] = computed_on = pipeline.computes_on[path.own]
            outputs = pipeline.prime()
            found["output_check"] = output_check = compare(outputs, reference.outputs)
            require_equal(output_check)
            found["accuracy"] = reference.accuracy(outputs)
            pipeline.renew(max(patience_s, _LEAST_PATIENCE_S))
            pipeline.collect()
            self._testbed.counters(reset=True)
            watching = Watching(
                [self._workers.client(host) for host in dict.fromkeys(cell.stage_hosts)],
                tuple(zip(cell.stage_hosts, computed_on, strict=True)),
            )
            with _LoadSampler() as load:
                slowed = self._plan.slowed_from_behind(cell)
                opening = smaller_than_a_round_trip(cell, model)
                runs = feed(pipeline, cell.mode, self._settings.batches, slowed_from_behind=slowed, opening=opening)
            found |= {"load": tuple(load.samples), "watched": watching.end()}
            found["relay"] = dict(self._testbed.counters())
            collected = pipeline.collect()
        found["tcp_info"] = collected.tcp_info[path.own]
        found["buffers"] = collected.buffers[path.own.start : path.own.stop - 1]
        phases = {sequence: of_stages[path.own] for sequence, of_stages in collected.phases.items()}
        found["subruns"] = tuple(_subrun(run, phases) for run in runs)


def _subrun(run: FedRun, phases: dict[int, tuple[Phases, ...]]) -> SubRun:
    def records(batches: Sequence[Fed]) -> tuple[BatchRecord, ...]:
        return tuple(
            BatchRecord(
                index=fed.sequence,
                dispatched_s=fed.dispatched_s,
                returned_s=fed.returned_s,
                stages=phases[fed.sequence],
            )
            for fed in batches
        )

    return SubRun(
        name=run.name,
        window=run.window,
        interval_s=run.interval_s,
        warmup=records(run.warmup),
        batches=records(run.batches),
    )


class _LoadSampler:
    """Processor and memory use of the whole machine while a cell runs, twice a second."""

    _INTERVAL_S = 0.5

    def __init__(self) -> None:
        self.samples: list[dict[str, Scalar]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="load", daemon=True)

    def __enter__(self) -> Self:
        psutil.cpu_percent()  # the first call has nothing to compare with
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(self._INTERVAL_S)
            self.samples.append(
                {
                    "time_s": time.monotonic(),
                    "cpu_percent": psutil.cpu_percent(),
                    "memory_available_bytes": psutil.virtual_memory().available,
                }
            )
