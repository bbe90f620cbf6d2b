"""What a prediction's inputs leave open: every split's objectives over samples of what they may be.

Each sample is a world in which the devices' block times, a calibration, rate and delay are certain numbers; the same
chain and formulas as in `predict` give its latencies, throughputs and front. Percentiles are over those worlds: of
what a mode's latency may turn out to be, not of single batches within a run. Splits of one sample share its draws, and
so do two devices with one timing: whatever is wrong with it is wrong on both (docs/model.md, "Uncertainty").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from paretosim import pareto
from paretosim.chain import Hop, stage_times_s
from paretosim.errors import BadInputError
from paretosim.hop_terms import hop_terms, hops_of_setting
from paretosim.mode import Arrivals
from paretosim.prediction import alone, objectives_of
from paretosim.resolution import WORTHWHILE_GAIN
from paretosim.resting import rested
from paretosim.stage_terms import lone_s, stage_terms
from paretosim.uncertainty.block_error import ErrorModel, drawn_block_times_s, has_repeats
from paretosim.uncertainty.calibration_error import drawn_calibrations
from paretosim.uncertainty.fast_ends import Claims, claims_of, fast_end

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from paretosim.calibration import Calibration
    from paretosim.link import Link
    from paretosim.prediction import Prediction
    from paretosim.setting import Setting

    Array = NDArray[np.float64]
    Objective = Literal["latency", "throughput"]
    FastEnds = Literal["stations", "samples"]

DEFAULT_SAMPLES = 1000
# The 1st and 99th percentile need a hundred; beyond a hundred thousand, arrays no longer fit in common memories.
MIN_SAMPLES, MAX_SAMPLES = 100, 100_000
# Of the splits that are worse in the prediction, those that are as good in this share of samples cannot be told apart.
# It is the tail that the 5–95 % intervals leave out.
SHARE_THAT_COUNTS = 0.05
# Service times of splits, samples and batches that are worked on at once; a few arrays of 2 MB.
CHUNK_TIMES = 2**18


class Doubts(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn, and how: `assumed_errors` by device stand in for errors that a timing does not know.

    `rate_spread` and `delay_spread` are standard deviations of logarithms, of rate and delay in both directions.
    """

    samples: int = DEFAULT_SAMPLES
    seed: int = 0
    rate_spread: float = 0.0
    delay_spread: float = 0.0
    assumed_errors: Mapping[str, float] = msgspec.field(default_factory=dict)
    error_model: ErrorModel = ErrorModel()

    def __post_init__(self) -> None:
        if not MIN_SAMPLES <= self.samples <= MAX_SAMPLES:
            raise BadInputError(f"samples: got {self.samples}, expected {MIN_SAMPLES} to {MAX_SAMPLES}")
        if self.seed < 0:
            raise BadInputError(f"seed: got {self.seed}, expected a whole number of 0 or more")
        shares = {"rate_spread": self.rate_spread, "delay_spread": self.delay_spread}
        shares |= {f"assumed error of {device}": error for device, error in self.assumed_errors.items()}
        for name, value in shares.items():
            if not 0 <= value <= 10:  # e¹⁰ either way says nothing any more
                raise BadInputError(f"{name}: got {value}, expected a share from 0 to 10, such as 0.1 for 10%")


class DeviceDoubt(msgspec.Struct, frozen=True, kw_only=True):
    """The error that a device's block times were drawn with, where it is from, and whether repeats were redrawn too."""

    device: str
    error: float
    source: Literal["timing", "assumed"]
    repeats: bool


class SplitDoubt(msgspec.Struct, frozen=True, kw_only=True):
    """One split over all samples: percentiles of its objectives, and in which share of samples it is the best.

    A split that does not fit in memory is never on a front, nor best. `best_…` counts samples in which it is best among
    those that fit and meet the constraints, ties as in `Recommended`.
    """

    split: int
    latency_p05_s: float
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float
    throughput_p01_per_s: float
    throughput_p05_per_s: float
    throughput_p50_per_s: float
    throughput_p95_per_s: float
    throughput_p99_per_s: float
    front_probability: float
    best_latency_probability: float
    best_throughput_probability: float
    meets_constraints_probability: float


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """Throughput of the recommended split over that of the first device alone, and how often it is worthwhile."""

    p05: float
    p50: float
    p95: float
    worthwhile_probability: float


