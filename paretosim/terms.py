"""Every term of every plan's batch, in seconds: what stages and hops take, and why (docs/model.md, "Calibration").

Blocks, links and slow start are what profiles and the link say; the others are a calibration's and zero without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.calibration import LINK_TERMS, NEUTRAL, Calibration, DeviceTerms, MessageCost, Term, check_terms
from paretosim.chain import Hop, hops_of
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.transfer_time import TcpState, serialisation_s, stall_s

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.prediction import Setting

    Array = NDArray[np.float64]

# A window beyond any message, whose products with segments are still exact in 64 bits.
NO_WINDOW_BYTES = 2**48
# On which device's host a hop's message is sent, and on which it is received. The orchestrator is at the sink: beside
# the second device where it sends inputs, beside the first where the result comes back. A master is beside the second.
HOSTS_OF_HOP = {"input": (1, 0), "link1": (0, 1), "relay": (1, 1), "return": (1, 0)}
# Of a hop that is memory and not a network.
_MEMORY_BPS = 1e300


class StageTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What stages 1 and 2 take, (…, plans, 2) seconds; γ·Σt is `blocks_s` and `scale_s` together.

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

    `sending_s` and `rpc_s` occupy the hop before the first byte, as `stalls_s` do; `receiving_s` comes after the delay
    and is a station of its own.
    """

    serialisation_s: Array
    stalls_s: Array
    delays_s: Array
    sending_s: Array
    rpc_s: Array
    receiving_s: Array

    @property
    def occupied_s(self) -> Array:
        """How long a batch occupies each hop."""
        return self.serialisation_s + self.stalls_s + self.sending_s + self.rpc_s

    def repeated(self, count: int) -> HopTerms:
        """The same for that many times as many plans."""
        return HopTerms(**{name: np.tile(getattr(self, name), (count, 1)) for name in self.__struct_fields__})


def terms_in_effect(setting: Setting) -> Calibration:
    """The setting's calibration less what is switched off; the neutral one where there is none."""
    calibration = NEUTRAL if setting.calibration is None else setting.calibration
    return calibration.without(*setting.without) if setting.without else calibration


def check_calibration(setting: Setting) -> None:
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


def check_uncalibrated(setting: Setting, what: str, *, able: Sequence[Term] = ()) -> None:
    """Refuse a setting whose terms go beyond those that `what` is `able` to work out.

    Raises
    ------
    BadInputError : names the terms.
    """
    if active := [term for term in terms_in_effect(setting).active_terms() if term not in able]:
        raise BadInputError(
            f"{what}: cannot yet work out what the calibration says of {', '.join(active)}; expected no calibration,"
            f" or --without {' --without '.join(active)}"
        )
    if off := [term for term in setting.without if term in LINK_TERMS and term not in able]:
        raise BadInputError(f"{what}: cannot leave out {', '.join(off)}; expected all terms of the link")


def link_in_effect(setting: Setting) -> tuple[Link, TcpState]:
    """The setting's link and state of connection, less what is switched off (but for the delay itself)."""
    changes: dict[str, int] = {}
    if "headers" in setting.without:
        changes["header_bytes"] = 0
    if "window-cap" in setting.without:
        changes["wmax_bytes"] = NO_WINDOW_BYTES
    link = msgspec.structs.replace(setting.link, **changes) if changes else setting.link
    return link, "warm" if "slow-start" in setting.without else setting.tcp_state


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
    if hop.name != "relay":
        return link if hop.forward else link.reverse()
    relay = terms_in_effect(setting).relay
    assert relay is not None  # or there were no such hop
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


def hop_terms(setting: Setting, hops: Sequence[Hop]) -> HopTerms:
    """What every hop takes. Source: docs/model.md, "Link" and "Calibration"."""
    calibration = terms_in_effect(setting)
    _, tcp_state = link_in_effect(setting)
    by_hop = [(hop, link_of_hop(setting, hop)) for hop in hops]
    known = [calibration.of(device.name) for device in setting.devices]
    ends = [(hop, tuple(known[host] for host in HOSTS_OF_HOP[hop.name])) for hop in hops]
    round_trips_s = calibration.rpc_round_trips * (setting.link.rtt_s + calibration.rpc_s)
    waits = 0.0 if "delay" in setting.without else 1.0
    return HopTerms(
        serialisation_s=np.stack([serialisation_s(hop.payload_bytes, link) for hop, link in by_hop], axis=1),
        stalls_s=np.stack([stall_s(hop.payload_bytes, link, tcp_state) for hop, link in by_hop], axis=1),
        delays_s=np.stack([link.one_way_delay_s * waits * hop.crossed for hop, link in by_hop], axis=1),
        sending_s=np.stack([_message_s(hop, sender.sending) for hop, (sender, _) in ends], axis=1),
        rpc_s=np.stack([round_trips_s * (hop.crossed & hop.forward) for hop in hops], axis=1),
        receiving_s=np.stack([_message_s(hop, receiver.receiving) for hop, (_, receiver) in ends], axis=1),
    )


