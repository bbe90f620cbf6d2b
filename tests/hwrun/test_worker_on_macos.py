"""A worker where there is no Linux: it serves stages, says of its host what there is to say, and shapes nothing."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hwrun.backends.tcp import SocketEnds
from hwrun.feeding import feed
from hwrun.machine.steady import steady_environment
from hwrun.models.weights import WeightStore
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.probing.probe import PINGS
from hwrun.reference import References, compare
from hwrun.shaping.setting import Egress, Path, Peer
from hwrun.sweeps.watching import Watching
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.control import RequestFailedError
from hwrun.worker_client import WorkerClient
from paretosim.mode import Mode
from paretosim.plan import Stage
from tests.hwrun.test_worker import LoopbackRoute

MODEL = "mobilenet_v2"
READY = re.compile(r"ready: control (\S+):(\d+), data (\S+):(\d+), process \d+")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    words = [sys.executable, "-m", "tests.hwrun.as_on_macos", "worker", "--listen", "127.0.0.1:0"]
    words += ["--data-listen", "127.0.0.1:0", "--cache", str(folder / "weights"), "--threads", "1"]
    environment = os.environ | steady_environment(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        ready = READY.match(process.stdout.readline())
        assert ready, (folder / "log").read_text()
        yield Address(host=ready[1], port=int(ready[2])), Address(host=ready[3], port=int(ready[4]))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


@pytest.fixture
def client(worker):
    client = WorkerClient.dial("mac", worker[0], Credentials())
    yield client
    client.close()


def test_it_computes_both_stages_of_a_plan_and_says_what_its_sockets_and_host_tell(worker, client, tmp_path):
    store = WeightStore(tmp_path / "weights")
    reference = References(store, threads=1, seed=0).of(MODEL, 1)
    stages = (Stage("a", 0, 10), Stage("a", 10, len(reference.digests)))
    client.supply(reference.digests, store)
    deployment = Deployment(
        model=MODEL, stages=stages, targets_s=None, compute_each=False, digests=reference.digests,
        inputs=reference.inputs, input_at_sink=False, batch=1, seed=0, limit_bytes=8 * 2**20, queue_depth=2,
    )  # fmt: skip
    ends = SocketEnds(LoopbackRoute([SimpleNamespace(data=worker[1])] * 2, tmp_path), Credentials())
    with Pipeline([client] * 2, ends, deployment, 60) as pipeline:
        outputs = pipeline.prime()
        assert compare(outputs, reference.outputs).bitwise_equal
        watching = Watching([client])
        (run,) = feed(pipeline, Mode.named("closed", window=2), 4)
        (watched,) = watching.end()
        collected = pipeline.collect()
    assert len(run.batches) >= 4
    assert set(collected.tcp_info[0]) == {"send_buffer_bytes", "receive_buffer_bytes"}
    assert collected.buffers[0].send_bytes > 0
    assert watched.samples[0].rss_bytes > 0
    assert watched.held_back == ()
    assert client.welcome.conditions["governor"] is None
    assert torch.equal(outputs[0], reference.outputs[0])


def test_its_path_is_probed(worker, client):
    asked = control.ProbeLink(
        address=str(worker[1]), medium="loopback", pings=PINGS, bulk_bytes=2**20, echo_s=0.2, rested_s=0.0
    )
    measured = client.request(asked, control.Probed).measured
    assert len(measured.rtt_samples_s) == PINGS


def test_it_says_that_it_cannot_shape_and_is_not_asked_to_unshape_in_vain(client):
    path = Path(Egress(rate_bps=1_000_000, delay_s=0.01), (Peer("127.0.0.1", (7071,)),))
    with pytest.raises(RequestFailedError, match="expected Linux"):
        client.shape([path], "lo", 60.0)
    assert client.shape([], None, 60.0) == ()


def test_it_answers_a_doctor(client):
    assert client.request(control.AskFacts(), control.Facts).facts is not None
