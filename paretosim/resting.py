"""How much later threads wake on hosts that have rested (docs/model.md, "Resting").

Where a batch is alone in its pipeline, whatever it meets has done nothing since the batch before: cores sleep deeper,
and other work's data take the place of its own in the caches. Each thread on its way then wakes later than it does
where batches follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import numpy as np

from paretosim.calibration import Backend, Resting
from paretosim.in_effect import Termed, control_s, holds_several, terms_in_effect

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.chain import Hop
    from paretosim.hop_terms import HopTerms
    from paretosim.mode import Mode
    from paretosim.operation import Operation

    Array = NDArray[np.float64]

# Threads that sleep on a message's way to the next host. Over TCP the receiver's; of a call of RPC the event loop of
# either side, and one of the receiver's pool, which runs the call (TensorPipeAgent of torch.distributed.rpc).
_WAKES_ON_HOP: dict[Backend, int] = {"tcp": 1, "rpc": 3, "memory": 0}


class Operated(Termed, Protocol):
    """A setting, as far as it says whether batches follow one another."""

    @property
    def mode(self) -> Mode: ...


class Rests(NamedTuple):
    """By what law threads wake later, and how many of them one after the other.

    `on_hop` wake on a message's way, `arriving` until what came is computed, `result` behind a chain's last stage.
    """

    law: Resting
    on_hop: int
    arriving: int
    result: int

    @property
    def hop_share(self) -> float:
        """The part that the message's way has in what a hop and what follows it take longer."""
        return self.on_hop / max(1, self.on_hop + self.arriving)

    def later_s(self, rested_s: Array) -> Array:
        """How much later one thread wakes after so many seconds of rest, of any shape."""
        return np.asarray(self.law.later_s * rested_s / (rested_s + self.law.half_s))

    def wakes_of_chain(self, hops: Sequence[str]) -> int:
        """How many threads wake in all, on hops of those names and behind the last stage."""
        return (self.on_hop + self.arriving) * len(hops) + (0 if "return" in hops else self.result)

    def wakes(self, hops: Sequence[Hop], plans: int) -> NDArray[np.int64]:
        """How many threads wake at each hop of each plan and, last, behind the last stage: (plans, hops + 1)."""
        found = np.zeros((plans, len(hops) + 1), dtype=np.int64)
        found[:, -1] = self.result
        for place, hop in enumerate(hops):
            found[:, place] = (self.on_hop + self.arriving) * hop.crossed
            if hop.name == "return":
                found[hop.crossed, -1] = 0  # the result is with its orchestrator then
        return found


def rests_in_effect(setting: Operated, operation: Operation | None = None) -> Rests | None:
    """None where no calibration says anything of it, or where other batches keep the hosts awake.

    Parameters
    ----------
    operation : of the workers, of which serial ones compute and send in the thread that receives; None is overlapped.
    """
    law = terms_in_effect(setting).resting
    if law is None or (holds_several(setting.mode) if operation is None else holds_several(setting.mode, operation)):
        return None
    handed = 1 if operation is None or operation.workers == "overlapped" else 0
    return Rests(law, on_hop=_WAKES_ON_HOP[setting.backend], arriving=handed, result=1 + handed)


def rested(
    setting: Operated, stages_s: Array, transfers: HopTerms, hops: Sequence[Hop], operation: Operation | None = None
) -> HopTerms:
    """The hops with what a batch waits longer at each of them, and behind the last station, since hosts have rested.

    They rest from one batch to the next: as long as one takes on hosts that have not.

    Parameters
    ----------
    stages_s : (plans, stages) seconds, all terms included.
    transfers : what every hop takes, (plans, hops).
    """
    rests = rests_in_effect(setting, operation)
    if rests is None:
        return transfers
    services_s = stages_s.sum(axis=1) + transfers.occupied_s.sum(axis=1) + transfers.receiving_s.sum(axis=1)
    unloaded_s = services_s + transfers.waits_s.sum(axis=1) + control_s(setting)
    later_s = rests.wakes(hops, len(stages_s)) * rests.later_s(unloaded_s)[:, np.newaxis]
    return msgspec.structs.replace(
        transfers,
        handover_s=transfers.handover_s + later_s[:, :-1],
        last_s=transfers.last_s + later_s[:, -1:],
        resting_s=later_s,
    )


def result_rested_s(setting: Operated, stage_s: Array, last_s: float) -> float:
    """How much later the result of a lone stage, (1, 1) seconds, is there, which a batch waits `last_s` for anyway."""
    rests = rests_in_effect(setting)
    if rests is None:
        return 0.0
    return rests.wakes_of_chain(()) * float(rests.later_s(stage_s + last_s + control_s(setting))[0, 0])
