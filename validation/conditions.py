"""Conditions: what has to be alike before a measurement and a prediction may be compared, and the refusals.

A condition is everything that a front is drawn over: all cells of one condition differ by split and repeat alone.
Whatever the prediction cannot express, or whatever it would express differently today than the sweep did then,
is refused with both sides named: an error between unlike things would look like a result.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from hwrun.records import Cell, LinkMeasured, Manifest
from paretosim.block import Model
from paretosim.calibration import BACKENDS, Backend, Calibration
from paretosim.chain import Sink, Source
from paretosim.errors import UnlikeConditionsError
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Workers
from paretosim.plan import Plan
from paretosim.profiles import identity
from paretosim.timing import Timing
from paretosim.transfer_time import TcpState, effective_rate_bps
from validation.predicting import Inputs

# Stage targets and predicted stage times are sums of the same numbers, so only rounding may part them.
STAGE_TIME_TOLERANCE = 1e-6
# A shaped link farther than this from what was asked for is pointed out.
LINK_TOLERANCE = 0.05
# Media that are no wire, but copies within one machine.
WIRELESS = frozenset({"loopback", "veth"})
# What passes tensors by reference takes no time for any number of bytes.
MEMORY = Link(
    schema_version=1, name="memory", rate_bps=1e18, one_way_delay_s=0.0, return_rate_bps=1e18, return_delay_s=0.0,
    header_bytes=0, wmax_bytes=2**60,
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """What all cells of one front have in common.

    `links_asked` are those of every hop in order, then of a way back that has one of its own; None is unshaped.
    """

    model: str
    devices: tuple[str, ...]
    batch: int
    backend: Backend
    mode: Mode
    link_name: str
    links_asked: tuple[Link | None, ...]
    hosts: tuple[str, ...]
    source: Source
    sink: Sink
    tcp_state: TcpState
    workers: Workers
    emulated: bool
    speed: float

    def __str__(self) -> str:
        return ", ".join(text for _, text in self.parts)

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """What it is in words, piece by piece with the name of each; usual ones are left out."""
        parts = [
            ("model", self.model),
            ("devices", " → ".join(self.devices)),
            ("link", self.link_name),
            ("mode", str(self.mode)),
            ("batch", f"batch {self.batch}"),
        ]
        if (self.source, self.sink) != ("stage1", "last"):
            parts.append(("ends", f"source {self.source}, sink {self.sink}"))
        parts += [("tcp", f"TCP {self.tcp_state}")] if self.tcp_state != "warm" else []
        parts += [("backend", self.backend)] if self.backend != "tcp" else []
        parts += [("workers", f"{self.workers} workers")] if self.workers != "overlapped" else []
        parts += [("hosts", f"hosts {', '.join(self.hosts)}")] if len(set(self.hosts)) < len(self.hosts) else []
        return tuple(parts)

    @property
    def link_asked(self) -> Link | None:
        """That of the first hop."""
        return self.links_asked[0]

    @property
    def origin(self) -> str:
        """`real`, or `emulated` with its speed."""
        if not self.emulated:
            return "real"
        return "emulated" if self.speed == 1 else f"emulated ×{self.speed:g}"


def condition_of(cell: Cell, manifest: Manifest) -> Condition:
    """The condition that a done cell was measured under.

    Raises
    ------
    UnlikeConditionsError : the cell contradicts itself or its manifest.
    """
    plan = Plan.parse(cell.plan)
    for what, got, expected in (
        ("emulated", cell.emulated, manifest.emulated),
        ("speed", cell.speed, manifest.speed),
    ):
        if got != expected:
            raise unlike_cell(
                cell, f"{what}: the cell has {got} and its manifest {expected}; measure them in separate runs"
            )
    if plan.window is not None and cell.mode.name == "closed" and plan.window != cell.mode.window:
        raise unlike_cell(
            cell, f"window: the plan has {plan.window} and the mode {cell.mode.window}; measure the cell again"
        )
    return Condition(
        model=plan.model,
        devices=tuple(stage.device for stage in plan.stages),
        batch=plan.batch,
        backend=next(backend for backend in BACKENDS if backend == plan.backend),
        mode=cell.mode,
        link_name=cell.link_name,
        links_asked=cell.links_asked,
        hosts=cell.hosts,
        source=cell.source,
        sink=cell.sink,
        tcp_state=cell.tcp_state,
        workers=cell.workers,
        emulated=cell.emulated,
        speed=cell.speed,
    )


def unpredictable(cell: Cell) -> tuple[str, str] | None:
    """Why no prediction can be made of a cell, and what to do; None where one can."""
    plan = Plan.parse(cell.plan)
    if plan.backend not in BACKENDS:
        return f"backend {plan.backend}: predictions are made for {', '.join(BACKENDS)} only", "measure one of those"
    if plan.wire_dtype != "f32":
        return f"wire dtype {plan.wire_dtype}: predictions are made for f32 only", "measure with f32"
    if len(plan.stages) < 2:
        return "one stage: there is no link, and so nothing to predict but the profile itself", "measure a split"
    if any(stage.first == stage.last for stage in plan.stages[1:-1]):
        return "a stage in the middle is empty: predictions are made of stages that compute", "leave its device out"
    if len(plan.stages) > 2 and cell.workers == "serial":
        return "serial workers of more than two stages: predictions are made for two only", "measure two stages"
    return None


def check_timing(condition: Condition, timing: Timing, recorded: Mapping[str, str]) -> str | None:
    """Refuse a timing other than the one the run was made with; a note where the run rests on none.

    Stages that compute take what they take, so no profile is part of such a run: it may well be made afterwards.

    Raises
    ------
    UnlikeConditionsError : another timing, or an emulated run that names none.
    """
    key = f"{timing.device}/{timing.model}"
    found = identity(timing)
    if key not in recorded:
        if condition.emulated:
            raise UnlikeConditionsError(
                f"{condition}: the manifest names no timing of {key}, but its stages were emulated from one;"
                " measure the run again with this version of hwrun sweep"
            )
        return f"stages computed, so the run rests on no timing of {key}: predicted from {found}, the one found now"
    if recorded[key] != found:
        raise UnlikeConditionsError(
            f"{condition}: timing of {key}: the run was made with {recorded[key]} and the profile found now is {found};"
            " give the directory of the first with --profiles, or measure again"
        )
    return None


def check_blocks(cell: Cell, model: Model) -> None:
    """Refuse a plan over another number of blocks than the model profile has."""
    last = Plan.parse(cell.plan).stages[-1].last
    if last != len(model.blocks):
        raise unlike_cell(
            cell, f"blocks: the plan ends at {last} and the profile of {model.name} has {len(model.blocks)};"
            " use the model profile of the run with --profiles, or measure again"
        )  # fmt: skip


def check_stage_times(cell: Cell, inputs: Inputs) -> None:
    """Refuse an emulated cell whose target times are not those of the profiles that it is predicted from."""
    if not cell.emulated:
        return
    if cell.stage_targets_s is None:
        raise unlike_cell(cell, "stage targets: the cell is emulated but records none; measure it again")
    profiled_s = [
        sum(timing.at_batch(inputs.batch)[0][stage.first : stage.last]) / inputs.speed
        for stage, timing in zip(Plan.parse(cell.plan).stages, inputs.timings, strict=True)
    ]
    # Of a chain whose sink is first, trailing empty stages take no part and have no target.
    idle = len(profiled_s) - len(cell.stage_targets_s)
    targets_s = (*cell.stage_targets_s, *(0.0 for _ in range(idle if cell.sink == "first" else 0)))
    if len(targets_s) != len(profiled_s):
        raise unlike_cell(
            cell, f"stage targets: got {len(targets_s)}, expected {len(profiled_s)}; measure the cell again"
        )  # fmt: skip
    for number, (target, profiled) in enumerate(zip(targets_s, profiled_s, strict=True), start=1):
        if not math.isclose(target, profiled, rel_tol=STAGE_TIME_TOLERANCE):
            raise unlike_cell(
                cell,
                f"time of stage {number}: emulated with {target:.9g} s and predicted as {profiled:.9g} s"
                f" (speed {cell.speed:g}); the profiles have changed since, measure again",
            )


def unlike_cell(cell: Cell, difference: str) -> UnlikeConditionsError:
    """The refusal of a cell, which it names."""
    return UnlikeConditionsError(
        f"cell {cell.plan} ({cell.mode}, {cell.link_name}, repeat {cell.repeat}): {difference}"
    )


@dataclass(frozen=True)
class LinkCheck:
    """The link as asked for and as probed: medians over the probes of a condition's cells.

    Goodput is payload bits per second; asked for, it is the rate less the headers. Deviations are relative,
    None where one side is missing or zero was asked for. `rtt_least_s` is the shortest round trip that any probe saw.
    """

    media: tuple[str, ...]
    probes: int
    goodput_asked_bps: float | None
    goodput_measured_bps: float | None
    goodput_deviation: float | None
    rtt_asked_s: float | None
    rtt_measured_s: float | None
    rtt_deviation: float | None
    rtt_least_s: float | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What deviates by more than 5 %."""
        deviations = (("rate", self.goodput_deviation), ("RTT", self.rtt_deviation))
        return tuple(f"{what} {d:+.1%}" for what, d in deviations if d is not None and abs(d) > LINK_TOLERANCE)


