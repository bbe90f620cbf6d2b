"""What a stage does with a batch: compute it, or stand in for a device by taking that device's time.

An emulated stage computes once for real. From then on it hands on that very activation, after exactly the time
that the device's profile says: sleeping until shortly before the end and spinning the rest, because a sleeper
wakes late and never early. Nothing but the waiting differs from a real stage, so sockets, queues and TCP see
what they would see.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

from hwrun.machine.compute_device import Accelerator, DeviceTimes
from hwrun.stages.turns import Turns
from hwrun.wire.tensors import share_memory

# How long before the end of a target the sleep ends and the spin begins: wake-ups from clock_nanosleep with
# 1 ns of timer slack were late by under 0.1 ms with one idle core, by up to 0.3 ms beside a busy relay.
SPIN_S = 0.0003
# Longest single sleep: a stage that is torn down must not hold its thread for a Pi's thirteen seconds.
_NAP_S = 0.05
# An emulated compute phase that ends this much late, or more than this share of its target late, is an overrun.
OVERRUN_S = 0.0005
OVERRUN_SHARE = 0.002
_PR_SET_TIMERSLACK = 29


class Cancelled(Exception):  # noqa: N818 - not a fault: the stage was torn down while it waited
    """The stage was torn down while it waited for its target."""


def sharpen_timer() -> None:
    """Let the calling thread's sleeps end within a nanosecond of slack instead of Linux's default of 50 µs."""
    with contextlib.suppress(AttributeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def wait_until(end_s: float, is_cancelled: Callable[[], bool]) -> None:
    """Return at `end_s` of the monotonic clock, or at once where that has passed.

    Raises
    ------
    Cancelled : `is_cancelled` turned true meanwhile.
    """
    while (left_s := end_s - time.monotonic()) > SPIN_S:
        if is_cancelled():
            raise Cancelled
        time.sleep(min(left_s - SPIN_S, _NAP_S))
    while time.monotonic() < end_s:
        pass


@dataclass(frozen=True)
class StageResult:
    """Activations a stage hands on, and its compute phase on the monotonic clock, seconds."""

    tensors: tuple[torch.Tensor, ...]
    compute_start_s: float
    compute_end_s: float
    overrun: bool
    holds_inputs: bool  # the tensors share memory with the inputs, which must outlive them
    device_times: DeviceTimes | None = None  # of an accelerator


class ActivationCache:
    """Real activations of emulated stages, computed once and used by later deployments of the same stage.

    Parameters
    ----------
    room_bytes : the least recently used go when there are more.
    """

    def __init__(self, room_bytes: int = 512 * 2**20) -> None:
        self._room_bytes = room_bytes
        self._kept: OrderedDict[Hashable, tuple[torch.Tensor, ...]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[torch.Tensor, ...] | None:
        """The activations under that key, if still kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, tensors: tuple[torch.Tensor, ...]) -> None:
        """Keep activations, dropping the least recently used ones over the bound."""
        self._kept[key] = tensors
        while len(self._kept) > 1 and sum(map(_size_bytes, self._kept.values())) > self._room_bytes:
            self._kept.popitem(last=False)


