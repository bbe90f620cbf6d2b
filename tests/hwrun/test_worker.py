"""A worker: what it serves, what it refuses, and that it outlives whatever a peer sends."""

import errno
import re
import struct
import threading
import time
import weakref
from contextlib import contextmanager

import pytest
import torch

import hwrun.stages.deployed
import hwrun.stages.runner
import hwrun.worker
import hwrun.worker_client
from hwrun import orchestrator
from hwrun.backends.tcp import SocketEnds
from hwrun.errors import CellTimeOverError, PeerGoneError, TimedOutError
from hwrun.feeding import feed
from hwrun.models.weights import WeightStore
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.reference import References, compare
from hwrun.wire import control, data_path
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, admit_peer
from hwrun.wire.authentication import AuthenticationError, Purpose, prove_to_listener
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import RequestFailedError, WorkerBusyError, receive_control, send_control
from hwrun.wire.data_path import admit_data, dial_data
from hwrun.wire.frames import HEADER_BYTES, VERSION, Kind
from hwrun.wire.sockets import dial, listen
from hwrun.wire.tensors import outgoing
from hwrun.worker import Worker
from hwrun.worker_client import WorkerClient
from paretosim.mode import Mode
from paretosim.plan import Stage

TOKEN = b"a token of more than sixteen bytes"
CREDENTIALS = Credentials(TOKEN)
LIMIT_BYTES = 8 * 2**20
MODEL = "mobilenet_v2"


class RunningWorker:
    def __init__(self, folder, once=False, credentials=CREDENTIALS):
        self.credentials = credentials
        listeners = [listen(Address(host="127.0.0.1")) for _ in range(2)]
        self.control, self.data = (Address(*listener.getsockname()) for listener in listeners)
        self.log = []
        self.store = WeightStore(folder)
        self.worker = Worker(
            *listeners, credentials=credentials, store=self.store, threads=1, once=once, log=self.log.append
        )
        self.thread = threading.Thread(target=self.worker.serve)
        self.thread.start()

    def client(self):
        return WorkerClient.dial("w", self.control, self.credentials)

    def wait_for_log(self, words):
        deadline_s = time.monotonic() + 5
        while not any(words in line for line in self.log):
            assert time.monotonic() < deadline_s, f"{words!r} is not in {self.log}"
            time.sleep(0.01)

    def stop(self):
        self.worker.stop()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()


@pytest.fixture
def workers(tmp_path):
    running = [RunningWorker(tmp_path / name) for name in "AB"]
    yield running
    for one in running:
        one.stop()


@pytest.fixture
def worker(workers):
    return workers[0]


@pytest.fixture
def hanging(monkeypatch):
    """Lets workers answer no request of a kind until the test is over."""
    is_over = threading.Event()

    def hang(kind):
        answer = Worker._answer
        monkeypatch.setattr(
            Worker,
            "_answer",
            lambda worker, asked, connection: (
                (isinstance(asked, kind) and is_over.wait(60)) or answer(worker, asked, connection)
            ),
        )

    yield hang
    is_over.set()


@pytest.fixture(scope="module")
def reference_and_store(tmp_path_factory):
    store = WeightStore(tmp_path_factory.mktemp("weights"))
    return References(store, threads=1, seed=0).of(MODEL, 1), store


class LoopbackRoute:
    def __init__(self, workers, folder):
        self.workers, self.folder = workers, folder
        self.is_gone = False

    def stage_address(self, position):
        return self.workers[position].data

    def listen_for_results(self):
        address = Address(path=str(self.folder / "r"))
        return listen(address), address

    @contextmanager
    def at_sink(self):
        yield

    def check(self):
        if self.is_gone:
            raise PeerGoneError("the path is gone")


def deployment(reference, stages, **changes):
    options = {
        "model": MODEL, "stages": stages, "targets_s": None, "compute_each": False, "digests": reference.digests,
        "inputs": reference.inputs, "input_at_sink": False, "batch": 1, "seed": 0, "limit_bytes": LIMIT_BYTES,
        "queue_depth": 2,
    }  # fmt: skip
    return Deployment(**{**options, **changes})