def check_link(asked: Link | None, probes: Sequence[LinkMeasured]) -> LinkCheck:
    """What the probes found beside what was asked for."""
    goodputs = [probe.goodput_bps for probe in probes if probe.goodput_bps is not None]
    rtts = [statistics.median(probe.rtt_samples_s) for probe in probes if probe.rtt_samples_s]
    goodput = statistics.median(goodputs) if goodputs else None
    rtt = statistics.median(rtts) if rtts else None
    payload_share = 1.0 if asked is None else asked.mss_bytes / (asked.mss_bytes + asked.header_bytes)
    goodput_asked = None if asked is None else effective_rate_bps(asked) * payload_share
    rtt_asked = None if asked is None else asked.rtt_s
    return LinkCheck(
        media=tuple(sorted({probe.medium for probe in probes})),
        probes=len(probes),
        goodput_asked_bps=goodput_asked,
        goodput_measured_bps=goodput,
        goodput_deviation=_deviation(goodput, goodput_asked),
        rtt_asked_s=rtt_asked,
        rtt_measured_s=rtt,
        rtt_deviation=_deviation(rtt, rtt_asked),
        rtt_least_s=min((min(probe.rtt_samples_s) for probe in probes if probe.rtt_samples_s), default=None),
    )


def _deviation(measured: float | None, asked: float | None) -> float | None:
    return None if measured is None or not asked else measured / asked - 1


