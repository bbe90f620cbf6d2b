"""What `shaping.py` has run in a guest with a real netem: two workers, and a sweep over shaped links between them.

Over sockets, whose ports are known and shaped, and over RPC, whose ports nobody knows.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from hwrun.local.namespaces import NetworkNamespace
from hwrun.records import read_run
from hwrun.shaping import kernel
from paretosim.plan import Plan
from tests.hwrun.shaping_guest import FAR, NEAR, two_hosts
from tests.hwrun.user_mode_linux import MARK

FOLDER = Path("/run/lab")  # a tmpfs of the guest's own
LAB = f"""
token_file = "token"
[[hosts]]
name = "near"
address = "{NEAR}"
device = "rpi4b"
trust_network = true
ssh = {{}}
[[hosts]]
name = "far"
address = "{FAR}"
device = "rpi4b"
trust_network = true
"""
LINKS = ("unshaped", "20mbit,20ms", "20mbit,20ms,jitter=2ms,loss=0.1%")
# Beside other load the guest lacks a core at times, and its links are refused then, as they should be.
ATTEMPTS = 4
SWEEP = (
    "sweep", "--model", "mobilenet_v2", "--emulate", "rpi4b,rpi4b", "--speed", "20", "--splits", "14", "--batch", "1",
    "--mode", "single", "--repeats", "1", "--batches-per-cell", "4", "--backend", "tcp", "--backend", "rpc",
)  # fmt: skip


def hwrun(*arguments: str) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "hwrun.cli", *arguments]


def worker(namespace: NetworkNamespace, address: str) -> subprocess.Popen[str]:
    """A worker on one of the hosts, ready."""
    options = ["--listen", f"{address}:7070", "--data-listen", f"{address}:7071", "--cache", str(FOLDER / address)]
    with namespace.entered():
        process = subprocess.Popen(
            hwrun("worker", *options, "--token-file", str(FOLDER / "token"), "--trust-network"),
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    print(process.stdout.readline(), flush=True)
    return process


def main() -> None:
    """Everything, one JSON object a line."""
    near, far = two_hosts()
    FOLDER.mkdir()
    (FOLDER / "token").write_text("x" * 40)
    (FOLDER / "token").chmod(0o600)
    (FOLDER / "lab.toml").write_text(LAB)
    workers = [worker(near, NEAR), worker(far, FAR)]
    links = [option for link in LINKS for option in ("--link", link)]
    lab = ["--testbed", str(FOLDER / "lab.toml")]
    run = FOLDER / "run"
    options = [*SWEEP, *lab, *links, "-o", str(run)]
    for _ in range(ATTEMPTS):
        with far.entered():
            done = subprocess.run(hwrun(*options), capture_output=True, text=True)
        print(done.stdout, done.stderr, flush=True)
        if done.returncode == 0:
            break
        options = ["sweep", "--resume", str(run)]
    found: dict[str, object] = {"code": done.returncode}
    for cell in read_run(run).latest_cells():
        probe = cell.link_measured
        found[f"{cell.link_name} {Plan.parse(cell.plan).backend}"] = {
            "status": cell.status,
            "reason": cell.reason,
            "rtt_s": statistics.median(probe.rtt_samples_s) if probe else None,
            "goodput_bps": probe.goodput_bps if probe else None,
            "latency_s": cell.latency_s() if cell.status == "done" else None,
            "tc": {name: str(value) for name, value in cell.relay.items()},
        }
    for name, namespace in (("near", near), ("far", far)):
        with namespace.entered():
            found[f"{name}_is_default"] = kernel.read("eth0").is_default
    for process in workers:
        process.terminate()
    print(MARK + json.dumps(found | {"kernel": os.uname().release}), flush=True)


if __name__ == "__main__":
    main()
