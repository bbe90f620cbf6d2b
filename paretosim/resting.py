"""How much later messages come to hosts that have rested (docs/model.md, "Resting").

Where a batch is alone in its pipeline, whatever it meets has done nothing since the batch before: cores sleep deeper,
and other work's data take the place of its own in the caches. A message then comes later than one that follows another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import numpy as np

from paretosim.calibration import Backend
from paretosim.in_effect import control_s, holds_several, terms_in_effect

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.chain import Hop
    from paretosim.hop_terms import HopTerms
    from paretosim.placement.setting import PlacementSetting
    from paretosim.setting import Setting

    Array = NDArray[np.float64]


class _Wakes(NamedTuple):
    """How many ends of a message wake later one after the other: before its bytes cross, and while they do."""

    before: int
    meanwhile: int


# Over TCP the receiver's thread sleeps, and is awake before the last byte of a message that takes longer than waking.
# Those of RPC are inferred from how long calls and transfers took behind rests, and not read from torch: which threads
# they are (an event loop on either side, and one of the receiver's pool, would make three) is a guess.
_WAKES: dict[Backend, _Wakes] = {"tcp": _Wakes(0, 1), "rpc": _Wakes(1, 2), "memory": _Wakes(0, 0)}


_AnySetting = TypeVar("_AnySetting", "Setting", "PlacementSetting")


def awake(setting: _AnySetting) -> _AnySetting:
    """The setting with `resting` switched off where it would say something: for what leaves it out, and says so."""
    if terms_in_effect(setting).resting is None or holds_several(setting.mode):
        return setting
    return msgspec.structs.replace(setting, without=(*setting.without, "resting"))


def rested(setting: Setting, stages_s: Array, transfers: HopTerms, hops: Sequence[Hop]) -> HopTerms:
    """The hops with how much later messages come over each of them since hosts have rested: none where they have not.

    Hosts rest from one batch to the next, which takes as long as one does on hosts that have not; other batches keep
    them awake. It is latency, and holds nothing.

    Parameters
    ----------
    stages_s : (plans, stages) seconds, all terms included.
    transfers : what every hop takes, (plans, hops).
    """
    law = terms_in_effect(setting).resting
    if law is None or holds_several(setting.mode, setting.operation):
        return transfers
    services_s = stages_s.sum(axis=1) + transfers.occupied_s.sum(axis=1) + transfers.receiving_s.sum(axis=1)
    rested_s = services_s + transfers.waits_s.sum(axis=1) + control_s(setting)
    later_s = (law.later_s * rested_s / (rested_s + law.half_s))[:, np.newaxis]
    before, meanwhile = _WAKES[setting.backend]
    sockets_s = transfers.sockets_s
    crossing_s = transfers.stalls_s + np.maximum(transfers.serialisation_s, sockets_s)
    # What wakes while bytes cross, or slow start waits for their acknowledgements, shows where they cross sooner.
    shown_s = np.maximum(crossing_s, sockets_s + meanwhile * later_s) - crossing_s
    resting_s = np.stack([hop.crossed for hop in hops], axis=1) * (before * later_s + shown_s)
    return msgspec.structs.replace(transfers, handover_s=transfers.handover_s + resting_s, resting_s=resting_s)
