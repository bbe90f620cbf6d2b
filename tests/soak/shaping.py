"""Shaped interfaces: owners and keepers killed at random moments leave nothing; a sweep shapes real netems.

The first part needs namespaces and htb; the second a user-mode Linux kernel, in which two workers and a whole sweep of
`hwrun sweep --testbed … --link …` run. Each says so where it cannot be had.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hwrun.errors import HwrunError
from hwrun.local.namespaces import availability
from hwrun.machine.offloads import is_on
from hwrun.shaping import kernel
from hwrun.shaping.keeper import keeper_of
from hwrun.shaping.setting import OFFLOADS
from tests.hwrun.shaping_guest import FAR, two_hosts
from tests.hwrun.user_mode_linux import missing_programs, run_in_guest

KILLS = 50
GUEST = Path(__file__).with_name("netem_sweep_guest.py")
# Four minutes on a core of its own; beside other load its sweep may be resumed several times.
_GUEST_LIMIT_S = 2400.0
# Imports, setting, and the first renewals of a lease of half a second lie within.
_MOMENTS_S = (0.05, 2.5)
_PATIENCE_S = 10.0


def is_clean() -> bool:
    """Whether the interface is as the kernel made it, and nobody keeps it."""
    return (
        kernel.read("eth0").is_default and keeper_of("eth0") is None and all(is_on("eth0", name) for name in OFFLOADS)
    )


def torment(kills: int, seed: int) -> collections.Counter[str]:
    """Shape and kill, again and again; how often whom.

    Raises
    ------
    AssertionError : something was left.
    """
    choose = random.Random(seed)
    killed: collections.Counter[str] = collections.Counter()
    near, _ = two_hosts()
    options = ["--bw", "5mbit", "--limiter", "htb", "--peer", f"{FAR}:7071", "--lease", "0.5s"]
    command = [sys.executable, "-m", "hwrun.cli", "shape", *options]
    with near.entered():
        while killed.total() < kills:
            owner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(choose.uniform(*_MOMENTS_S))
            victim = choose.choice(["owner", "keeper", "owner told", "keeper told", "owner stopped"])
            keeper = keeper_of("eth0")
            if victim.startswith("keeper") and keeper is None:
                victim = "owner"  # it is not there yet
            number = {"told": signal.SIGTERM, "stopped": signal.SIGSTOP}.get(victim.split()[-1], signal.SIGKILL)
            os.kill(keeper if victim.startswith("keeper") and keeper is not None else owner.pid, number)
            deadline_s = time.monotonic() + _PATIENCE_S
            while not is_clean() or (number is not signal.SIGSTOP and owner.poll() is None):
                assert time.monotonic() < deadline_s, (
                    f"after {victim}: {kernel.read('eth0')}, kept by {keeper_of('eth0')}"
                )
                time.sleep(0.01)
            owner.kill()
            owner.wait()
            killed[victim] += 1
    return killed


def main() -> int:
    """Both parts; what they found."""
    permitted = availability()
    try:
        if permitted.how == "none" or permitted.needs_reexec:
            raise HwrunError(f"no network namespaces: {permitted.reason}")
        print(f"shaping: {dict(torment(KILLS, seed=0))}, nothing left")
    except HwrunError as error:
        print(f"shaping: not tormented: {error}")
    if missing := missing_programs():
        print(f"shaping: no sweep over a real netem: no {', '.join(missing)}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = run_in_guest(GUEST, Path(folder), limit_s=_GUEST_LIMIT_S, memory="1500M")
    print(f"shaping: a sweep over netem: {found}")
    assert found["code"] == 0
    assert found["near_is_default"]
    assert found["far_is_default"]
    for backend in ("tcp", "rpc"):
        for link in ("20mbit,20ms", "20mbit,20ms,jitter=2ms,loss=0.1%"):
            cell = found[f"{link} {backend}"]
            assert cell["status"] == "done", cell["reason"]
            assert {"near.tc", "far.tc"} <= cell["tc"].keys()
            assert "delay 20ms" in cell["tc"]["near.tc"]
        unshaped, shaped = (found[f"{link} {backend}"] for link in ("unshaped", "20mbit,20ms"))
        assert unshaped["tc"] == {}
        assert shaped["latency_s"] > unshaped["latency_s"] + 0.019, "what was shaped was not the data"
    return 0


if __name__ == "__main__":
    sys.exit(main())