class Uncertainty(msgspec.Struct, frozen=True, kw_only=True):
    """What `uncertainty_of` found, splits in the prediction's order.

    `alike` names, for an objective, the splits that cannot be told apart from the recommended one; None without
    one. `fast_ends` says what fast ends of intervals are from: the `stations` one by one, or the `samples`, which put
    them too low where stations are equally slow. `qualifying_probability` is the share of samples in which any split
    fits and meets the constraints.
    """

    doubts: Doubts
    devices: tuple[DeviceDoubt, DeviceDoubt]
    splits: tuple[SplitDoubt, ...]
    alike: dict[Objective, tuple[int, ...] | None]
    gain_over_first: Gain | None
    fast_ends: FastEnds
    qualifying_probability: float

    def split(self, number: int) -> SplitDoubt:
        """What was found of that split."""
        return next(found for found in self.splits if found.split == number)


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """Objectives of every split in every sample, (samples, splits) each, and of the first device alone, (samples,).

    `claims` are what each station alone makes of them, (claims, samples, splits); None without a closed form.
    """

    latency_s: Array
    throughput_per_s: Array
    first_alone_per_s: Array
    claims: Claims | None


def uncertainty_of(prediction: Prediction, doubts: Doubts | None = None) -> Uncertainty:
    """Intervals and probabilities of every split of a prediction.

    Raises
    ------
    BadInputError : the error of a timing is not known and not assumed either, or one is assumed that is known; a mode
        without a closed form; or draws so wide that objectives leave the range of numbers.
    """
    chosen = Doubts() if doubts is None else doubts
    devices = _device_doubts(prediction.setting, chosen)
    drawn = draw(prediction, chosen)
    latency_s, throughput = drawn.latency_s, drawn.throughput_per_s
    fits = np.array([row.fits for row in prediction.rows])
    keeps_up = np.isfinite(latency_s)  # in `open`, batches may arrive faster than they can leave
    meets = prediction.setting.is_met(latency_s, throughput) & keeps_up
    eligible = meets & fits
    on_front = np.zeros(latency_s.shape, dtype=np.bool_)
    if fits.any():
        on_front[:, fits] = pareto.are_nondominated(latency_s[:, fits].T, -throughput[:, fits].T).T
    on_front &= keeps_up
    best_latency = _best(latency_s, -throughput, eligible)
    best_throughput = _best(-throughput, latency_s, eligible)
    latency = _quantiles(latency_s, (0.05, 0.5, 0.95, 0.99))
    rates = _quantiles(throughput, (0.01, 0.05, 0.5, 0.95, 0.99))
    if drawn.claims is not None:
        latency[0] = fast_end(drawn.claims.latency_s, 0.05)
        rates[3:] = [prediction.setting.batch / fast_end(drawn.claims.period_s, share) for share in (0.05, 0.01)]
    columns = (
        *latency, *rates, on_front.mean(axis=0), best_latency.mean(axis=0), best_throughput.mean(axis=0),
        meets.mean(axis=0),
    )  # fmt: skip
    names = SplitDoubt.__struct_fields__[1:]
    splits = tuple(
        SplitDoubt(split=row.split, **dict(zip(names, map(float, values), strict=True)))
        for row, values in zip(prediction.rows, zip(*columns, strict=True), strict=True)
    )
    return Uncertainty(
        doubts=chosen,
        devices=devices,
        splits=splits,
        alike={
            "latency": _alike(prediction, prediction.recommended.latency, -latency_s),
            "throughput": _alike(prediction, prediction.recommended.throughput, throughput),
        },
        gain_over_first=_gain(prediction, drawn),
        fast_ends="samples" if drawn.claims is None else "stations",
        qualifying_probability=float(eligible.any(axis=1).mean()),
    )


