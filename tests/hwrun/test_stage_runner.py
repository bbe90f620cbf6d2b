"""What a stage does with a batch: compute it, or take a device's time over it."""

import time

import pytest
import torch

from hwrun.stages import runner as stage_runner
from hwrun.stages.runner import ActivationCache, Cancelled, StageRunner, wait_until
from hwrun.wire.tensors import memory_order


class Doubling(torch.nn.Module):
    runs = 0

    def forward(self, x):
        Doubling.runs += 1
        return (x * 2,)


class InPlace(torch.nn.Module):
    def forward(self, x):
        return (x.add_(1),)


def never():
    return False


def runner(module=Doubling, *, target_s=None, cache=None, **options):
    Doubling.runs = 0
    load = None if module is None else module
    return StageRunner(load, target_s=target_s, cache=cache or ActivationCache(), key="stage", **options)


BATCH = (torch.arange(6.0).reshape(2, 3),)


def test_a_real_stage_computes_every_batch():
    stage = runner()
    for scale in (1, 3):
        result = stage.run((BATCH[0] * scale,), never)
        assert torch.equal(result.tensors[0], BATCH[0] * scale * 2)
    assert Doubling.runs == 2
    assert not result.overrun


def test_an_emulated_stage_computes_once_and_then_hands_on_that_activation_for_the_targets_time():
    stage = runner(target_s=0.02)
    results = [stage.run(BATCH, never) for _ in range(4)]
    assert Doubling.runs == 1
    assert all(torch.equal(result.tensors[0], BATCH[0] * 2) for result in results)
    assert all(result.compute_end_s - result.compute_start_s >= 0.02 for result in results)
    assert min(result.compute_end_s - result.compute_start_s for result in results) < 0.0205


def test_an_emulated_stage_deployed_again_loads_and_computes_nothing():
    cache = ActivationCache()
    runner(target_s=0.001, cache=cache).run(BATCH, never)
    again = StageRunner(lambda: pytest.fail("loaded"), target_s=0.001, cache=cache, key="stage")
    again.load()
    assert torch.equal(again.run(BATCH, never).tensors[0], BATCH[0] * 2)


def test_with_compute_each_an_emulated_stage_computes_every_batch_and_still_waits():
    stage = runner(target_s=0.01, compute_each=True)
    results = [stage.run(BATCH, never) for _ in range(3)]
    assert Doubling.runs == 3
    assert all(result.compute_end_s - result.compute_start_s >= 0.01 for result in results)


def test_a_host_slower_than_the_target_is_flagged():
    class Slow(torch.nn.Module):
        def forward(self, x):
            time.sleep(0.01)
            return (x,)

    assert runner(Slow, target_s=0.001, compute_each=True).run(BATCH, never).overrun


class Given(torch.nn.Module):
    """Notes which memory it was given, and does as told with it."""

    def __init__(self, work):
        super().__init__()
        self.work = work
        self.given = []

    def forward(self, x):
        self.given.append(x.data_ptr())
        return (self.work(x),)


def test_a_kept_input_is_copied_until_the_module_was_seen_to_leave_it():
    module = Given(lambda x: x * 2)
    stage = runner(lambda: module, keeps_inputs=True)
    results = [stage.run(BATCH, never).tensors[0] for _ in range(3)]
    assert module.given[0] != BATCH[0].data_ptr()
    assert module.given[1:] == [BATCH[0].data_ptr()] * 2
    assert all(torch.equal(result, BATCH[0] * 2) for result in results)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.add_(1),
        lambda x: x.view(-1).relu_().view(2, 3),  # changes no number of this batch, but of another
        lambda x: x.data.add_(1),  # which torch does not count
    ],
)
def test_a_kept_input_that_the_module_writes_to_is_copied_for_every_batch(work):
    kept = (BATCH[0].clone(),)
    module = Given(work)
    stage = runner(lambda: module, keeps_inputs=True)
    results = [stage.run(kept, never).tensors[0] for _ in range(3)]
    assert kept[0].data_ptr() not in module.given
    assert torch.equal(kept[0], BATCH[0])
    assert all(torch.equal(result, results[0]) for result in results)


def test_an_empty_stage_hands_on_what_it_gets_and_takes_no_time():
    result = runner(None, target_s=0.0).run(BATCH, never)
    assert result.tensors is BATCH
    assert result.holds_inputs
    assert not result.overrun


def test_outputs_that_are_views_of_the_inputs_are_told_and_an_emulated_stages_never_are():
    class Reshaping(torch.nn.Module):
        def forward(self, x):
            return (x.reshape(6),)

    assert runner(Reshaping).run(BATCH, never).holds_inputs
    assert not runner().run(BATCH, never).holds_inputs
    assert not runner(Reshaping, target_s=0.001).run(BATCH, never).holds_inputs


def test_a_kept_input_survives_a_stage_that_begins_in_place():
    kept = (torch.zeros(3),)
    stage = runner(InPlace, keeps_inputs=True)
    assert [stage.run(kept, never).tensors[0].sum().item() for _ in range(2)] == [3.0, 3.0]
    assert kept[0].sum() == 0


def test_the_cache_drops_the_least_recently_used_over_its_bound():
    cache = ActivationCache(room_bytes=80)
    for name in "abc":
        cache.put(name, (torch.zeros(8),))
        cache.get("a")
    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert cache.get("c") is not None


def test_waiting_never_ends_early():
    for duration_s in (0.0, 0.0001, 0.003):
        end_s = time.monotonic() + duration_s
        wait_until(end_s, never)
        assert time.monotonic() >= end_s


class Clock:
    """A clock on which only sleeping takes time, besides the reading of it: 10 µs."""

    def __init__(self):
        self.now_s, self.slept_s = 100.0, 0.0

    def monotonic(self):
        self.now_s += 1e-5
        return self.now_s

    def sleep(self, duration_s):
        self.now_s += duration_s
        self.slept_s += duration_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stage_runner, "time", clock)
    return clock


def test_a_time_that_has_passed_is_not_waited_for(clock):
    wait_until(clock.now_s - 1, never)
    assert clock.slept_s == 0
    assert clock.now_s <= 100.0 + 2e-5  # it was looked at twice


def test_a_time_is_slept_towards_and_then_watched_until_it_is_there(clock):
    wait_until(100.12, never)
    assert 0.1196 <= clock.slept_s <= 0.1197  # all but the last 300 µs
    assert 100.12 <= clock.now_s < 100.12 + 2e-5


def test_every_batch_of_an_emulated_stage_takes_the_targets_time_on_a_clock_that_nobody_else_uses(clock):
    stage = runner(target_s=0.02)
    results = [stage.run(BATCH, never) for _ in range(4)]
    for result in results:
        assert 0.02 <= result.compute_end_s - result.compute_start_s < 0.02 + 4e-5
        assert not result.overrun


def test_waiting_is_given_up_when_cancelled():
    start_s = time.monotonic()
    with pytest.raises(Cancelled):
        wait_until(start_s + 60, lambda: time.monotonic() > start_s + 0.05)
    assert time.monotonic() - start_s < 5


def test_an_emulated_activation_keeps_the_order_of_its_dimensions():
    class Permuted(torch.nn.Module):
        def forward(self, x):
            return (x.permute(0, 2, 3, 1) + 1,)

    runner = StageRunner(Permuted, target_s=0.0, cache=ActivationCache(), key="permuted")
    (tensor,) = runner.run((torch.zeros(2, 3, 4, 5),), lambda: False).tensors
    assert memory_order(tensor) == (0, 3, 1, 2)
