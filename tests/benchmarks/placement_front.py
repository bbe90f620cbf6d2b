"""How long the exact front over several devices takes, and how that grows with blocks and devices."""

from __future__ import annotations

import math
import random
import statistics
import tracemalloc
from collections.abc import Sequence
from functools import partial

from paretosim.block import Block, Model, TensorShape
from paretosim.device import Device
from paretosim.link import Link
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.placing import place
from paretosim.placement.setting import PlacementSetting
from paretosim.timing import BatchTiming, BlockTiming, Timing
from tests.benchmarks.seconds import Seconds, runs_s

LINK = Link(
    schema_version=1,
    name="100mbit,1ms",
    rate_bps=1e8,
    one_way_delay_s=1e-3,
    return_rate_bps=1e8,
    return_delay_s=1e-3,
)


def random_setting(blocks: int, devices: int, *, order: str = "given", seed: int = 1) -> PlacementSetting:
    """A chain of blocks of log-normal times and sizes on devices of different speeds, no two of them alike."""
    rng = random.Random(seed)
    sizes = [TensorShape(shape=(round(1e5 * rng.lognormvariate(0, 1)),), dtype="uint8") for _ in range(blocks + 1)]
    model = Model(
        schema_version=1,
        name="random",
        classes=1,
        input=sizes[0],
        flops_convention="none",
        origin={},
        blocks=tuple(
            Block(
                name=f"block{index}",
                flops=0,
                parameters=0,
                parameter_bytes=10**6,
                buffer_bytes=0,
                outputs=(size,),
                peak_activation_bytes=10**6,
            )
            for index, size in enumerate(sizes[1:])
        ),
    )
    work = [rng.lognormvariate(0, 1) for _ in range(blocks)]
    timings = []
    for device in range(devices):
        speed = rng.lognormvariate(math.log(1e-2), 0.5)
        own = (
            BlockTiming(name=f"block{index}", value_s=speed * share * rng.lognormvariate(0, 0.2))
            for index, share in enumerate(work)
        )
        timings.append(
            Timing(
                schema_version=1,
                device=f"device{device}",
                model="random",
                kind="measured",
                how="drawn at random",
                batches=(BatchTiming(batch=8, blocks=tuple(own)),),
            )
        )
    return PlacementSetting(
        model=model,
        devices=tuple(Device(schema_version=1, name=f"device{index}", title="") for index in range(devices)),
        timings=tuple(timings),
        links=HopLinks(every=LINK),
        order="any" if order == "any" else "given",
        ends="free",
    )


def placement_front() -> Seconds:
    """Exact front of 100 blocks over 8 different devices in order, with all that `paretosim plan` shows of it."""
    setting = random_setting(100, 8)
    points = len(place(setting).rows)
    notes = [
        f"{points} points on the front; peak of {_peak_bytes(setting) / 1e6:.0f} MB",
        _growth("blocks (8 devices, in order)", [(n, random_setting(n, 8)) for n in (25, 50, 100, 200)]),
        _growth("devices (100 blocks, in order)", [(k, random_setting(100, k)) for k in (2, 4, 8, 16)]),
        _growth(
            "devices (40 blocks, any order)",
            [(k, random_setting(40, k, order="any")) for k in range(4, 10)],
            exponential=True,
        ),
    ]
    return Seconds(
        "paretosim plan, front of 100 blocks over 8 different devices in order",
        runs_s(lambda: place(setting), 7),
        bar_s=1.0,
        notes=tuple(notes),
    )


def _growth(what: str, settings: Sequence[tuple[int, PlacementSetting]], *, exponential: bool = False) -> str:
    """Times against a size, and the power law (or the exponential) fitted to them by least squares of logarithms."""
    times = []
    for size, setting in settings:
        rows = len(place(setting).rows)
        times.append((size, statistics.median(runs_s(partial(place, setting), 3)), rows))
    sizes = [size if exponential else math.log(size) for size, _, _ in times]
    slope = statistics.linear_regression(sizes, [math.log(seconds) for _, seconds, _ in times]).slope
    law = f"×{math.exp(slope):.1f} for each" if exponential else f"as size^{slope:.1f}"
    shown = ", ".join(f"{size}: {seconds:.3f} s ({rows} points)" for size, seconds, rows in times)
    return f"against {what}: {shown}; grows {law}"


def _peak_bytes(setting: PlacementSetting) -> int:
    tracemalloc.start()
    place(setting)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
