"""Weights on disk: one safetensors file a block, named by the hash of its bytes.

Forty splits of one model share the same few dozen files, a worker fetches only the blocks it lacks, and a file
that was cut short or changed cannot be taken for another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import safetensors.torch
import torch

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models.block_file import BlockFileError, read_block
from hwrun.models.catalogue import build_model
from hwrun.models.cut import BlockChain
from hwrun.models.model_source import is_network, network_stage
from hwrun.models.state_dict import differences, named_tensors

_DIGEST = re.compile(r"[0-9a-f]{64}")
_READ_BYTES = 1 << 20


class WeightsError(HwrunError):
    """Weights are absent, damaged or of another model: get the blocks named in the message again."""


def default_weights_directory() -> Path:
    """Where weights are cached: `paretosim/weights` in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "paretosim" / "weights"


class WeightStore:
    """Content-addressed files of block weights; several processes may share one directory.

    Parameters
    ----------
    root : directory of the store, made when something is first written; default `default_weights_directory()`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_weights_directory() if root is None else root

    def path(self, digest: str) -> Path:
        """Where the file of that digest is, or would be.

        Raises
        ------
        BadUsageError : not 64 lower-case hexadecimal digits, so a peer cannot name a path outside the store.
        """
        if not _DIGEST.fullmatch(digest):
            raise BadUsageError(f"digest: got {digest!r}, expected 64 lower-case hexadecimal digits (SHA-256)")
        return self.root / f"{digest}.safetensors"

    def has(self, digest: str) -> bool:
        """Whether the file is there; `load` checks that it is whole."""
        return self.path(digest).is_file()

    def put(self, tensors: Mapping[str, torch.Tensor]) -> str:
        """Store a block's tensors and return their digest; equal content is written once.

        Returns
        -------
        SHA-256 of the safetensors bytes, in hexadecimal.
        """
        # Each tensor alone in its memory: safetensors refuses views and tensors that share a storage.
        content = safetensors.torch.save(
            {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        )
        digest = hashlib.sha256(content).hexdigest()
        if not self.has(digest):
            with self._unfinished(digest) as file:
                file.write(content)
        return digest

    def held_bytes(self, digest: str) -> int:
        """How much of a file that is not there yet was received before its transfer broke off."""
        try:
            return self._partial(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def receive(self, digest: str, offset_bytes: int, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        """Store bytes that arrive in pieces, once all of them are there and their hash is `digest`.

        What arrived before a transfer broke off is kept, and the next one goes on from there.

        Parameters
        ----------
        offset_bytes : where in the file the first piece belongs: no further than `held_bytes`.

        Raises
        ------
        WeightsError : the bytes hash to something else, or the disk is full, and nothing is kept; or another process
            receives them now.
        """
        partial = self._partial(digest)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # Appending creates it where it is not there yet.
            with partial.open("ab+") as file:
                sha256 = _continued(file, digest, offset_bytes)
                for chunk in chunks:
                    sha256.update(chunk)
                    file.write(chunk)
                if sha256.hexdigest() != digest:
                    partial.unlink(missing_ok=True)
                    raise WeightsError(
                        f"weights: received {file.tell()} bytes with digest {sha256.hexdigest()}, expected {digest};"
                        " send them again"
                    )
                file.flush()
                partial.replace(self.path(digest))
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)  # the room is wanted by others
            raise self._unwritable(error) from error

    def load(self, digest: str) -> dict[str, torch.Tensor]:
        """The tensors of one file, in memory of their own; read once, and never held twice.

        Raises
        ------
        WeightsError : not in the store, or damaged; a damaged file is removed.
        """
        path = self.path(digest)
        try:
            with path.open("rb", buffering=0) as file:
                tensors, found = read_block(file, path.stat().st_size)
        except FileNotFoundError as error:
            raise WeightsError(f"weights: {digest} is not in {self.root}; expected it to be sent first") from error
        except OSError as error:
            raise WeightsError(f"weights: {path} cannot be read: {error.strerror}") from error
        except BlockFileError as error:
            path.unlink(missing_ok=True)
            raise WeightsError(
                f"weights: {path} is not a whole safetensors file ({error}) and has been removed; send it again"
            ) from error
        if found != digest:
            path.unlink(missing_ok=True)
            raise WeightsError(
                f"weights: {path} was damaged (its digest is {found}) and has been removed; send it again"
            )
        return tensors

    def _partial(self, digest: str) -> Path:
        return self.path(digest).with_suffix(".partial")

    @contextmanager
    def _unfinished(self, digest: str) -> Iterator[IO[bytes]]:
        """A file that gets its name only when its writer is through without an error."""
        target = self.path(digest)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".unfinished-", dir=self.root)
            unfinished = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> WeightsError:
        return WeightsError(
            f"weights: {self.root} on {socket.gethostname()} cannot be written: {error.strerror or error}; make room"
            " there, or give that worker another place (--cache, folder in the testbed file; TMPDIR of a sweep)"
        )


def _continued(file: IO[bytes], digest: str, offset_bytes: int) -> hashlib._Hash:
    """Hold the file, cut it to what is to stay, and hash that; the next write goes behind it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WeightsError(f"weights: {digest} is being received by another process; try again later") from None
    held_bytes = file.seek(0, os.SEEK_END)
    if not 0 <= offset_bytes <= held_bytes:
        raise WeightsError(f"weights: got bytes of {digest} from {offset_bytes} on, of which {held_bytes} are here")
    file.truncate(offset_bytes)
    file.seek(0)
    sha256 = hashlib.sha256()
    while chunk := file.read(_READ_BYTES):
        sha256.update(chunk)
    return sha256


def put_model(chain: BlockChain, store: WeightStore) -> tuple[str, ...]:
    """Store every block of a chain; returns one digest a block."""
    return tuple(store.put(chain.block_tensors(index)) for index in range(len(chain)))


def load_stage(
    name: str, first: int, last: int, digests: Sequence[str], store: WeightStore, allowed: Collection[str] = ()
) -> torch.nn.Module:
    """Blocks [first, last) of a model with stored weights; of a catalogue model no others are ever in memory.

    Parameters
    ----------
    name : of a catalogue model, or a network as it prints.
    digests : one a block of the stage, in order.
    allowed : factories of networks that this host's user named.

    Raises
    ------
    BadUsageError : the stage or the number of digests is impossible, or the network is not allowed here.
    WeightsError : a block is absent, damaged, or not this model's; names what is missing or unexpected.
    """
    if is_network(name):
        stage = network_stage(name, first, last, allowed)
    else:
        stage = BlockChain.of(name, build_model(name, meta=True)).stage(first, last)
    if len(digests) != last - first:
        raise BadUsageError(f"digests: got {len(digests)}, expected {last - first}, one a block of [{first}:{last}]")
    given: dict[str, torch.Tensor] = {}
    for digest in digests:
        given |= store.load(digest)
    if found := differences(given, named_tensors(stage)):
        raise WeightsError(f"weights: the blocks given are not those of {name}[{first}:{last}]: {found}")
    persistent = stage.state_dict().keys()
    stage.load_state_dict({key: tensor for key, tensor in given.items() if key in persistent}, assign=True)
    for key in given.keys() - persistent:
        owner, _, attribute = key.rpartition(".")
        stage.get_submodule(owner).register_buffer(attribute, given[key], persistent=False)
    return stage.eval().requires_grad_(False)
