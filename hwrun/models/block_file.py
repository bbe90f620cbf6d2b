"""Reading a safetensors file once, straight into the memory that its tensors keep, hashing on the way.

Mapping the file and copying out of it would hold a block twice, and checking its hash first would read it twice: on
a 4 GB Pi with an SD card both are felt. The format is eight bytes of little-endian length, that much JSON, and the
tensors' bytes one after the other without gaps. https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import hashlib
import math
from typing import IO

import msgspec
import torch

from hwrun.errors import HwrunError

_LENGTH_BYTES = 8
# Names, types and shapes of a block's tensors: some kilobytes.
_MAX_HEADER_BYTES = 8 * 2**20
_READ_BYTES = 1 << 20
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class BlockFileError(HwrunError):
    """The file is not a safetensors file."""


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_block(file: IO[bytes], size_bytes: int) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of an open safetensors file, in memory of their own, and the SHA-256 of all that was read.

    Whether the hash is the right one is for the caller to say, before anything of the tensors is used.

    Parameters
    ----------
    size_bytes : of the file; nothing larger is ever allocated.

    Raises
    ------
    BlockFileError : it is cut short, or its header cannot be.
    """
    sha256 = hashlib.sha256()
    entries, data_bytes = _entries(file, size_bytes, sha256)
    tensors: dict[str, torch.Tensor] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise BlockFileError(f"tensor {name}: got type {entry.dtype!r}, expected one of {', '.join(_DTYPES)}")
        start, stop = entry.data_offsets
        expected = math.prod(entry.shape) * dtype.itemsize
        if start != end or stop - start != expected or min(entry.shape, default=0) < 0 or stop > data_bytes:
            raise BlockFileError(
                f"tensor {name}: got bytes {start} to {stop} of {data_bytes}, expected {expected} from {end} on"
            )
        tensor = torch.empty(entry.shape, dtype=dtype)
        _fill(tensor, file, sha256)
        tensors[name] = tensor
        end = stop
    if end != data_bytes:
        raise BlockFileError(f"file: got {data_bytes} bytes of tensors, expected {end}, as its header says")
    return tensors, sha256.hexdigest()


def _entries(file: IO[bytes], size_bytes: int, sha256: hashlib._Hash) -> tuple[dict[str, _Entry], int]:
    raw_length = file.read(_LENGTH_BYTES)
    header_bytes = int.from_bytes(raw_length, "little")
    most = min(_MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES)
    if len(raw_length) < _LENGTH_BYTES or header_bytes > most:
        raise BlockFileError(f"file: got a header of {header_bytes} bytes, expected at most {most}")
    header = file.read(header_bytes)
    sha256.update(raw_length)
    sha256.update(header)
    try:
        fields = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in fields.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BlockFileError(f"file: its header is none ({error})") from error
    return entries, size_bytes - _LENGTH_BYTES - header_bytes


def _fill(tensor: torch.Tensor, file: IO[bytes], sha256: hashlib._Hash) -> None:
    if tensor.numel() == 0:
        return
    room = tensor.reshape(-1).view(torch.uint8).numpy().data
    while room.nbytes:
        count = file.readinto(room[:_READ_BYTES])  # type: ignore[attr-defined]  # of a file opened for bytes
        if not count:
            raise BlockFileError("file: ends before its tensors do")
        sha256.update(room[:count])
        room = room[count:]
