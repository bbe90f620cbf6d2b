"""Random settings over two toy devices: every place, state of TCP and term of a calibration, from one generator."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from paretosim.calibration import SCHEMA_VERSION, Calibration, DeviceTerms, MessageCost, Relay, Resting
from paretosim.link import Link
from paretosim.mode import Arrivals, Mode
from paretosim.operation import Operation
from paretosim.setting import Setting

PLACES: tuple[dict[str, Any], ...] = ({}, {"sink": "first"}, {"source": "sink"})


def random_mode(draw: Random) -> Mode:
    """One of the modes with a closed form, its parameter from one up."""
    return draw.choice(
        [
            Mode.named("single"),
            Mode.named("paced"),
            Mode.named("closed", window=draw.choice([1, 2, 4, 1000])),
            Mode.named("burst", batches=draw.choice([1, 2, 8])),
        ]
    )


def random_link(draw: Random, toy: Any) -> Link:
    """A link of any rate and delay, with headers, whose window may be a few segments or out of reach."""
    delay_s, back_s = (draw.choice([0.0, 10 ** draw.uniform(-4, 0)]) for _ in range(2))
    link: Link = toy.link(
        10 ** draw.uniform(4, 9), delay_s, return_delay_s=back_s, header_bytes=draw.choice([0, 66, 90]), mss_bytes=1448,
        wmax_bytes=draw.choice([20_000, 3 * 2**20]),
    )  # fmt: skip
    return link


def random_calibration(draw: Random, backend: Any = "tcp") -> Calibration:
    """A calibration with every term on; the second device is an accelerator's."""

    def cost() -> MessageCost:
        return MessageCost(message_s=10 ** draw.uniform(-4, -1), bytes_per_s=10 ** draw.uniform(5, 9))

    def kappa() -> float:
        return draw.choice([0.25, draw.uniform(0.01, 2)])

    def passing_on() -> dict[str, Any]:
        return {
            "copying_bytes_per_s": 10 ** draw.uniform(4, 9), "arriving_s": draw.uniform(0, 0.01),
            "leaving_s": draw.uniform(0, 0.01), "returning": cost(),
        }  # fmt: skip

    return Calibration(
        schema_version=SCHEMA_VERSION,
        name="random",
        backend=backend,
        devices={
            "one": DeviceTerms(
                gamma=draw.uniform(0.5, 2), overhead_s=draw.uniform(0, 0.1), kappa=kappa(), sending=cost(),
                receiving=cost(), **passing_on(),
            ),
            "two": DeviceTerms(
                gamma=draw.uniform(0.5, 2), overhead_s=draw.uniform(0, 0.1), kappa=kappa(), sending=cost(),
                receiving=cost(), launch_s=draw.uniform(0, 0.05), pcie_bytes_per_s=10 ** draw.uniform(5, 10),
                **passing_on(),
            ),
        },
        framing_bytes=draw.randint(1, 2000),
        dispatch_s=draw.uniform(0, 0.01),
        rpc_round_trips=draw.uniform(0.1, 3),
        rpc_s=draw.uniform(0, 0.02),
        rpc_answers=draw.uniform(0.1, 2),
        rpc_answer_s=draw.uniform(0, 0.04),
        relay=Relay(rate_bps=draw.choice([None, 10 ** draw.uniform(4, 9)]), delay_s=draw.choice([0.0, 0.03])),
        resting=Resting(later_s=draw.uniform(0.001, 0.05), half_s=10 ** draw.uniform(-3, 0)),
    )  # fmt: skip


def random_setting(draw: Random, toy: Any, **fields: Any) -> Setting:
    """Two to six blocks with times from nothing to seconds and outputs from a few bytes to a megabyte a batch.

    Every term of a calibration is on, unless `calibration` says otherwise.
    """
    blocks = fields.pop("blocks", None) or draw.randint(2, 6)
    first, second = ([draw.choice([0.0, 10 ** draw.uniform(-3, 0.5)]) for _ in range(blocks)] for _ in range(2))
    first[draw.randrange(blocks)] += 0.01  # a timing of nothing is refused
    second[draw.randrange(blocks)] += 0.01
    options = {
        "outputs": [round(10 ** draw.uniform(0, 4.5)) for _ in range(blocks)],
        "inputs": round(10 ** draw.uniform(0, 4.5)),
        "link": random_link(draw, toy),
        "mode": random_mode(draw),
        "tcp_state": draw.choice(["warm", "cold"]),
        "speed": draw.choice([1.0, 20.0]),
        "control_delay_s": draw.choice([0.0, 0.02]),
        "devices": (toy.device("one"), msgspec.structs.replace(toy.device("two"), accelerator="GPU")),
        **draw.choice(PLACES),
        **fields,
    }
    if "calibration" not in options:
        options["calibration"] = random_calibration(draw)
    setting: Setting = toy.setting(first, second, **options)
    return setting


def of_any_link(setting: Setting) -> Setting:
    """Without what rests between batches add, which maps over links leave out."""
    return msgspec.structs.replace(setting, without=(*setting.without, "resting"))


def random_operated(draw: Random, toy: Any, **fields: Any) -> Setting:
    """A random setting in any mode and operation, calibrated or not, on the clock of the dispatch.

    Finite runs, evenly spaced and Poisson arrivals, bounded buffers and serial workers are among them.
    """
    operation: dict[str, Any] = draw.choice(
        [
            {},
            {"slots": draw.choice([0, 1, 3])},
            {
                "workers": "serial",
                "send_buffer_bytes": draw.choice([0, 10_000, 4 * 2**20]),
                "receive_buffer_bytes": draw.choice([0, 5_000, None]),
            },
        ]
    )
    mode = random_mode(draw)
    if draw.random() < 0.3:
        process = draw.choice(["deterministic", "poisson"])
        mode = Mode.named("open", arrivals=Arrivals(rate_per_s=10 ** draw.uniform(-2, 0.5), process=process))
        if process == "poisson" and operation:  # a steady state of these is long samples
            operation["batches"] = draw.randint(1, 6)
    if mode.name in ("open", "closed") and draw.random() < 0.3:
        operation["batches"] = draw.randint(1, 6)
    if draw.random() < 0.4:
        fields = {"calibration": None, **fields}
    return random_setting(draw, toy, **{"mode": mode, "operation": Operation(**operation), **fields})
