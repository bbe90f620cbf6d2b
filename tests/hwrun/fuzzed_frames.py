"""What a fuzzer feeds: bytes to a receiving connection, which may refuse them and must do nothing worse."""

from hwrun.errors import PeerGoneError, ProtocolError
from hwrun.wire.buffer_pool import ALIGNMENT_BYTES, BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import decode_control
from hwrun.wire.frames import MAX_TENSORS, Kind
from hwrun.wire.tensors import incoming

LIMIT_BYTES = 4096
# Tensors stand apart by less than their alignment, and a buffer is cut out of a little more.
BOUND_BYTES = LIMIT_BYTES + (MAX_TENSORS + 1) * ALIGNMENT_BYTES


class Canned:
    """A stream that has these bytes to say and then ends."""

    def __init__(self, content):
        self._content, self._place = content, 0

    def recv_into(self, view, count=0, flags=0):
        piece = self._content[self._place : self._place + view.nbytes]
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


class BoundedPool(BufferPool):
    """Fails when more is asked for than was agreed."""

    def take(self, size_bytes):
        assert size_bytes <= BOUND_BYTES, f"{size_bytes} bytes were to be allocated, of at most {BOUND_BYTES}"
        return super().take(size_bytes)


def take_all(content):
    """Receive frames from `content` until it is refused or over; how many were whole."""
    connection, pool, whole = Connection(Canned(content), "a fuzzer"), BoundedPool(), 0
    while True:
        try:
            message = connection.receive(pool, LIMIT_BYTES)
            whole += 1
            if message.header.kind is Kind.CONTROL:
                decode_control(message)
            elif message.specs:
                assert sum(tensor.nbytes for tensor in incoming(message)) == message.header.payload_bytes
        except (ProtocolError, PeerGoneError):
            return whole