def _size_bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _is_unwritten(copy: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether a fresh copy that a module was given is as it was: never written to, as torch counts it, nor unlike."""
    return not copy.is_inference() and copy._version == 0 and torch.equal(copy, original)


class StageRunner:
    """Runs batches of one stage.

    Parameters
    ----------
    load : makes the stage's module; called when it is first needed, so an emulated stage whose activation is
        cached loads no weights. None for an empty stage, which hands on what it gets.
    target_s : compute time to emulate, seconds per batch; None to take the time that computing takes.
    compute_each : an emulated stage computes every batch before it waits.
    keeps_inputs : the inputs are used again for the next batch, so they must survive it.
    device : where computing happens; None on the processor itself. An emulated stage never uses it.
    turns : whose an emulated stage's time is, so that two stages of one device take turns as they would on that
        device. Its wait for its turn is before its compute phase.
    cache, key : where an emulated stage's activation is kept, and under what.
    """

    def __init__(
        self,
        load: Callable[[], torch.nn.Module] | None,
        *,
        target_s: float | None,
        compute_each: bool = False,
        keeps_inputs: bool = False,
        device: Accelerator | None = None,
        turns: Turns | None = None,
        cache: ActivationCache,
        key: Hashable,
    ) -> None:
        self._load = load
        self._module: torch.nn.Module | None = None
        self._target_s = target_s
        self._compute_each = compute_each
        self._keeps_inputs = keeps_inputs
        # Whether the module was seen to: its input then needs no copy, which a batch would wait for before it computes.
        self._leaves_inputs = False
        self._device = device if target_s is None else None
        self._turns = turns or Turns()
        self._cache = cache
        self._key = key
        self._activation = cache.get(key) if target_s is not None and not compute_each else None

    def load(self) -> None:
        """Load the module now, where running will need it."""
        if self._module is None and self._load is not None and self._activation is None:
            self._module = self._load()
            if self._device is not None:
                self._module = self._device.place(self._module)

    def run(self, inputs: tuple[torch.Tensor, ...], is_cancelled: Callable[[], bool]) -> StageResult:
        """One batch through the stage; for an emulated stage it lasts until start + target, never less.

        Raises
        ------
        Cancelled : `is_cancelled` turned true while it waited.
        """
        self.load()
        # A stage may begin with an in-place operation; copying is the dispatcher's doing, not the stage's.
        if not self._keeps_inputs or self._module is None or self._leaves_inputs:
            return self._run(inputs, is_cancelled)
        copies = tuple(tensor.clone() for tensor in inputs)
        result = self._run(copies, is_cancelled)
        self._leaves_inputs = all(map(_is_unwritten, copies, inputs))
        return result

    def _run(self, inputs: tuple[torch.Tensor, ...], is_cancelled: Callable[[], bool]) -> StageResult:
        if self._device is not None and self._module is not None:
            start_s = time.monotonic()
            tensors, times = self._device.run(self._module, inputs)
            return StageResult(tensors, start_s, time.monotonic(), False, False, times)
        if self._target_s is None or self._load is None:
            start_s = time.monotonic()
            tensors = self._tensors(inputs)
            end_s = time.monotonic()
            return StageResult(tensors, start_s, end_s, False, share_memory(tensors, inputs))
        with self._turns.taken():
            return self._paced(inputs, self._target_s, is_cancelled)

    def _paced(
        self, inputs: tuple[torch.Tensor, ...], target_s: float, is_cancelled: Callable[[], bool]
    ) -> StageResult:
        start_s = time.monotonic()
        tensors = self._tensors(inputs)
        # Within the time there is to wait: after it, it would add to every batch's latency.
        holds_inputs = share_memory(tensors, inputs)
        wait_until(start_s + target_s, is_cancelled)
        end_s = time.monotonic()
        late_s = end_s - start_s - target_s
        overrun = late_s > max(OVERRUN_S, OVERRUN_SHARE * target_s)
        return StageResult(tensors, start_s, end_s, overrun, holds_inputs)

    def _tensors(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if self._load is None:
            return inputs
        if self._activation is not None:
            return self._activation
        assert self._module is not None  # run() has loaded it
        with torch.inference_mode():
            outputs: tuple[torch.Tensor, ...] = self._module(*inputs)
        if self._target_s is None or self._compute_each:
            return outputs
        # Without gaps and in its own memory: it is sent again and again, and the inputs' buffer is used again. The
        # order of its dimensions stays, by which the next stage's kernels are chosen.
        self._activation = tuple(tensor.clone(memory_format=torch.preserve_format) for tensor in outputs)
        self._cache.put(self._key, self._activation)
        self._module = None
        return self._activation