@contextmanager
def pipeline(workers, reference_and_store, folder, split=10, limit_s=60, **changes):
    reference, store = reference_and_store
    stages = (Stage("a", 0, split), Stage("b", split, len(reference.digests)))
    clients = [worker.client() for worker in workers]
    for client, stage in zip(clients, stages, strict=True):
        client.supply(reference.digests[stage.first : stage.last], store)
    try:
        ends = SocketEnds(LoopbackRoute(workers, folder), workers[0].credentials)
        with Pipeline(clients, ends, deployment(reference, stages, **changes), limit_s) as running:
            yield running
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("split", [0, 10, 21])
@pytest.mark.parametrize("input_at_sink", [False, True])
def test_a_pipeline_of_streamed_weights_computes_what_the_unsplit_model_does(
    workers, reference_and_store, tmp_path, split, input_at_sink
):
    with pipeline(workers, reference_and_store, tmp_path, split, input_at_sink=input_at_sink) as running:
        check = compare(running.prime(), reference_and_store[0].outputs)
        assert check.bitwise_equal
        running.collect()
        (run,) = feed(running, Mode.named("closed", window=3), 4)
        found = running.collect()
    phases, info = found.phases, found.tcp_info
    assert len(phases) == len(run.warmup) + len(run.batches) == 10
    for fed in run.batches:
        first, second = phases[fed.sequence]
        assert (first.receive_start_s is not None) is input_at_sink
        assert second.receive_start_s <= second.receive_end_s <= second.compute_start_s <= second.compute_end_s
        assert first.compute_end_s <= first.send_start_s <= first.send_end_s
        # Threads may be scheduled late after a send has returned, so a send's end is not before the far receive's.
        assert first.send_start_s <= second.receive_end_s
        assert second.compute_end_s <= second.send_start_s <= fed.returned_s
    assert info[0]["congestion_control"]
    assert info[1] == {}
    (buffers,) = found.buffers
    assert buffers.send_bytes > 0
    assert buffers.receive_bytes > 0


def test_emulated_stages_take_their_targets_and_hand_on_the_real_activation(workers, reference_and_store, tmp_path):
    with pipeline(workers, reference_and_store, tmp_path, targets_s=(0.02, 0.03)) as running:
        assert compare(running.prime(), reference_and_store[0].outputs).bitwise_equal
        running.collect()
        feed(running, Mode.named("single"), 5)
        phases = running.collect().phases
        assert compare(running.prime(), reference_and_store[0].outputs).bitwise_equal
    for batch in phases.values():
        for stage, target_s in zip(batch, (0.02, 0.03), strict=True):
            assert stage.compute_end_s - stage.compute_start_s >= target_s
            late_s = stage.compute_end_s - stage.compute_start_s - target_s
            assert stage.overrun == (late_s > 0.0005)


def test_weights_are_sent_once(workers, reference_and_store):
    reference, store = reference_and_store
    client = workers[0].client()
    digests = reference.digests[:2]
    assert client.request(control.MissingBlocks(digests), control.Missing).digests == digests
    client.supply(digests, store)
    assert client.request(control.MissingBlocks(digests), control.Missing).digests == ()
    assert workers[0].store.path(digests[0]).read_bytes() == store.path(digests[0]).read_bytes()
    client.close()


def test_a_transfer_of_weights_that_broke_off_goes_on_from_where_it_stopped(worker, reference_and_store, monkeypatch):
    reference, store = reference_and_store
    digest = max(reference.digests, key=lambda one: store.path(one).stat().st_size)
    content = store.path(digest).read_bytes()
    half = len(content) // 2
    client = worker.client()
    send_control(client._connection, control.StoreBlock(digest=digest, size_bytes=len(content), offset_bytes=0))
    client._connection.send(Kind.CHUNK, payload=(content[:half],))
    client.close()
    deadline_s = time.monotonic() + 5
    while worker.store.held_bytes(digest) < half or worker.worker._session.locked():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    client = worker.client()
    sent = []
    send = client._connection.send
    monkeypatch.setattr(client._connection, "send", lambda kind, *a, **k: (sent.append((kind, k)), send(kind, *a, **k)))
    client.supply([digest], store)
    assert sum(len(k["payload"][0]) for kind, k in sent if kind is Kind.CHUNK) == len(content) - half
    assert worker.store.path(digest).read_bytes() == content
    client.close()