def segments_note(condition: Condition, cells: Sequence[Cell]) -> str | None:
    """That segments were not as long as a link that was asked for says, by the sending sockets; None where they were.

    A prediction counts headers by it: 1448 bytes are IPv4's at an MTU of 1500, and IPv6's are 1428.
    """
    for hop, link in enumerate(condition.links_asked[: len(condition.devices) - 1]):
        sockets = [cell.tcp_info[hop] for cell in cells if hop < len(cell.tcp_info)]
        found = {info["snd_mss_bytes"] for info in sockets if "snd_mss_bytes" in info}
        if link is not None and found - {link.mss_bytes}:
            return (
                f"segments carried {' or '.join(map(str, sorted(found, key=str)))} B over link {link.name}, which is"
                f" predicted with {link.mss_bytes} B (1448 are IPv4's at an MTU of 1500): for exact headers measure"
                " over a preset with mss_bytes and header_bytes of its own (docs/formats.md)"
            )
    return None


def link_origin(condition: Condition) -> Literal["asked", "probed", "memory"]:
    """Whether a condition's links are those asked for, or (any of them) as probed, or nothing but memory."""
    hops = condition.links_asked[: len(condition.devices) - 1]
    if all(link is not None for link in hops):
        return "asked"
    return "memory" if condition.backend == "memory" else "probed"


