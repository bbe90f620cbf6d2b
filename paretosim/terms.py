"""Every term of every plan's batch, in seconds: what stages and hops take, and why (docs/model.md, "Calibration").

Blocks, links and slow start are what profiles and the link say; the others are a calibration's and zero without one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import numpy as np

from paretosim.calibration import (
    NEUTRAL,
    Backend,
    Calibration,
    DeviceTerms,
    MessageCost,
    Relay,
    Term,
    check_terms,
)
from paretosim.chain import Hop, hops_of
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.transfer_time import TcpState, serialisation_s, stall_s

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.device import Device
    from paretosim.prediction import Setting

    Array = NDArray[np.float64]

# A window beyond any message, whose products with segments are still exact in 64 bits.
NO_WINDOW_BYTES = 2**48
# On which device's host a hop's message is sent, and on which it is received. The orchestrator is at the sink: beside
# the second device where it sends inputs, beside the first where the result comes back. A master is beside the second.
HOSTS_OF_HOP = {"input": (1, 0), "link1": (0, 1), "relay": (1, 1), "return": (1, 0)}
# Of a hop that is memory and not a network.
_MEMORY_BPS = 1e300


class Termed(Protocol):
    """What says which terms are in effect: a setting of two devices, or of several."""

    @property
    def devices(self) -> tuple[Device, ...]: ...
    @property
    def tcp_state(self) -> TcpState: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def without(self) -> tuple[Term, ...]: ...
    @property
    def control_delay_s(self) -> float: ...


class StageTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What all stages take, (…, plans, stages) seconds; γ·Σt is `blocks_s` and `scale_s` together.

    The last is zero in a pipeline that holds one batch only.
    """

    blocks_s: Array
    scale_s: Array
    overhead_s: Array
    launch_s: Array
    copies_s: Array
    contention_s: Array
    total_s: Array


class HopTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What hops take, (plans, hops) seconds: what sending costs on one host and receiving on the other.

    `sending_s` and `rpc_s` occupy the hop before the first byte, as `stalls_s` do, and so does `copying_s`, by which
    bytes go slower through the hosts' sockets than over the wire. `receiving_s` comes after the delay and is a station
    of its own. A call of RPC holds the hop for `answering_s` after the batch has gone on. Whatever the hop, a batch
    waits `handover_s` more without holding anything: on both hosts, from one
    thread to another. `last_s`, (plans, 1), is the wait behind the last station: what is left of the result's way.
    """

    serialisation_s: Array
    stalls_s: Array
    delays_s: Array
    sending_s: Array
    rpc_s: Array
    copying_s: Array
    receiving_s: Array
    answering_s: Array
    handover_s: Array
    last_s: Array

    @property
    def sender_s(self) -> Array:
        """What occupies each hop beside its bytes on the wire and slow start."""
        return self.sending_s + self.rpc_s + self.copying_s

    @property
    def occupied_s(self) -> Array:
        """How long a batch occupies each hop."""
        return self.serialisation_s + self.stalls_s + self.sender_s + self.answering_s

    @property
    def waits_s(self) -> Array:
        """What a batch waits through in all, (plans, hops + 1): behind each hop, and behind the last station.

        It is gone from a hop before the answer is there, so that the wait behind one may be below zero.
        """
        return np.hstack([self.delays_s + self.handover_s - self.answering_s, self.last_s])

    def repeated(self, count: int) -> HopTerms:
        """The same for that many times as many plans."""
        return HopTerms(**{name: np.tile(getattr(self, name), (count, 1)) for name in self.__struct_fields__})


def terms_in_effect(setting: Termed) -> Calibration:
    """The setting's calibration less what is switched off; the neutral one where there is none."""
    calibration = NEUTRAL if setting.calibration is None else setting.calibration
    return calibration.without(*setting.without) if setting.without else calibration