def test_a_block_that_cannot_be_kept_fails_that_request_alone(worker, reference_and_store, monkeypatch):
    reference, store = reference_and_store
    digest = max(reference.digests, key=lambda one: store.path(one).stat().st_size)

    def full(digest, offset_bytes, chunks):
        next(chunks)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker.store, "receive", full)
    client = worker.client()
    with pytest.raises(RequestFailedError, match="No space left on device"):
        client.supply([digest], store)
    assert client.exchange().round_trip_s < 5
    client.close()


def test_a_stage_that_is_replaced_frees_its_weights_at_once(worker, reference_and_store, monkeypatch):
    reference, store = reference_and_store
    loaded = []
    original = hwrun.stages.deployed.load_stage

    def load(*arguments):
        stage = original(*arguments)
        loaded.append(weakref.ref(stage))
        return stage

    monkeypatch.setattr(hwrun.stages.deployed, "load_stage", load)
    client = worker.client()
    client.supply(reference.digests[20:], store)
    deploy_stage(client, reference, "p")
    assert loaded[0]() is not None
    deploy_stage(client, reference, "q")
    assert loaded[0]() is None
    assert loaded[1]() is not None
    client.close()


def test_a_wrong_token_gets_nothing_on_either_port(worker):
    for address, purpose in ((worker.control, Purpose.CONTROL), (worker.data, Purpose.DATA)):
        with dial(address) as stream, pytest.raises(AuthenticationError, match="same token file"):
            prove_to_listener(stream, b"another token of some length", purpose)
    worker.wait_for_log("does not hold ours")
    deadline_s = time.monotonic() + 5
    while len(worker.log) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert [line.partition(": ")[2] for line in worker.log] == ["closed: token: the peer does not hold ours"] * 2
    worker.client().close()


def test_garbage_on_either_port_closes_that_connection_alone_with_a_reason(worker):
    client = worker.client()
    for address in (worker.control, worker.data):
        with dial(address) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\n".ljust(40))
            stream.settimeout(5)
            assert stream.recv(1) == b""
    worker.wait_for_log("does not speak hwrun's protocol")
    assert client.exchange().round_trip_s < 5
    client.close()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"X" * HEADER_BYTES, "got magic"),
        (struct.pack(">4sBBHQQ", b"hwrn", VERSION + 1, Kind.BATCH, 1, 0, 4), f"got protocol version {VERSION + 1}"),
        (struct.pack(">4sBBHQQ", b"hwrn", VERSION, Kind.BATCH, 1, 0, 2**63), f"got a payload of {2**63} bytes"),
        (
            struct.pack(">4sBBHQQ", b"hwrn", VERSION, Kind.BATCH, 1, 0, 4)
            + struct.pack(">BBI2x8Q", 2, 2, 0, 2**63, 2, *[0] * 6),
            "shapes say",
        ),
        (struct.pack(">4sBBHQQ", b"hwrn", VERSION, Kind.PING, 0, 0, 0), "got a PING frame"),
    ],
    ids=["magic", "version", "length of 2**63", "dimension of 2**63", "kind"],
)
def test_a_bad_frame_from_a_stage_ends_its_pipeline_and_not_the_worker(worker, reference_and_store, frame, reason):
    reference, store = reference_and_store
    client = worker.client()
    failures = []
    client.on_failure = lambda pipeline, reason: failures.append((pipeline, reason))
    client.supply(reference.digests[20:], store)
    deploy_stage(client, reference, "p")
    connection = dial_data(worker.data, CREDENTIALS, "p", 1)
    connection.socket.sendall(frame)
    connection.socket.settimeout(5)
    assert connection.socket.recv(1) == b""
    connection.close()
    worker.wait_for_log("pipeline p: receive:")
    worker.wait_for_log(reason)
    assert client.exchange().round_trip_s < 5
    assert failures[0][0] == "p"
    deploy_stage(client, reference, "q")
    dial_data(worker.data, CREDENTIALS, "q", 1).close()
    client.close()


