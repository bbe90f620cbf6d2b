"""What a batch crosses from one device to another, and what that takes: links, relays and hosts at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from paretosim.chain import Hop
from paretosim.energy import network_j
from paretosim.hop_terms import Crossing, HopTerms, crossing_terms, link_of_relay, result_s
from paretosim.in_effect import less_terms, terms_in_effect
from paretosim.placement.search import Part
from paretosim.placement.setting import PlacementSetting
from paretosim.transfer_time import wire_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def forward_crossings(
    setting: PlacementSetting, start: int, end: int, cuts: NDArray[np.int64], *, number: int = 1, relay: str = "relay"
) -> list[Crossing]:
    """From one device to the next stage's after so many blocks: one hop, or with a relay two.

    A master is taken to be on the receiving device's host.
    """
    calibration = terms_in_effect(setting)
    sender, receiver = (calibration.of(setting.devices[device].name) for device in (start, end))
    link = setting.links.forward(start, end)
    hop = _hop(setting, f"link{number}", cuts)
    found = [Crossing(hop, less_terms(link, setting.without), sender, receiver, link.rtt_s)]
    if calibration.relay is not None:
        again = Hop(relay, hop.payload_bytes, hop.crossed)
        found.append(Crossing(again, link_of_relay(calibration.relay, found[0].link), receiver, receiver, link.rtt_s))
    return found


def closing_crossing(setting: PlacementSetting, last: int, first: int) -> Crossing | None:
    """From a chain's last device back to its first: results, or inputs; None where neither goes that way."""
    if setting.sink == "first":
        hop = _hop(setting, "return", np.array([len(setting.model.blocks)]))
    elif setting.source == "sink":
        hop = _hop(setting, "input", np.array([0]))
    else:
        return None
    calibration = terms_in_effect(setting)
    sender, receiver = (calibration.of(setting.devices[device].name) for device in (last, first))
    link = setting.links.back(last, first)
    return Crossing(hop, less_terms(link, setting.without), sender, receiver, link.rtt_s)


def crossings_of(setting: PlacementSetting, parts: Sequence[Part]) -> list[Crossing]:
    """All hops of a placement in chain order."""
    found: list[Crossing] = []
    for number, (one, two) in enumerate(pairwise(parts), start=1):
        relay = "relay" if len(parts) == 2 else f"relay{number}"
        cut = np.array([one.last])
        found += forward_crossings(setting, one.device, two.device, cut, number=number, relay=relay)
    if len(parts) > 1 and (closing := closing_crossing(setting, parts[-1].device, parts[0].device)) is not None:
        found.insert(0 if closing.hop.name == "input" else len(found), closing)
    return found


def taken(setting: PlacementSetting, crossings: Sequence[Crossing], last_s: float = 0.0) -> HopTerms:
    """What these hops take, (plans, hops); a batch waits `last_s` behind the last station."""
    plans = len(crossings[0].hop.crossed)
    return crossing_terms(setting, crossings, hands_over=True, last_s=np.full(plans, last_s))


def on_wires_bytes(setting: PlacementSetting, crossings: Sequence[Crossing]) -> NDArray[np.float64]:
    """(plans,) bytes of a batch over these hops, headers among them."""
    sent = np.zeros(len(crossings[0].hop.crossed))
    for crossing in _on_wires(setting, crossings):
        sent = sent + wire_bytes(crossing.hop.payload_bytes, crossing.link)
    return sent


def networks_j(setting: PlacementSetting, crossings: Sequence[Crossing], start: int, end: int) -> NDArray[np.float64]:
    """(plans,) joules of a batch that radios and NICs add over the hops from one device to another."""
    added = np.zeros(len(crossings[0].hop.crossed))
    for crossing in _on_wires(setting, crossings):
        sender, receiver = (setting.devices[end if crossing.hop.relayed else start], setting.devices[end])
        added = added + network_j(crossing.hop.payload_bytes, crossing.link, sender, receiver)
    return added


def networks_of_j(setting: PlacementSetting, parts: Sequence[Part]) -> float:
    """Joules of a batch that radios and NICs add over all hops of a placement."""
    added = 0.0
    for one, two in pairwise(parts):
        ends = one.device, two.device
        added += float(networks_j(setting, forward_crossings(setting, *ends, np.array([one.last])), *ends)[0])
    ends = parts[-1].device, parts[0].device
    closing = closing_crossing(setting, *ends) if len(parts) > 1 else None
    return added if closing is None else added + float(networks_j(setting, [closing], *ends)[0])


def _on_wires(setting: PlacementSetting, crossings: Sequence[Crossing]) -> list[Crossing]:
    """Those of a network: a relay may be memory."""
    relay = terms_in_effect(setting).relay
    in_memory = relay is not None and relay.rate_bps is None
    return [crossing for crossing in crossings if not (crossing.hop.relayed and in_memory)]


def ending_s(setting: PlacementSetting, first: int, last: int) -> float:
    """From the end of a chain's last stage until the orchestrator on that host has the result; none if it returns."""
    if setting.sink == "first" and first != last:
        return 0.0
    known = terms_in_effect(setting).of(setting.devices[last].name)
    return result_s(known, int(setting.cut_bytes[-1]), hands_over=True)


def _hop(setting: PlacementSetting, name: str, cuts: NDArray[np.int64]) -> Hop:
    payload_bytes = setting.cut_bytes[cuts] + terms_in_effect(setting).framing_bytes
    return Hop(name, payload_bytes, np.ones(len(cuts), dtype=np.bool_))
