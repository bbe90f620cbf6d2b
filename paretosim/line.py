"""The stations of a line with their times, as stages and links in chain order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.chain import Hop
from paretosim.link import Link
from paretosim.operation import Operation
from paretosim.pipeline import sums
from paretosim.serial_workers import WireTimes

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The stations of all plans in chain order, (plans, stations) each; zeros where a stage has no such thing.

    A link serialises for `services_s` after a stall, is `delays_s` long, and its way back `back_s`.
    `payload_bytes` is what a batch is on it, and `window_bytes` what its receiver offers.
    """

    names: tuple[str, ...]
    services_s: Array
    stalls_s: Array
    delays_s: Array
    back_s: Array
    payload_bytes: Array
    control_delay_s: float
    window_bytes: int

    @property
    def stage1(self) -> int:
        """Position of the first stage."""
        return self.names.index("stage1")

    @property
    def unloaded_s(self) -> Array:
        """L₀, (plans,)."""
        control = np.full((len(self.services_s), 1), self.control_delay_s)
        return sums(np.hstack([control, self.services_s, self.stalls_s, self.delays_s]))

    def serial_stations(self, operation: Operation) -> list[Array | WireTimes]:
        """Computing times (plans,) of workers, and the wires between them."""
        received = self.window_bytes if operation.receive_buffer_bytes is None else operation.receive_buffer_bytes
        stations: list[Array | WireTimes] = []
        for j, name in enumerate(self.names):
            if name.startswith("stage"):
                stations.append(self.services_s[:, j])
                continue
            size = self.payload_bytes[:, j]
            sent_share, read_share = (
                np.divide(room, size, out=np.full(size.shape, np.inf), where=size > 0)
                for room in (np.float64(operation.send_buffer_bytes), np.float64(received))
            )
            stations.append(
                WireTimes(
                    serialisation_s=self.services_s[:, j],
                    stall_s=self.stalls_s[:, j],
                    delay_s=self.delays_s[:, j],
                    back_s=self.back_s[:, j],
                    sent_share=sent_share,
                    read_share=read_share,
                )
            )
        return stations


def line_of(
    stages_s: Array, transfers_s: tuple[Array, Array, Array], hops: Sequence[Hop], link: Link, control_delay_s: float
) -> Line:
    """The line of every split over two devices.

    Parameters
    ----------
    stages_s : (splits, 2) seconds.
    transfers_s : serialisation, stall and delay of every hop, (splits, hops) seconds each.
    """
    none = np.zeros(len(stages_s))
    columns: list[tuple[str, Array, Array, Array, Array, Array]] = []
    for hop, served, stalled, delayed in zip(hops, *(times.T for times in transfers_s), strict=True):
        back_s = (link.return_delay_s if hop.forward else link.one_way_delay_s) * hop.crossed
        entry = (hop.name, served, stalled, delayed, back_s, hop.payload_bytes.astype(np.float64))
        if hop.forward:
            one, two = ((f"stage{k + 1}", stages_s[:, k], none, none, none, none) for k in range(2))
            columns += [one, entry, two]
        else:
            columns.append(entry)
    names, *times = zip(*columns, strict=True)
    services, stalls, delays, back, payloads = (np.stack(values, axis=1) for values in times)
    return Line(
        names=names,
        services_s=services,
        stalls_s=stalls,
        delays_s=delays,
        back_s=back,
        payload_bytes=payloads,
        control_delay_s=control_delay_s,
        window_bytes=link.wmax_bytes,
    )


def lone_stage(computing_s: Array) -> Line:
    """A line of nothing but one stage, (plans,) seconds."""
    column, none = computing_s[:, np.newaxis], np.zeros((len(computing_s), 1))
    return Line(
        names=("stage1",),
        services_s=column,
        stalls_s=none,
        delays_s=none,
        back_s=none,
        payload_bytes=none,
        control_delay_s=0.0,
        window_bytes=1,
    )