def deploy_stage(client, reference, name, **changes):
    request = {
        "pipeline": name, "position": 1, "model": MODEL, "first": 20, "last": 21, "digests": reference.digests[20:],
        "batch": 1, "seed": 0, "target_s": None, "compute_each": False, "keeps_input": False,
        "limit_bytes": LIMIT_BYTES, "queue_depth": 2,
    }  # fmt: skip
    client.deploy(control.DeployStage(**{**request, **changes}))


def test_a_tensor_of_the_wrong_shape_ends_its_pipeline_and_not_the_worker(worker, reference_and_store, tmp_path):
    reference, store = reference_and_store
    client = worker.client()
    client.supply(reference.digests[20:], store)
    send_to_last_stage(worker, client, reference, tmp_path, [torch.ones(3, 3)])
    worker.wait_for_log("pipeline p: compute:")
    assert client.exchange().round_trip_s < 5
    client.close()


def send_to_last_stage(worker, client, reference, folder, tensors):
    deploy_stage(client, reference, "p")
    connection = dial_data(worker.data, CREDENTIALS, "p", 1)
    with listen(Address(path=str(folder / "r"))) as results:
        connecting = threading.Thread(target=lambda: accept_results(results))
        connecting.start()
        client.request(control.Connect(pipeline="p", position=1, address=f"unix:{folder / 'r'}"), control.Done)
        connecting.join()
    specs, payload = outgoing(tensors)
    connection.send(Kind.BATCH, specs=specs, payload=payload)
    # What it was sent is read before the end of its connection is.
    worker.wait_for_log("pipeline p: ")
    connection.close()


@pytest.mark.parametrize(
    "tensors",
    [[torch.ones(1, 1280)] * 2, [torch.ones(())], [torch.ones(1, 1280, dtype=torch.int64)]],
    ids=["two tensors", "no dimension", "integers"],
)
def test_whatever_a_block_raises_ends_its_pipeline_with_the_reason(
    worker, reference_and_store, tmp_path, monkeypatch, tensors
):
    def forward(module, x):  # of a block that unpacks and indexes what it is given
        _, channels = x.shape
        return (x @ torch.ones(channels, 10),)

    reference, store = reference_and_store
    failures = []
    client = worker.client()
    client.on_failure = lambda pipeline, reason: failures.append(reason)
    client.supply(reference.digests[20:], store)
    monkeypatch.setattr(hwrun.stages.runner.StageRunner, "load", lambda runner: None)
    monkeypatch.setattr(hwrun.stages.runner.StageRunner, "run", lambda runner, inputs, _: forward(runner, *inputs))
    send_to_last_stage(worker, client, reference, tmp_path, tensors)
    assert client.exchange().round_trip_s < 5
    assert re.search(
        "compute: (TypeError: .*positional|ValueError: not enough values|expected .* same dtype)", failures[0]
    )
    client.close()


def test_a_request_that_fails_in_an_unforeseen_way_is_answered_and_the_session_goes_on(worker, monkeypatch):
    monkeypatch.setattr(worker.store, "has", lambda digest: {}[digest])
    client = worker.client()
    with pytest.raises(RequestFailedError, match="KeyError: 'ab'"):
        client.request(control.MissingBlocks(("ab",)), control.Missing)
    assert client.exchange().round_trip_s < 5
    client.close()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_ones(worker, monkeypatch):
    answering = threading.Event()
    has = worker.store.has
    monkeypatch.setattr(worker.store, "has", lambda digest: answering.wait(10) and has(digest))
    client = worker.client()
    with pytest.raises(TimedOutError, match=r"worker w: no answer to MissingBlocks within 0\.2 s"):
        client.request(control.MissingBlocks(("0" * 64,)), control.Missing, 0.2)
    answering.set()
    with pytest.raises(PeerGoneError):
        client.exchange()
    assert client.gone == "worker w: no answer to MissingBlocks within 0.2 s"
    client.close()
    again = worker.client()
    assert again.exchange().round_trip_s < 5
    again.close()


def test_a_worker_that_is_well_is_not_taken_for_one_that_hangs_when_the_time_is_over(worker):
    client = worker.client()
    client.answer_by_s = time.monotonic() - 60
    assert client.exchange().round_trip_s < 5
    client.close()


