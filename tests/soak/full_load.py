"""Two workers over tcp at full load for half an hour: no memory, thread, descriptor or socket more at its end.

Stages take no time of their own, so sockets, threads and buffers never rest: a window is kept full with activations of
12.8 MB over loopback. Every minute the plan is deployed anew, so that what a deployment leaves behind is seen as
well as what a batch does. It is no measurement of speed, and may run beside other load.
"""

from __future__ import annotations

import argparse
import csv
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from pyroute2 import DiagSocket

from hwrun.local.testbed import LocalTestbed
from hwrun.local.workers import LocalWorkers
from hwrun.orchestrator import Deployment, Pipeline
from hwrun.reference import Reference, References, compare, require_equal
from hwrun.testbed import DataPath
from paretosim.plan import Stage
from paretosim.profiles import ProfileStore
from paretosim.units import format_bytes
from tests.soak.growth import BOUNDS_PER_HOUR, Sample, growths

MODEL, BATCH, SPLIT, WINDOW = "mobilenet_v2", 8, 1, 4
ROUND_S = 60.0
SAMPLE_S = 5.0
LEAST_MINUTES = 2.0
# A batch may wait that long beside other load.
_PATIENCE_S = 120.0
# linux/inet_diag.h: the bit that asks for INET_DIAG_MEMINFO.
_MEMINFO = 1
_MEMINFO_HELD = ("idiag_rmem", "idiag_wmem", "idiag_fmem")


class Watch:
    """Samples of processes, by name; each is written to a file as it is taken."""

    def __init__(self, processes: dict[str, int], file: Path) -> None:
        self._processes = {name: psutil.Process(number) for name, number in processes.items()}
        self._file = file.open("w", newline="")
        self._rows = csv.DictWriter(self._file, list(Sample.__dataclass_fields__))
        self._rows.writeheader()
        self.samples: list[Sample] = []

    def take(self, batches: int) -> None:
        """One of each process."""
        held = kernel_tcp_bytes()
        for name, process in self._processes.items():
            sockets = set(_sockets(process.pid))
            sample = Sample(
                time_s=time.monotonic(),
                process=name,
                batches=batches,
                rss_bytes=process.memory_info().rss,
                kernel_tcp_bytes=sum(held.get(inode, 0) for inode in sockets),
                threads=process.num_threads(),
                descriptors=process.num_fds(),
                sockets=len(sockets),
            )
            self.samples.append(sample)
            self._rows.writerow(asdict(sample))
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()


def kernel_tcp_bytes() -> dict[int, int]:
    """By inode, what the kernel holds for each TCP socket here: received, to be sent, and set aside."""
    with DiagSocket() as diagnosis:
        diagnosis.bind()
        found = diagnosis.get_sock_stats(family=socket.AF_INET, protocol=socket.IPPROTO_TCP, extensions=_MEMINFO)
    memory = {one["idiag_inode"]: one.get_attr("INET_DIAG_MEMINFO") or {} for one in found}
    return {inode: sum(held.get(part, 0) for part in _MEMINFO_HELD) for inode, held in memory.items()}


def _sockets(process_id: int) -> Iterator[int]:
    """Inodes of a process's sockets, unix ones too."""
    for entry in Path(f"/proc/{process_id}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield int(target[len("socket:[") : -1])


def load(workers: LocalWorkers, reference: Reference, end_s: float, sequence: int, watch: Watch) -> int:
    """Deploy, keep the window full until `end_s`, sample under load; the number of the next batch."""
    blocks = len(reference.digests)
    deployment = Deployment(
        model=MODEL,
        stages=(Stage("none", 0, SPLIT), Stage("none", SPLIT, blocks)),
        targets_s=(0.0, 0.0),
        compute_each=False,
        digests=reference.digests,
        inputs=reference.inputs,
        input_at_sink=False,
        batch=BATCH,
        seed=0,
        limit_bytes=ProfileStore().model(MODEL).cut_bytes()[SPLIT] * BATCH,
        queue_depth=2,
    )
    path = DataPath(("A", "B"), (None,), "B", None, "tcp")
    clients = [workers.client(host) for host in path.hosts]
    with Pipeline(clients, workers.ends(path), deployment, end_s - time.monotonic() + _PATIENCE_S) as pipeline:
        require_equal(compare(pipeline.prime(), reference.outputs))
        sample_s = time.monotonic() + SAMPLE_S
        for _ in range(WINDOW):
            pipeline.dispatch(sequence)
            sequence += 1
        while time.monotonic() < end_s:
            pipeline.take_returned()
            pipeline.dispatch(sequence)
            sequence += 1
            if time.monotonic() >= sample_s:
                watch.take(sequence)
                pipeline.collect()  # or what stages note of each batch would be the growth that is found
                sample_s += SAMPLE_S
        for _ in range(WINDOW):
            pipeline.take_returned()
    return sequence


def soak(minutes: float, samples: Path) -> list[Sample]:
    """Load for so long; every sample."""
    with (
        LocalTestbed(shaped=False) as testbed,
        LocalWorkers(testbed, threads=1, log_folder=None) as workers,
    ):
        reference = References(workers.store, 1, 0).of(MODEL, BATCH)
        processes = {f"worker {host}": workers.client(host).welcome.pid for host in workers.hosts}
        watch = Watch({"orchestrator": os.getpid(), **processes}, samples)
        end_s = time.monotonic() + minutes * 60
        sequence = 0
        try:
            while (now_s := time.monotonic()) < end_s:
                sequence = load(workers, reference, min(now_s + ROUND_S, end_s), sequence, watch)
        finally:
            watch.close()
    return watch.samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print what each process held, and whether it grew."""
    parser = argparse.ArgumentParser(description="Two workers over tcp at full load; what they hold must not grow.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30; a night is 480)")
    parser.add_argument("--samples", type=Path, help="CSV that gets every sample (default: a temporary file)")
    options = parser.parse_args(arguments)
    if not options.minutes >= LEAST_MINUTES:
        parser.error(f"--minutes: got {options.minutes:g}, expected {LEAST_MINUTES:g} or more, or nothing can be told")
    samples = options.samples
    if samples is None:
        descriptor, name = tempfile.mkstemp(prefix="full-load-", suffix=".csv")
        os.close(descriptor)
        samples = Path(name)
    taken = soak(options.minutes, samples)
    found = growths(taken)
    batches = max(sample.batches for sample in taken)
    print(f"{batches} batches in {options.minutes:g} min, {len(taken)} samples in {samples}")
    print(f"{'process':14} {'figure':18} {'least':>12} {'most':>12} {'an hour':>12} {'bound':>12}")
    for growth in found:
        is_size = growth.figure.endswith("_bytes")
        numbers = (growth.least, growth.most, growth.per_hour, BOUNDS_PER_HOUR[growth.figure])
        shown = " ".join(f"{format_bytes(value) if is_size else format(value, '.4g'):>12}" for value in numbers)
        print(f"{growth.process:14} {growth.figure:18} {shown}{'' if growth.holds else '  GROWS'}")
    grown = [growth for growth in found if not growth.holds]
    print("nothing grows" if not grown else f"{len(grown)} of {len(found)} figures grow beyond their bound")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
