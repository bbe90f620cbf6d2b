"""TLS: both ends show certificates of one authority, bytes survive in both directions at once, nothing hangs."""

import socket
import ssl
import threading
import time

import pytest
import torch
import trustme

from hwrun.errors import BadUsageError, PeerGoneError, ProtocolError, TimedOutError
from hwrun.models.weights import WeightStore
from hwrun.reference import References, compare
from hwrun.wire import admission, tls
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, admit_peer, dial_peer
from hwrun.wire.authentication import AuthenticationError, Purpose
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import Kind
from hwrun.wire.sockets import dial, listen
from hwrun.wire.tensors import incoming, outgoing
from hwrun.wire.tls import CertificateError, TlsFiles, TlsStream, load_tls
from hwrun.worker_client import WorkerClient, probe_over
from tests.hwrun.test_worker import MODEL, RunningWorker, pipeline

TOKEN = b"a token of sixteen bytes or more"


def files_of(folder, authority, *names):
    folder.mkdir(parents=True)
    certificate = authority.issue_cert(*names)
    paths = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    certificate.private_key_pem.write_to_path(paths.key)
    paths.key.chmod(0o600)
    for index, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(paths.certificate, append=index > 0)
    authority.cert_pem.write_to_path(paths.authority)
    return paths


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Identities of two hosts at 127.0.0.1, one at another address, and one of another authority."""
    folder, authority = tmp_path_factory.mktemp("lab"), trustme.CA()
    return {
        "one": files_of(folder / "one", authority, "127.0.0.1"),
        "two": files_of(folder / "two", authority, "127.0.0.1"),
        "elsewhere": files_of(folder / "elsewhere", authority, "192.0.2.1"),
        "stranger": files_of(folder / "stranger", trustme.CA(), "127.0.0.1"),
    }


def meeting(dialler, listener):
    """What dialling and admitting end with, over loopback TCP: streams or errors."""
    results = {}

    def admit():
        stream, _ = server.accept()
        try:
            results["admitted"], _ = admit_peer(stream, listener)
        except Exception as error:
            stream.close()
            results["admitted"] = error

    with listen(Address(host="127.0.0.1")) as server:
        thread = threading.Thread(target=admit)
        thread.start()
        try:
            results["dialled"] = dial_peer(Address(*server.getsockname()), dialler, Purpose.DATA)
        except Exception as error:
            results["dialled"] = error
        thread.join()
    return results["dialled"], results["admitted"]


def credentials(files, token=TOKEN):
    return Credentials(token, load_tls(files))


@pytest.fixture
def pair(lab):
    dialled, admitted = meeting(credentials(lab["one"]), credentials(lab["two"]))
    assert isinstance(dialled, TlsStream)
    yield Connection(dialled, "two"), Connection(admitted, "one")
    dialled.close()
    admitted.close()


def test_only_tls_1_3_is_spoken_and_nothing_of_a_frame_is_readable(lab):
    dialled, admitted = meeting(credentials(lab["one"]), credentials(lab["two"]))
    assert dialled._tls.version() == admitted._tls.version() == "TLSv1.3"
    secret = b"an activation nobody else may read" * 10
    Connection(dialled, "two").send(Kind.CHUNK, payload=(secret,))
    raw = admitted._stream.recv(2000, socket.MSG_PEEK)
    assert len(raw) > len(secret)
    assert secret[:16] not in raw
    dialled.close()
    admitted.close()


def test_tensors_larger_than_any_buffer_arrive_bit_for_bit_in_both_directions_at_once(pair):
    tensors = [torch.randn(5, 300_001), torch.arange(7)]
    received = {}

    def send(connection):
        for number in range(4):
            specs, payload = outgoing(tensors)
            connection.send(Kind.BATCH, number, specs=specs, payload=payload)

    def receive(name, connection):
        received[name] = [incoming(connection.receive(BufferPool(), 2**24)) for _ in range(4)]

    threads = [threading.Thread(target=send, args=(one,), daemon=True) for one in pair]
    threads += [threading.Thread(target=receive, args=item, daemon=True) for item in enumerate(pair)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    for arrived in (*received[0], *received[1]):
        assert all(torch.equal(a, b) for a, b in zip(arrived, tensors, strict=True))


def test_a_peer_that_leaves_ends_receiving_and_sending(pair):
    pair[0].close()
    with pytest.raises(PeerGoneError, match="closed the connection"):
        pair[1].receive(BufferPool(), 100)
    with pytest.raises(PeerGoneError, match="sending CHUNK"):
        pair[1].send(Kind.CHUNK, payload=(bytes(2**24),))


def test_shutting_down_wakes_a_peer_that_is_sending(pair):
    errors = []

    def send():
        try:
            pair[0].send(Kind.CHUNK, payload=(bytes(64 * 2**20),))
        except PeerGoneError as error:
            errors.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    pair[1].begin(64 * 2**20)
    time.sleep(0.3)  # until buffers are full
    pair[1].shut_down()
    thread.join(timeout=5)
    assert len(errors) == 1


def test_the_token_is_asked_for_behind_a_good_certificate_too(lab):
    dialled, admitted = meeting(credentials(lab["one"]), credentials(lab["two"], b"another token altogether"))
    assert isinstance(dialled, AuthenticationError)
    assert isinstance(admitted, AuthenticationError)


def test_a_certificate_of_another_authority_opens_nothing_though_the_token_is_right(lab):
    dialled, admitted = meeting(credentials(lab["stranger"]), credentials(lab["two"]))
    assert isinstance(dialled, CertificateError)
    dialled, admitted = meeting(Credentials(TOKEN, mixed(lab)), credentials(lab["two"]))
    assert isinstance(admitted, CertificateError)
    assert isinstance(dialled, PeerGoneError)


def mixed(lab):
    """Trusts the lab, but shows a stranger's certificate."""
    stranger = lab["stranger"]
    return load_tls(TlsFiles(stranger.certificate, stranger.key, lab["one"].authority))