def check_calibration(setting: Termed) -> None:
    """Refuse a calibration of another backend, or of an accelerator that a device does not have.

    Raises
    ------
    BadInputError, UnlikeConditionsError : say which, and what was expected.
    """
    check_terms(setting.without)
    calibration = setting.calibration
    if calibration is None:
        if setting.backend == "rpc":
            raise BadInputError(
                "backend: got rpc without a calibration, so that its round trips are not known; expected one of rpc,"
                " such as --calibration FILE"
            )
        return
    if calibration.backend != setting.backend:
        raise UnlikeConditionsError(
            f"calibration {calibration.name!r}: got one of backend {calibration.backend}, expected one of"
            f" {setting.backend}, as the plan; give --backend {calibration.backend}, or another calibration"
        )
    for device in setting.devices:
        known = calibration.of(device.name)
        if device.accelerator is None and (known.launch_s or known.pcie_bytes_per_s is not None):
            raise BadInputError(
                f"calibration {calibration.name!r}: got launch_s or pcie_bytes_per_s of {device.name}, expected them of"
                " devices with an accelerator only; put the accelerator into the device's profile, or leave them out"
            )


def link_in_effect(setting: Setting) -> tuple[Link, TcpState]:
    """The setting's link and state of connection, less what is switched off (but for the delay itself)."""
    return less_terms(setting.link, setting.without), tcp_state_in_effect(setting)


def less_terms(link: Link, without: Collection[Term]) -> Link:
    """The link less those of its terms (but for the delay itself)."""
    changes: dict[str, int] = {}
    if "headers" in without:
        changes["header_bytes"] = 0
    if "window-cap" in without:
        changes["wmax_bytes"] = NO_WINDOW_BYTES
    return msgspec.structs.replace(link, **changes) if changes else link


def tcp_state_in_effect(setting: Termed) -> TcpState:
    """The state of connections, warm where slow start is switched off."""
    return "warm" if "slow-start" in setting.without else setting.tcp_state


def hops_of_setting(setting: Setting, splits: NDArray[np.int64]) -> tuple[Hop, ...]:
    """The hops of those splits in chain order; messages include their framing, and a relay is a hop."""
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    hops = hops_of(cut_bytes, splits, source=setting.source, sink=setting.sink)
    calibration = terms_in_effect(setting)
    if calibration.framing_bytes:
        hops = tuple(
            Hop(hop.name, hop.payload_bytes + calibration.framing_bytes * hop.crossed, hop.crossed) for hop in hops
        )
    if calibration.relay is not None:
        place = next(place for place, hop in enumerate(hops) if hop.forward)
        again = Hop("relay", hops[place].payload_bytes, hops[place].crossed)
        hops = (*hops[: place + 1], again, *hops[place + 1 :])
    return hops


def link_of_hop(setting: Setting, hop: Hop) -> Link:
    """The link that a hop crosses, less what is switched off."""
    link, _ = link_in_effect(setting)
    if hop.relayed:
        relay = terms_in_effect(setting).relay
        assert relay is not None  # or there were no such hop
        return link_of_relay(relay, link)
    return link if hop.forward else link.reverse()


def link_of_relay(relay: Relay, link: Link) -> Link:
    """The link from a master on, behind one that comes to it."""
    rate = _MEMORY_BPS if relay.rate_bps is None else relay.rate_bps
    return Link(
        schema_version=1,
        name="relay",
        rate_bps=rate,
        one_way_delay_s=relay.delay_s,
        return_rate_bps=rate,
        return_delay_s=relay.delay_s,
        header_bytes=0 if relay.rate_bps is None else link.header_bytes,
        mss_bytes=link.mss_bytes,
        wmax_bytes=NO_WINDOW_BYTES if relay.rate_bps is None else link.wmax_bytes,
    )


class Crossing(NamedTuple):
    """A hop with its link (less what is switched off), and the terms of the hosts at its two ends.

    `rtt_s` is the round trip that a call of RPC takes over it.
    """

    hop: Hop
    link: Link
    sender: DeviceTerms
    receiver: DeviceTerms
    rtt_s: float


