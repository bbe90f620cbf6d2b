"""Ten thousand inputs to the frame parser: refused or received, and nothing allocated beyond what was agreed."""

import pickle
import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hwrun.wire.frames import MAX_DIMENSIONS, MAX_TENSORS, VERSION, Kind, TensorSpec, encode
from tests.hwrun.fuzzed_frames import BOUND_BYTES, LIMIT_BYTES, take_all

# 250 examples of 40 inputs each: an example costs hypothesis more than an input costs the parser.
EXAMPLES, INPUTS = 250, 40

mostly = st.sampled_from
numbers = st.one_of(st.integers(0, 5), st.integers(0, LIMIT_BYTES + 1), st.integers(0, 2**64 - 1))
headers = st.builds(
    struct.Struct(">4sBBHQQ").pack,
    mostly([b"hwrn"] * 9 + [b"hwra"]),
    mostly([VERSION] * 9 + [0, 255]),
    mostly([*map(int, Kind), 0, 99]),
    st.one_of(st.integers(0, 3), st.integers(0, 2**16 - 1)),
    numbers,
    numbers,
)
tensor_headers = st.builds(
    lambda dtype, dimensions, order, sizes: struct.pack(">BBI2x8Q", dtype, dimensions, order, *sizes),
    st.integers(0, 14),
    st.integers(0, MAX_DIMENSIONS + 1),
    st.one_of(st.just(0), mostly([0x12000000, 0x21000000, 0x12345678]), st.integers(0, 2**32 - 1)),
    st.lists(st.one_of(st.integers(0, 4), numbers), min_size=8, max_size=8),
)
whole = st.builds(
    lambda shape, kind: encode(kind, 0, [TensorSpec("uint8", tuple(shape))]) + bytes(LIMIT_BYTES),
    st.lists(st.integers(1, 5), max_size=4),
    mostly([Kind.BATCH, Kind.INPUT]),
)
inputs = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda *parts: b"".join(parts), headers, st.lists(tensor_headers, max_size=3).map(b"".join), st.binary()),
    st.builds(lambda frame, place, byte: frame[:place] + bytes([byte]) + frame[place + 1 :], whole, st.integers(0, 120),
              st.integers(0, 255)),
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(inputs, min_size=INPUTS, max_size=INPUTS))
@example([struct.pack(">4sBBHQQ", b"hwrn", VERSION, Kind.BATCH, MAX_TENSORS, 0, LIMIT_BYTES)] * INPUTS)
def test_any_bytes_are_frames_or_refused_and_no_more_is_allocated_than_was_agreed(many):
    for content in many:
        take_all(content)


def test_the_bound_that_the_fuzzers_check_can_be_missed():
    assert BOUND_BYTES < 2 * LIMIT_BYTES + 200
    assert take_all(encode(Kind.PING) * 3 + b"x") == 3


class Exploit:
    """Would make the file `path` where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_never_unpickled_whatever_frame_it_comes_in(tmp_path):
    witness = tmp_path / "unpickled"
    raw = pickle.dumps(Exploit(witness))
    for content in (raw, *(encode(kind, payload_bytes=len(raw)) + raw for kind in (Kind.CONTROL, Kind.CHUNK))):
        take_all(content)
    assert not witness.exists()
    pickle.loads(raw).close()
    assert witness.exists()  # it was a live one