def test_a_worker_that_hangs_does_not_answer_and_is_gone(worker, monkeypatch, hanging):
    monkeypatch.setattr(hwrun.worker_client, "_LOOK_LIMIT_S", 0.2)
    client = worker.client()
    assert client.answers()
    hanging(control.Ping)
    assert not client.answers()
    assert client.gone == "worker w: no answer to Ping within 0.2 s"
    assert not client.answers()
    client.close()


def test_what_is_asked_of_the_kernel_in_passing_has_less_time_than_loading(worker, monkeypatch, hanging):
    monkeypatch.setattr(hwrun.worker_client, "_LOOK_LIMIT_S", 0.2)
    hanging(control.CheckShape)
    client = worker.client()
    with pytest.raises(TimedOutError, match=r"worker w: no answer to CheckShape within 0\.2 s"):
        client.check_shape()
    client.close()


def test_one_that_never_says_welcome_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(hwrun.worker_client, "_WELCOME_LIMIT_S", 0.2)
    with listen(Address(host="127.0.0.1")) as listener:
        admitting = threading.Thread(target=lambda: admitted.append(admit_peer(listener.accept()[0], CREDENTIALS)))
        admitted = []
        admitting.start()
        with pytest.raises(TimedOutError, match="worker w: said nothing in time"):
            WorkerClient.dial("w", Address(*listener.getsockname()), CREDENTIALS)
        admitting.join()
        admitted[0][0].close()


def accept_results(listener):
    admit_data(listener, CREDENTIALS, "p", 2, limit_s=5).close()


def test_a_stage_that_is_not_deployed_is_not_dialled(worker):
    client = worker.client()
    with pytest.raises(RequestFailedError, match="stage 1 of pipeline nowhere is not deployed"):
        dial_data(worker.data, CREDENTIALS, "nowhere", 1)
    client.close()


@pytest.mark.parametrize("token", [None, b"another token of enough bytes"], ids=["a port scanner", "another token"])
def test_a_stranger_at_the_results_is_turned_away_and_the_stage_still_taken(worker, token):
    with listen(Address(host="127.0.0.1")) as results:
        address = Address(*results.getsockname())
        taken = []
        taking = threading.Thread(target=lambda: taken.append(admit_data(results, CREDENTIALS, "p", 2, limit_s=20)))
        taking.start()
        if token is None:
            dial(address).close()
        else:
            with pytest.raises(AuthenticationError):
                dial_data(address, Credentials(token), "p", 2)
        stage = dial_data(address, CREDENTIALS, "p", 2)
        taking.join()
        stage.send(Kind.PING, 7)
        assert taken[0].receive(BufferPool(), 0).header.sequence == 7
        for connection in (stage, taken[0]):
            connection.close()


def test_results_that_nobody_brings_are_given_up_and_say_who_came_instead():
    with listen(Address(host="127.0.0.1")) as results:
        dial(Address(*results.getsockname())).close()
        with pytest.raises(
            TimedOutError, match=r"within 0\.5 s; another peer was turned away: .*the peer closed after 0"
        ):
            admit_data(results, CREDENTIALS, "p", 2, limit_s=0.5)


def test_a_second_orchestrator_is_told_that_the_worker_is_busy_and_may_come_later(worker):
    first = worker.client()
    with pytest.raises(WorkerBusyError, match="serves another orchestrator"):
        worker.client()
    assert first.gone is None
    first.close()
    worker.client().close()


@pytest.mark.parametrize("killed", [False, True])
def test_the_next_orchestrator_waits_for_what_the_last_one_has_left(worker, monkeypatch, killed):
    """Also where that one was killed while the worker did what it had asked for, and more of it waits unread."""
    leave, ended_s = worker.worker._stages.leave, []

    def leave_slowly():
        time.sleep(0.5)
        leave()
        ended_s.append(time.monotonic())

    monkeypatch.setattr(worker.worker._stages, "leave", leave_slowly)
    if killed:
        monkeypatch.setattr(worker.worker._stages, "tear_down", lambda: time.sleep(0.5))
        connection = Connection(dial(worker.control), "w")
        prove_to_listener(connection.socket, TOKEN, Purpose.CONTROL)
        send_control(connection, control.Hello(versions=hwrun.worker.alike_versions()))
        receive_control(connection, BufferPool(), control.Welcome)
        for _ in range(2):
            send_control(connection, control.TearDown(pipeline="p"))
        connection.close()
    else:
        worker.client().close()
    second = worker.client()
    assert time.monotonic() >= ended_s[0]
    second.exchange()
    second.close()


