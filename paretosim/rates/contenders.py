"""Which splits no other one settles before any link is known: the contenders.

A split rules another if it is no worse on any link. Without contention that is a matter of five quantities: both
stages' sum, the longer stage, and the bytes of each hop. With contention a stage of c seconds takes
c + κ·Σ min(c, x), and a split whose stages are closer to each other shares more of them with the same transfer: with
the smaller sum and the shorter longer stage it may still be worse in latency. What it loses that way is bounded by
what it gains on the wire, hop by hop and for every u = 1 / rate at once; so it rules where the gains cover the losses
(docs/model.md, "Many links").

Arrays of shape (splits, splits) hold in [a, b] what is said of split a over split b.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paretosim.pareto import representatives
from paretosim.rates.link_response import HopResponse, LinkResponse, StageResponse

Array = NDArray[np.float64]


def contenders(response: LinkResponse) -> NDArray[np.intp]:
    """For each split, the place of a contender that is no worse on any link; a contender's own place for itself.

    Of splits with the same quantities the first is the contender.

    Returns
    -------
    (splits,) places.
    """
    return representatives(are_no_worse(response))


def are_no_worse(response: LinkResponse) -> NDArray[np.bool_]:
    """Whether split a is shown to be no worse than split b on any link, in any mode, (splits, splits)."""
    growth = [_growth(hop) for hop in response.hops]
    no_worse = np.logical_and.reduce([hop.payload_bytes[:, np.newaxis] <= hop.payload_bytes for hop in response.hops])
    no_worse &= _are_no_later(response, growth)
    no_worse &= _are_no_slower(response, growth)
    return np.asarray(no_worse)


def _growth(hop: HopResponse) -> Array:
    """How many times a's bits b sends; 0 where a sends nothing, and so shares nothing with any stage."""
    bits = hop.wire_bits
    return np.divide(bits, bits[:, np.newaxis], out=np.zeros((len(bits), len(bits))), where=bits[:, np.newaxis] > 0)


def _are_no_later(response: LinkResponse, growth: Sequence[Array]) -> NDArray[np.bool_]:
    """Whether L₀ of a is no larger than that of b on any link, if a sends no more."""
    constant_s = response.constant_s + sum(hop.sent_s for hop in response.hops)
    if response.slowed:
        constant_s = constant_s + response.contention_s([stage.shared_s for stage in response.slowed])
    gained_s = constant_s - constant_s[:, np.newaxis]
    for place, hop in enumerate(response.hops):
        beside = [stage for stage in response.slowed if place in stage.beside]
        if beside:
            gained_s -= _lost_s(hop, beside, growth[place])
    return np.asarray(gained_s >= 0)


def _lost_s(hop: HopResponse, beside: Sequence[StageResponse], growth: Array) -> Array:
    """The most that a loses to b by sharing more with a hop, less what the hop takes b longer, over all u.

    With a's and b's shares and the time that b's transfer is longer that is a function of u which is concave between
    those at which a's transfer is as long as one of its stages, and falls no more after the last; so its least value is
    at one of them, or at u = 0, where it is zero.
    """
    slack_bits = _slack_bits(hop)
    lost_s = np.zeros(slack_bits.shape)
    for at in beside:
        inverse_rate = np.divide(at.alone_s, hop.wire_bits, out=np.zeros(len(lost_s)), where=hop.wire_bits > 0)
        transfer_s = growth * at.alone_s[:, np.newaxis]  # b's, where a's takes as long as a's stage
        gained_s = slack_bits * inverse_rate[:, np.newaxis]
        for stage in beside:
            own_s = np.minimum(stage.alone_s, at.alone_s)[:, np.newaxis]
            gained_s += stage.kappa * (np.minimum(stage.alone_s, transfer_s) - own_s)
        np.maximum(lost_s, -gained_s, out=lost_s)
    return np.where(growth > 0, lost_s, 0.0)


def _slack_bits(hop: HopResponse) -> Array:
    """A number of bits: at any RTT the hop is occupied for at least that times u longer by b than by a.

    Occupancy over u depends on RTT / u alone and is affine between thresholds, and b has no fewer rounds than a.
    """
    ratios = np.append(0.0, hop.thresholds_bits[hop.thresholds_bits > 0])
    rows = hop.rows(np.ones(len(ratios)), ratios)
    kinds, places = np.unique(hop.payload_bytes, return_index=True)
    over_u = hop.round_trips[places[:, np.newaxis], rows] * ratios + hop.bits[places[:, np.newaxis], rows]
    slack_bits = (over_u - over_u[:, np.newaxis]).min(axis=2).clip(min=0.0)
    of = np.searchsorted(kinds, hop.payload_bytes)
    slack_bits = slack_bits[of[:, np.newaxis], of]
    if hop.copied_s.any():
        # Below the u at which the sockets set the pace occupancy stays as it is there. Where a's is the higher u, its
        # occupancy is up to its bits times the difference more than at b's.
        pace = np.divide(hop.copied_s, hop.wire_bits, out=np.zeros(len(of)), where=hop.wire_bits > 0)
        above = np.divide(pace[:, np.newaxis], pace, out=np.ones(slack_bits.shape), where=pace > 0) - 1
        slack_bits = (slack_bits - hop.wire_bits[:, np.newaxis] * above.clip(min=0.0)).clip(min=0.0)
    return np.asarray(slack_bits)


def _are_no_slower(response: LinkResponse, growth: Sequence[Array]) -> NDArray[np.bool_]:
    """Whether each stage of a is no longer on any link than one of b's, if a sends no more.

    What no transfer slows down counts as one stage more.
    """
    nothing = np.zeros(len(response.splits))
    stages = [StageResponse(0.0, response.slowest_constant_s, nothing, ()), *response.slowed]
    among = [np.logical_or.reduce([_is_no_longer(one, other, growth) for other in stages]) for one in stages]
    return np.asarray(np.logical_and.reduce(among))


def _is_no_longer(one: StageResponse, other: StageResponse, growth: Sequence[Array]) -> NDArray[np.bool_]:
    """Whether stage `one` of a is no longer on any link than stage `other` of b.

    What `other` takes more, less what `one` does, is concave in u up to where a's transfer is as long as `one`, and
    falls no more after that.
    """
    if one is other:  # no more is sent, so no transfer beside it is longer
        return np.asarray(one.alone_s[:, np.newaxis] <= one.alone_s)
    own_s = one.alone_s[:, np.newaxis]
    gained_s = other.alone_s + other.kappa * other.shared_s - (own_s + one.kappa * one.shared_s[:, np.newaxis])
    for place in one.beside:
        shared_s = np.minimum(other.alone_s, growth[place] * own_s) if place in other.beside else 0.0
        at_kink_s = other.kappa * shared_s - one.kappa * own_s
        gained_s += np.where(growth[place] > 0, at_kink_s, 0.0).clip(max=0.0)
    return np.asarray(gained_s >= 0)