def draw(prediction: Prediction, doubts: Doubts) -> Samples:
    """Objectives of every split in each of `doubts.samples` worlds, by the function that `predict` has them from."""
    setting = prediction.setting
    arrivals = setting.mode.arrivals
    if isinstance(arrivals, Arrivals) and arrivals.process == "poisson" and setting.operation.batches is None:
        raise BadInputError(
            "uncertainty: in steady state, random arrivals are a simulation of their own for each split and sample;"
            " expected --arrivals deterministic, or a finite run with --batches"
        )
    splits = np.array([row.split for row in prediction.rows])
    block_s = _block_times_s(setting, doubts)
    stages_s = stage_times_s(block_s, splits, setting.speed)
    first_s = (block_s[0] / setting.speed).sum(axis=1)
    latency_s, period_s, alone_s = np.empty(stages_s.shape[:2]), np.empty(stages_s.shape[:2]), np.empty(len(first_s))
    claims: Claims | None = None
    for world, part in _worlds(setting, doubts, len(splits)):
        latency_s[part], period_s[part], own = _objectives(world, splits, stages_s[part])
        if own is not None:
            if claims is None:
                claims = Claims(*(np.empty((len(values), *stages_s.shape[:2])) for values in own))
            for room, values in zip(claims, own, strict=True):
                room[:, part] = values
        alone_s[part] = alone(world, lone_s(world, 0, first_s[part]))[1]
    if not np.isfinite(period_s).all() or np.isnan(latency_s).any():
        raise _too_wide()
    if setting.mode.name != "open" and np.isinf(latency_s).any():
        raise _too_wide()
    return Samples(
        latency_s=latency_s,
        throughput_per_s=setting.batch / period_s,
        first_alone_per_s=setting.batch / alone_s,
        claims=claims,
    )


def _too_wide() -> BadInputError:
    return BadInputError(
        "uncertainty: a sampled latency is too large for a number; expected smaller errors and spreads"
    )


def _objectives(world: Setting, splits: NDArray[np.int64], stages_s: Array) -> tuple[Array, Array, Claims | None]:
    """Latency and period, (samples, splits), and claims, from Σt (samples, splits, 2) on the link of one world."""
    count, shape = len(stages_s), stages_s.shape[:2]
    hops = hops_of_setting(world, splits)
    transfers = hop_terms(world, hops)
    stages_s = stage_terms(world, splits, stages_s, hops, transfers).total_s.reshape(-1, 2)
    transfers = transfers.repeated(count)
    repeated = [Hop(hop.name, np.tile(hop.payload_bytes, count), np.tile(hop.crossed, count)) for hop in hops]
    transfers = rested(world, stages_s, transfers, repeated)
    found = objectives_of(world, stages_s, transfers, repeated).objectives
    claims = None
    if world.has_closed_form:
        claims = Claims(*(values.reshape(-1, *shape) for values in claims_of(world, stages_s, transfers)))
    return found.latency_s.reshape(shape), found.period_s.reshape(shape), claims


