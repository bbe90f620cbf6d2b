"""Computing on an accelerator: what is timed, with a device of the test's own whose clock it sets."""

from __future__ import annotations

import pytest
import torch

from hwrun.errors import HwrunError
from hwrun.machine.compute_device import Accelerator, SynchronizedEvent, accelerator
from hwrun.stages.runner import ActivationCache, StageRunner


class FakeEvent:
    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.at_ms: float | None = None

    def record(self) -> None:
        self.runtime.launched.append(self)

    def elapsed_time(self, end_event: FakeEvent) -> float:
        assert self.at_ms is not None, "asked before the device had done it"
        assert end_event.at_ms is not None
        return end_event.at_ms - self.at_ms


class FakeRuntime:
    """A device that gets to each event `step_ms` after the one before, and only when it is waited for."""

    def __init__(self, steps_ms: tuple[float, ...]) -> None:
        self.device = torch.device("cpu")
        self.steps_ms = steps_ms
        self.launched: list[FakeEvent] = []
        self.synchronized = 0
        self.allocated = 0

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronize(self) -> None:
        self.synchronized += 1
        if not self.launched:
            return
        now_ms = 0.0
        for event, step_ms in zip(self.launched, (0.0, *self.steps_ms), strict=True):
            now_ms += step_ms
            event.at_ms = now_ms
        self.launched.clear()

    def pinned_like(self, tensor: torch.Tensor) -> torch.Tensor:
        self.allocated += 1
        return torch.empty_like(tensor, memory_format=torch.preserve_format)


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x.sum()


def test_copies_and_computing_are_told_apart_after_the_device_was_waited_for() -> None:
    runtime = FakeRuntime((1.5, 20.0, 0.5))
    outputs, times = Accelerator(runtime, held=3).run(Twice(), (torch.ones(4),))
    assert runtime.synchronized == 1
    assert (times.copy_in_s, times.compute_s, times.copy_out_s) == pytest.approx((0.0015, 0.020, 0.0005))
    assert torch.equal(outputs[0], torch.full((4,), 2.0))


def test_buffers_are_used_again_and_results_outlive_the_batches_that_may_still_be_sent() -> None:
    runtime = FakeRuntime((1.0, 1.0, 1.0))
    device = Accelerator(runtime, held=3)
    kept = [device.run(Twice(), (torch.full((4,), float(number)),))[0][0] for number in range(3)]
    assert [float(result[0]) for result in kept] == [0.0, 2.0, 4.0]
    allocated = runtime.allocated
    device.run(Twice(), (torch.full((4,), 9.0),))
    assert runtime.allocated == allocated
    assert float(kept[0][0]) == 18.0  # its turn came again
    device.run(Twice(), (torch.ones(5),))
    assert runtime.allocated > allocated


def test_layouts_survive_the_way_there_and_back() -> None:
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    (output, _), _ = Accelerator(FakeRuntime((1.0, 1.0, 1.0)), held=2).run(Twice(), (tensor,))
    assert output.stride() == tensor.stride()
    assert torch.equal(output, tensor * 2)


def test_a_stage_on_an_accelerator_has_its_parts_within_its_compute_phase() -> None:
    runner = StageRunner(
        Twice, target_s=None, cache=ActivationCache(), key="k", device=Accelerator(FakeRuntime((1.0, 2.0, 3.0)), held=2)
    )
    result = runner.run((torch.ones(4),), lambda: False)
    assert result.device_times is not None
    assert result.device_times.compute_s == pytest.approx(0.002)
    assert not result.holds_inputs
    assert result.compute_start_s <= result.compute_end_s


def test_a_synchronised_event_is_when_the_device_had_done_what_was_launched_before() -> None:
    launched_s, clock_s = [0.25, 0.5], [0.0]

    def synchronize() -> None:
        while launched_s:
            clock_s[0] += launched_s.pop()

    began, ended = (SynchronizedEvent(synchronize, lambda: clock_s[0]) for _ in range(2))
    began.record()
    assert launched_s == []
    launched_s.append(0.03125)
    ended.record()
    assert began.elapsed_time(ended) == 31.25


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_with_what_would_have_to_be() -> None:
    with pytest.raises(HwrunError, match=r"--device cuda: torch .* finds no GPU; expected one that nvidia-smi shows"):
        accelerator("cuda", 2)
    if not torch.backends.mps.is_available():
        with pytest.raises(HwrunError, match="--device mps: torch finds no Apple GPU"):
            accelerator("mps", 2)
    assert accelerator("cpu", 2) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_computes_what_the_processor_does() -> None:
    device = accelerator("cuda", 2)
    assert device is not None
    module = torch.nn.Conv2d(3, 8, 3)
    inputs = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        expected = module(inputs)

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.inner(x),)

    (output,), times = device.run(device.place(Wrapped()), (inputs,))
    assert torch.allclose(output, expected.cpu(), rtol=1e-4, atol=1e-5)
    assert times.compute_s > 0