def hop_terms(setting: Setting, hops: Sequence[Hop]) -> HopTerms:
    """What every hop takes. Source: docs/model.md, "Link" and "Calibration"."""
    calibration = terms_in_effect(setting)
    known = [calibration.of(device.name) for device in setting.devices]
    hosts = [HOSTS_OF_HOP[hop.name] for hop in hops]
    return crossing_terms(
        setting,
        [
            Crossing(hop, link_of_hop(setting, hop), known[sender], known[receiver], setting.link.rtt_s)
            for hop, (sender, receiver) in zip(hops, hosts, strict=True)
        ],
        hands_over=setting.operation.workers == "overlapped",
        last_s=_last_s(setting, hops, known),
    )


def crossing_terms(setting: Termed, crossings: Sequence[Crossing], *, hands_over: bool, last_s: Array) -> HopTerms:
    """What every hop takes, (plans, hops).

    Parameters
    ----------
    hands_over : whether workers are of several threads, that a batch waits between.
    last_s : (plans,) seconds behind the last station.
    """
    calibration, tcp_state = terms_in_effect(setting), tcp_state_in_effect(setting)
    waits = 0.0 if "delay" in setting.without else 1.0

    def calls_s(crossing: Crossing) -> float:
        return calibration.rpc_round_trips * (crossing.rtt_s + calibration.rpc_s)

    def answer_s(crossing: Crossing) -> float:
        return calibration.rpc_answers * (crossing.rtt_s + calibration.rpc_answer_s)

    wire_s = np.stack(
        [serialisation_s(c.hop.payload_bytes, c.link) * (c.link.rate_bps < _MEMORY_BPS) for c in crossings], axis=1
    )
    through_s = np.stack([_through_s(c.hop, c.sender, c.receiver) for c in crossings], axis=1)
    return HopTerms(
        serialisation_s=wire_s,
        stalls_s=np.stack(
            [
                stall_s(c.hop.payload_bytes, c.link, tcp_state, at_least_s=through)
                for c, through in zip(crossings, through_s.T, strict=True)
            ],
            axis=1,
        ),
        delays_s=np.stack([c.link.one_way_delay_s * waits * c.hop.crossed for c in crossings], axis=1),
        sending_s=np.stack([_message_s(c.hop, c.sender.sending) for c in crossings], axis=1),
        rpc_s=np.stack([calls_s(c) * (c.hop.crossed & c.hop.forward) for c in crossings], axis=1),
        copying_s=np.maximum(0.0, through_s - wire_s),
        receiving_s=np.stack([_message_s(c.hop, c.receiver.receiving) for c in crossings], axis=1),
        answering_s=np.stack([answer_s(c) * (c.hop.crossed & c.hop.forward) for c in crossings], axis=1),
        handover_s=hands_over * np.stack([_handover_s(c, calibration.relay is not None) for c in crossings], axis=1),
        last_s=last_s[:, np.newaxis],
    )


def stage_terms(
    setting: Setting, splits: NDArray[np.int64], blocks_s: Array, hops: Sequence[Hop], transfers: HopTerms | None
) -> StageTerms:
    """What both stages take, from Σt (…, splits, 2), with these transfers beside them, or none.

    Source: docs/model.md, "Calibration".
    """
    ends = np.stack([np.zeros_like(splits), splits, np.full_like(splits, len(setting.model.blocks))])
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    calibration = terms_in_effect(setting)
    known = [calibration.of(device.name) for device in setting.devices]
    alone = transfers is None or not holds_several(setting.mode, setting.operation)
    return stages_taking(known, blocks_s, ends, cut_bytes, hops, None if alone else transfers.serialisation_s)


