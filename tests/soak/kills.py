"""Sweeps whose worker, relay or orchestrator is killed at random moments: nothing is lost, doubled or left behind.

One sweep after the other is started, or resumed, on a folder; a victim is killed without warning somewhere in it. A
sweep outlives its workers, so they are killed one after the other; it ends with its relay, and with itself. When all
kills are done, each folder is resumed until it is complete, and looked at; and so is the kernel, for what any process
of a sweep held: sockets, which are ports and paths, network namespaces, and what stands in them; and the interfaces
and qdiscs of the namespace that all were started in.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from hwrun.records import MANIFEST_NAME, read_run
from paretosim.profiles import ProfileStore
from tests.soak.leftovers import Holdings, interfaces

VICTIMS = ("worker", "relay", "orchestrator")
# From the start of a sweep: imports, workers, probes and cells all lie within.
MOMENTS_S = (0.0, 12.0)
# Between two killings in one sweep.
_PAUSE_S = (0.0, 3.0)
_LIMIT_S = 180.0
# How often a running sweep's processes are looked for, which takes 10 ms; and how long the last of them may take to go.
_LOOK_S = 0.1
_GOING_S = 15.0
# As the command, but that a probe does not take seconds: there is one at each start.
SWEEP = (
    "import sys, hwrun.probing.link_probes as probes; probes.ECHO_S = 0.2; from hwrun.cli import main;"
    " sys.exit(main(['sweep', *sys.argv[1:]]))"
)


class Torment:
    """Kills, and what has to hold afterwards.

    Parameters
    ----------
    folder : where profiles, runs and temporary files go.
    cells : of each run.
    moments_s : first and last moment after a sweep's start at which somebody is killed.
    """

    def __init__(self, folder: Path, seed: int, cells: int = 40, moments_s: tuple[float, float] = MOMENTS_S) -> None:
        self._moments_s = moments_s
        self._folder = folder
        self._random = random.Random(seed)
        self._cells = cells
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self._profiles = _profiles(folder / "profiles")
        self._runs: list[Path] = []
        self._seen: dict[int, psutil.Process] = {}
        self._interfaces = interfaces()
        self._holdings = Holdings()
        self.kills: collections.Counter[str] = collections.Counter()

    def kill(self, victims: Sequence[str]) -> None:
        """Kill one of each of these, in this order, in as many sweeps as it takes."""
        left = list(victims)
        while left:
            with self._running() as sweep:
                moment_s = time.monotonic() + self._random.uniform(*self._moments_s)
                while left and sweep.poll() is None:
                    if not self._killed(sweep, left[0], moment_s):
                        break  # it was over before
                    self.kills[left[0]] += 1
                    moment_s = time.monotonic() + self._random.uniform(*_PAUSE_S)
                    if left.pop(0) != "worker":
                        sweep.wait(_LIMIT_S)

    def check(self) -> None:
        """Finish every run, and look for what is missing, double or left.

        Raises
        ------
        AssertionError : says what.
        """
        for run in self._runs:
            for _ in range(5):
                sweep = self._start("--resume", str(run)) if (run / MANIFEST_NAME).exists() else self._begin(run)
                if sweep.wait(_LIMIT_S) == 0:
                    break
            found = read_run(run)
            done = collections.Counter(cell.cell_id for cell in found.cells if cell.status == "done")
            assert len(done) == found.manifest.cells_planned == self._cells, (
                f"{run}: {len(done)} of {self._cells} cells"
            )
            assert set(done.values()) == {1}, f"{run}: cells measured twice: {done}"
            assert found.dropped_lines <= self.kills["orchestrator"], f"{run}: {found.dropped_lines} broken lines"
            for cell in found.cells:
                if cell.status == "done":
                    assert cell.latency_s() > 0
                    assert cell.output_check is not None
                    assert cell.output_check.bitwise_equal
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=_GOING_S)
        assert alive == [], f"left running: {alive}"
        sockets, namespaces = self._holdings.counts
        assert sockets > 0
        assert namespaces >= 3 * len(self._runs), (
            f"{namespaces} namespaces were seen, expected two hosts' and a router's"
        )
        deadline_s = time.monotonic() + _GOING_S  # the kernel may be late with what nobody holds
        while (held := self._holdings.still_held()) or interfaces() != self._interfaces:
            assert time.monotonic() < deadline_s, f"left: {held}; {interfaces()}, and before {self._interfaces}"
            time.sleep(_LOOK_S)
        self._holdings.close()
        left = list(self._scratch.glob("hwrun-*"))  # beside them, torch keeps a cache of its own
        assert left == [], f"left behind: {left}"

    @contextlib.contextmanager
    def _running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The last run resumed, or a new one where that is complete."""
        run = self._runs[-1] if self._runs else None
        if run is None or self._is_complete(run):
            run = self._folder / f"run-{len(self._runs)}"
            self._runs.append(run)
        sweep = self._start("--resume", str(run)) if (run / MANIFEST_NAME).exists() else self._begin(run)
        try:
            yield sweep
        finally:
            if sweep.poll() is None:
                self._note(sweep)
                sweep.kill()
                sweep.wait()

    def _is_complete(self, run: Path) -> bool:
        if not (run / MANIFEST_NAME).exists():
            return False
        return sum(cell.status == "done" for cell in read_run(run).latest_cells()) == self._cells

    def _begin(self, run: Path) -> subprocess.Popen[bytes]:
        return self._start(
            "--emulate", "toy,toy", "--batch", "1", "--splits", "10,14", "--mode", "single", "--link", "200mbit,5ms",
            "--repeats", str(self._cells // 2), "--batches-per-cell", "3", "--profiles", str(self._profiles),
            "-o", str(run),
        )  # fmt: skip

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", SWEEP, *options],
            env=os.environ | {"TMPDIR": str(self._scratch)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _note(self, sweep: subprocess.Popen[bytes]) -> list[psutil.Process]:
        try:
            found = psutil.Process(sweep.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {process.pid: process for process in found}
        for process_id in (sweep.pid, *(process.pid for process in found)):
            self._holdings.note(process_id)
        return found

    def _killed(self, sweep: subprocess.Popen[bytes], victim: str, moment_s: float) -> bool:
        """Kill the victim at that moment, or as soon as there is one after it; False where the sweep ended before."""
        deadline_s = time.monotonic() + _LIMIT_S
        while sweep.poll() is None:
            assert time.monotonic() < deadline_s, f"no {victim} to kill has come"
            children = self._note(sweep)
            if time.monotonic() >= moment_s:
                if victim == "orchestrator":
                    sweep.kill()
                    return True
                wanted = [child for child in children if _is_a(victim, child)]
                if wanted:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self._random.choice(wanted).kill()
                        return True
            left_s = moment_s - time.monotonic()
            time.sleep(min(left_s, _LOOK_S) if left_s > 0 else _LOOK_S)
        return False


def _is_a(victim: str, process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return ("hwrun.local.relay" if victim == "relay" else "hwrun.cli worker") in line


def _profiles(folder: Path) -> Path:
    """A device whose blocks take 2 ms each."""
    timings = folder / "timings" / "toy"
    timings.mkdir(parents=True)
    rows = "".join(f"{block.name},0.002\n" for block in ProfileStore().model("mobilenet_v2").blocks)
    (timings / "mobilenet_v2.csv").write_text(f"# batch: 1\nblock,seconds\n{rows}")
    return folder


def main(times: int) -> None:
    """Each victim so many times, in random order."""
    seed = random.SystemRandom().randrange(2**32)
    victims = list(VICTIMS) * times
    random.Random(seed).shuffle(victims)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        torment = Torment(Path(folder), seed)
        torment.kill(victims)
        torment.check()
    print(f"kill -9, seed {seed}: {dict(torment.kills)}; every cell there once, nothing left behind")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
