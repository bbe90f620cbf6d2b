"""What TLS costs: goodput of an activation over loopback with it and without, in turn.

The two ends are processes, as workers are, each on a core of its own where there is more than one. Both kinds of
connection have hwrun's own settings.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from hwrun.errors import PeerGoneError
from hwrun.machine.steady import pin_to_cores, usable_cores
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
    """Both kinds of connection, a message and its acknowledgement in turn."""
    cores = usable_cores()
    found: dict[str, dict[int, tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        if len(cores) > 1:
            pin_to_cores([cores[0]])
            stack.callback(os.sched_setaffinity, 0, cores)
        others = set(cores[1:]) or None
        ends = {
            "plain": stack.enter_context(_far(None, others)),
            "encrypted": stack.enter_context(_far(_files(Path(name)), others)),
        }
        for size in SIZES_BYTES:
            payload = memoryview(bytearray(b"\x5a") * size)
            for turn in range(PAIRS + 1):
                for kind, end in ends.items():
                    rate = size / _transfer_s(end, payload)
                    if turn:  # the first fills the pools
                        found.setdefault(kind, {}).setdefault(size, ())
                        found[kind][size] += (rate,)
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


def _credentials(files: TlsFiles | None) -> Credentials:
    return Credentials(b"a token of sixteen bytes or more", load_tls(files) if files is not None else None)


@contextlib.contextmanager
def _far(files: TlsFiles | None, cores: set[int] | None) -> Iterator[Connection]:
    """A connection to a process that takes messages and answers each once it is whole."""
    with listen(Address(host="127.0.0.1")) as listener:
        port = listener.getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(target=_take_all, args=(port, files, cores), daemon=True)
        process.start()
        end = Connection(admit_peer(listener.accept()[0], _credentials(files))[0], "far")
    yield end
    end.close()
    process.join()


def _take_all(port: int, files: TlsFiles | None, cores: set[int] | None) -> None:
    if cores is not None:
        os.sched_setaffinity(0, cores)
    near = Connection(dial_peer(Address("127.0.0.1", port), _credentials(files), Purpose.DATA), "near")
    pool = BufferPool()
    with contextlib.suppress(PeerGoneError):
        while True:
            pool.give(near.receive(pool, max(SIZES_BYTES)).buffer)
            near.send(Kind.ECHO)


def _transfer_s(end: Connection, payload: memoryview) -> float:
    start_s = time.monotonic()
    end.send(Kind.CHUNK, payload=(payload,))
    end.receive(BufferPool(), 0)
    return time.monotonic() - start_s


if __name__ == "__main__":
    print(tls_cost())
