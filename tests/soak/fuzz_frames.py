"""A million inputs to the frame parser, chosen by what code they reach (atheris, libFuzzer): no crash, no allocation
beyond the bound. `python -m tests.soak.fuzz_frames [RUNS]` ends with code 0 where all were taken or refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hwrun.wire", "tests.hwrun.fuzzed_frames"]):
    from tests.hwrun.fuzzed_frames import LIMIT_BYTES, take_all

from hwrun.wire.frames import Kind, TensorSpec, encode

RUNS = 1_000_000


def seeds() -> list[bytes]:
    """Whole frames of every kind, for the fuzzer to begin with."""
    control = b'{"type":"Hello","versions":{"a":"b"}}'
    return [
        encode(Kind.PING),
        encode(Kind.CONTROL, payload_bytes=len(control)) + control,
        encode(Kind.CHUNK, payload_bytes=5) + b"bytes",
        encode(Kind.BATCH, 1, [TensorSpec("float32", (2, 3), (1, 0)), TensorSpec("int64", ())]) + bytes(32),
    ]


def main(runs: int) -> int:
    """Fuzz in a process of its own, since libFuzzer ends the one it runs in; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        return subprocess.run([sys.executable, "-m", "tests.soak.fuzz_frames", str(runs), folder]).returncode


def fuzz(runs: int, folder: str) -> None:
    """Fuzz from what is in the folder, and end the process; a fault ends it with libFuzzer's report."""
    options = [f"-runs={runs}", f"-max_len={2 * LIMIT_BYTES}", "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, folder], take_all_bytes)
    atheris.Fuzz()


def take_all_bytes(content: bytes) -> None:
    """One input."""
    take_all(content)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        fuzz(int(sys.argv[1]), sys.argv[2])
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS))