def stages_taking(
    known: Sequence[DeviceTerms], blocks_s: Array, ends: NDArray[np.int64], cut_bytes: NDArray[np.int64],
    hops: Sequence[Hop], beside_s: Array | None,
) -> StageTerms:  # fmt: skip
    """What all stages take, from Σt (…, plans, stages).

    An empty stage takes nothing. A stage is slowed by the transfers that its own device takes part in.

    Parameters
    ----------
    known : terms of the stages' devices.
    ends : (stages + 1, plans) cuts, both ends among them; stage k runs blocks [ends[k], ends[k + 1]).
    beside_s : (plans, hops) seconds of the transfers, None where a batch is alone.
    """
    stages = []
    for k, (terms, beside) in enumerate(zip(known, hops_beside(hops), strict=True)):
        runs = ends[k + 1] > ends[k]
        blocks = blocks_s[..., k]
        scale = blocks * (terms.gamma - 1.0)
        overhead, launch, copies = (cost * runs for cost in fixed_s(terms, cut_bytes[ends[k]], cut_bytes[ends[k + 1]]))
        # So that γ = 1 is what it was to the last bit.
        alone = blocks * terms.gamma + overhead + launch + copies
        transfers_s = [] if beside_s is None else [beside_s[:, j] for j in beside]
        contention = contention_s(terms, alone, transfers_s)
        stages.append((blocks, scale, overhead, launch, copies, contention, alone + contention))
    columns = (np.stack(np.broadcast_arrays(*pair), axis=-1) for pair in zip(*stages, strict=True))
    return StageTerms(**dict(zip(StageTerms.__struct_fields__, columns, strict=True)))


def hops_beside(hops: Sequence[Hop]) -> tuple[tuple[int, ...], ...]:
    """For each device in turn the places of the hops that its host takes part in.

    With a relay that is the receiving device's, and not the hop that comes to the master.
    """
    beside: list[list[int]] = [[]]
    ends = [j for j, hop in enumerate(hops) if not (hop.forward or hop.relayed)]
    for j, hop in enumerate(hops):
        if hop.forward:
            beside[-1].append(j)
            relayed = j + 1 < len(hops) and hops[j + 1].relayed
            beside.append([j + 1 if relayed else j])
    for k in {0, len(beside) - 1}:
        beside[k] = sorted([*beside[k], *ends])
    return tuple(map(tuple, beside))


def contention_s(known: DeviceTerms, alone_s: Array, beside_s: Iterable[Array]) -> Array:
    """What transfers of those lengths beside it add to a stage that takes `alone_s`: κ · Σ min(c, x)."""
    added = np.zeros_like(alone_s)
    if known.kappa:
        for transfer_s in beside_s:
            added = added + known.kappa * np.minimum(alone_s, transfer_s)
    return added


def services_in_order(stages_s: Array, transfers: HopTerms, hops: Sequence[Hop]) -> tuple[Array, tuple[str, ...]]:
    """Service times of all stations in chain order, (plans, stations), and the stations' names."""
    columns: list[Array] = []
    names: list[str] = []
    receives = bool(transfers.receiving_s.any())
    last = max(j for j, hop in enumerate(hops) if hop.forward or hop.relayed)
    stages = enumerate(stages_s.T, start=1)

    def compute() -> None:
        number, time_s = next(stages)
        columns.append(time_s)
        names.append(f"stage{number}")

    for place, (hop, occupancy) in enumerate(zip(hops, transfers.occupied_s.T, strict=True)):
        if hop.forward:
            compute()
        columns.append(occupancy)
        names.append(hop.name)
        if receives:
            columns.append(transfers.receiving_s[:, place])
            names.append(f"{hop.name}.receive")
        if place == last:
            compute()
    return np.stack(columns, axis=1), tuple(names)


def copied_s(setting: Setting, hop: Hop) -> Array:
    """How long a hop's bytes take through the slower of the two hosts' sockets, which goes on beside the wire."""
    calibration = terms_in_effect(setting)
    return _through_s(hop, *(calibration.of(setting.devices[host].name) for host in HOSTS_OF_HOP[hop.name]))


