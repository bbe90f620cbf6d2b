"""The wire format: what a message looks like as bytes. Pure: no sockets, no torch.

A message is one frame: a fixed header, one fixed header per tensor, then the payload. All numbers are
big-endian. There is no "more" flag: several tensors alive across a cut travel as one message, their
headers first and their bytes back to back without padding, so a batch leaves in one `sendmsg`.

=============  =====  ==========================================================
header         bytes  meaning
=============  =====  ==========================================================
magic          4      `hwrn`
version        1      VERSION; another one is refused
kind           1      a `Kind`
tensors        2      how many tensor headers follow, at most MAX_TENSORS
sequence       8      number of the batch, or 0
payload        8      bytes after the tensor headers
=============  =====  ==========================================================

A tensor header is its dtype (1 byte, a place in DTYPES), its number of dimensions (1), their order in memory (4),
two zero bytes and eight dimensions of 8 bytes, unused ones zero. The order is zero where the last dimension varies
fastest, as usual; else four bits for each dimension from the slowest to the fastest, its place counted from 1. It
travels because torch chooses kernels by it: a model whose activations are permuted would round differently behind
a cut that put them straight. The payload's length must be what the shapes say. Whoever
decodes passes the most bytes it is ready to hold, so nothing is allocated on a peer's word alone.
"""

from __future__ import annotations

import enum
import functools
import math
import struct
from collections.abc import Sequence

import msgspec

from hwrun.errors import ProtocolError
from paretosim.block import DTYPE_BYTES

MAGIC = b"hwrn"
VERSION = 3
MAX_TENSORS = 64
MAX_DIMENSIONS = 8
DTYPES = tuple(DTYPE_BYTES)

_HEADER = struct.Struct(">4sBBHQQ")
_TENSOR = struct.Struct(f">BBI2x{MAX_DIMENSIONS}Q")
HEADER_BYTES = _HEADER.size
TENSOR_HEADER_BYTES = _TENSOR.size
# Every batch of a pipeline has the same tensor headers, which a sender then packs, and a receiver checks, once. At most
# this many different ones are remembered, of MAX_TENSORS · TENSOR_HEADER_BYTES each at most, whatever a peer sends.
REMEMBERED = 64


class Kind(enum.IntEnum):
    """What a frame carries."""

    CONTROL = 1  # a JSON message of hwrun/wire/control.py
    CHUNK = 2  # a piece of a block's weights
    INPUT = 3  # tensors: the input batch that stage 1 keeps
    DISPATCH = 4  # nothing: stage 1 is to start the batch of this sequence number
    BATCH = 5  # tensors: an activation
    PING = 6  # bytes that only have a length: to be answered by ECHO when they are whole
    ECHO = 7  # the answering clock's two times, of hwrun/probing/probe.py
    BULK = 8  # bytes that only measure goodput


_WITH_TENSORS = frozenset({Kind.INPUT, Kind.BATCH})
_WITHOUT_PAYLOAD = frozenset({Kind.DISPATCH})
# By number: the kind, the longest payload it may have at all (None for any), fewest and most tensors. Looked up once a
# frame, since hashing and making enum members costs more than the rest of decoding.
_KINDS = {
    int(kind): (kind, 0 if kind in _WITHOUT_PAYLOAD else None, *((1, MAX_TENSORS) if kind in _WITH_TENSORS else (0, 0)))
    for kind in Kind
}


class TensorSpec(msgspec.Struct, frozen=True):
    """Dtype and whole shape (batch included) of a tensor on the wire.

    `order` lists its dimensions from the slowest to the fastest in memory; empty where that is their own order.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of its payload."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A frame's fixed header, checked."""

    kind: Kind
    tensors: int
    sequence: int
    payload_bytes: int


def encode(kind: Kind, sequence: int = 0, specs: Sequence[TensorSpec] = (), payload_bytes: int | None = None) -> bytes:
    """Everything of a frame that goes before its payload.

    Parameters
    ----------
    payload_bytes : of kinds without tensors; where there are tensors, their shapes say it.

    Raises
    ------
    ProtocolError : more tensors or dimensions than the format has room for.
    """
    if len(specs) > MAX_TENSORS:
        raise ProtocolError(f"frame: got {len(specs)} tensors to send, expected at most {MAX_TENSORS}")
    if not specs:
        return _HEADER.pack(MAGIC, VERSION, kind, 0, sequence, payload_bytes or 0)
    headers, total_bytes = _tensor_headers(tuple(specs))
    return _HEADER.pack(MAGIC, VERSION, kind, len(specs), sequence, total_bytes) + headers


