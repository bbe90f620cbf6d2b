"""How long the exact front over several devices takes, and how that grows with blocks and devices."""

from __future__ import annotations

import math
import random
import statistics
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from paretosim.block import Block, Model, TensorShape
from paretosim.calibration import Calibration, DeviceTerms, MessageCost
from paretosim.device import Device
from paretosim.link import Link
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.placing import place
from paretosim.placement.setting import PlacementSetting
from paretosim.show.figures import plain_ticks
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


# Where `make bench` leaves the picture of the growth; it is of the run and not of the repository.
FIGURE = Path("build/benchmarks/placement-growth.png")
# A calibration in which transfers slow every stage: then stages are told apart by what is beside them.
CONTENDING = Calibration(
    schema_version=2,
    name="contending",
    backend="tcp",
    devices={"*": DeviceTerms(kappa=0.2, sending=MessageCost(message_s=1e-3), receiving=MessageCost(message_s=1e-3))},
)


@dataclass(frozen=True)
class Growth:
    """Times against a size, with the points on each front, and the law fitted to them."""

    what: str
    sizes: tuple[int, ...]
    times_s: tuple[float, ...]
    points: tuple[int, ...]
    exponential: bool = False

    @property
    def slope(self) -> float:
        """Of the logarithm of the time, against that of the size or against the size: least squares."""
        sizes = self.sizes if self.exponential else [math.log(size) for size in self.sizes]
        return statistics.linear_regression(sizes, [math.log(time_s) for time_s in self.times_s]).slope

    @property
    def law(self) -> str:
        """The power law, or the exponential one."""
        return f"×{math.exp(self.slope):.1f} for each" if self.exponential else f"size^{self.slope:.1f}"

    def __str__(self) -> str:
        measured = zip(self.sizes, self.times_s, self.points, strict=True)
        shown = ", ".join(f"{size}: {time_s:.3f} s ({points} points)" for size, time_s, points in measured)
        return f"against {self.what}: {shown}; grows as {self.law}"


def placement_front() -> Seconds:
    """Exact front of 100 blocks over 8 different devices in order, with all that `paretosim plan` shows of it."""
    setting = random_setting(100, 8)
    points = len(place(setting).rows)
    growths = [
        _growth("blocks (8 devices, in order)", [(n, random_setting(n, 8)) for n in (25, 50, 100, 200)]),
        _growth("devices (100 blocks, in order)", [(k, random_setting(100, k)) for k in (2, 4, 8, 16)]),
        _growth(
            "devices (40 blocks, any order)",
            [(k, random_setting(40, k, order="any")) for k in range(4, 10)],
            exponential=True,
        ),
    ]
    contending = msgspec.structs.replace(setting, calibration=CONTENDING)
    calibrated_s = statistics.median(runs_s(partial(place, contending), 3))
    notes = [
        f"{points} points on the front; peak of {_peak_bytes(setting) / 1e6:.0f} MB",
        f"with a calibration of every device, contention among it: {calibrated_s:.3f} s",
        *map(str, growths),
        _drawn(growths),
    ]
    return Seconds(
        "paretosim plan, front of 100 blocks over 8 different devices in order",
        runs_s(lambda: place(setting), 7),
        bar_s=1.0,
        notes=tuple(notes),
    )


def _growth(what: str, settings: Sequence[tuple[int, PlacementSetting]], *, exponential: bool = False) -> Growth:
    points = tuple(len(place(setting).rows) for _, setting in settings)
    times_s = tuple(statistics.median(runs_s(partial(place, setting), 3)) for _, setting in settings)
    return Growth(what, tuple(size for size, _ in settings), times_s, points, exponential)


def _drawn(growths: Sequence[Growth]) -> str:
    """Writes the picture, times against sizes with their laws, and says where it is."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, growth in zip(figure.subplots(1, len(growths)), growths, strict=True):
        axes.plot(growth.sizes, growth.times_s, "o", color="#c8401a")
        sizes = growth.sizes if growth.exponential else [math.log(size) for size in growth.sizes]
        logs = [math.log(time_s) for time_s in growth.times_s]
        slope, intercept = statistics.linear_regression(sizes, logs)
        fitted = [math.exp(intercept + slope * size) for size in sizes]
        axes.plot(growth.sizes, fitted, "-", color="#8a9bb0", label=f"grows as {growth.law}")
        axes.set_xscale("linear" if growth.exponential else "log")
        axes.set_yscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(growth.sizes, [str(size) for size in growth.sizes])
        plain_ticks(axes.yaxis)
        axes.set_xlabel(growth.what)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.axes[0].set_ylabel("seconds a front")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=110)
    return f"figure: {FIGURE}"


def _peak_bytes(setting: PlacementSetting) -> int:
    tracemalloc.start()
    place(setting)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
