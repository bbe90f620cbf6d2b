"""Sweeps whose worker, relay or orchestrator is killed at random moments: nothing is lost, doubled or left behind.

One sweep after the other is started, or resumed, on a folder; a victim is killed without warning somewhere in it. A
sweep outlives its workers, so they are killed one after the other; it ends with its relay, and with itself. When all
kills are done, each folder is resumed until it is complete, and looked at; and so is the kernel, for what any process
of a sweep held: sockets, which are ports and paths, network namespaces, and what stands in them; for processes that
nobody saw while they ran; and for names of namespaces, interfaces and qdiscs where all were started.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from hwrun.records import MANIFEST_NAME, read_run
from paretosim.command_line import BAD_USAGE, DONE
from paretosim.profiles import ProfileStore
from tests.soak.leftovers import Holdings, interfaces, named_namespaces, processes_with, waited_for_a_core_s

VICTIMS = ("worker", "relay", "orchestrator")
# From the start of a sweep: imports, workers, probes and cells all lie within.
MOMENTS_S = (0.0, 12.0)
# Between two killings in one sweep.
_PAUSE_S = (0.0, 3.0)
# How long anything of a sweep may take, beside what its main thread waits for a core: where other work has them all,
# two seconds of imports take minutes.
_LIMIT_S = 180.0
# How often a running sweep's processes are looked for, which takes 10 ms; and how long the last of them may take to go.
_LOOK_S = 0.1
_GOING_S = 15.0
# As the command, but that a probe does not take seconds, in its transfer as little as in its sweeps: there is one at
# each start, and one at each end.
SWEEP = (
    "import sys, hwrun.probing.link_probes as probes, hwrun.probing.probe as probe, hwrun.worker_client as client;"
    " probes.ECHO_S = 0.2; probe._BULK_S = 0.25; client.RESTED_S = 0.0; from hwrun.cli import main;"
    " sys.exit(main(['sweep', *sys.argv[1:]]))"
)
# One that hangs says where, when it is asked; and how much of what it said is shown.
_TELLS_WHERE = f"import faulthandler; faulthandler.register({signal.SIGUSR1:d}); {SWEEP}"
_TELLING_S = 1.0
_TOLD_CHARACTERS = 6000


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
        self._log = folder / "sweeps.log"
        self._profiles = _profiles(folder / "profiles")
        self._runs: list[Path] = []
        self._seen: dict[int, psutil.Process] = {}
        self._around = (interfaces(), named_namespaces())
        self._holdings = Holdings()
        self.kills: collections.Counter[str] = collections.Counter()
        self.sweeps = 0

    def kill(self, victims: Sequence[str]) -> None:
        """Kill one of each of these, in this order, in as many sweeps as it takes."""
        left = list(victims)
        while left:
            with self._running() as sweep:
                moment_s = time.monotonic() + self._random.uniform(*self._moments_s)
                while left and sweep.poll() is None:
                    if not self._killed(sweep, left[0], moment_s):
                        assert sweep.returncode != BAD_USAGE, self._told(sweep, "was refused")
                        break  # it was over before
                    self.kills[left[0]] += 1
                    moment_s = time.monotonic() + self._random.uniform(*_PAUSE_S)
                    if left.pop(0) != "worker":
                        self._wait(sweep)

    def check(self) -> None:
        """Finish every run, and look for what is missing, double or left.

        Raises
        ------
        AssertionError : says what.
        """
        for run in self._runs:
            for _ in range(5):
                sweep = self._start("--resume", str(run)) if (run / MANIFEST_NAME).exists() else self._begin(run)
                if self._wait(sweep) == DONE:
                    break
            found = read_run(run)
            done: set[str] = set()
            for cell in found.cells:
                # A cell that is done is not measured again, unless it was refused meanwhile: its link was another.
                assert cell.cell_id not in done or cell.status == "failed", f"{run}: measured twice: {cell.cell_id}"
                done = done | {cell.cell_id} if cell.status == "done" else done - {cell.cell_id}
            assert len(done) == found.manifest.cells_planned == self._cells, (
                f"{run}: {len(done)} of {self._cells} cells"
            )
            assert found.dropped_lines <= self.kills["orchestrator"], f"{run}: {found.dropped_lines} broken lines"
            for cell in found.cells:
                if cell.status == "done":
                    assert cell.latency_s() > 0
                    assert cell.output_check is not None
                    assert cell.output_check.bitwise_equal
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=_GOING_S)
        assert alive == [], f"left running: {alive}"
        unseen = processes_with("TMPDIR", str(self._scratch))
        assert unseen == {}, f"left running, and never seen as a sweep's: {unseen}"
        sockets, namespaces = self._holdings.counts
        assert sockets > 0
        assert namespaces >= 3 * len(self._runs), (
            f"{namespaces} namespaces were seen, expected two hosts' and a router's"
        )
        deadline_s = time.monotonic() + _GOING_S  # the kernel may be late with what nobody holds
        while (
            (held := self._holdings.still_held())
            or (open_ports := self._holdings.open_ports())
            or (around := (interfaces(), named_namespaces())) != self._around
        ):
            assert time.monotonic() < deadline_s, f"left: {held}; {open_ports}; {around}, and before {self._around}"
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
            # A link that a busy moment misses is probed again, and its cells wait: whether it holds is no matter here.
            "--repeats", str(self._cells // 2), "--batches-per-cell", "3", "--link-tolerance", "50%",
            "--profiles", str(self._profiles),
            "-o", str(run),
        )  # fmt: skip

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        self.sweeps += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _TELLS_WHERE, *options],
                env=os.environ | {"TMPDIR": str(self._scratch)},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def _wait(self, sweep: subprocess.Popen[bytes]) -> int:
        """Wait until the sweep ends; its exit code."""
        limit = _Limit(sweep.pid)
        while sweep.poll() is None:
            assert not limit.is_over(), self._told(sweep, "does not end")
            time.sleep(_LOOK_S)
        return sweep.returncode

    def _told(self, sweep: subprocess.Popen[bytes], what: str) -> str:
        """What is wrong with a sweep, what it waited for, where its threads are, and what it said last."""
        waited_s = waited_for_a_core_s(sweep.pid)
        if sweep.poll() is None:
            sweep.send_signal(signal.SIGUSR1)
            time.sleep(_TELLING_S)
        said = self._log.read_text(errors="replace")[-_TOLD_CHARACTERS:]
        return f"the sweep {what}; it waited {waited_s:.0f} s for a core; its last words:\n{said}"

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
        limit = _Limit(sweep.pid)
        while sweep.poll() is None:
            assert not limit.is_over(), self._told(sweep, f"has no {victim} to kill")
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


class _Limit:
    """_LIMIT_S from now on, in which a process had a core whenever it wanted one."""

    def __init__(self, process_id: int) -> None:
        self._process_id = process_id
        self._end_s = time.monotonic() + _LIMIT_S - waited_for_a_core_s(process_id)

    def is_over(self) -> bool:
        return time.monotonic() - waited_for_a_core_s(self._process_id) > self._end_s


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Each victim so many times, in random order."""
    parser = argparse.ArgumentParser(
        description="Kill workers, relays and orchestrators of sweeps; nothing may be lost."
    )
    parser.add_argument("times", type=int, nargs="?", default=50, help="how often each is killed (default 50)")
    parser.add_argument("--seed", type=int, help="of victims and moments, as an earlier run printed it")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    victims = list(VICTIMS) * options.times
    random.Random(seed).shuffle(victims)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    print(f"kill -9, seed {seed}, in {folder}, which is kept if anything is lost", flush=True)
    torment = Torment(folder, seed)
    torment.kill(victims)
    torment.check()
    shutil.rmtree(folder)
    print(f"{dict(torment.kills)} in {torment.sweeps} sweeps; every cell there once, nothing left behind")


if __name__ == "__main__":
    main()