@functools.lru_cache(REMEMBERED)
def _tensor_headers(specs: tuple[TensorSpec, ...]) -> tuple[bytes, int]:
    """The headers of tensors, and the bytes of their payload."""
    parts = []
    for spec in specs:
        if len(spec.shape) > MAX_DIMENSIONS:
            raise ProtocolError(f"tensor: got {len(spec.shape)} dimensions to send, expected at most {MAX_DIMENSIONS}")
        padded = (*spec.shape, *(0 for _ in range(MAX_DIMENSIONS - len(spec.shape))))
        order = 0
        for place, dimension in enumerate(spec.order):
            order |= (dimension + 1) << 4 * (MAX_DIMENSIONS - 1 - place)
        parts.append(_TENSOR.pack(DTYPES.index(spec.dtype), len(spec.shape), order, *padded))
    return b"".join(parts), sum(spec.size_bytes for spec in specs)


def decode_header(raw: bytes | bytearray | memoryview, limit_bytes: int) -> Header:
    """The header in `raw`, which must be HEADER_BYTES long.

    Parameters
    ----------
    limit_bytes : the longest payload this connection has agreed to.

    Raises
    ------
    ProtocolError : not of this protocol, of another version, of no known kind, or too long.
    """
    magic, version, kind_number, tensors, sequence, payload_bytes = _HEADER.unpack(raw)
    if magic != MAGIC:
        raise ProtocolError(f"frame: got magic {magic!r}, expected {MAGIC!r}; the peer does not speak hwrun's protocol")
    if version != VERSION:
        raise ProtocolError(
            f"frame: got protocol version {version}, expected {VERSION}; install one version everywhere"
        )
    if kind_number not in _KINDS:
        raise ProtocolError(f"frame: got kind {kind_number}, expected {min(Kind)} to {max(Kind)}")
    kind, longest, fewest, most = _KINDS[kind_number]
    if payload_bytes > limit_bytes:
        raise ProtocolError(
            f"frame {kind.name}: got a payload of {payload_bytes} bytes, expected at most {limit_bytes}"
        )
    if longest == 0 and payload_bytes:
        raise ProtocolError(f"frame {kind.name}: got a payload of {payload_bytes} bytes, expected none")
    if not fewest <= tensors <= most:
        raise ProtocolError(f"frame {kind.name}: got {tensors} tensors, expected {fewest} to {most}")
    return Header(kind=kind, tensors=tensors, sequence=sequence, payload_bytes=payload_bytes)


def decode_tensor_headers(raw: bytes | bytearray | memoryview, header: Header) -> tuple[TensorSpec, ...]:
    """The tensor headers in `raw`, which must be `header.tensors` · TENSOR_HEADER_BYTES long.

    Raises
    ------
    ProtocolError : an unknown dtype, an impossible shape, or shapes that do not add up to the payload.
    """
    specs, total_bytes = _tensor_specs(bytes(raw))
    if total_bytes != header.payload_bytes:
        raise ProtocolError(
            f"frame {header.kind.name}: shapes say {total_bytes} bytes and the header {header.payload_bytes},"
            " expected the same"
        )
    return specs


@functools.lru_cache(REMEMBERED)
def _tensor_specs(raw: bytes) -> tuple[tuple[TensorSpec, ...], int]:
    """What tensor headers say, and the bytes of the payload that they announce."""
    specs: list[TensorSpec] = []
    for dtype_number, dimensions, order_number, *sizes in _TENSOR.iter_unpack(raw):
        if dtype_number >= len(DTYPES):
            raise ProtocolError(f"tensor: got dtype number {dtype_number}, expected 0 to {len(DTYPES) - 1}")
        if dimensions > MAX_DIMENSIONS:
            raise ProtocolError(f"tensor: got {dimensions} dimensions, expected at most {MAX_DIMENSIONS}")
        shape = tuple(sizes[:dimensions])
        if any(size == 0 for size in shape) or any(sizes[dimensions:]):
            raise ProtocolError(
                f"tensor: got dimensions {sizes} of which {dimensions} count; expected those above zero"
            )
        specs.append(TensorSpec(DTYPES[dtype_number], shape, _order(order_number, dimensions)))
    return tuple(specs), sum(spec.size_bytes for spec in specs)


def _order(number: int, dimensions: int) -> tuple[int, ...]:
    if number == 0:
        return ()
    places = [number >> 4 * (MAX_DIMENSIONS - 1 - place) & 0xF for place in range(MAX_DIMENSIONS)]
    order = tuple(place - 1 for place in places[:dimensions])
    if sorted(order) != list(range(dimensions)) or any(places[dimensions:]):
        raise ProtocolError(f"tensor: got order {number:#010x} of {dimensions} dimensions, expected each of them once")
    return order
