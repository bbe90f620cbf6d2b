"""A setting from words: names of profiles, rates and times as tc writes them.

The one way that commands and Python callers share. An error names what was wrong the way the caller wrote it:
`delay` in Python, `--delay` on a command line (`Spelling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, get_args

from paretosim.block import Model
from paretosim.calibration import Backend, Calibration, Term, check_terms
from paretosim.chain import Sink, Source, Splits
from paretosim.device import Device
from paretosim.errors import BadInputError
from paretosim.link import Link, parse_link, shaped
from paretosim.mode import ArrivalProcess, Arrivals, Mode, ModeName
from paretosim.operation import Operation
from paretosim.profiles import ProfileStore, read_timing_csv
from paretosim.setting import Setting
from paretosim.timing import Timing
from paretosim.transfer_time import TcpState
from paretosim.units import parse_duration_s, parse_rate_bps

Spelling = Callable[[str], str]
DEFAULT_LINK = "ethernet-1g"
DEFAULT_DEVICES = ("rpi4b", "rpi4b")


class SettingWords(TypedDict, total=False):
    """The arguments of `split_setting` by name, for callers that pass them on."""

    link: str | Link | None
    bw: str | None
    delay: str | None
    rtt: str | None
    batch: int
    mode: ModeName
    window: int | None
    burst: int | None
    rate: float | None
    arrivals: ArrivalProcess | None
    operation: Operation
    splits: Splits
    source: Source
    sink: Sink
    tcp_state: TcpState
    control_delay: str
    max_latency: str | None
    min_throughput: float | None
    fps: float | None
    extrapolate: bool
    backend: Backend
    calibration: str | Calibration | None
    without: Sequence[Term]
    timings: Mapping[str, Timing | Path | str] | None
    profiles: ProfileStore | Iterable[Path | str]
    spelling: Spelling


def as_argument(name: str) -> str:
    """How a Python caller writes the name of an argument: as it is."""
    return name


def as_option(name: str) -> str:
    """How a command line writes the name of an argument.

    >>> as_option("control_delay")
    '--control-delay'
    """
    return f"--{name.replace('_', '-')}"


def split_setting(
    model: str | Model,
    devices: Sequence[str | Device] = DEFAULT_DEVICES,
    *,
    link: str | Link | None = None,
    bw: str | None = None,
    delay: str | None = None,
    rtt: str | None = None,
    batch: int = 8,
    mode: ModeName = "paced",
    window: int | None = None,
    burst: int | None = None,
    rate: float | None = None,
    arrivals: ArrivalProcess | None = None,
    operation: Operation = Operation(),  # noqa: B008  # frozen
    splits: Splits = "all",
    source: Source = "stage1",
    sink: Sink = "last",
    tcp_state: TcpState = "warm",
    control_delay: str = "0s",
    max_latency: str | None = None,
    min_throughput: float | None = None,
    fps: float | None = None,
    extrapolate: bool = False,
    backend: Backend = "tcp",
    calibration: str | Calibration | None = None,
    without: Sequence[Term] = (),
    timings: Mapping[str, Timing | Path | str] | None = None,
    profiles: ProfileStore | Iterable[Path | str] = (),
    spelling: Spelling = as_argument,
) -> Setting:
    """The setting that these words describe, each with the meaning of the option of `paretosim predict` of its name.

    Parameters
    ----------
    model, devices : names of profiles, or values; two devices.
    link : name of a preset, or RATE,DELAY such as `5mbit,200ms`, or a value; `ethernet-1g` unless given.
    bw, delay, rtt, control_delay, max_latency : as tc writes them, such as `5mbit` and `200ms`. A number without a
        unit is refused: by tc's version, 200 would be microseconds or nanoseconds.
    min_throughput, fps : images per second.
    rate, arrivals : batches per second in mode `open`, and how they come, `deterministic` unless given.
    operation : workers, buffers, a finite run, the clock.
    extrapolate : whether a timing of several batch sizes may be used beyond them.
    backend, calibration : what moves activations, and a calibration of it: a name, a path ending in .json, or a value.
    without : terms of the model to switch off, by name.
    timings : of devices, by name: a value, or the path of a CSV of block,seconds; others come from profiles.
    profiles : directories searched before the shipped one.

    Raises
    ------
    BadInputError : something that is not known or means nothing; the message names it and what was expected.

    >>> split_setting("vgg16", bw="5mbit", delay="200ms").link.name
    '5mbit,200ms'
    """
    store = profiles if isinstance(profiles, ProfileStore) else ProfileStore(map(Path, profiles))
    known_model = store.model(model) if isinstance(model, str) else model
    if isinstance(devices, str) or len(devices) != 2:
        raise BadInputError(
            f"{spelling('devices')}: got {devices if isinstance(devices, str) else _listed(devices)!r},"
            " expected two names such as rpi4b,rtx4090"
        )
    chosen = [store.device(device) if isinstance(device, str) else device for device in devices]
    own = _own_timings(timings or {}, [device.name for device in chosen], known_model, spelling)
    known_timings = [own.get(device.name) or store.timing(device.name, known_model.name) for device in chosen]
    if extrapolate and batch >= 1:
        known_timings = [timing.extrapolated_to(batch) for timing in known_timings]
    for name, value, known in (
        ("mode", mode, ModeName), ("splits", splits, Splits), ("source", source, Source), ("sink", sink, Sink),
        ("tcp_state", tcp_state, TcpState), ("backend", backend, Backend),
    ):  # fmt: skip
        _check_choice(name, value, get_args(known), spelling)
    check_terms(tuple(without), spelling("without"))
    wishes = {"min_throughput": min_throughput, "fps": fps}
    check_load(mode, batch, window=window, burst=burst, wishes=wishes, spelling=spelling)
    return Setting(
        model=known_model,
        devices=(chosen[0], chosen[1]),
        timings=(known_timings[0], known_timings[1]),
        link=link_in_words(link, bw=bw, delay=delay, rtt=rtt, store=store, spelling=spelling),
        batch=batch,
        mode=Mode.named(mode, window=window, batches=burst, arrivals=_arrivals(mode, rate, arrivals, spelling)),
        operation=operation,
        splits=splits,
        source=source,
        sink=sink,
        tcp_state=tcp_state,
        control_delay_s=_duration_s("control_delay", control_delay, spelling) or 0.0,
        max_latency_s=_duration_s("max_latency", max_latency, spelling),
        min_throughput_per_s=min_throughput,
        frame_rate_per_s=fps,
        backend=backend,
        calibration=store.calibration(calibration) if isinstance(calibration, str) else calibration,
        without=tuple(dict.fromkeys(without)),
    )


def link_in_words(
    link: str | Link | None = None,
    *,
    bw: str | None = None,
    delay: str | None = None,
    rtt: str | None = None,
    store: ProfileStore,
    spelling: Spelling = as_argument,
) -> Link:
    """The link that a preset's name, RATE,DELAY or a value describes together with what `tc` would set over it.

    Raises
    ------
    BadInputError : no such preset, not a rate or a time, or both a delay and a round trip.
    """
    if delay is not None and rtt is not None:
        raise BadInputError(
            f"{spelling('delay')} and {spelling('rtt')}: got both a one-way delay and a round trip, expected one of"
            " them"
        )
    default = store.link(DEFAULT_LINK)
    if link is None:
        base = default
    elif isinstance(link, Link):
        base = link
    else:
        base = parse_link(link, default) if "," in link else store.link(link)
    return shaped(
        base,
        rate_bps=None if bw is None else parse_rate_bps(_word("bw", bw, "5mbit", spelling), spelling("bw")),
        one_way_delay_s=_duration_s("delay", delay, spelling),
        rtt_s=_duration_s("rtt", rtt, spelling),
    )


def check_load(
    mode: str,
    batch: int,
    *,
    window: int | None,
    burst: int | None,
    wishes: Mapping[str, float | None],
    spelling: Spelling = as_argument,
) -> None:
    """Refuse a batch, window, burst, rate of images or frames that means nothing, by the name it was given under."""
    for name, value, meant in (("window", window, "closed"), ("burst", burst, "burst")):
        if value is not None and mode != meant:
            raise BadInputError(f"{spelling(name)}: has no meaning in mode {mode}, expected {spelling('mode')} {meant}")
    for name, wish in wishes.items():
        if wish is not None and not 0 < wish < float("inf"):
            raise BadInputError(f"{spelling(name)}: got {wish}, expected a number above zero")
    if not (batch >= 1 and batch % 1 == 0):
        raise BadInputError(f"{spelling('batch')}: got {batch}, expected 1 or more")


def _arrivals(mode: str, rate: float | None, process: ArrivalProcess | None, spelling: Spelling) -> Arrivals | None:
    """How batches arrive in mode `open`; nothing elsewhere."""
    for name, value in (("rate", rate), ("arrivals", process)):
        if value is not None and mode != "open":
            raise BadInputError(f"{spelling(name)}: has no meaning in mode {mode}, expected {spelling('mode')} open")
    if mode != "open":
        return None
    if rate is None:
        raise BadInputError(f"{spelling('rate')}: got none in mode open, expected the batches that arrive a second")
    if not 0 < rate < float("inf"):
        raise BadInputError(f"{spelling('rate')}: got {rate} batches/s, expected a finite number above zero")
    _check_choice("arrivals", process or "deterministic", get_args(ArrivalProcess), spelling)
    return Arrivals(rate_per_s=rate, process=process or "deterministic")


def _own_timings(
    timings: Mapping[str, Timing | Path | str], names: Sequence[str], model: Model, spelling: Spelling
) -> dict[str, Timing]:
    """The caller's own timings by device, files among them read."""
    own = {
        device: timing if isinstance(timing, Timing) else read_timing_csv(Path(timing), device, model)
        for device, timing in timings.items()
    }
    if unused := [name for name in own if name not in names]:
        raise BadInputError(
            f"{spelling('timing')}: got a timing of {', '.join(unused)}, which is not in {spelling('devices')}"
            f" {','.join(names)}; expected one of {' or '.join(dict.fromkeys(names))}"
        )
    return own


def _check_choice(name: str, value: str, known: Sequence[str], spelling: Spelling) -> None:
    if value not in known:
        raise BadInputError(f"{spelling(name)}: got {value!r}, expected one of {', '.join(known)}")


def _duration_s(name: str, text: str | None, spelling: Spelling) -> float | None:
    return None if text is None else parse_duration_s(_word(name, text, "200ms", spelling), spelling(name))


def _word(name: str, text: object, example: str, spelling: Spelling) -> str:
    """The text, if it is one: a bare number could be meant in more than one unit."""
    if not isinstance(text, str):
        raise BadInputError(f"{spelling(name)}: got {text!r}, expected text with a unit, such as {example!r}")
    return text


def _listed(devices: Sequence[str | Device]) -> str:
    return ",".join(device if isinstance(device, str) else device.name for device in devices)
