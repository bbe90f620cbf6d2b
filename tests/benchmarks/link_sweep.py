"""A million links, against sorting as many rows; and break-even rates of every shipped model and pair of devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import get_args

from paretosim.calibration import CALIBRATION_TERMS, Calibration, DeviceTerms, MessageCost, Relay, Resting
from paretosim.calibration import SCHEMA_VERSION as CALIBRATION_SCHEMA
from paretosim.device import Device
from paretosim.link import shaped
from paretosim.mode import MODE_NAMES, Mode
from paretosim.profiles import ProfileStore
from paretosim.rates.break_even import break_even
from paretosim.rates.link_response import link_response
from paretosim.resting import awake
from paretosim.setting import Setting
from paretosim.transfer_time import TcpState
from tests.benchmarks.link_sweep_child import PLAIN_SAMPLE
from tests.benchmarks.ratio import Ratio
from tests.benchmarks.seconds import Seconds, runs_s

LINKS, PAIRS = 1_000_000, 9
PEAK_BAR_BYTES = 2**30
BREAK_EVEN_BAR_S = 5e-3
ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class SweepResult:
    """A ratio, the most memory its process held, and how a plain-Python loop compares, link by link."""

    ratio: Ratio
    peak_bytes: int
    plain_s_per_link: float
    sweep_s: float

    @property
    def met(self) -> bool:
        """Whether both bars are met."""
        return self.ratio.met and self.peak_bytes <= PEAK_BAR_BYTES

    def __str__(self) -> str:
        word = "met" if self.peak_bytes <= PEAK_BAR_BYTES else "MISSED"
        plain = self.plain_s_per_link * LINKS / self.sweep_s
        return (
            f"{self.ratio}\n    peak of its process {self.peak_bytes / 2**30:.2f} GiB, bar 1 GiB: {word};"
            f" {self.sweep_s:.2f} s a sweep; plain Python {plain:.0f}× as long ({PLAIN_SAMPLE} links)"
        )


def warm_sweep() -> SweepResult:
    """Warm connections: serialisation alone."""
    return _sweep("warm", bar=1.5)


def cold_sweep() -> SweepResult:
    """Cold connections: every split in its own round of slow start."""
    return _sweep("cold", bar=4.0)


def _sweep(tcp_state: TcpState, bar: float) -> SweepResult:
    command = [sys.executable, "-m", "tests.benchmarks.link_sweep_child", tcp_state, str(LINKS), str(PAIRS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | ONE_CORE)
    found = json.loads(done.stdout)
    name = f"objectives and fronts of vgg16 on {LINKS:,} links, {tcp_state}, over argsort of as many rows of 40"
    ratio = Ratio(name, tuple(sweep / sort for sweep, sort in found["pairs"]), bar)
    sweeps = sorted(sweep for sweep, _ in found["pairs"])
    return SweepResult(ratio, found["peak_bytes"], found["plain_s_per_link"], sweeps[len(sweeps) // 2])


def break_even_rates() -> Seconds:
    """The slowest of all shipped models, pairs of devices with timings of them, modes and states of TCP."""
    return _slowest_of(dict(_break_even_tasks(calibrated=False)), "")


def calibrated_break_even_rates() -> Seconds:
    """The same with every term of a calibration on."""
    return _slowest_of(dict(_break_even_tasks(calibrated=True)), ", all terms of a calibration")


def _slowest_of(tasks: dict[str, Callable[[], object]], with_what: str) -> Seconds:
    # The quickest of a few runs finds the slowest task; that one is then timed as often as a median needs.
    slowest = max(tasks, key=lambda name: min(runs_s(tasks[name], 3)))
    return Seconds(
        f"break-even rates{with_what}, the slowest of {len(tasks)} models, pairs, modes and states ({slowest})",
        runs_s(tasks[slowest], 31),
        bar_s=BREAK_EVEN_BAR_S,
    )


def _break_even_tasks(calibrated: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    store = ProfileStore()
    for model in store.names("models"):
        devices = [name for name in store.names("devices") if model in store.timed_models(name)]
        for (one, two), mode, tcp_state in product(product(devices, repeat=2), MODE_NAMES, get_args(TcpState)):
            pair = store.device(one), store.device(two)
            setting = Setting(
                model=store.model(model),
                devices=pair,
                timings=(store.timing(one, model), store.timing(two, model)),
                link=shaped(store.link("ethernet-1g"), rate_bps=1e9),
                mode=Mode.named(mode),
                tcp_state=tcp_state,
                calibration=_calibration(pair) if calibrated else None,
            )
            setting = awake(setting)  # as maps over links have it
            yield f"{model} on {one} and {two}, {mode}, {tcp_state}", partial(_break_even, setting)


def _calibration(devices: tuple[Device, Device]) -> Calibration:
    """Every term on, of plausible sizes."""

    def terms(device: Device) -> DeviceTerms:
        copying = {} if device.accelerator is None else {"launch_s": 2e-3, "pcie_bytes_per_s": 8e9}
        message = MessageCost(message_s=1e-3, bytes_per_s=2e9)
        return DeviceTerms(
            gamma=1.1,
            overhead_s=5e-3,
            kappa=0.2,
            sending=message,
            receiving=message,
            copying_s=1e-4,
            copying_bytes_per_s=3e9,
            arriving_s=1e-4,
            leaving_s=1e-4,
            returning=MessageCost(message_s=1e-4, bytes_per_s=4e9),
            **copying,
        )

    found = Calibration(
        schema_version=CALIBRATION_SCHEMA,
        name="every-term",
        backend="tcp",
        devices={device.name: terms(device) for device in devices},
        framing_bytes=100,
        dispatch_s=1e-4,
        rpc_round_trips=1.0,
        rpc_s=1e-3,
        rpc_answers=1.0,
        rpc_answer_s=1e-4,
        relay=Relay(rate_bps=1e9, delay_s=1e-4),
        resting=Resting(later_s=2e-4, half_s=5e-3),
    )
    # Only an accelerator has its own; a term that is added to calibrations is to be added here.
    off = set(CALIBRATION_TERMS) - set(found.active_terms())
    assert off == (set() if any(device.accelerator for device in devices) else {"launch", "copies"}), off
    return found


def _break_even(setting: Setting) -> None:
    break_even(link_response(setting), low_bps=1e5, high_bps=1e10, one_way_delay_s=0.05, return_delay_s=1e-4)
