"""Predictions of plans: of two devices by `predict`, of longer chains by `predict_plans`, one value for both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from paretosim.block import Model
from paretosim.calibration import Backend, Calibration, Term
from paretosim.chain import Sink, Source
from paretosim.device import Device
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.plan import Plan, Stage
from paretosim.prediction import Prediction, Row, predict
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Kind, Timing
from paretosim.transfer_time import TcpState

if TYPE_CHECKING:  # searching placements is loaded where there are some
    from paretosim.placement.rows import PlacementRow
    from paretosim.placement.setting import PlacementSetting

Cuts = tuple[int, ...]


@dataclass(frozen=True)
class PredictedPlan:
    """What the model says of one plan, times in seconds per batch.

    `transfers_s` are of the hops between stages, whole: serialisation, stalls, delay, what sender and receiver do for
    the message, and of two devices how much later it comes to hosts that have rested. `wires_s` are payload·8/rate
    alone, of which the simpler models know no more.
    """

    latency_s: float
    throughput_per_s: float
    bottleneck: str
    stages_s: tuple[float, ...]
    transfers_s: tuple[float, ...]
    wires_s: tuple[float, ...]
    activation_bytes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that the predictions of one condition depend on, but for where it is cut.

    `links` are those of the hops between stages, `way_back` that between the first host and the last where more than
    two stages have one of its own, seen from the first.
    """

    model: Model
    devices: tuple[Device, ...]
    timings: tuple[Timing, ...]
    links: tuple[Link, ...]
    way_back: Link | None = None
    batch: int
    mode: Mode
    source: Source
    sink: Sink
    tcp_state: TcpState
    operation: Operation
    backend: Backend
    speed: float
    control_delay_s: float
    calibration: Calibration | None
    without: tuple[Term, ...] = ()

    @property
    def timing_kinds(self) -> tuple[Kind, ...]:
        """How each device's timing is known."""
        return tuple(timing.at_batch(self.batch)[1] for timing in self.timings)

    def less(self, *terms: Term) -> Inputs:
        """These inputs with terms of the calibration or of the link switched off."""
        return replace(self, without=(*self.without, *terms))

    def predict(self, plans: Iterable[Cuts]) -> dict[Cuts, PredictedPlan]:
        """The predictions of those plans, by their cuts.

        Raises
        ------
        BadInputError : no prediction can be made of the condition, or of a plan.
        """
        if len(self.devices) == 2:
            found = predict(self.setting)
            return {cuts: _of_row(found, found.row(*cuts)) for cuts in plans}
        return self._placed(list(plans))

    @property
    def setting(self) -> Setting:
        """Of two devices, as `predict` takes it."""
        one, two = self.devices
        first, second = self.timings
        return Setting(
            model=self.model,
            devices=(one, two),
            timings=(first, second),
            link=self.links[0],
            batch=self.batch,
            mode=self.mode,
            operation=self.operation,
            source=self.source,
            sink=self.sink,
            tcp_state=self.tcp_state,
            speed=self.speed,
            control_delay_s=self.control_delay_s,
            backend=self.backend,
            calibration=self.calibration,
            without=self.without,
        )

    def _placed(self, plans: Sequence[Cuts]) -> dict[Cuts, PredictedPlan]:
        """Plans of several devices."""
        from paretosim.placement.placing import predict_plans

        rows = predict_plans(self.placement, map(self.plan, plans))
        return {cuts: _of_placement(row, self.links) for cuts, row in zip(plans, rows, strict=True)}

    @property
    def placement(self) -> PlacementSetting:
        """Of several devices, as `predict_plans` takes it."""
        from paretosim.placement.hop_links import HopLinks
        from paretosim.placement.setting import PlacementSetting

        own = {(hop, hop + 1): link for hop, link in enumerate(self.links)}
        if self.way_back is not None:
            own[0, len(self.links)] = self.way_back
        return PlacementSetting(
            model=self.model,
            devices=self.devices,
            timings=tuple(_sped_up(timing, self.batch, self.speed) for timing in self.timings),
            links=HopLinks(every=self.links[0], own=own),
            batch=self.batch,
            mode=self.mode,
            source=self.source,
            sink=self.sink,
            tcp_state=self.tcp_state,
            control_delay_s=self.control_delay_s,
            backend=self.backend,
            calibration=self.calibration,
            without=self.without,
        )

    def plan(self, cuts: Cuts) -> Plan:
        """The plan that is cut there."""
        bounds = pairwise((0, *cuts, len(self.model.blocks)))
        return Plan(
            model=self.model.name,
            stages=tuple(
                Stage(device.name, first, last) for device, (first, last) in zip(self.devices, bounds, strict=True)
            ),
            batch=self.batch,
            window=self.mode.window,
            backend=self.backend,
        )


def _sped_up(timing: Timing, batch: int, speed: float) -> Timing:
    """The timing at that batch size alone, that many times as fast."""
    seconds, kind = timing.at_batch(batch)
    if speed == 1:
        return timing
    blocks = tuple(
        BlockTiming(name=block.name, value_s=value / speed)
        for block, value in zip(timing.batches[0].blocks, seconds, strict=True)
    )
    return msgspec.structs.replace(timing, kind=kind, batches=(BatchTiming(batch=batch, blocks=blocks),))


def _of_placement(row: PlacementRow, links: Sequence[Link]) -> PredictedPlan:
    between = [place for place, hop in enumerate(row.hops) if hop.startswith("link")]
    parts = (row.links_s, row.stalls_s, row.delays_s, row.sending_s, row.receiving_s)
    return PredictedPlan(
        latency_s=row.latency_s,
        throughput_per_s=row.throughput_per_s,
        bottleneck=row.bottleneck,
        stages_s=row.stages_s,
        transfers_s=tuple(sum(part[place] for part in parts if part is not None) for place in between),
        wires_s=tuple(size * 8 / link.rate_bps for size, link in zip(row.activation_bytes, links, strict=True)),
        activation_bytes=row.activation_bytes,
    )


def _of_row(found: Prediction, row: Row) -> PredictedPlan:
    between = [place for place, hop in enumerate(found.hops) if hop in ("link1", "relay")]
    parts = (row.links_s, row.stalls_s, row.delays_s, row.sending_s, row.receiving_s, row.resting_s)
    return PredictedPlan(
        latency_s=row.latency_s,
        throughput_per_s=row.throughput_per_s,
        bottleneck=row.bottleneck,
        stages_s=row.stages_s,
        transfers_s=(sum(part[place] for part in parts if part is not None for place in between),),
        wires_s=(row.activation_bytes[0] * 8 / found.setting.link.rate_bps,),
        activation_bytes=row.activation_bytes,
    )
