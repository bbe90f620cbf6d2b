"""Reading a safetensors file once: as the library reads it, and nothing absurd gets past it."""

import hashlib
import io
import json

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwrun.models.block_file import BlockFileError, read_block

TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16,
         torch.int8, torch.uint8, torch.bool]  # fmt: skip


def read(content):
    return read_block(io.BytesIO(content), len(content))


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=6))
def test_what_the_library_wrote_is_read_as_it_reads_it(kinds):
    tensors = {f"t{place}": torch.randint(0, 2, shape).to(dtype) for place, (dtype, shape) in enumerate(kinds)}
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    found, digest = read(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() % 64 == 0


def file_of(header, data=b""):
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(raw).to_bytes(8, "little") + raw + data


def entry(start, end, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got a header of 0 bytes"),
        (b"\xff" * 8, "got a header of 18446744073709551615 bytes"),
        ((2**40).to_bytes(8, "little") + b"{}", "expected at most 2"),
        (file_of(b"not json"), "its header is none"),
        (file_of({"a": {"dtype": "F32"}}), "its header is none"),
        (file_of({"a": entry(0, 4, dtype="F4")}, bytes(4)), "got type 'F4'"),
        (file_of({"a": entry(0, 4, shape=(2,))}, bytes(4)), "expected 8 from 0 on"),
        (file_of({"a": entry(0, 4, shape=(-1, -1))}, bytes(4)), "expected 4 from 0"),
        (file_of({"a": entry(0, 2**62, shape=(2**60,))}, bytes(4)), "of 4, expected"),
        (file_of({"a": entry(4, 8)}, bytes(8)), "got bytes 4 to 8 of 8, expected 4 from 0 on"),
        (file_of({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)), "tensor b: got bytes 0 to 4"),
        (file_of({"a": entry(0, 4)}, bytes(5)), "got 5 bytes of tensors, expected 4"),
        (file_of({"a": entry(0, 4)}, bytes(3)), "got bytes 0 to 4 of 3"),
    ],
)
def test_what_cannot_be_is_refused_before_room_is_made_for_it(content, message):
    with pytest.raises(BlockFileError, match=message):
        read(content)


def test_a_file_that_shrinks_while_it_is_read_is_refused():
    content = safetensors.torch.save({"w": torch.ones(1000)})
    with pytest.raises(BlockFileError, match="ends before its tensors do"):
        read_block(io.BytesIO(content[:-8]), len(content))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_never_worse(content):
    for whole in (content, file_of(content)):
        with pytest.raises(BlockFileError):
            read(whole)