def test_the_next_orchestrator_is_told_when_leaving_takes_too_long(worker, monkeypatch):
    monkeypatch.setattr(hwrun.worker, "_LEAVING_LIMIT_S", 0.2)
    ended = threading.Event()
    monkeypatch.setattr(worker.worker._stages, "leave", lambda: ended.wait(30))
    worker.client().close()
    with pytest.raises(WorkerBusyError, match="still ends what it ran for an orchestrator that has left"):
        worker.client()
    ended.set()
    worker.client().close()


def test_unlike_versions_are_refused_with_both_named(worker, monkeypatch):
    connection = Connection(dial(worker.control), "w")
    prove_to_listener(connection.socket, TOKEN, Purpose.CONTROL)
    send_control(connection, control.Hello(versions={"protocol": "1", "paretosim": "0.0.1", "torch": "1.0"}))
    with pytest.raises(PeerGoneError, match=r"torch: worker has .*, orchestrator has 1\.0"):
        receive_control(connection, BufferPool(), control.Welcome)
    connection.close()


@pytest.mark.parametrize("name", ["torch", "code", "protocol", "paretosim"])
def test_any_one_version_that_differs_is_refused_by_the_worker_with_both_named(worker, monkeypatch, name):
    own = hwrun.worker.alike_versions()
    monkeypatch.setattr("hwrun.worker_client.alike_versions", lambda: {**own, name: "another"})
    with pytest.raises(PeerGoneError, match=f"refused: {name}: worker has {re.escape(own[name])}, orchestrator has an"):
        worker.client()
    worker.wait_for_log(f"{name}: worker has")


def test_another_build_of_the_same_torch_is_accepted_and_each_end_is_told_the_whole_version(worker, monkeypatch):
    monkeypatch.setattr("hwrun.worker.alike_versions", lambda: {"torch": "2.9.0+cu126", "code": "x"})
    monkeypatch.setattr("hwrun.worker_client.alike_versions", lambda: {"torch": "2.9.0", "code": "x"})
    client = worker.client()
    assert client.welcome.versions["torch"] == "2.9.0+cu126"
    client.close()
    for versions in ({"torch": "2.9.1", "code": "x"}, {"torch": "2.9.0", "code": "x+y"}):
        monkeypatch.setattr("hwrun.worker_client.alike_versions", lambda versions=versions: versions)
        with pytest.raises(PeerGoneError, match="refused"):
            worker.client()


@pytest.mark.parametrize("changes", [{"limit_bytes": 2**62}, {"queue_depth": 10**6}])
def test_a_deployment_beyond_any_bound_is_refused(worker, reference_and_store, changes):
    client = worker.client()
    with pytest.raises(PeerGoneError):
        deploy_stage(client, reference_and_store[0], "p", **changes)
    client.close()
    worker.wait_for_log("at most" if "limit_bytes" in changes else "expected 1 to")


def test_what_cannot_be_done_is_answered_with_the_reason_and_the_session_goes_on(worker, reference_and_store):
    client = worker.client()
    with pytest.raises(RequestFailedError, match="not in"):
        deploy_stage(client, reference_and_store[0], "p")
    with pytest.raises(RequestFailedError, match="pipeline p: no stage 0"):
        client.request(control.Collect(pipeline="p", position=0), control.Collected)
    assert client.exchange().round_trip_s < 5
    client.close()


def test_bytes_that_are_not_a_control_message_end_the_session_and_not_the_worker(worker):
    client = worker.client()
    client._connection.send(Kind.CONTROL, payload=(b'{"type":"Nonsense"}',))
    with pytest.raises(PeerGoneError):
        client.exchange()
    client.close()
    worker.wait_for_log("Invalid")


def test_a_worker_started_once_ends_with_its_orchestrator(tmp_path):
    running = RunningWorker(tmp_path, once=True)
    running.client().close()
    running.thread.join(timeout=10)
    assert not running.thread.is_alive()