def shares_a_clock(manifest: Manifest) -> bool:
    """Whether all workers are on one machine, so that times of different workers may be subtracted."""
    return manifest.testbed.get("kind") in ("local", "memory")


def way_back(condition: Condition) -> Link | None:
    """The link between the first host and the last, where more than two stages have one of its own."""
    hops = len(condition.devices) - 1
    return condition.links_asked[hops] if len(condition.links_asked) > hops > 1 else None


def predicted_links(
    condition: Condition,
    checks: Sequence[LinkCheck],
    calibration: Calibration | None = None,
    echoed_bytes_per_s: float = 0.0,
) -> tuple[Link, ...] | None:
    """The link that every hop is predicted with; None where one is neither asked for nor known from a probe.

    One that was asked for has the path's own delay beside its own, as its probes found it (`on_its_path`).
    Within one machine an unshaped link is copying and no wire. A bulk transfer, which goodput is of, went at a third
    to four fifths of the speed of messages that come one after the other, as batches do (the reference data). So the
    link is at least as fast as those, and as what a calibration says of copying, by which bytes are then counted.

    Parameters
    ----------
    echoed_bytes_per_s : within one machine, by the probes' messages of rising size; 0 where none were sent.
    """
    asked = (*condition.links_asked, *[None] * len(checks))
    if condition.backend == "memory":
        # There a link only takes its time: no window of TCP holds it back.
        return tuple(
            MEMORY if link is None else msgspec.structs.replace(link, wmax_bytes=MEMORY.wmax_bytes)
            for link, _ in zip(asked, checks, strict=False)
        )
    copied = [calibration.of(device).copying_bytes_per_s for device in condition.devices] if calibration else []
    copied_bps = max(8 * rate for rate in (*copied, echoed_bytes_per_s) if rate is not None)
    links = [
        on_its_path(link, check)
        if link is not None
        else probed_link(check, copied_bps if set(check.media) <= WIRELESS else 0.0)
        for link, check in zip(asked, checks, strict=False)
    ]
    known = tuple(link for link in links if link is not None)
    return known if len(known) == len(links) else None


def on_its_path(link: Link, check: LinkCheck) -> Link:
    """The link that was asked for, its delays longer by what the path takes beside it.

    A shaper delays what passes it, and the path to it and through it takes time too: a wire, switches, a relay's
    wake-ups. No prediction for a network of one's own has that in it, but whoever compares one with this testbed
    must. It is what the shortest round trip of any probe is longer than was asked for, half of it each way.
    """
    if check.rtt_least_s is None or check.rtt_least_s <= link.rtt_s:
        return link
    more_s = (check.rtt_least_s - link.rtt_s) / 2
    return msgspec.structs.replace(
        link, one_way_delay_s=link.one_way_delay_s + more_s, return_delay_s=link.return_delay_s + more_s
    )


def probed_link(check: LinkCheck, at_least_bps: float = 0.0) -> Link | None:
    """The unshaped link that the probes found; None where they could tell no rate or no round trip.

    Goodput counts payload alone, so no headers are added to it, and it already holds whatever the window
    allowed, so the window is set wide enough not to count twice. The reverse is taken to be as fast.
    """
    goodput, rtt = check.goodput_measured_bps, check.rtt_measured_s
    if not goodput or rtt is None:
        return None
    goodput = max(goodput, at_least_bps)
    wide = max(1, math.ceil(goodput * rtt / 4))
    return Link(
        schema_version=1,
        name="probed",
        rate_bps=goodput,
        one_way_delay_s=rtt / 2,
        return_rate_bps=goodput,
        return_delay_s=rtt / 2,
        header_bytes=0,
        wmax_bytes=wide,
        source=f"median of {check.probes} probes over {', '.join(check.media)}",
    )
