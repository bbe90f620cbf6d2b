"""Where a stage computes: on the processor, or on an accelerator with everything that takes to get there and back.

On an accelerator a batch is copied into pinned memory and from there to the device, computed, and copied back into
pinned memory that the network then sends from. Launching returns before the work is done, so a time means something
only after synchronising: the compute phase that a record has begins before the first copy and ends when the device says
that all is done. Events tell its parts apart: the device's own, or where those cannot be relied on, synchronised ones.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import torch

from hwrun.errors import HwrunError
from hwrun.records import ComputeDevice


class Event(Protocol):
    """A moment in a device's work, as torch.cuda.Event is."""

    def record(self) -> None:
        """Note when the device gets here."""

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this moment to another of the same kind."""


class Runtime(Protocol):
    """What is asked of torch.cuda or torch.mps, and of what stands in for them in tests."""

    device: torch.device

    def event(self) -> Event:
        """An event that takes times."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was launched."""

    def pinned_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Host memory of a tensor's shape, dtype and layout that the device copies from and to by itself."""


@dataclass(frozen=True)
class DeviceTimes:
    """Parts of one batch's compute phase on an accelerator, seconds by its own clock."""

    copy_in_s: float
    compute_s: float
    copy_out_s: float


class SynchronizedEvent:
    """A moment at which the device had done all that was launched before, on this host's clock.

    Parameters
    ----------
    synchronize : waits for that.
    clock_s : seconds that never go back.
    """

    def __init__(self, synchronize: Callable[[], None], clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._synchronize = synchronize
        self._clock_s = clock_s
        self._at_s = float("nan")

    def record(self) -> None:
        """Wait until the device gets here, and note when."""
        self._synchronize()
        self._at_s = self._clock_s()

    def elapsed_time(self, end_event: SynchronizedEvent) -> float:
        """Milliseconds from this moment to another of the same kind."""
        return (end_event._at_s - self._at_s) * 1e3


class Accelerator:
    """Runs modules on a device.

    Parameters
    ----------
    held : results that may be in use at once, since they are sent while the next batch computes.
    """

    def __init__(self, runtime: Runtime, held: int) -> None:
        self._runtime = runtime
        self._inputs: list[torch.Tensor] = []
        self._results: list[list[torch.Tensor]] = [[] for _ in range(held)]
        self._turn = 0

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module with its weights on the device."""
        return module.to(self._runtime.device)

    def run(
        self, module: torch.nn.Module, inputs: Sequence[torch.Tensor]
    ) -> tuple[tuple[torch.Tensor, ...], DeviceTimes]:
        """One batch there and back; when this returns, the results are whole in host memory.

        They stay what they are for the next `held` − 1 batches.
        """
        runtime = self._runtime
        began, arrived, computed, ended = (runtime.event() for _ in range(4))
        began.record()
        self._inputs = self._like(self._inputs, inputs)
        moved = []
        for staged, tensor in zip(self._inputs, inputs, strict=True):
            staged.copy_(tensor)
            moved.append(staged.to(runtime.device, non_blocking=True))
        arrived.record()
        with torch.inference_mode():
            outputs: tuple[torch.Tensor, ...] = module(*moved)
        computed.record()
        self._turn = (self._turn + 1) % len(self._results)
        results = self._results[self._turn] = self._like(self._results[self._turn], outputs)
        for result, output in zip(results, outputs, strict=True):
            result.copy_(output, non_blocking=True)
        ended.record()
        runtime.synchronize()
        parts_ms = (a.elapsed_time(b) for a, b in ((began, arrived), (arrived, computed), (computed, ended)))
        return tuple(results), DeviceTimes(*(part / 1e3 for part in parts_ms))

    def _like(self, kept: list[torch.Tensor], tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The kept buffers if they fit these tensors, else new ones."""
        alike = [(t.shape, t.dtype, t.stride()) for t in kept] == [(t.shape, t.dtype, t.stride()) for t in tensors]
        return kept if alike else [self._runtime.pinned_like(tensor) for tensor in tensors]


class _Cuda:
    def __init__(self) -> None:
        self.device = torch.device("cuda")
        # Else convolutions round to ten bits of mantissa, and the output is not the unsplit model's.
        torch.backends.cudnn.allow_tf32 = False

    def event(self) -> Event:
        event: Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return event

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def pinned_like(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(tensor, device="cpu", pin_memory=True, memory_format=torch.preserve_format)


class _Mps:
    def __init__(self) -> None:
        self.device = torch.device("mps")

    def event(self) -> Event:
        # By torch's version, its own events can wait without end, or come in another order than they were recorded in
        # (github.com/pytorch/pytorch/pull/196395).
        return SynchronizedEvent(self.synchronize)

    def synchronize(self) -> None:
        torch.mps.synchronize()

    def pinned_like(self, tensor: torch.Tensor) -> torch.Tensor:
        # Memory is one on these machines: there is nothing to pin.
        return torch.empty_like(tensor, device="cpu", memory_format=torch.preserve_format)


def runtime_of(name: ComputeDevice) -> Runtime | None:
    """What is asked of the accelerator of that name, None for the processor itself.

    Raises
    ------
    HwrunError : this host, or this torch, has none of the kind.
    """
    require_device(name)
    if name == "cpu":
        return None
    return _Cuda() if name == "cuda" else _Mps()


def accelerator(name: ComputeDevice, held: int) -> Accelerator | None:
    """The accelerator of that name, None for the processor itself.

    Raises
    ------
    HwrunError : this host, or this torch, has none of the kind.
    """
    runtime = runtime_of(name)
    return None if runtime is None else Accelerator(runtime, held)


def require_device(name: ComputeDevice) -> None:
    """Refuse a device that is not here.

    Raises
    ------
    HwrunError : with what would have to be there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        built = "with" if torch.version.cuda else "without"
        raise HwrunError(
            f"--device cuda: torch {torch.__version__}, built {built} CUDA, finds no GPU; expected one that nvidia-smi"
            " shows and a torch for it, or --device cpu"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise HwrunError("--device mps: torch finds no Apple GPU; expected macOS on Apple silicon, or --device cpu")


def available_devices() -> tuple[ComputeDevice, ...]:
    """What stages can compute on here."""
    found: list[ComputeDevice] = []
    for name in get_args(ComputeDevice):
        with contextlib.suppress(HwrunError):
            require_device(name)
            found.append(name)
    return tuple(found)


def describe_device(name: ComputeDevice) -> str:
    """What a record says that a worker computes on."""
    return f"cuda: {torch.cuda.get_device_name()}" if name == "cuda" else name