def test_a_worker_that_goes_fails_its_pipeline_at_once(workers, reference_and_store, tmp_path):
    with pipeline(workers, reference_and_store, tmp_path, targets_s=(0.01, 30.0)) as running:
        running.dispatch(0)
        leaving = threading.Timer(0.3, workers[1].worker.stop)
        leaving.start()
        start_s = time.monotonic()
        with pytest.raises(PeerGoneError, match=r"worker w: "):
            running.take_returned()
        assert time.monotonic() - start_s < 10
        leaving.join()


def test_a_path_that_is_gone_ends_the_wait_for_a_result_within_a_second(workers, reference_and_store, tmp_path):
    with pipeline(workers, reference_and_store, tmp_path, targets_s=(0.01, 30.0)) as running:
        running.dispatch(0)
        running._ends._route.is_gone = True
        start_s = time.monotonic()
        with pytest.raises(PeerGoneError, match="the path is gone"):
            running.take_returned()
        assert time.monotonic() - start_s < 5


def test_a_pipeline_without_a_result_in_time_says_so(workers, reference_and_store, tmp_path):
    with pipeline(workers, reference_and_store, tmp_path, limit_s=1.5, targets_s=(0.01, 20.0)) as running:
        running.dispatch(0)
        with pytest.raises(CellTimeOverError, match="time limit"):
            running.take_returned()


def test_the_limit_counts_from_when_stages_stand_and_waiting_for_a_later_time_ends_with_it(
    workers, reference_and_store, tmp_path, monkeypatch
):
    load = hwrun.stages.runner.StageRunner.load
    monkeypatch.setattr(hwrun.stages.runner.StageRunner, "load", lambda runner: (time.sleep(0.8), load(runner)))
    with pipeline(workers, reference_and_store, tmp_path, limit_s=1.5) as running:
        start_s = time.monotonic()
        with pytest.raises(CellTimeOverError, match="time limit"):
            running.wait_until(start_s + 120)
        assert 0.3 < time.monotonic() - start_s < 60
    assert {worker.answer_by_s for worker in running._workers} == {None}  # or those of the next cell would hurry


def test_a_request_that_hangs_is_given_up_shortly_after_the_pipelines_time(
    workers, reference_and_store, tmp_path, monkeypatch, hanging
):
    monkeypatch.setattr(orchestrator, "_GRACE_S", 0.5)
    with pipeline(workers, reference_and_store, tmp_path, targets_s=(0.01, 0.01)) as running:
        running.renew(1.0)
        hanging(control.Collect)
        start_s = time.monotonic()
        with pytest.raises(TimedOutError, match=r"worker w: no answer to Collect within 1(\.\d+)? s"):
            running.collect()
        assert 1 <= time.monotonic() - start_s < 60


def test_where_no_batch_comes_back_a_worker_that_hangs_is_the_reason_and_not_the_time(
    workers, reference_and_store, tmp_path, monkeypatch, hanging
):
    monkeypatch.setattr(orchestrator, "_PING_LIMIT_S", 0.2)
    with pipeline(workers, reference_and_store, tmp_path, limit_s=0.5, targets_s=(0.01, 60.0)) as running:
        hanging(control.Ping)
        running.dispatch(0)
        with pytest.raises(TimedOutError) as raised:
            running.take_returned()
    assert not isinstance(raised.value, CellTimeOverError)
    assert str(raised.value) == "; ".join(["worker w: no answer to Ping within 0.2 s"] * 2)


def test_a_peer_that_proves_the_token_and_then_says_nothing_is_let_go(worker, monkeypatch):
    monkeypatch.setattr(data_path, "HANDSHAKE_LIMIT_S", 0.1)
    for address, purpose in ((worker.control, Purpose.CONTROL), (worker.data, Purpose.DATA)):
        with dial(address) as stream:
            prove_to_listener(stream, TOKEN, purpose)
            stream.settimeout(5)
            assert stream.recv(1) == b""
    worker.wait_for_log("said nothing in time")
    monkeypatch.undo()
    client = worker.client()
    assert client.exchange().round_trip_s < 5
    client.close()


def test_unproved_connections_are_bounded(worker):
    streams = [dial(worker.control) for _ in range(20)]
    worker.wait_for_log("closed unread")
    for stream in streams:
        stream.close()
