"""How every split of a setting responds to a link of any rate and delay.

With u = 1 / rate, the occupancy of a hop is affine in u and RTT as long as the same rounds of slow start stall:

    occupied = Σ rounds · max(0, RTT − (w − 1)·τ̂·u) + bits·u + m·RTT + sent,        τ̂ = bits / n

(m round trips of RPC and what sending costs are a calibration's. Where a host's sockets take longer for the bytes than
the wire does, all of it is as at the u at which the wire takes as long as they do.)

A round of window w stalls while RTT / u > (w − 1)·τ̂, so which rounds do depends on RTT / u alone. Sorted, these
thresholds cut the links into rows, each with its own coefficients of RTT and u. A warm connection has one row.
The window caps the rate at 8·wmax / RTT: below u = RTT / (8·wmax) nothing changes any more.

A stage that transfers slow down takes c + κ·Σ min(c, x) with x = bits·u, so it is affine in u below and above
u = c / bits. Other stages, receiving, handing over, and a hop from a master (whose link is the calibration's) depend on
no link.

All arrays over splits are ordered by split. Sums and products are done alike for every split, so that splits
which are equal on paper are equal to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretosim.chain import Hop, in_quanta, splits_of, stage_times_s
from paretosim.errors import BadInputError
from paretosim.hop_terms import HopTerms, copied_s, hop_terms, hops_of_setting
from paretosim.in_effect import control_s, holds_several, link_in_effect, terms_in_effect
from paretosim.link import Link
from paretosim.memory import all_stages_memory_bytes
from paretosim.mode import Mode
from paretosim.setting import Setting
from paretosim.stage_terms import hops_beside, stage_terms
from paretosim.transfer_time import TcpState, segments, slow_start_rounds

Array = NDArray[np.float64]

# A few arrays of so many numbers fit in a core's own cache.
CACHED_NUMBERS = 2**15


class HopResponse(msgspec.Struct, frozen=True):
    """One hop's occupancy: `round_trips[:, r]`·RTT + `bits[:, r]`·u in the row r that RTT / u falls in.

    That is with u no less than where `wire_bits`·u is `copied_s`. To it come `called`·RTT and `sent_s`, (splits,), of
    a calibration.
    `thresholds_bits` (rows − 1,) ascends, in bits as RTT / u is; row r holds above r of them. `round_trips`
    and `bits` are (splits, rows). Of shape (splits,) are the hop's own `payload_bytes`, the `wire_bits` that it
    serialises, and whether a batch `waits` its delay.
    """

    forward: bool
    payload_bytes: NDArray[np.int64]
    wire_bits: Array
    waits: NDArray[np.bool_]
    thresholds_bits: Array
    round_trips: Array
    bits: Array
    called: Array
    sent_s: Array
    copied_s: Array

    def rows(self, inverse_rate: Array, rtt_s: Array) -> NDArray[np.intp]:
        """The row of each link, from u (seconds per bit) and RTT of the same shape."""
        return np.searchsorted(self.thresholds_bits, rtt_s / inverse_rate, side="left")

    def occupied_s(self, inverse_rate: Array, rtt_s: Array, out: Array, scratch: Array) -> None:
        """Put seconds that a batch occupies the hop into `out`, from u and RTT of shape (links,).

        Parameters
        ----------
        out, scratch : (splits, links); `scratch` is overwritten, and only on a cold connection.
        """
        if len(self.thresholds_bits) == 0:
            np.multiply(self.bits, inverse_rate, out=out)
            self._add_calibrated(rtt_s, out)
            return
        rows = self.rows(inverse_rate, rtt_s)
        # "clip" alone takes straight into `out`, and no row is out of range.
        self.bits.take(rows, axis=1, out=out, mode="clip")
        self.round_trips.take(rows, axis=1, out=scratch, mode="clip")
        out *= inverse_rate
        scratch *= rtt_s
        out += scratch
        self._add_calibrated(rtt_s, out)

    def copied_occupied_s(self, rtt_s: Array) -> Array:
        """Seconds that a batch occupies the hop where its sockets set the pace, (splits, links), without sending."""
        wire_bits = self.wire_bits[:, np.newaxis]
        slowest = np.divide(self.copied_s[:, np.newaxis], wire_bits, out=np.zeros(wire_bits.shape), where=wire_bits > 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # what sockets take no time for
            rows = np.searchsorted(self.thresholds_bits, np.nan_to_num(rtt_s / slowest), side="left")
        bits, round_trips = (np.take_along_axis(of, rows, axis=1) for of in (self.bits, self.round_trips))
        return np.asarray(bits * slowest + round_trips * rtt_s)

    def _add_calibrated(self, rtt_s: Array, out: Array) -> None:
        if self.copied_s.any():  # occupancy never falls when u grows
            np.maximum(out, self.copied_occupied_s(rtt_s), out=out)
        if self.called.any():
            out += np.outer(self.called, rtt_s)
        if self.sent_s.any():
            out += self.sent_s[:, np.newaxis]


class StageResponse(msgspec.Struct, frozen=True):
    """A stage that transfers slow down: alone it takes `alone_s`, and κ times what it shares with them more.

    With the hops at places `beside` of `LinkResponse.hops` it shares min(`alone_s`, x); `shared_s` with what depends on
    no link, both (splits,).
    """

    kappa: float
    alone_s: Array
    shared_s: Array
    beside: tuple[int, ...]

    def share_s(self, part: slice, transfers_s: Sequence[Array]) -> Array:
        """What the stage shares with all transfers beside it, (splits of the part, links), from those of each hop."""
        alone_s = self.alone_s[part, np.newaxis]
        shares = [np.minimum(alone_s, transfers_s[place]) for place in self.beside]
        if not shares or self.shared_s.any():
            shares.insert(0, np.broadcast_to(self.shared_s[part, np.newaxis], transfers_s[0].shape))
        return np.asarray(functools.reduce(np.add, shares))


class LinkResponse(msgspec.Struct, frozen=True, kw_only=True):
    """All splits that fit, as functions of a link.

    `constant_s` is the sum of what no link has a say in: stages (those of `slowed` as they are alone), receiving,
    handing over, a master's hop and its delay. `slowest_constant_s` is the longest station of them that no transfer
    slows down. `answered`, (splits,), are round trips that hops are occupied for and batches do not wait.
    `unfit` are the splits left out because a device's memory does not hold them. `return_rate_bps` is that of the
    reverse direction where it does not follow the forward one.
    """

    splits: NDArray[np.int64]
    unfit: tuple[int, ...]
    constant_s: Array
    slowest_constant_s: Array
    slowed: tuple[StageResponse, ...]
    hops: tuple[HopResponse, ...]
    answered: Array
    control_delay_s: float
    mode: Mode
    wmax_bytes: int
    return_rate_bps: float | None

    def inverse_rates(self, hop: HopResponse, inverse_rate: ArrayLike, rtt_s: ArrayLike) -> Array:
        """U of a hop, seconds per bit: of the link or its fixed return rate, and never below the window's."""
        fixed_bps = None if hop.forward else self.return_rate_bps
        own = inverse_rate if fixed_bps is None else 1 / fixed_bps
        return np.maximum(own, np.asarray(rtt_s) / (8 * self.wmax_bytes))

    def follows(self, hop: HopResponse) -> bool:
        """Whether the rate of the hop is the link's, and not one that stays the same."""
        return hop.forward or self.return_rate_bps is None

    def delays_s(self, one_way_delay_s: Array, return_delay_s: Array) -> Array:
        """All delays that a batch of each split waits through; (splits, links) or, where all are alike, (1, links)."""
        delays = np.full((1, np.size(one_way_delay_s)), self.control_delay_s)
        for hop in self.hops:
            waits = hop.waits[:1] if hop.waits.all() else hop.waits
            delays = delays + np.outer(waits, one_way_delay_s if hop.forward else return_delay_s)
        # A hop is occupied until the answer is there, and the batch long gone.
        return delays - np.outer(self.answered, one_way_delay_s + return_delay_s) if self.answered.any() else delays

    def contention_s(self, shares: Sequence[Array]) -> Array:
        """Σ κ·share over the stages of `slowed`, of their shares or of the shares' coefficients.

        Shares of one κ are added up first: that is exact, so that splits with equal sums are equal.
        """
        kappas = [stage.kappa for stage in self.slowed]
        if len(set(kappas)) < len(kappas):
            return np.asarray(kappas[0] * (shares[0] + shares[1]))
        return np.asarray(sum(kappa * share for kappa, share in zip(kappas, shares, strict=True)))

    def services_s(
        self, inverse_rate: Array, one_way_delay_s: Array, return_delay_s: Array, *, unloaded_s: Array, slowest_s: Array
    ) -> None:
        """Put L₀ and t* of every split, (splits, links), into the last two, from u and delays of shape (links,)."""
        rtt_s = one_way_delay_s + return_delay_s
        own = [self.inverse_rates(hop, inverse_rate, rtt_s) for hop in self.hops]
        for index, hop in enumerate(self.hops):
            if index == 0:
                hop.occupied_s(own[index], rtt_s, unloaded_s, slowest_s)
                np.maximum(unloaded_s, self.slowest_constant_s[:, np.newaxis], out=slowest_s)
                unloaded_s += self.constant_s[:, np.newaxis]
            else:
                occupied, scratch = np.empty(unloaded_s.shape), np.empty(unloaded_s.shape)
                hop.occupied_s(own[index], rtt_s, occupied, scratch)
                np.maximum(slowest_s, occupied, out=slowest_s)
                unloaded_s += occupied
        if self.slowed:
            self._add_contention(own, unloaded_s, slowest_s)
        unloaded_s += self.delays_s(one_way_delay_s, return_delay_s)

    def _add_contention(self, own: Sequence[Array], unloaded_s: Array, slowest_s: Array) -> None:
        """Add to L₀ and t* what transfers take from the stages beside them, from the hops' u of shape (links,)."""
        at_once = max(1, CACHED_NUMBERS // max(1, unloaded_s.shape[1]))
        for first in range(0, len(unloaded_s), at_once):
            part = slice(first, first + at_once)
            transfers_s = [np.multiply.outer(hop.wire_bits[part], u) for hop, u in zip(self.hops, own, strict=True)]
            shares = [stage.share_s(part, transfers_s) for stage in self.slowed]
            for stage, share in zip(self.slowed, shares, strict=True):
                slowed_s = stage.kappa * share
                slowed_s += stage.alone_s[part, np.newaxis]
                np.maximum(slowest_s[part], slowed_s, out=slowest_s[part])
            unloaded_s[part] += self.contention_s(shares)


def link_response(setting: Setting, return_rate_bps: float | None = None) -> LinkResponse:
    """How the splits of `setting` that fit in memory respond to links; its own link gives segments and window only.

    Parameters
    ----------
    return_rate_bps : of the reverse direction, where it does not follow the forward one.

    Raises
    ------
    BadInputError : no split fits, or its objectives are not those of L₀ and t* alone.
    """
    if not setting.has_closed_form:
        raise BadInputError(
            f"many links at once: got mode {setting.mode} with operation {setting.operation}, expected one of single,"
            " paced, closed and burst with overlapped workers, unbounded buffers and no finite run; predict links one"
            " by one instead"
        )
    chosen, unfit = _fitting(setting)
    hops = hops_of_setting(setting, chosen)
    transfers = hop_terms(setting, hops)
    alone_s = _alone_s(setting, chosen, hops)
    slowed = _slowed(setting, alone_s, hops, transfers)
    of_link = [place for place, hop in enumerate(hops) if not hop.relayed]
    apart = [place for place, hop in enumerate(hops) if hop.relayed]
    stations = np.hstack([alone_s, transfers.receiving_s, transfers.occupied_s[:, apart]])
    unslowed = [k for k in range(stations.shape[1]) if k not in slowed]
    link, tcp_state = link_in_effect(setting)
    calibration = terms_in_effect(setting)
    responses = []
    answered, unwaited_s = np.zeros((2, len(chosen)))
    for place in of_link:
        hop = hops[place]
        called = np.where(hop.crossed & hop.forward, calibration.rpc_round_trips, 0.0)
        answers = np.where(hop.crossed & hop.forward, calibration.rpc_answers, 0.0)
        answer_s = answers * calibration.rpc_answer_s
        sent_s = called * calibration.rpc_s + transfers.sending_s[:, place] + answer_s
        unwaited_s += answer_s
        answered, called = answered + answers, called + answers
        waits = hop.crossed & ("delay" not in setting.without)
        copied = copied_s(setting, hop)
        responses.append(_hop_response(hop, link, tcp_state, waits, called=called, sent_s=sent_s, copied=copied))
    waited_s = np.hstack([transfers.delays_s[:, apart], transfers.handover_s, transfers.last_s])
    return LinkResponse(
        splits=chosen,
        unfit=unfit,
        constant_s=stations.sum(axis=1) + waited_s.sum(axis=1) - unwaited_s,
        slowest_constant_s=stations[:, unslowed].max(axis=1, initial=0.0),
        slowed=tuple(slowed.values()),
        hops=tuple(responses),
        answered=answered,
        control_delay_s=control_s(setting),
        mode=setting.mode,
        wmax_bytes=link.wmax_bytes,
        return_rate_bps=return_rate_bps,
    )


def _fitting(setting: Setting) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The splits that fit in memory, and those that do not."""
    blocks = len(setting.model.blocks)
    splits = splits_of(blocks, setting.splits)
    memory_bytes = all_stages_memory_bytes(setting.model, setting.batch)
    usable_bytes = [device.usable_bytes for device in setting.devices]
    fits = (memory_bytes[0, splits] <= usable_bytes[0]) & (memory_bytes[splits, blocks] <= usable_bytes[1])
    if not fits.any():
        raise BadInputError(
            f"{setting.model.name} at batch {setting.batch}: no split fits in the memory of"
            f" {' and '.join(device.name for device in setting.devices)}; use devices with more, or a smaller batch"
        )
    return splits[fits], tuple(splits[~fits].tolist())


def _alone_s(setting: Setting, splits: NDArray[np.int64], hops: Sequence[Hop]) -> Array:
    """What both stages take with nothing beside them, (splits, 2) seconds, in quanta of which sums are exact."""
    calibration = terms_in_effect(setting)
    block_s = [
        np.array(timing.at_batch(setting.batch)[0]) * calibration.of(device.name).gamma
        for device, timing in zip(setting.devices, setting.timings, strict=True)
    ]
    # γ goes to blocks and not to sums of them, so that on two equal devices all splits still compute equally long.
    blocks_s = stage_times_s(block_s, splits, setting.speed)
    fixed = stage_terms(setting, splits, np.zeros(blocks_s.shape), hops, None)
    fixed_s = fixed.overhead_s + fixed.launch_s + fixed.copies_s
    return blocks_s + in_quanta(fixed_s, sum(times.sum() for times in block_s) / setting.speed)


def _slowed(
    setting: Setting, alone_s: Array, hops: Sequence[Hop], transfers: HopTerms
) -> dict[int, StageResponse]:  # fmt: skip
    """The stages that transfers slow down, by their place."""
    calibration = terms_in_effect(setting)
    of_link = [place for place, hop in enumerate(hops) if not hop.relayed]
    found = {}
    for k, (device, beside) in enumerate(zip(setting.devices, hops_beside(hops), strict=True)):
        kappa = calibration.of(device.name).kappa
        if not (kappa and holds_several(setting.mode, setting.operation)):
            continue
        apart = [place for place in beside if hops[place].relayed]
        shared = np.minimum(alone_s[:, k : k + 1], transfers.serialisation_s[:, apart]).sum(axis=1)
        places = tuple(of_link.index(place) for place in beside if place in of_link)
        found[k] = StageResponse(kappa, alone_s[:, k].copy(), shared, places)
    return found


def _hop_response(
    hop: Hop, link: Link, tcp_state: TcpState, waits: NDArray[np.bool_], *, called: Array, sent_s: Array, copied: Array
) -> HopResponse:
    counts = segments(hop.payload_bytes, link.mss_bytes)
    bits = 8 * (hop.payload_bytes + link.header_bytes * counts)
    if tcp_state == "warm":
        thresholds, round_trips, coefficients = np.empty(0), np.zeros((len(bits), 1)), bits[:, np.newaxis]
    else:
        windows, rounds = slow_start_rounds(counts, mss_bytes=link.mss_bytes, wmax_bytes=link.wmax_bytes)
        segment_bits = np.divide(bits, counts, out=np.zeros(len(bits)), where=counts > 0)
        per_round = np.outer(windows - 1, segment_bits)  # (sizes, splits): what a round of that window stalls against
        # A round that a message does not have stalls it never, and needs no threshold.
        thresholds = np.unique(per_round[rounds > 0])
        # (rows, sizes, splits)
        stalls = rounds * (per_round < np.append(thresholds, np.inf)[:, np.newaxis, np.newaxis])
        round_trips = np.ascontiguousarray(stalls.sum(axis=1).T)
        coefficients = np.ascontiguousarray((bits - (stalls * per_round).sum(axis=1)).T)
    return HopResponse(
        forward=hop.forward,
        payload_bytes=hop.payload_bytes,
        wire_bits=bits,
        waits=waits,
        thresholds_bits=thresholds,
        round_trips=round_trips,
        bits=coefficients,
        called=called,
        sent_s=sent_s,
        copied_s=copied,
    )
