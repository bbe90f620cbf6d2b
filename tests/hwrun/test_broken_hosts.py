"""Workers beside a network that vanishes and disks that are full or read-only: a clear error in bounded time."""

import contextlib
import os
import pickle
import shutil
import subprocess
import time

import pytest

from hwrun.errors import PeerGoneError
from hwrun.local import wiring
from hwrun.local.namespaces import NetworkNamespace, availability
from hwrun.models.weights import WeightStore
from hwrun.reference import References
from hwrun.wire import sockets
from hwrun.wire.address import Address
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import RequestFailedError
from hwrun.wire.frames import Kind, encode
from hwrun.wire.sockets import dial, listen, prepared
from tests.hwrun.test_fuzz import Exploit
from tests.hwrun.test_worker import MODEL, RunningWorker

may_mount = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("mount") is None, reason="only root may mount a file system that is full"
)


@pytest.fixture
def two_hosts():
    permitted = availability()
    if permitted.how == "none" or permitted.needs_reexec:
        pytest.skip(f"no network namespaces in this process: {permitted}")
    near, far = NetworkNamespace.create(), NetworkNamespace.create()
    macs = "02:00:00:00:00:01", "02:00:00:00:00:02"
    wiring.make_pair(near, "wire", macs[0], far, "wire", macs[1])
    addresses = "10.97.0.1", "10.97.0.2"
    for namespace, here in ((near, 0), (far, 1)):
        cable = wiring.Cable(
            interface="wire", address=addresses[here], mac=macs[here], far_address=addresses[1 - here],
            far_mac=macs[1 - here],
        )  # fmt: skip
        wiring.configure_host(namespace, (cable,))
    yield near, far, addresses[1]
    near.close()
    far.close()


@pytest.mark.root
@pytest.mark.parametrize("is_owing", [False, True], ids=["nothing is sent", "an order is under way"])
def test_a_peer_whose_host_vanished_is_noticed(two_hosts, monkeypatch, is_owing):
    """Half open: no FIN, no RST, only silence.

    Either the kernel asks and nobody answers; or an acknowledgement is due, so that it asks nothing, and by itself
    would wait for that for a quarter of an hour.
    """
    monkeypatch.setattr(sockets, "_KEEPALIVE", {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2})
    monkeypatch.setattr(sockets, "_STUCK_S", 1)
    near, far, address = two_hosts
    with far.entered():
        listener = listen(Address(host=address))
    with near.entered():
        stream = dial(Address(*listener.getsockname()))
    sockets.bound_sends(stream)
    listening = prepared(listener.accept()[0])
    far.close()
    listening.detach()  # the host is gone, and with it whoever could have said that the connection is
    waiting = Connection(stream, "the far host")
    _unplug(near)
    if is_owing:
        waiting.send(Kind.PING)  # which the kernel takes
    start_s = time.monotonic()
    with pytest.raises(PeerGoneError, match="the far host: receiving: "):
        waiting.receive(BufferPool(), 100)
    assert time.monotonic() - start_s < 30
    waiting.close()
    listener.close()


def _unplug(namespace):
    from pyroute2 import IPRoute

    def down():
        with IPRoute() as route:
            route.link("set", index=route.link_lookup(ifname="wire")[0], state="down")

    namespace.run(down)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of half a megabyte, and how to make it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def sender(tmp_path_factory):
    store = WeightStore(tmp_path_factory.mktemp("sender"))
    digests = References(store, threads=1, seed=0).of(MODEL, 1).digests
    return store, sorted(digests, key=lambda digest: store.path(digest).stat().st_size)


@pytest.mark.root
@may_mount
def test_a_full_or_read_only_disk_fails_the_transfer_and_not_the_worker(tiny_disk, sender):
    folder, make_read_only = tiny_disk
    store, digests = sender
    small, large = digests[0], digests[-1]
    assert store.path(large).stat().st_size > 512 * 1024
    worker = RunningWorker(folder)
    client = worker.client()
    with pytest.raises(RequestFailedError, match="No space left on device"):
        client.supply([large], store)
    assert list(folder.iterdir()) == []  # the room is free again
    client.supply([small], store)
    assert worker.store.has(small)
    make_read_only()
    with pytest.raises(RequestFailedError, match="Read-only file system"):
        client.supply([digests[1]], store)
    assert client.exchange().round_trip_s < 5
    client.close()
    worker.stop()


def test_a_pickle_sent_to_either_port_of_a_worker_is_closed_on_and_never_unpickled(tmp_path):
    worker = RunningWorker(tmp_path / "cache")
    witness = tmp_path / "unpickled"
    raw = pickle.dumps(Exploit(witness))
    for address in (worker.control, worker.data):
        for content in (raw, raw.ljust(4096, b"\0"), encode(Kind.CONTROL, payload_bytes=len(raw)) + raw):
            with dial(address) as stream, contextlib.suppress(ConnectionError):  # closed with bytes unread is as good
                stream.sendall(content)
                stream.settimeout(10)
                assert stream.recv(1) == b""
    worker.stop()
    assert not witness.exists()
    assert len(worker.log) == 6
