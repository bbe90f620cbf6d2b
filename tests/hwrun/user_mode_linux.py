"""A user-mode Linux kernel with a real netem, started as an ordinary process, in which a Python script runs as root.

Its file system is this host's (hostfs), so the script is run by this very interpreter. Debian has the kernel as
`user-mode-linux`; its modules are loaded by `busybox-static`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path("/usr/lib/uml/modules")
WANTED = ("drivers/net/veth", "net/sched/sch_htb", "net/sched/sch_netem", "net/sched/cls_u32")
INSTALL = "apt-get install user-mode-linux busybox-static iproute2 ethtool"
# What a script prints before each JSON object that it hands over.
MARK = "RESULT "

# What its first process says before anything else.
BEGUN = "the guest has begun"

INIT = """#!/bin/sh
echo {begun}
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t tmpfs tmpfs /run
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={path}
for module in {modules}; do busybox insmod {folder}/$(uname -r)/kernel/$module.ko; done
busybox ip link set lo up
cd {path}
{python} {script}
busybox poweroff -f
"""


class GuestFailedError(Exception):
    """The script did not come to its end; the message holds what the guest printed last."""


class GuestUnusableError(GuestFailedError):
    """On this host's processor the kernel cannot run a single process: its first one died before it said a word."""


def missing_programs() -> list[str]:
    """What has to be installed first; empty where all is there."""
    return [name for name in ("linux.uml", "busybox", "tc", "ethtool") if shutil.which(name) is None]


def run_in_guest(script: Path, folder: Path, *, limit_s: float, memory: str = "256M") -> dict[str, Any]:
    """Run a script in a kernel of its own; what it handed over, merged. Its last object has to hold `kernel`.

    Parameters
    ----------
    folder : for the kernel's own files.
    memory : of the guest.

    Raises
    ------
    GuestUnusableError : this kernel runs nothing on this host.
    GuestFailedError : it does not end in time, or fails.
    """
    init = folder / "init"
    init.write_text(
        INIT.format(
            begun=BEGUN, path=ROOT, modules=" ".join(WANTED), folder=MODULES, python=sys.executable, script=script
        )
    )
    init.chmod(0o755)
    kernel = subprocess.Popen(
        [
            "linux.uml", f"mem={memory}", "rootfstype=hostfs", "rootflags=/", "root=/dev/root", "rw", f"init={init}",
            "con=null", "con0=null,fd:1", f"umid=test{os.getpid()}", f"uml_dir={folder}",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        console, _ = kernel.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(kernel.pid, signal.SIGKILL)  # the guest's processes are the host's, of this session
        console, _ = kernel.communicate()
        raise GuestFailedError(f"the guest did not end within {limit_s:g} s:\n{console[-4000:]}") from None
    results: dict[str, Any] = {}
    for line in console.splitlines():
        if MARK in line:
            results |= json.loads(line.partition(MARK)[2])
    if "Attempted to kill init" in console and BEGUN not in console:
        raise GuestUnusableError(f"the guest's first process died at its start:\n{console[-4000:]}")
    if "kernel" not in results:
        raise GuestFailedError(f"the guest did not come to its end:\n{console[-4000:]}")
    return results