def _worlds(setting: Setting, doubts: Doubts, splits: int) -> Iterator[tuple[Setting, slice]]:
    """The setting on each link and calibration, with its samples: one each, or chunks of all where both are certain."""
    links, calibrations = _links(setting, doubts), _calibrations(setting, doubts)
    if links is None and calibrations is None:
        batches = setting.operation.batches or setting.mode.batches or 1
        step = max(1, CHUNK_TIMES // (splits * batches))
        yield from ((setting, slice(start, start + step)) for start in range(0, doubts.samples, step))
        return
    for sample in range(doubts.samples):
        own = msgspec.structs.replace(
            setting,
            link=setting.link if links is None else links[sample],
            calibration=setting.calibration if calibrations is None else calibrations[sample],
        )
        yield own, slice(sample, sample + 1)


def _links(setting: Setting, doubts: Doubts) -> list[Link] | None:
    """The link of each sample; None where it is certain."""
    if not (doubts.rate_spread or doubts.delay_spread):
        return None
    rng = np.random.default_rng([doubts.seed, len(setting.timings)])
    factors = np.exp(rng.standard_normal((doubts.samples, 2)) * [doubts.rate_spread, doubts.delay_spread]).tolist()
    link = setting.link
    return [
        msgspec.structs.replace(
            link,
            rate_bps=link.rate_bps * rate,
            return_rate_bps=link.return_rate_bps * rate,
            one_way_delay_s=link.one_way_delay_s * delay,
            return_delay_s=link.return_delay_s * delay,
        )
        for rate, delay in factors
    ]


def _calibrations(setting: Setting, doubts: Doubts) -> list[Calibration] | None:
    """The calibration of each sample; None where there is none, or none with intervals."""
    if setting.calibration is None or not setting.calibration.intervals:
        return None
    rng = np.random.default_rng([doubts.seed, len(setting.timings) + 1])
    return drawn_calibrations(setting.calibration, doubts.samples, rng)


def _block_times_s(setting: Setting, doubts: Doubts) -> list[Array]:
    """Block times of both devices, (samples, blocks) each; devices that share a timing share its draws."""
    drawn: list[Array] = []
    for index, timing in enumerate(setting.timings):
        if index and timing == setting.timings[0]:
            drawn.append(drawn[0])
            continue
        # A stream of its own for each timing, the link and the calibration: one more leaves the others' draws alone.
        rng = np.random.default_rng([doubts.seed, index])
        error = _device_doubts(setting, doubts)[index].error
        drawn.append(drawn_block_times_s(timing, setting.batch, error, doubts.samples, rng, doubts.error_model))
    return drawn


def _device_doubts(setting: Setting, doubts: Doubts) -> tuple[DeviceDoubt, DeviceDoubt]:
    names = [device.name for device in setting.devices]
    if unused := [name for name in doubts.assumed_errors if name not in names]:
        raise BadInputError(
            f"assumed error: got one of {', '.join(unused)}, expected one of {' or '.join(dict.fromkeys(names))}"
        )
    found = []
    for timing in setting.timings:
        assumed = doubts.assumed_errors.get(timing.device)
        if timing.error is None and assumed is None:
            raise BadInputError(
                f"uncertainty: the error of the timing of {timing.model} on {timing.device} is not known; assume one"
                f" with --assume-error {timing.device}=0.1 (for 10%), or measure it with: hwrun profile"
            )
        if timing.error is not None and assumed is not None:
            raise BadInputError(
                f"assumed error: got one of {timing.device}, but its timing of {timing.model} has its own,"
                f" {timing.error.relative:.1%}; leave it out"
            )
        found.append(
            DeviceDoubt(
                device=timing.device,
                error=timing.error.relative if timing.error is not None else assumed or 0.0,
                source="assumed" if timing.error is None else "timing",
                repeats=has_repeats(timing),
            )
        )
    return found[0], found[1]


def _quantiles(values: Array, shares: tuple[float, ...]) -> Array:
    """Values of samples and nothing in between, as one of two may be infinite."""
    return np.asarray(np.quantile(values, shares, axis=0, method="inverted_cdf"))


def _best(first: Array, second: Array, eligible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the least of `first`, ties by `second` and then by place, is among what is eligible; (samples, splits)."""
    least = np.where(eligible, first, math.inf)
    tied = least == least.min(axis=1, keepdims=True)
    place = np.where(tied & eligible, second, math.inf).argmin(axis=1)
    mask = np.zeros(first.shape, dtype=np.bool_)
    mask[np.arange(len(mask)), place] = eligible.any(axis=1)
    return mask


def _alike(prediction: Prediction, best: int | None, goodness: Array) -> tuple[int, ...] | None:
    """Splits that are as good as `best`, or better, in a share of samples that counts."""
    if best is None:
        return None
    places = {row.split: place for place, row in enumerate(prediction.rows)}
    reference = goodness[:, places[best], np.newaxis]
    as_good = ((goodness >= reference) & np.isfinite(goodness)).mean(axis=0)  # never back is not as good as never back
    return tuple(
        row.split
        for row, share in zip(prediction.rows, as_good, strict=True)
        if row.split != best and row.fits and share >= SHARE_THAT_COUNTS
    )


def _gain(prediction: Prediction, drawn: Samples) -> Gain | None:
    """None where no split is recommended, the first device does not hold the model, or a rate is given anyway."""
    best = prediction.recommended.throughput
    if best is None or not prediction.baselines[0].fits or prediction.setting.mode.name == "open":
        return None
    place = next(place for place, row in enumerate(prediction.rows) if row.split == best)
    gains = drawn.throughput_per_s[:, place] / drawn.first_alone_per_s
    low, middle, high = _quantiles(gains, (0.05, 0.5, 0.95)).tolist()
    if drawn.claims is not None:
        shares = drawn.claims.period_s[:, :, place] * drawn.first_alone_per_s / prediction.setting.batch
        high = 1 / float(fast_end(shares, 0.05))
    return Gain(p05=low, p50=middle, p95=high, worthwhile_probability=float((gains >= WORTHWHILE_GAIN).mean()))
