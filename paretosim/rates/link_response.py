"""How every split of a setting responds to a link of any rate and delay.

With u = 1 / rate, the occupancy of a hop is affine in u and RTT as long as the same rounds of slow start stall:

    occupied = Σ rounds · max(0, RTT − (w − 1)·τ̂·u) + bits·u + m·RTT + sent,        τ̂ = bits / n

(m round trips of RPC and what sending costs are a calibration's; what stages and receiving cost depends on no link.)

A round of window w stalls while RTT / u > (w − 1)·τ̂, so which rounds do depends on RTT / u alone. Sorted, these
thresholds cut the links into rows, each with its own coefficients of RTT and u. A warm connection has one row.
The window caps the rate at 8·wmax / RTT: below u = RTT / (8·wmax) nothing changes any more.

All arrays over splits are ordered by split. Sums and products are done alike for every split, so that splits
which are equal on paper are equal to the last bit.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretosim.calibration import Term
from paretosim.chain import Hop, splits_of, stage_times_s
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.memory import all_stages_memory_bytes
from paretosim.mode import Mode
from paretosim.prediction import Setting
from paretosim.terms import (
    check_uncalibrated,
    control_s,
    hop_terms,
    hops_of_setting,
    link_in_effect,
    stage_terms,
    terms_in_effect,
)  # fmt: skip
from paretosim.transfer_time import TcpState, segments, slow_start_rounds

Array = NDArray[np.float64]


# Terms that this knows. Contention makes a stage depend on the link, and a relay's rate is not the link's.
ABLE: tuple[Term, ...] = (
    "scale", "overhead", "launch", "copies", "framing", "sending", "receiving", "dispatch", "handover", "returning",
    "rpc", "headers", "window-cap", "slow-start",
)  # fmt: skip


class HopResponse(msgspec.Struct, frozen=True):
    """One hop's occupancy: `round_trips[:, r]`·RTT + `bits[:, r]`·u in the row r that RTT / u falls in.

    To that come `called`·RTT and `sent_s`, (splits,), of a calibration.
    `thresholds_bits` (rows − 1,) ascends, in bits as RTT / u is; row r holds above r of them. `round_trips`
    and `bits` are (splits, rows). `payload_bytes` and `crossed` are the hop's own, (splits,).
    """

    forward: bool
    payload_bytes: NDArray[np.int64]
    crossed: NDArray[np.bool_]
    thresholds_bits: Array
    round_trips: Array
    bits: Array
    called: Array
    sent_s: Array

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
            self._add_sending(rtt_s, out)
            return
        rows = self.rows(inverse_rate, rtt_s)
        # "clip" alone takes straight into `out`, and no row is out of range.
        self.bits.take(rows, axis=1, out=out, mode="clip")
        self.round_trips.take(rows, axis=1, out=scratch, mode="clip")
        out *= inverse_rate
        scratch *= rtt_s
        out += scratch
        self._add_sending(rtt_s, out)

    def _add_sending(self, rtt_s: Array, out: Array) -> None:
        if self.called.any():
            out += np.outer(self.called, rtt_s)
        if self.sent_s.any():
            out += self.sent_s[:, np.newaxis]


class LinkResponse(msgspec.Struct, frozen=True, kw_only=True):
    """All splits that fit, as functions of a link.

    `computing_s` is the sum of both stages, of receiving and of handing over, `slowest_stage_s` the longest of stages
    and receiving, (splits,) each.
    `unfit` are the splits left out because a device's memory does not hold them. `return_rate_bps` is that of the
    reverse direction where it does not follow the forward one.
    """

    splits: NDArray[np.int64]
    unfit: tuple[int, ...]
    computing_s: Array
    slowest_stage_s: Array
    hops: tuple[HopResponse, ...]
    control_delay_s: float
    mode: Mode
    wmax_bytes: int
    return_rate_bps: float | None

    def inverse_rates(self, hop: HopResponse, inverse_rate: ArrayLike, rtt_s: ArrayLike) -> Array:
        """U of a hop, seconds per bit: of the link or its fixed return rate, and never below the window's."""
        own = inverse_rate if hop.forward or self.return_rate_bps is None else 1 / self.return_rate_bps
        return np.maximum(own, np.asarray(rtt_s) / (8 * self.wmax_bytes))

    def delays_s(self, one_way_delay_s: Array, return_delay_s: Array) -> Array:
        """All delays that a batch of each split waits through; (splits, links) or, where all are alike, (1, links)."""
        delays = np.full((1, np.size(one_way_delay_s)), self.control_delay_s)
        for hop in self.hops:
            crossed = hop.crossed[:1] if hop.crossed.all() else hop.crossed
            delays = delays + np.outer(crossed, one_way_delay_s if hop.forward else return_delay_s)
        return delays

    def services_s(
        self, inverse_rate: Array, one_way_delay_s: Array, return_delay_s: Array, *, unloaded_s: Array, slowest_s: Array
    ) -> None:
        """Put L₀ and t* of every split, (splits, links), into the last two, from u and delays of shape (links,)."""
        rtt_s = one_way_delay_s + return_delay_s
        for index, hop in enumerate(self.hops):
            own = self.inverse_rates(hop, inverse_rate, rtt_s)
            if index == 0:
                hop.occupied_s(own, rtt_s, unloaded_s, slowest_s)
                np.maximum(unloaded_s, self.slowest_stage_s[:, np.newaxis], out=slowest_s)
                unloaded_s += self.computing_s[:, np.newaxis]
            else:
                occupied, scratch = np.empty(unloaded_s.shape), np.empty(unloaded_s.shape)
                hop.occupied_s(own, rtt_s, occupied, scratch)
                np.maximum(slowest_s, occupied, out=slowest_s)
                unloaded_s += occupied
        unloaded_s += self.delays_s(one_way_delay_s, return_delay_s)


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
    check_uncalibrated(setting, "many links at once", able=ABLE)
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
    chosen = splits[fits]
    block_s = [timing.at_batch(setting.batch)[0] for timing in setting.timings]
    hops = hops_of_setting(setting, chosen)
    transfers = hop_terms(setting, hops)
    stages_s = stage_terms(setting, chosen, stage_times_s(block_s, chosen, setting.speed), hops, transfers).total_s
    # A link has no say in either, so what receiving takes is one more stage.
    constant_s = np.hstack([stages_s, transfers.receiving_s]) if transfers.receiving_s.any() else stages_s
    link, tcp_state = link_in_effect(setting)
    calibration = terms_in_effect(setting)
    called = [np.where(hop.crossed & hop.forward, calibration.rpc_round_trips, 0.0) for hop in hops]
    return LinkResponse(
        splits=chosen,
        unfit=tuple(splits[~fits].tolist()),
        computing_s=constant_s.sum(axis=1) + transfers.handover_s.sum(axis=1) + transfers.last_s[:, 0],
        slowest_stage_s=constant_s.max(axis=1),
        hops=tuple(
            _hop_response(hop, link, tcp_state, calls, calls * calibration.rpc_s + sent_s)
            for hop, calls, sent_s in zip(hops, called, transfers.sending_s.T, strict=True)
        ),
        control_delay_s=control_s(setting),
        mode=setting.mode,
        wmax_bytes=link.wmax_bytes,
        return_rate_bps=return_rate_bps,
    )


