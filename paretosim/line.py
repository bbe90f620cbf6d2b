"""The stations of a line with their times, as stages and links in chain order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.chain import Hop
from paretosim.hop_terms import HopTerms
from paretosim.link import Link
from paretosim.operation import Operation, Workers
from paretosim.pipeline import sums
from paretosim.serial_workers import WireTimes, shares_of

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


HOP_NAMES = ("input", "link1", "relay", "return")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The stations of all plans in chain order, (plans, stations) each; zeros where a stage has no such thing.

    A link serialises (or copies, where that takes longer) for `services_s` after a stall (and what its sender and RPC
    wait before the first byte), is `delays_s` long, and its way back `back_s`. Handing over is among the delays.
    A station takes no other batch for `held_s` once one has gone on: for as long as the answer to a call takes.
    `payload_bytes` is what a batch is on it, and `window_bytes` what its receiver offers.
    """

    names: tuple[str, ...]
    services_s: Array
    stalls_s: Array
    held_s: Array
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
    def occupied_s(self) -> Array:
        """How long a batch keeps each station from the next one where nothing is in its way, (plans, stations)."""
        return self.services_s + self.stalls_s + self.held_s

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
            if name not in HOP_NAMES:
                stations.append(self.services_s[:, j])
                continue
            size = self.payload_bytes[:, j]
            sent_share, read_share = shares_of(size, operation.send_buffer_bytes, received)
            stations.append(
                WireTimes(
                    serialisation_s=self.services_s[:, j],
                    stall_s=self.stalls_s[:, j],
                    delay_s=self.delays_s[:, j],
                    back_s=self.back_s[:, j],
                    sent_share=sent_share,
                    read_share=read_share,
                    answer_s=self.held_s[:, j - 1] if j else np.zeros(len(size)),
                )
            )
        return stations


def line_of(
    stages_s: Array,
    transfers: HopTerms,
    hops: Sequence[Hop],
    link: Link,
    control_delay_s: float,
    *,
    workers: Workers = "overlapped",
) -> Line:
    """The line of every split over two devices.

    Overlapped workers send and receive beside computing: sending occupies the link, receiving is a station behind it.
    Serial ones do it themselves, so that it is time of their stages; where there is no stage on a side of a link (at
    the orchestrator, at a master), it is that of a worker there. What holds a link until a call is answered holds a
    serial worker.

    Parameters
    ----------
    stages_s : (splits, 2) seconds.
    transfers : what every hop takes, (splits, hops) each.
    """
    none = np.zeros(len(stages_s))
    serial = workers == "serial"
    senders_s = transfers.sending_s + transfers.rpc_s
    waits_s = transfers.delays_s + transfers.handover_s
    receives, sends = bool(transfers.receiving_s.any()), bool(senders_s.any())
    names_of_hops = [hop.name for hop in hops]
    stage_behind = names_of_hops.index("relay" if "relay" in names_of_hops else "link1")
    last_s = transfers.last_s[:, 0]
    columns: list[tuple[str, Array, Array, Array, Array, Array, Array]] = []

    def works(name: str, time_s: Array, held_s: Array = none) -> None:
        columns.append((name, time_s, none, held_s, none, none, none))

    for j, hop in enumerate(hops):
        sent_s, received_s = senders_s[:, j], transfers.receiving_s[:, j]
        back_s = np.asarray(
            (link.return_delay_s if hop.forward else link.one_way_delay_s) * hop.crossed, dtype=np.float64
        )
        if hop.name == "relay":
            back_s = transfers.delays_s[:, j]
        both_s = transfers.receiving_s[:, j - 1] + sent_s if j else sent_s
        answered_s = transfers.answering_s[:, j]
        if hop.name == "link1":
            works("stage1", *((stages_s[:, 0] + both_s, answered_s) if serial else (stages_s[:, 0],)))
        elif serial and j == 0 and sends:
            works(f"{hop.name}.send", sent_s)
        elif serial and hop.name == "relay":
            works("master", both_s)
        stall_s = transfers.stalls_s[:, j] if serial else transfers.stalls_s[:, j] + sent_s
        carried_s = transfers.serialisation_s[:, j] + transfers.copying_s[:, j]
        entry = (carried_s, stall_s, none if serial else answered_s, waits_s[:, j], back_s)
        columns.append((hop.name, *entry, hop.payload_bytes.astype(np.float64)))
        if receives and not serial:
            works(f"{hop.name}.receive", received_s)
        if j == stage_behind:
            # What comes after stage 2 is sent by it.
            more_s = senders_s[:, j + 1] if j + 1 < len(hops) else none
            works("stage2", stages_s[:, 1] + received_s + more_s + last_s if serial else stages_s[:, 1])
        elif serial and receives and hop.name == "return":
            works(f"{hop.name}.receive", received_s)
    names, *times = zip(*columns, strict=True)
    services, stalls, held, delays, back, payloads = (np.stack(values, axis=1) for values in times)
    if not serial:  # whose last worker sends the result itself
        delays[:, -1] += last_s
    return Line(
        names=names,
        services_s=services,
        stalls_s=stalls,
        held_s=held,
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
        held_s=none,
        delays_s=none,
        back_s=none,
        payload_bytes=none,
        control_delay_s=0.0,
        window_bytes=1,
    )