def stage_terms(
    setting: Setting, splits: NDArray[np.int64], blocks_s: Array, hops: Sequence[Hop], transfers: HopTerms
) -> StageTerms:
    """What both stages take, from Σt (…, splits, 2). Source: docs/model.md, "Calibration".

    An empty stage takes nothing. A stage is slowed by the transfers that its own device takes part in.
    """
    calibration = terms_in_effect(setting)
    ends = np.stack([np.zeros_like(splits), splits, np.full_like(splits, len(setting.model.blocks))])
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    stages = []
    beside = hops_beside(hops)
    for k, device in enumerate(setting.devices):
        known = calibration.of(device.name)
        runs = ends[k + 1] > ends[k]
        blocks = blocks_s[..., k]
        scale = blocks * (known.gamma - 1.0)
        overhead, launch, copies = (cost * runs for cost in _fixed_s(known, cut_bytes[ends[k]], cut_bytes[ends[k + 1]]))
        # So that γ = 1 is what it was to the last bit.
        alone = blocks * known.gamma + overhead + launch + copies
        contention = np.zeros_like(alone)
        if known.kappa and holds_several(setting.mode, setting.operation):
            for j in beside[k]:
                contention = contention + known.kappa * np.minimum(alone, transfers.serialisation_s[:, j])
        stages.append((blocks, scale, overhead, launch, copies, contention, alone + contention))
    columns = (np.stack(np.broadcast_arrays(*pair), axis=-1) for pair in zip(*stages, strict=True))
    return StageTerms(**dict(zip(StageTerms.__struct_fields__, columns, strict=True)))


def hops_beside(hops: Sequence[Hop]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Places of the hops that the first and the second device take part in: with a relay the second has that one."""
    names = [hop.name for hop in hops]
    of_second = "relay" if "relay" in names else "link1"
    return (
        tuple(place for place, name in enumerate(names) if name != "relay"),
        tuple(place for place, name in enumerate(names) if name in ("input", of_second, "return")),
    )


def services_in_order(stages_s: Array, transfers: HopTerms, hops: Sequence[Hop]) -> tuple[Array, tuple[str, ...]]:
    """Service times of all stations in chain order, (splits, stations), and the stations' names."""
    columns: list[Array] = []
    names: list[str] = []
    receives = bool(transfers.receiving_s.any())
    last_forward = [hop.name in ("link1", "relay") for hop in hops].count(True) + (hops[0].name == "input") - 1
    for place, (hop, occupancy) in enumerate(zip(hops, transfers.occupied_s.T, strict=True)):
        if hop.forward:
            columns.append(stages_s[:, 0])
            names.append("stage1")
        columns.append(occupancy)
        names.append(hop.name)
        if receives:
            columns.append(transfers.receiving_s[:, place])
            names.append(f"{hop.name}.receive")
        if place == last_forward:
            columns.append(stages_s[:, 1])
            names.append("stage2")
    return np.stack(columns, axis=1), tuple(names)


def lone_s(setting: Setting, index: int, total_s: Array) -> Array:
    """What one device takes that runs all blocks, Σt of any shape, with nothing beside it."""
    known = terms_in_effect(setting).of(setting.devices[index].name)
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    overhead, launch, copies = _fixed_s(known, cut_bytes[:1], cut_bytes[-1:])
    return np.asarray(total_s * known.gamma + overhead + launch + copies)


def holds_several(mode: Mode, operation: Operation) -> bool:
    """Whether a batch is ever computed while another one is on its way, so that they can be in each other's."""
    in_flight = {"single": 1, "closed": mode.window, "burst": mode.batches}.get(mode.name)
    return in_flight != 1 and operation.batches != 1


def _fixed_s(
    known: DeviceTerms, in_bytes: NDArray[np.int64], out_bytes: NDArray[np.int64]
) -> tuple[float, float, Array]:
    """Overhead, launch and copies of a stage that takes and gives so many bytes."""
    moved = np.asarray(in_bytes + out_bytes, dtype=np.float64)
    copies = np.zeros(moved.shape) if known.pcie_bytes_per_s is None else moved / known.pcie_bytes_per_s
    return known.overhead_s, known.launch_s, copies


def _message_s(hop: Hop, cost: MessageCost) -> Array:
    per_byte = 0.0 if cost.bytes_per_s is None else 1 / cost.bytes_per_s
    return np.asarray(cost.message_s * hop.crossed + hop.payload_bytes * per_byte)
