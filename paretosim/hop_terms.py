"""What every hop of every plan takes, in seconds, term by term (docs/model.md, "Link" and "Calibration").

Links and slow start are what the link says; the others are a calibration's and zero without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from paretosim.calibration import DeviceTerms, MessageCost, Relay
from paretosim.chain import Hop, hops_of
from paretosim.in_effect import NO_WINDOW_BYTES, Termed, link_in_effect, tcp_state_in_effect, terms_in_effect
from paretosim.link import Link
from paretosim.transfer_time import serialisation_s, stall_s

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.setting import Setting

    Array = NDArray[np.float64]

# On which device's host a hop's message is sent, and on which it is received. The orchestrator is at the sink: beside
# the second device where it sends inputs, beside the first where the result comes back. A master is beside the second.
HOSTS_OF_HOP = {"input": (1, 0), "link1": (0, 1), "relay": (1, 1), "return": (1, 0)}
# Of a hop that is memory and not a network.
_MEMORY_BPS = 1e300


class HopTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What hops take, (plans, hops) seconds: what sending costs on one host and receiving on the other.

    `sending_s` and `rpc_s` occupy the hop before the first byte, as `stalls_s` do, and so does `copying_s`, by which
    bytes go slower through the hosts' sockets than over the wire. `receiving_s` comes after the delay and is a station
    of its own. A call of RPC holds the hop for `answering_s` after the batch has gone on. Whatever the hop, a batch
    waits `handover_s` more without holding anything: on both hosts, from one
    thread to another. `last_s`, (plans, 1), is the wait behind the last station: what is left of the result's way.
    `resting_s` is the part of `handover_s` that is there since hosts have rested. `sockets_s` is how long bytes take
    through the hosts' sockets, where there were no wire.
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
    resting_s: Array
    sockets_s: Array

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

    def over_hops(of: Callable[[Crossing], NDArray[np.floating[Any]]]) -> Array:
        # Filled in place: a fit calls this thousands of times, and np.stack takes several times as long for so little.
        filled = np.empty((len(crossings[0].hop.crossed), len(crossings)))
        for place, crossing in enumerate(crossings):
            filled[:, place] = of(crossing)
        return filled

    through_s = over_hops(lambda c: _through_s(c.hop, c.sender, c.receiver))
    wire_s = over_hops(lambda c: serialisation_s(c.hop.payload_bytes, c.link) * (c.link.rate_bps < _MEMORY_BPS))
    return HopTerms(
        serialisation_s=wire_s,
        stalls_s=over_hops(
            lambda c: stall_s(
                c.hop.payload_bytes, c.link, tcp_state, at_least_s=_through_s(c.hop, c.sender, c.receiver)
            )
        ),
        delays_s=over_hops(lambda c: c.link.one_way_delay_s * waits * c.hop.crossed),
        sending_s=over_hops(lambda c: _message_s(c.hop, c.sender.sending)),
        rpc_s=over_hops(lambda c: calls_s(c) * (c.hop.crossed & c.hop.forward)),
        copying_s=np.maximum(0.0, through_s - wire_s),
        receiving_s=over_hops(lambda c: _message_s(c.hop, c.receiver.receiving)),
        answering_s=over_hops(lambda c: answer_s(c) * (c.hop.crossed & c.hop.forward)),
        handover_s=hands_over * over_hops(lambda c: _handover_s(c, calibration.relay is not None)),
        last_s=last_s[:, np.newaxis],
        resting_s=np.zeros(wire_s.shape),
        sockets_s=through_s,
    )


def copied_s(setting: Setting, hop: Hop) -> Array:
    """How long a hop's bytes take through the slower of the two hosts' sockets, which goes on beside the wire."""
    calibration = terms_in_effect(setting)
    return _through_s(hop, *(calibration.of(setting.devices[host].name) for host in HOSTS_OF_HOP[hop.name]))


def _through_s(hop: Hop, sender: DeviceTerms, receiver: DeviceTerms) -> Array:
    def of(host: DeviceTerms) -> Array:
        per_byte_s = 0.0 if host.copying_bytes_per_s is None else 1 / host.copying_bytes_per_s
        return np.asarray(host.copying_s * hop.crossed + hop.payload_bytes * per_byte_s)

    return np.maximum(of(sender), of(receiver))


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
