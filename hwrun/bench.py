"""The bench: an open testbed with workers on it, and how one planned cell becomes a measured one."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import psutil

from hwrun.errors import BadUsageError, HwrunError, ProtocolError
from hwrun.feeding import Fed, FedRun, feed
from hwrun.local.testbed import LocalTestbed
from hwrun.local.workers import LocalRoute, LocalWorkers
from hwrun.models.model_source import recorded_reference
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.probe import bulk_bytes
from hwrun.records import BatchRecord, Cell, LinkMeasured, OutputCheck, Phases, Scalar, SubRun
from hwrun.reference import References, compare, require_equal
from hwrun.sweep_cells import PlannedCell
from hwrun.sweep_plan import BenchSettings
from hwrun.wire import control
from paretosim.block import Model
from paretosim.link import Link

_PINGS = 7
_CONTROL_PINGS = 9
# A cell may take this many times its bound, and a little for deploying it, before it is given up.
_PATIENCE = 3.0
_DEPLOY_ALLOWANCE_S = 60.0


@dataclass(frozen=True)
class _LinkProbe:
    measured: LinkMeasured
    control_delay_s: float


class _Found:
    """What a cell has found so far: a failed one keeps what it has."""

    def __init__(self) -> None:
        self.probe: _LinkProbe | None = None
        self.output_check: OutputCheck | None = None
        self.subruns: tuple[SubRun, ...] = ()
        self.tcp_info: tuple[dict[str, Scalar], ...] = ()
        self.load: tuple[dict[str, Scalar], ...] = ()
        self.relay: dict[str, Scalar] = {}


class Bench:
    """Measures cells, one at a time.

    Parameters
    ----------
    models : profiles of the models that cells are of, by name.
    """

    def __init__(
        self,
        testbed: LocalTestbed,
        workers: LocalWorkers,
        references: References,
        models: dict[str, Model],
        settings: BenchSettings,
    ) -> None:
        self._testbed = testbed
        self._workers = workers
        self._references = references
        self._models = models
        self._settings = settings
        self._probes: dict[tuple[str, Link | None], _LinkProbe] = {}

    def measure(self, cell: PlannedCell, targets_s: tuple[float, ...] | None) -> Cell:
        """The cell, done or failed with the reason; workers that died are started again for the next one.

        Parameters
        ----------
        targets_s : emulated compute time of each stage that takes part.
        """
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        found = _Found()
        reason = remedy = None
        try:
            self._workers.revive()
            self._measure(cell, targets_s, found)
        except BadUsageError:
            raise
        # OSError and RuntimeError: the testbed, torch. The sweep goes on with the next cell.
        except (HwrunError, OSError, RuntimeError) as error:
            # What a peer saw of a death is an effect; the death is the reason.
            reason = ": ".join(part for part in (self._workers.deaths(), str(error)) if part)
            remedy = "resume the sweep to try it again; the workers' logs beside it say more"
        return Cell(
            plan=str(cell.plan),
            mode=cell.mode,
            link_name=cell.link_name,
            link_asked=cell.link,
            source=cell.source,
            sink=cell.sink,
            repeat=cell.repeat,
            emulated=self._settings.emulated,
            speed=self._settings.speed,
            stage_targets_s=targets_s,
            status="done" if reason is None else "failed",
            reason=reason,
            remedy=remedy,
            started_utc=started_utc,
            link_measured=found.probe.measured if found.probe else None,
            control_delay_s=found.probe.control_delay_s if found.probe else None,
            output_check=found.output_check,
            subruns=found.subruns,
            tcp_info=found.tcp_info,
            load=found.load,
            relay=found.relay,
            queue_depth=self._settings.queue_depth,
        )

    def _measure(self, cell: PlannedCell, targets_s: tuple[float, ...] | None, found: _Found) -> None:
        model = self._models[cell.plan.model]
        source = recorded_reference(model)
        reference = self._references.of(source, cell.plan.batch)
        blocks = len(model.blocks)
        if len(reference.digests) != blocks:
            raise ProtocolError(
                f"model {cell.plan.model}: its profile has {blocks} blocks and what builds it {len(reference.digests)},"
                " expected the same; run: hwrun trace"
            )
        stages = cell.stages
        clients = self._workers.clients[: len(stages)]
        for client, stage in zip(clients, stages, strict=True):
            client.supply(reference.digests[stage.first : stage.last], self._workers.store)
        self._testbed.shape(cell.link)
        found.probe = self._probe(cell)
        deployment = Deployment(
            model=source,
            stages=stages,
            targets_s=targets_s,
            compute_each=self._settings.compute_each,
            digests=reference.digests,
            inputs=reference.inputs,
            input_at_sink=cell.source == "sink",
            batch=cell.plan.batch,
            seed=self._settings.seed,
            limit_bytes=max(self._models[cell.plan.model].cut_bytes()) * cell.plan.batch,
            queue_depth=self._settings.queue_depth,
        )
        route = LocalRoute(self._testbed, self._workers, cell.link, cell.sink, len(stages))
        deadline_s = time.monotonic() + _DEPLOY_ALLOWANCE_S + _PATIENCE * self._settings.max_cell_time_s
        with Pipeline(clients, route, self._workers.credentials, deployment, deadline_s) as pipeline:
            outputs = pipeline.prime()
            found.output_check = compare(outputs, reference.outputs)
            require_equal(found.output_check)
            pipeline.collect()
            self._testbed.relay_counters(reset=True)
            with _LoadSampler() as load:
                runs = feed(pipeline, cell.mode, self._settings.batches)
            found.load = tuple(load.samples)
            found.relay = dict(self._testbed.relay_counters())
            phases, found.tcp_info = pipeline.collect()
        found.subruns = tuple(_subrun(run, phases) for run in runs)

    def _probe(self, cell: PlannedCell) -> _LinkProbe:
        """What the link is, measured before its first cell: the path stays the same afterwards."""
        key = (cell.link_name, cell.link)
        if key not in self._probes:
            first, last = self._workers.clients[0], self._workers.clients[-1]
            route = LocalRoute(self._testbed, self._workers, cell.link, cell.sink, len(self._testbed.hosts))
            address = route.stage_address(len(self._testbed.hosts) - 1)
            asked = control.ProbeLink(address=str(address), pings=_PINGS, bulk_bytes=bulk_bytes(cell.link))
            probed = first.request(asked, control.Probed)
            # One way of the control path, which a dispatch takes once.
            round_trips_s = [client.round_trip_s() for client in (first, last) for _ in range(_CONTROL_PINGS)]
            measured = LinkMeasured(
                medium=self._testbed.medium(cell.link),
                rtt_samples_s=probed.rtt_samples_s,
                goodput_bps=probed.goodput_bps,
                probe_bytes=probed.bulk_bytes,
            )
            self._probes[key] = _LinkProbe(measured, statistics.median(round_trips_s) / 2)
        return self._probes[key]


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
