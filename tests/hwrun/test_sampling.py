"""A worker samples its own process and its host, and accelerators by a stand-in for NVML."""

import itertools
import socket
import sys
import threading
import time

import psutil
import pytest

from hwrun.machine.clock_state import clock_state
from hwrun.machine.sampling import Sampler, no_gpus, nvml_gpus
from hwrun.records import GpuSample, WorkerSample
from hwrun.sweeps.watching import Watching
from hwrun.wire import control
from tests.hwrun.fake_nvml import GPU_NAME, FakeNvmlError, fake_nvml


def sampled(busy, **options):
    sampler = Sampler(no_gpus, **options)
    sampler.start()
    busy()
    return sampler.stop()


def spin(duration_s):
    end_s = time.process_time() + duration_s
    while time.process_time() < end_s:
        pass


def test_processor_memory_and_network_are_sampled_and_the_end_is_the_last_sample():
    start_s = time.monotonic()
    samples = sampled(lambda: spin(0.3), interval_s=0.1)
    assert len(samples) >= 2
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(samples))
    assert start_s < samples[0].time_s <= samples[-1].time_s <= time.monotonic()
    # However busy the machine is, what was used is used: about 0.3 s of a core, in ticks of 10 ms.
    times = [start_s, *(sample.time_s for sample in samples)]
    used_s = sum(s.cpu_cores * (now - then) for s, (then, now) in zip(samples, itertools.pairwise(times), strict=True))
    assert 0.2 <= used_s <= 2
    for sample in samples:
        assert sample.rss_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
        assert len(sample.cores_busy) == psutil.cpu_count()
        assert all(0 <= share <= 1 for share in sample.cores_busy)
        assert sample.gpus == ()
    assert max(max(sample.cores_busy) for sample in samples) > 0.1


def test_bytes_of_an_interface_are_counted_as_they_pass():
    near, far = socket.socket(), socket.create_server(("127.0.0.1", 0))

    def talk():
        near.connect(far.getsockname())
        peer, _ = far.accept()
        time.sleep(0.1)
        sender = threading.Thread(target=near.sendall, args=(bytes(2_000_000),))
        sender.start()
        left = 2_000_000
        while left:
            left -= len(peer.recv(65536))
        sender.join()
        peer.close()

    samples = sampled(talk, interval_s=0.05)
    near.close()
    far.close()
    (received, sent), (received_later, sent_later) = (samples[i].interfaces["lo"] for i in (0, -1))
    assert received_later - received >= 2_000_000
    assert sent_later - sent >= 2_000_000


def test_a_long_cell_is_thinned_out_and_keeps_its_beginning_and_its_end():
    start_s = time.monotonic()
    samples = sampled(lambda: time.sleep(0.6), interval_s=0.005, most=8)
    assert 2 <= len(samples) <= 8
    assert samples[-1].time_s - start_s >= 0.6
    assert samples[0].time_s - start_s < 0.5


def test_what_held_the_processor_back_for_a_moment_outlives_thinning_out():
    answers = iter([(), ("throttled",), (), ("under-voltage", "throttled")])
    samples = sampled(lambda: time.sleep(0.6), interval_s=0.005, most=4, held_back=lambda: next(answers, ()))
    assert 2 <= len(samples) < 4
    assert samples[0].held_back == ("throttled", "under-voltage")
    assert not any(sample.held_back for sample in samples[1:])


def test_what_lowered_an_accelerators_clock_for_a_moment_outlives_thinning_out():
    moments = iter([
        gpus_held_back((), ("heat",)), gpus_held_back((), ()),
        gpus_held_back(("a power brake",), None), gpus_held_back((), None),
    ])  # fmt: skip
    sampler = Sampler(lambda: next(moments, gpus_held_back((), ())), interval_s=0.005, most=4)
    sampler.start()
    time.sleep(0.6)
    samples = sampler.stop()
    assert samples[0].gpus == gpus_held_back(("a power brake",), ("heat",))
    assert not any(gpu.held_back for sample in samples[1:] for gpu in sample.gpus)


def gpus_held_back(*causes):
    """An accelerator for each, all of one name; None where nothing tells."""
    return tuple(
        GpuSample(name=GPU_NAME, index=index, held_back=None if by is None else bool(by), held_back_by=by or ())
        for index, by in enumerate(causes)
    )


def test_stopping_twice_and_starting_anew_is_harmless():
    sampler = Sampler(no_gpus, interval_s=0.01)
    assert sampler.stop() == ()
    sampler.start()
    first = sampler.stop()
    assert len(first) == len(sampler.stop()) >= 1
    sampler.start()
    assert sampler.stop()[0].time_s > first[-1].time_s
    assert not [thread for thread in threading.enumerate() if thread.name == "sampler"]


def test_an_accelerator_is_read_as_nvml_says_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    assert nvml_gpus()() == (
        GpuSample(
            name=GPU_NAME, index=0, uuid="GPU-00000000", busy=0.37, memory_bytes=3 * 2**30, power_w=61.5,
            temperature_c=54.0, frequency_hz=2.52e9, held_back=False,
        ),
    )  # fmt: skip


