"""The wire format: whole values survive it, and nothing absurd gets past it."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import ProtocolError
from hwrun.wire.frames import (
    DTYPES,
    HEADER_BYTES,
    MAX_DIMENSIONS,
    MAX_TENSORS,
    TENSOR_HEADER_BYTES,
    VERSION,
    Kind,
    TensorSpec,
    decode_header,
    decode_tensor_headers,
    encode,
)

specs_strategy = st.lists(
    st.builds(
        TensorSpec,
        st.sampled_from(DTYPES),
        st.lists(st.integers(1, 9), max_size=MAX_DIMENSIONS).map(tuple),
    ).flatmap(
        lambda spec: st.sampled_from(
            [(), *itertools.islice(itertools.permutations(range(len(spec.shape))), 1, 30)]
        ).map(lambda order: TensorSpec(spec.dtype, spec.shape, order))
    ),
    min_size=1,
    max_size=5,
)
NO_LIMIT = 2**64


def header_of(magic=b"hwrn", version=VERSION, kind=Kind.BATCH, tensors=1, sequence=0, payload=4):
    return struct.pack(">4sBBHQQ", magic, version, kind, tensors, sequence, payload)


FLOAT32 = DTYPES.index("float32")


def tensor_of(dtype=FLOAT32, dimensions=1, sizes=(1,), order=0):
    return struct.pack(">BBI2x8Q", dtype, dimensions, order, *sizes, *(0 for _ in range(8 - len(sizes))))


@given(specs_strategy, st.integers(0, 2**64 - 1))
def test_any_tensors_survive_encoding_and_decoding(specs, sequence):
    raw = encode(Kind.BATCH, sequence, specs)
    header = decode_header(raw[:HEADER_BYTES], NO_LIMIT)
    assert (header.kind, header.sequence) == (Kind.BATCH, sequence)
    assert header.payload_bytes == sum(spec.size_bytes for spec in specs)
    assert decode_tensor_headers(raw[HEADER_BYTES:], header) == tuple(specs)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_bytes_are_decoded_or_refused_never_worse(raw):
    try:
        header = decode_header(raw, 10**6)
    except ProtocolError:
        return
    assert header.payload_bytes <= 10**6


@given(st.binary(min_size=TENSOR_HEADER_BYTES, max_size=TENSOR_HEADER_BYTES))
def test_any_tensor_header_is_decoded_or_refused_never_worse(raw):
    header = decode_header(header_of(payload=24), NO_LIMIT)
    try:
        (spec,) = decode_tensor_headers(raw, header)
    except ProtocolError:
        return
    assert spec.size_bytes == 24


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (header_of(magic=b"GET "), r"magic b'GET ', expected b'hwrn'"),
        (header_of(version=VERSION + 1), f"version {VERSION + 1}, expected {VERSION}"),
        (header_of(kind=99), "kind 99"),
        (header_of(payload=1001), "payload of 1001 bytes, expected at most 1000"),
        (header_of(payload=2**63), "expected at most 1000"),
        (header_of(tensors=MAX_TENSORS + 1), f"got {MAX_TENSORS + 1} tensors"),
        (header_of(tensors=0), "got 0 tensors"),
        (header_of(kind=Kind.CONTROL, tensors=1), "got 1 tensors, expected 0"),
        (header_of(kind=Kind.DISPATCH, tensors=0, payload=1), "expected none"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_what_was_got_and_expected(raw, message):
    with pytest.raises(ProtocolError, match=message):
        decode_header(raw, 1000)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (tensor_of(dtype=200), "dtype number 200"),
        (tensor_of(dimensions=9), "9 dimensions"),
        (tensor_of(sizes=(2**63,)), "the header 4, expected the same"),
        (tensor_of(dimensions=2, sizes=(2**63, 2**63)), "the header 4, expected the same"),
        (tensor_of(sizes=(2,)), "shapes say 8 bytes and the header 4"),
        (tensor_of(sizes=(0,)), "expected those above zero"),
        (tensor_of(dimensions=0, sizes=(5,)), "0 count"),
        (tensor_of(dimensions=2, sizes=(1, 1), order=0x11000000), "order 0x11000000 of 2 dimensions"),
        (tensor_of(dimensions=1, sizes=(1,), order=0x12000000), "order 0x12000000 of 1 dimensions"),
        (tensor_of(dimensions=2, sizes=(1, 1), order=0x20000000), "expected each of them once"),
    ],
)
def test_a_tensor_header_that_cannot_be_is_refused(raw, message):
    header = decode_header(header_of(), 1000)
    with pytest.raises(ProtocolError, match=message):
        decode_tensor_headers(raw, header)


def test_more_than_the_format_holds_is_not_encoded():
    with pytest.raises(ProtocolError, match="65 tensors"):
        encode(Kind.BATCH, 0, [TensorSpec("int8", (1,))] * 65)
    with pytest.raises(ProtocolError, match="9 dimensions"):
        encode(Kind.BATCH, 0, [TensorSpec("int8", (1,) * 9)])