def test_a_certificate_for_another_address_is_not_taken_for_the_one_dialled(lab):
    dialled, _ = meeting(credentials(lab["one"]), credentials(lab["elsewhere"]))
    assert isinstance(dialled, CertificateError)
    assert "127.0.0.1" in str(dialled)


def test_without_a_certificate_nobody_gets_in(lab):
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(lab["one"].authority)
    identity = load_tls(lab["one"])
    identity._dialling = bare
    dialled, admitted = meeting(Credentials(TOKEN, identity), credentials(lab["two"]))
    assert isinstance(admitted, CertificateError)
    assert isinstance(dialled, PeerGoneError)


def test_tls_at_one_end_only_is_an_error_at_both_that_says_so(lab):
    dialled, admitted = meeting(credentials(lab["one"]), Credentials(TOKEN))
    assert isinstance(dialled, PeerGoneError)
    assert "TLS" in str(dialled)
    assert isinstance(admitted, ProtocolError)
    assert "speaks TLS and this end does not" in str(admitted)
    dialled, admitted = meeting(Credentials(TOKEN), credentials(lab["two"]))
    assert isinstance(admitted, ProtocolError)
    assert "expected TLS 1.3 at both ends" in str(admitted)
    assert isinstance(dialled, ProtocolError | PeerGoneError)


@pytest.mark.parametrize("interval_s", [None, 0.02])
def test_a_silent_or_dripping_peer_is_given_up_in_time(lab, monkeypatch, interval_s):
    monkeypatch.setattr(admission, "HANDSHAKE_LIMIT_S", 0.2)
    done = threading.Event()

    def drip():
        stream.sendall(b"\x16\x03\x01\x04\x00")  # the beginning of a record of a kilobyte
        while interval_s and not done.wait(interval_s):
            stream.sendall(b"\0")

    with listen(Address(host="127.0.0.1")) as server:
        stream = dial(Address(*server.getsockname()))
        thread = threading.Thread(target=drip)
        thread.start()
        accepted, _ = server.accept()
        start_s = time.monotonic()
        with pytest.raises((TimedOutError, ProtocolError)):
            admit_peer(accepted, credentials(lab["two"]))
        assert time.monotonic() - start_s < 5
        done.set()
        thread.join()
        stream.close()
        accepted.close()


def test_a_time_limit_holds_for_a_whole_read_and_not_for_each_byte(pair):
    """Single bytes of a record, which decrypt to nothing until it is whole, must not renew the limit."""
    sender, receiver = (connection.socket for connection in pair)
    done = threading.Event()

    def drip():
        with sender._crypting:
            sender._tls.write(bytes(1000))
            record = sender._outgoing.read()
        for byte in record:
            if done.wait(0.02):
                return
            sender._stream.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    receiver.settimeout(0.2)
    start_s = time.monotonic()
    with pytest.raises(TimeoutError):
        receiver.recv(10)
    assert time.monotonic() - start_s < 5
    done.set()
    thread.join()


def test_within_a_host_a_unix_socket_goes_without(lab, tmp_path):
    address = Address(path=str(tmp_path / "s"))
    with listen(address) as server:
        thread = threading.Thread(target=lambda: admit_peer(server.accept()[0], credentials(lab["two"]))[0].close())
        thread.start()
        stream = dial_peer(address, credentials(lab["one"]), Purpose.CONTROL)
        thread.join()
        assert isinstance(stream, socket.socket)
        stream.close()


def test_files_that_cannot_be_used_are_named(lab, tmp_path):
    one, two = lab["one"], lab["two"]
    with pytest.raises(BadUsageError, match=r"TLS key: .*nothing cannot be read"):
        load_tls(TlsFiles(one.certificate, tmp_path / "nothing", one.authority))
    with pytest.raises(BadUsageError, match="do not belong together"):
        load_tls(TlsFiles(one.certificate, two.key, one.authority))
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(BadUsageError, match=r"TLS authority: .*empty holds no PEM"):
        load_tls(TlsFiles(one.certificate, one.key, empty))
    open_key = tmp_path / "key"
    open_key.write_bytes(one.key.read_bytes())
    open_key.chmod(0o644)
    with pytest.raises(BadUsageError, match="chmod 600"):
        load_tls(TlsFiles(one.certificate, open_key, one.authority))


def test_a_pipeline_and_a_probe_of_workers_with_tls_speak_nothing_else(lab, tmp_path, monkeypatch):
    """Control, inputs, activations and a probe, each over TLS; only results within a host take a unix socket."""
    shaken = []
    original = tls._shaken
    monkeypatch.setattr(tls, "_shaken", lambda *arguments: shaken.append(1) or original(*arguments))
    store = WeightStore(tmp_path / "weights")
    reference = References(store, threads=1, seed=0).of(MODEL, 1)
    workers = [RunningWorker(tmp_path / name, credentials=credentials(lab[name])) for name in ("one", "two")]
    try:
        with pipeline(workers, (reference, store), tmp_path, input_at_sink=True) as running:
            assert compare(running.prime(), reference.outputs).bitwise_equal
        # Two control connections, the input's and the activations', both ends of each.
        assert len(shaken) == 8
        client = workers[0].client()
        probed = probe_over(client, str(workers[1].data), "loopback", None, 0.2)
        assert len(probed.rtt_samples_s) > 0
        assert len(shaken) == 12
        client.close()
        with pytest.raises((ProtocolError, PeerGoneError)):
            WorkerClient.dial("w", workers[0].control, Credentials(TOKEN))
    finally:
        for worker in workers:
            worker.stop()
