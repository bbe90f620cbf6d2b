"""What deploying a stage takes at its peak: VGG16's heaviest on a real worker, over what its libraries take anyway."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hwrun.models.catalogue import build_model, catalogue_entry
from hwrun.models.cut import BlockChain
from hwrun.models.weights import WeightStore, put_model
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.worker_client import WorkerClient

MODEL = "vgg16"
# The whole model, all of its large linear layers, and the largest block alone: what a device may be asked to hold.
STAGES = ((0, 39), (32, 39), (32, 33))
BAR = 1.3


@dataclass(frozen=True)
class PeakMemory:
    """Peak of resident memory while a stage is received and loaded, over the stage's weights."""

    what: str
    weights_bytes: int
    peak_bytes: int
    libraries_bytes: int
    seconds: float

    @property
    def met(self) -> bool:
        """Whether the peak is within the bar."""
        return self.peak_bytes <= BAR * self.weights_bytes

    def __str__(self) -> str:
        return (
            f"deploying {self.what}: peak {self.peak_bytes / 1e6:.0f} MB for"
            f" {self.weights_bytes / 1e6:.0f} MB of weights, {self.peak_bytes / self.weights_bytes:.3f}×, bar {BAR}×:"
            f" {'met' if self.met else 'MISSED'} (received and loaded in {self.seconds:.1f} s; Python, torch and"
            f" torchvision hold {self.libraries_bytes / 1e6:.0f} MB before)"
        )


@dataclass(frozen=True)
class StageMemory:
    """Peaks of several stages."""

    peaks: tuple[PeakMemory, ...]

    @property
    def met(self) -> bool:
        """Whether every peak is within the bar."""
        return all(peak.met for peak in self.peaks)

    def __str__(self) -> str:
        return "\n".join(map(str, self.peaks))


def stage_memory() -> StageMemory:
    """A fresh worker for each stage, which has loaded its libraries before; and one for a sweep of many."""
    with tempfile.TemporaryDirectory() as name:
        store = WeightStore(Path(name) / "sender")
        digests = put_model(BlockChain.of(MODEL, build_model(MODEL)), store)
        blocks = len(digests)
        many = [(cut, blocks) for cut in range(0, blocks, 2)] + [(0, cut) for cut in range(1, blocks + 1, 2)]
        random.Random(0).shuffle(many)
        peaks = [_peak(Path(name), f"{MODEL}[{a}:{z}]", store, digests, [(a, z)]) for a, z in STAGES]
        peaks.append(_peak(Path(name), f"{len(many)} stages of {MODEL} in turn", store, digests, many))
        return StageMemory(tuple(peaks))


def _peak(
    folder: Path, what: str, store: WeightStore, digests: tuple[str, ...], stages: list[tuple[int, int]]
) -> PeakMemory:
    """The peak over these stages one after the other, against the weights of the largest."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / "w"
        argv = [sys.executable, "-m", "hwrun.cli", "worker", "--listen", f"unix:{path}", "--cache", f"{own}/cache"]
        with subprocess.Popen([*argv, "--once"], stdout=subprocess.PIPE) as worker:
            try:
                assert worker.stdout is not None
                assert worker.stdout.readline().startswith(b"ready")
                client = WorkerClient.dial("w", Address(path=str(path)), Credentials())
                # The first block holds little, and loading it loads torchvision.
                _deploy(client, store, digests, 0, 1)
                process = Path(f"/proc/{worker.pid}")
                (process / "clear_refs").write_text("5")  # VmHWM counts from here on: proc_pid_clear_refs(5)
                before_bytes = _status_bytes(process, "VmRSS")
                start_s = time.monotonic()
                for first, last in stages:
                    _deploy(client, store, digests, first, last)
                seconds = time.monotonic() - start_s
                peak_bytes = _status_bytes(process, "VmHWM") - before_bytes
                client.close()
            finally:
                worker.kill()
    weights_bytes = max(sum(store.path(d).stat().st_size for d in digests[first:last]) for first, last in stages)
    return PeakMemory(what, weights_bytes, peak_bytes, before_bytes, seconds)


def _deploy(client: WorkerClient, store: WeightStore, digests: tuple[str, ...], first: int, last: int) -> None:
    client.supply(digests[first:last], store)
    client.deploy(
        control.DeployStage(
            pipeline=f"{first}-{last}", position=1, model=catalogue_entry(MODEL).name, first=first, last=last,
            digests=digests[first:last], batch=1, seed=0, target_s=None, compute_each=False, keeps_input=False,
            limit_bytes=2**20, queue_depth=1,
        )
    )  # fmt: skip


def _status_bytes(process: Path, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", (process / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024
