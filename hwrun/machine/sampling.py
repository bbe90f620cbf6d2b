"""Sampling this process and its host while it works: processor, memory, network, accelerators.

Twice a second at first; a sample takes well under a millisecond, so a sampler uses at most a few thousandths of a core
(tests/benchmarks has the figure). Over a long cell samples are thinned out rather than lost at one end. A Raspberry
Pi's firmware is asked with every other one, which costs a process there unless the kernel passes its answer on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from msgspec import structs

from hwrun.machine.clock_state import FirmwareWatch
from hwrun.records.workers import GpuSample, WorkerSample

INTERVAL_S = 0.5
# With this many, every other one is dropped and they come half as often: 17 minutes at twice a second.
MOST_SAMPLES = 2048
# nvmlClocksThrottleReasons (nvml.h) of heat and power; the others are idleness and clocks that somebody has set.
_LOWERED_BY = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "a power brake",
}


class Sampler:
    """Takes samples in a thread of its own between `start` and `stop`.

    Parameters
    ----------
    gpus : reads the accelerators; `no_gpus` where there is none.
    interval_s : between samples.
    most : an even number of samples.
    held_back : says what holds the processor back at the moment; by default as a FirmwareWatch does.
    """

    def __init__(
        self,
        gpus: Callable[[], tuple[GpuSample, ...]],
        interval_s: float = INTERVAL_S,
        most: int = MOST_SAMPLES,
        held_back: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        self._gpus = gpus
        self._held_back = FirmwareWatch().look if held_back is None else held_back
        self._first_interval_s = interval_s
        self._most = most
        self._process = psutil.Process()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._samples: list[WorkerSample] = []

    def start(self) -> None:
        """Begin anew; what was sampled before is gone."""
        self.stop()
        self._samples = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended,), name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> tuple[WorkerSample, ...]:
        """End, with a last sample; everything since `start`. Stopping twice is harmless."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
        return tuple(self._samples)

    def _run(self, ended: threading.Event) -> None:
        interval_s = self._first_interval_s
        before = _Reading(self._process)
        is_last = False
        while not is_last:
            is_last = ended.wait(interval_s)
            now = _Reading(self._process)
            self._samples.append(sample_between(before, now, self._gpus(), self._held_back()))
            before = now
            if len(self._samples) >= self._most:
                self._samples = _every_other(self._samples)
                interval_s *= 2


class _Reading:
    """Counters at one moment."""

    def __init__(self, process: psutil.Process) -> None:
        self.time_s = time.monotonic()
        with process.oneshot():
            used = process.cpu_times()
            self.rss_bytes = process.memory_info().rss
        self.process_s = used.user + used.system
        self.cores = [(sum(core), core.idle + getattr(core, "iowait", 0.0)) for core in psutil.cpu_times(percpu=True)]
        self.interfaces = {
            name: (counted.bytes_recv, counted.bytes_sent)
            for name, counted in psutil.net_io_counters(pernic=True, nowrap=False).items()
            if counted.bytes_recv or counted.bytes_sent
        }


def _every_other(samples: Sequence[WorkerSample]) -> list[WorkerSample]:
    """The later one of each two, with what held the processor and accelerators back at either."""
    return [
        structs.replace(
            kept,
            held_back=_either(gone.held_back, kept.held_back),
            gpus=tuple(
                structs.replace(
                    now,
                    held_back=before.held_back if now.held_back is None else now.held_back or before.held_back,
                    held_back_by=_either(before.held_back_by, now.held_back_by),
                )
                for before, now in zip(gone.gpus, kept.gpus, strict=True)
            ),
        )
        for gone, kept in zip(samples[::2], samples[1::2], strict=True)
    ]


def _either(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *now)))


def sample_between(
    before: _Reading, now: _Reading, gpus: tuple[GpuSample, ...], held_back: tuple[str, ...]
) -> WorkerSample:
    """What was used from one reading to the next."""
    elapsed_s = max(now.time_s - before.time_s, 1e-9)
    return WorkerSample(
        time_s=now.time_s,
        cpu_cores=round(max(0.0, now.process_s - before.process_s) / elapsed_s, 4),
        cores_busy=tuple(_busy_share(*cores) for cores in zip(before.cores, now.cores, strict=False)),
        rss_bytes=now.rss_bytes,
        interfaces=now.interfaces,
        gpus=gpus,
        held_back=held_back,
    )


def _busy_share(before: tuple[float, float], now: tuple[float, float]) -> float:
    """Share of a core's time that was not idle, from (total, idle) seconds; 0 where the clock tick is too coarse."""
    total_s, idle_s = now[0] - before[0], now[1] - before[1]
    return round(min(1.0, max(0.0, 1 - idle_s / total_s)), 4) if total_s > 0 else 0.0


def no_gpus() -> tuple[GpuSample, ...]:
    """A host without an accelerator."""
    return ()


def nvml_gpus() -> Callable[[], tuple[GpuSample, ...]]:
    """What reads this host's NVIDIA accelerators; `no_gpus` where there is none, or nvidia-ml-py is not installed."""
    try:
        import pynvml  # type: ignore[import-untyped,import-not-found,unused-ignore]  # or not installed
    except ImportError:
        return no_gpus
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver, or no permission
        return no_gpus
    return (lambda: tuple(_gpu(pynvml, index, handle) for index, handle in enumerate(handles))) if handles else no_gpus


def _gpu(nvml: Any, index: int, handle: Any) -> GpuSample:
    def asked(question: Callable[[], Any]) -> Any:
        """NVML answers each question or says that this accelerator cannot tell."""
        try:
            return question()
        except nvml.NVMLError:
            return None

    name = asked(lambda: nvml.nvmlDeviceGetName(handle))
    uuid = asked(lambda: nvml.nvmlDeviceGetUUID(handle))
    rates = asked(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    memory = asked(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    power_mw = asked(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    temperature_c = asked(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    megahertz = asked(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    reasons = asked(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return GpuSample(
        name=_text(name),
        index=index,
        uuid=None if uuid is None else _text(uuid),
        busy=None if rates is None else rates.gpu / 100,
        memory_bytes=None if memory is None else memory.used,
        power_w=None if power_mw is None else power_mw / 1e3,
        temperature_c=None if temperature_c is None else float(temperature_c),
        frequency_hz=None if megahertz is None else megahertz * 1e6,
        # An idle clock is low on purpose; a cap set by a user is no fault of the moment either, but it is one to know.
        held_back=None if reasons is None else bool(reasons & ~nvml.nvmlClocksThrottleReasonGpuIdle),
        held_back_by=tuple(name for bit, name in _LOWERED_BY.items() if (reasons or 0) & bit),
    )


def _text(answer: Any) -> str:
    """What older versions of nvidia-ml-py answer in bytes."""
    return answer.decode() if isinstance(answer, bytes) else str(answer)