def _through_s(hop: Hop, sender: DeviceTerms, receiver: DeviceTerms) -> Array:
    rates = (of.copying_bytes_per_s for of in (sender, receiver))
    return np.asarray(hop.payload_bytes * max(0.0 if rate is None else 1 / rate for rate in rates))


def control_s(setting: Termed) -> float:
    """From a dispatch until the first station of the line has the batch."""
    return setting.control_delay_s + terms_in_effect(setting).dispatch_s


def lone_s(setting: Setting, index: int, total_s: Array) -> Array:
    """What one device takes that runs all blocks, Σt of any shape, with nothing beside it."""
    known = terms_in_effect(setting).of(setting.devices[index].name)
    input_bytes, *_, output_bytes = (size * setting.batch for size in setting.model.cut_bytes())
    return whole_model_s(known, total_s, input_bytes, output_bytes)


def whole_model_s(known: DeviceTerms, total_s: Array, input_bytes: int, output_bytes: int) -> Array:
    """What a device takes that runs all blocks, Σt of any shape, with nothing beside it."""
    overhead, launch, copies = fixed_s(known, np.array([input_bytes]), np.array([output_bytes]))
    return np.asarray(total_s * known.gamma + overhead + launch + copies)


def holds_several(mode: Mode, operation: Operation = Operation()) -> bool:  # noqa: B008  # frozen
    """Whether a batch is ever computed while another one is on its way, so that they can be in each other's."""
    in_flight = {"single": 1, "closed": mode.window, "burst": mode.batches}.get(mode.name)
    return in_flight != 1 and operation.batches != 1


def fixed_s(
    known: DeviceTerms, in_bytes: NDArray[np.int64], out_bytes: NDArray[np.int64]
) -> tuple[float, float, Array]:
    """Overhead, launch and copies of a stage that takes and gives so many bytes."""
    moved = np.asarray(in_bytes + out_bytes, dtype=np.float64)
    copies = np.zeros(moved.shape) if known.pcie_bytes_per_s is None else moved / known.pcie_bytes_per_s
    return known.overhead_s, known.launch_s, copies


def _handover_s(crossing: Crossing, relayed: bool) -> Array:
    """From one thread to another on both sides of a hop.

    Orchestrators and masters compute nothing, so that they neither wait for it nor have what is computed wait.
    """
    hop = crossing.hop
    waited = crossing.sender.leaving_s if hop.forward or hop.name == "return" else 0.0
    if hop.relayed or hop.name == "input" or (hop.forward and not relayed):
        waited += crossing.receiver.arriving_s
    return np.asarray(waited * hop.crossed)


def result_s(of: DeviceTerms, result_bytes: int, *, hands_over: bool) -> float:
    """From the end of a chain's last stage until the orchestrator on its host has the result."""
    local = Hop("return", np.array([result_bytes]), np.ones(1, dtype=np.bool_))
    return float(_message_s(local, of.returning)[0]) + (of.leaving_s if hands_over else 0.0)


def _last_s(setting: Setting, hops: Sequence[Hop], known: Sequence[DeviceTerms]) -> Array:
    """From the end of the last stage until its host's orchestrator has the result; a result that came back is there."""
    result_bytes = setting.model.cut_bytes()[-1] * setting.batch
    overlapped = setting.operation.workers == "overlapped"
    first_s, last_s = (result_s(of, result_bytes, hands_over=overlapped) for of in known)
    if setting.sink == "last":
        return np.full(hops[0].crossed.shape, last_s)
    crossed = next(hop.crossed for hop in hops if hop.forward)
    return np.where(crossed, 0.0, first_s)


def _message_s(hop: Hop, cost: MessageCost) -> Array:
    per_byte = 0.0 if cost.bytes_per_s is None else 1 / cost.bytes_per_s
    return np.asarray(cost.message_s * hop.crossed + hop.payload_bytes * per_byte)