def test_accelerators_of_one_name_are_told_apart(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetCount=lambda: 2))
    gpus = nvml_gpus()()
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(0, "GPU-00000000"), (1, "GPU-00000001")]
    assert [gpu.title for gpu in gpus] == [f"GPU 0 ({GPU_NAME})", f"GPU 1 ({GPU_NAME})"]


@pytest.mark.parametrize(("answer", "uuid"), [(lambda handle: b"GPU-1", "GPU-1"), (FakeNvmlError, None)])
def test_an_older_nvml_answers_in_bytes_and_one_that_does_not_know_leaves_its_uuid_out(monkeypatch, answer, uuid):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetUUID=answer))
    assert [gpu.uuid for gpu in nvml_gpus()()] == [uuid]


def test_what_an_accelerator_cannot_tell_is_none_and_a_capped_clock_is_held_back(monkeypatch):
    nvml = fake_nvml(nvmlDeviceGetPowerUsage=FakeNvmlError, nvmlDeviceGetCurrentClocksThrottleReasons=lambda h: 0x40)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    (gpu,) = nvml_gpus()()
    assert gpu.power_w is None
    assert (gpu.held_back, gpu.held_back_by) == (True, ("heat (hardware)",))


@pytest.mark.parametrize(
    ("reasons", "held_back", "by"),
    [(0x1, False, ()), (0x2, True, ()), (0x24, True, ("its power limit", "heat")), (0x102, True, ())],
    ids=["idle", "clocks set by a user", "power and heat", "clocks set for a display"],
)
def test_what_lowers_an_accelerators_clock_is_named_where_it_is_heat_or_power(monkeypatch, reasons, held_back, by):
    nvml = fake_nvml(nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: reasons)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    (gpu,) = nvml_gpus()()
    assert (gpu.held_back, gpu.held_back_by) == (held_back, by)


@pytest.mark.parametrize("nvml", [None, fake_nvml(nvmlInit=FakeNvmlError), fake_nvml(nvmlDeviceGetCount=lambda: 0)])
def test_without_nvml_a_driver_or_an_accelerator_there_is_nothing_to_read(monkeypatch, nvml):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert nvml_gpus() is no_gpus


class FakeWorker:
    """Answers as a worker does, with a clock that gets held back meanwhile: what its firmware says, and samples saw."""

    name = "A"

    def __init__(self, *flags, seen=(), gpus=()):
        self.asked = []
        self._flags = flags
        self._seen = seen
        self._gpus = gpus

    def request(self, message, expected):
        self.asked.append(message)
        flags = self._flags[message.ending]
        sample = WorkerSample(
            time_s=1.0, cpu_cores=0.5, cores_busy=(0.5,), rss_bytes=1, interfaces={}, held_back=self._seen,
            gpus=self._gpus,
        )  # fmt: skip
        return control.Watched(
            clock=clock_state(0, firmware=lambda question: None) | {"throttled_flags": flags},
            samples=(sample,) if message.ending else (),
        )


def test_workers_are_watched_from_begin_to_end_and_what_held_them_back_is_named():
    worker = FakeWorker("0x0", "0x40000")
    (watch,) = Watching([worker]).end()
    assert [message.ending for message in worker.asked] == [False, True]
    assert watch.host == "A"
    assert len(watch.samples) == 1
    assert watch.held_back == ("throttled, in between",)


def test_what_only_a_sample_saw_is_named_too():
    (watch,) = Watching([FakeWorker("0x50000", "0x50000", seen=("throttled",))]).end()
    assert watch.held_back == ("throttled, in between",)


def test_what_lowered_the_clock_of_an_accelerator_that_computed_is_named_with_which_one_it_was():
    worker = FakeWorker("0x0", "0x4", gpus=gpus_held_back((), ("its power limit", "heat"), None))
    (watch,) = Watching([worker], [("A", None), ("A", f"cuda: {GPU_NAME}")]).end()
    assert watch.held_back == (
        "throttled, after",
        f"GPU 1 ({GPU_NAME}): its power limit, in between",
        f"GPU 1 ({GPU_NAME}): heat, in between",
    )


@pytest.mark.parametrize("computed_on", [("A", "cpu"), ("A", None), ("B", f"cuda: {GPU_NAME}"), ("A", "cuda: another")])
def test_an_accelerator_that_no_stage_of_the_host_computed_on_holds_nothing_back(computed_on):
    (watch,) = Watching([FakeWorker("0x0", "0x0", gpus=gpus_held_back(("heat",)))], [computed_on]).end()
    assert watch.held_back == ()


def test_a_clock_that_somebody_set_holds_nothing_back():
    gpu = GpuSample(name=GPU_NAME, index=0, held_back=True)
    (watch,) = Watching([FakeWorker("0x0", "0x0", gpus=(gpu,))], [("A", f"cuda: {GPU_NAME}")]).end()
    assert watch.held_back == ()
