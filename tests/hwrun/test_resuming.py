"""Which runs are gone on with: those whose cells the next ones would be like."""

from pathlib import Path

import pytest
from msgspec import structs

from hwrun.errors import BadUsageError
from hwrun.planned_cell import Crossing
from hwrun.records import Cell, LinkMeasured, LinkProbe, Manifest, Run
from hwrun.sweeps.resuming import refuse_unlike, without_probe_after
from paretosim.link import Link
from paretosim.mode import Mode

TESTBED = {
    "kind": "remote", "shaped": True, "name": "lab", "hosts": "pi1,server", "orchestrator": "here", "tls": False,
    "orchestrator_on": "server", "kernel": "6.6",
    "pi1.address": "10.0.0.1", "pi1.data_address": "10.0.0.1", "pi1.threads": 4, "pi1.cores": "0-3",
    "server.address": "10.0.0.2", "server.data_address": "10.0.0.2", "server.threads": 8, "server.cores": None,
}  # fmt: skip
WORKERS = (
    {"cpu_model": "Raspberry Pi 4 Model B", "threads": 4, "cores": "0,1,2,3", "governor": "performance",
     "device": "cpu", "load_1min": 0.1, "temperature_c": 40.0, "frequency_hz": 1.5e9},
    {"cpu_model": "a server", "threads": 8, "cores": "0,1,2,3", "governor": None, "device": "cuda: a GPU",
     "torch": "2.14.1+cu126", "load_1min": 0.2, "temperature_c": None, "frequency_hz": 3e9},
)  # fmt: skip
RECORDED = Manifest(
    run_id="r", created_utc="2026-01-01T00:00:00+00:00", command_line=(), testbed=TESTBED, workers=WORKERS,
    emulated=False, speed=1.0, timings={}, versions={"torch": "2.14", "numpy": "2.4"}, host={}, sysctls={}, qdisc="",
    seed=0, cells_planned=1, cells_identity="c", batches_per_cell=12,
)  # fmt: skip


def refused(recorded, **now):
    """What is said against going on with a run under changed conditions."""
    with pytest.raises(BadUsageError) as refusal:
        refuse_unlike(recorded, structs.replace(recorded, **now), Path("run"))
    return str(refusal.value)


def test_of_versions_only_those_that_differ_are_named():
    assert refused(RECORDED, versions={"torch": "9.9", "numpy": "2.4"}) == (
        "--resume run: versions torch: the folder's is '2.14', this one's '9.9'; start a new run instead, or go on"
        " under what the folder has"
    )


def test_workers_that_shared_their_cores_are_not_followed_by_workers_on_their_own():
    shared, own = (tuple({"threads": 1, "cores": cores} for cores in each) for each in (("0,1", "0,1"), ("0", "1")))
    recorded = structs.replace(RECORDED, workers=shared)
    assert "cores of a worker: the folder's is (2,), this one's (1,); start" in refused(recorded, workers=own)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pi1.threads", 1),
        ("pi1.cores", "0-1"),
        ("server.address", "192.168.7.1"),
        ("pi1.data_address", "10.1.0.1"),
        ("tls", True),
        ("orchestrator_on", None),
        ("hosts", "pi2,server"),
    ],
)
def test_a_testbed_file_that_was_changed_is_another_testbed(name, value):
    said = refused(RECORDED, testbed={**TESTBED, name: value})
    assert f"testbed {name}: the folder's is {TESTBED[name]!r}, this one's {value!r}" in said


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (0, "cpu_model", "Raspberry Pi 5 Model B"),
        (0, "governor", "ondemand"),
        (0, "threads", 1),
        (1, "device", "cpu"),
        (1, "torch", "2.14.1+cpu"),
    ],
)
def test_another_machine_at_the_same_address_is_another_worker(place, name, value):
    workers = list(WORKERS)
    workers[place] = {**WORKERS[place], name: value}
    said = refused(RECORDED, workers=tuple(workers))
    host = ("pi1", "server")[place]
    assert f"worker {host} {name}: the folder's is {WORKERS[place][name]!r}, this one's {value!r}" in said


def test_the_same_hosts_at_another_hour_are_the_same_testbed():
    workers = tuple({**worker, "load_1min": 3.0, "temperature_c": 70.0, "frequency_hz": 1e9} for worker in WORKERS)
    testbed = {**TESTBED, "orchestrator": "renamed", "name": "lab2"}
    now = structs.replace(RECORDED, workers=workers, testbed=testbed, run_id="s", host={"load_1min": 4.0})
    refuse_unlike(RECORDED, now, Path("run"))
    # All cells that are left are skipped, so no worker was started.
    refuse_unlike(RECORDED, structs.replace(RECORDED, workers=()), Path("run"))


SLOW = Link(schema_version=1, name="slow", rate_bps=5e6, one_way_delay_s=0.2, return_rate_bps=5e6, return_delay_s=0.0)


def found_by_probe(number, rtt_s=0.2, medium="relay"):
    """What one probe found: round trips tell probes apart."""
    return LinkMeasured(
        medium=medium, rtt_samples_s=(rtt_s + number * 1e-6,) * 5, goodput_bps=5e6 * 1448 / 1538, probe_bytes=10_000_000
    )


def probed(moment, measured, link=SLOW):
    return LinkProbe(
        link_name="", link_asked=link, moment=moment, started_utc="", near="A", far="B", measured=measured
    )  # fmt: skip


def cell_after(measured, repeat, status="done", link=SLOW):
    return Cell(
        plan="mobilenet_v2@a[0:3]+b[3:21]/b8/w-/tcp/f32", mode=Mode.named("single"), link_name="", link_asked=link,
        hosts=("A", "B"), emulated=False, speed=1.0, status=status, link_measured=measured, repeat=repeat,
    )  # fmt: skip


def test_what_no_probe_came_after_is_known_by_the_probe_before_it():
    first, second, third, missing = (found_by_probe(number, rtt_s) for number, rtt_s in enumerate((0.2, 0.2, 0.2, 0.4)))
    closed, interrupted = cell_after(first, 0), cell_after(second, 1)
    probes = [probed("before", first), probed("after", third), probed("before", second)]

    def left_open(cells, probes):
        run = Run(path=Path("run"), manifest=RECORDED, cells=tuple(cells), probes=tuple(probes))
        return without_probe_after(run, 0.05)

    of_interrupted = {(Crossing("A", "B", SLOW), False): (interrupted.cell_id,)}
    assert left_open([closed, interrupted], probes) == of_interrupted
    # What failed is measured anew anyway.
    assert left_open([closed, cell_after(second, 2, status="failed"), interrupted], probes) == of_interrupted
    # The sweep was resumed: a probe that held came, and one that missed does not count.
    assert left_open([closed, interrupted], [*probes, probed("before", third)]) == {}
    assert left_open([closed, interrupted], [*probes, probed("before", missing)]) == of_interrupted
    assert left_open([closed, interrupted], [*probes, probed("after", missing)]) == of_interrupted
    # One in this process's memory says nothing of the relay.
    assert left_open([interrupted], [*probes, probed("after", found_by_probe(4, medium="memory"))]) == of_interrupted


def test_an_unshaped_link_is_none_that_could_be_missed():
    measured = found_by_probe(0, medium="veth")
    run = Run(
        path=Path("run"), manifest=RECORDED, cells=(cell_after(measured, 0, link=None),),
        probes=(probed("before", measured, link=None),),
    )  # fmt: skip
    assert without_probe_after(run, 0.05) == {}