def _hop_response(hop: Hop, link: Link, tcp_state: TcpState, called: Array, sent_s: Array) -> HopResponse:
    counts = segments(hop.payload_bytes, link.mss_bytes)
    bits = 8 * (hop.payload_bytes + link.header_bytes * counts)
    if tcp_state == "warm":
        none = np.zeros((len(bits), 1))
        return HopResponse(
            hop.forward, hop.payload_bytes, hop.crossed, np.empty(0), none, bits[:, np.newaxis], called, sent_s
        )  # fmt: skip
    windows, rounds = slow_start_rounds(counts, mss_bytes=link.mss_bytes, wmax_bytes=link.wmax_bytes)
    segment_bits = np.divide(bits, counts, out=np.zeros(len(bits)), where=counts > 0)
    per_round = np.outer(windows - 1, segment_bits)  # (sizes, splits): what a round of that window stalls against
    # A round that a message does not have stalls it never, and needs no threshold.
    thresholds = np.unique(per_round[rounds > 0])
    stalls = rounds * (per_round < np.append(thresholds, np.inf)[:, np.newaxis, np.newaxis])  # (rows, sizes, splits)
    return HopResponse(
        forward=hop.forward,
        payload_bytes=hop.payload_bytes,
        crossed=hop.crossed,
        thresholds_bits=thresholds,
        round_trips=np.ascontiguousarray(stalls.sum(axis=1).T),
        bits=np.ascontiguousarray((bits - (stalls * per_round).sum(axis=1)).T),
        called=called,
        sent_s=sent_s,
    )
