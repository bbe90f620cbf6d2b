"""What TLS costs: goodput of an activation over loopback with it and without, in turn, in one process."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import trustme

from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, admit_peer, dial_peer
from hwrun.wire.authentication import Purpose
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import Kind
from hwrun.wire.sockets import listen
from hwrun.wire.tls import TlsFiles, load_tls

# The paper's largest activation of an interior MobileNetV2 split at batch 8, and VGG16's largest.
SIZES_BYTES = (12_800_000, 102_800_000)
PAIRS = 7


@dataclass(frozen=True)
class TlsCost:
    """Bytes a second by size, plain and with TLS, of runs in turn. A cost to know, with no bar to meet."""

    plain: dict[int, tuple[float, ...]]
    encrypted: dict[int, tuple[float, ...]]

    met = True

    def __str__(self) -> str:
        lines = []
        for size in self.plain:
            plain, encrypted = (statistics.median(found[size]) for found in (self.plain, self.encrypted))
            lines.append(
                f"TLS, {size / 1e6:.1f} MB over loopback: {encrypted / 1e6:.0f} MB/s, without {plain / 1e6:.0f} MB/s,"
                f" {encrypted / plain:.2f}× (medians of {len(self.plain[size])} in turn; no bar)"
            )
        return "\n".join(lines)


def tls_cost() -> TlsCost:
    """Both kinds of connection over one listener each, a message and its acknowledgement in turn."""
    with tempfile.TemporaryDirectory() as name:
        identity = Credentials(b"a token of sixteen bytes or more", load_tls(_files(Path(name))))
    kinds = {"plain": Credentials(identity.token), "encrypted": identity}
    found: dict[str, dict[int, tuple[float, ...]]] = {}
    pairs = {kind: _connected(credentials) for kind, credentials in kinds.items()}
    for size in SIZES_BYTES:
        payload = memoryview(bytearray(b"\x5a") * size)
        for turn in range(PAIRS + 1):
            for kind, (near, far) in pairs.items():
                rate = size / _transfer_s(near, far, payload)
                if turn:  # the first fills the pools
                    found.setdefault(kind, {}).setdefault(size, ())
                    found[kind][size] += (rate,)
    for near, far in pairs.values():
        near.close()
        far.close()
    return TlsCost(**found)


def _files(folder: Path) -> TlsFiles:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = TlsFiles(folder / "cert", folder / "key", folder / "ca")
    certificate.cert_chain_pems[0].write_to_path(files.certificate)
    certificate.private_key_pem.write_to_path(files.key)
    files.key.chmod(0o600)
    authority.cert_pem.write_to_path(files.authority)
    return files


def _connected(credentials: Credentials) -> tuple[Connection, Connection]:
    admitted = []
    with listen(Address(host="127.0.0.1")) as listener:
        thread = threading.Thread(target=lambda: admitted.append(admit_peer(listener.accept()[0], credentials)[0]))
        thread.start()
        near = dial_peer(Address(*listener.getsockname()), credentials, Purpose.DATA)
        thread.join()
    return Connection(near, "far"), Connection(admitted[0], "near")


def _transfer_s(near: Connection, far: Connection, payload: memoryview) -> float:
    pool = BufferPool()
    pool.give(pool.take(payload.nbytes))

    def receive() -> None:
        pool.give(far.receive(pool, payload.nbytes).buffer)
        far.send(Kind.ECHO)

    thread = threading.Thread(target=receive)
    thread.start()
    start_s = time.monotonic()
    near.send(Kind.CHUNK, payload=(payload,))
    near.receive(BufferPool(), 0)
    end_s = time.monotonic()
    thread.join()
    return end_s - start_s
