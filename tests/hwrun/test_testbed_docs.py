"""What docs/testbed.md has a reader copy: the testbed file is one, and the systemd unit is what systemd takes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwrun.cli import SUBCOMMANDS
from hwrun.remote.lab_file import read_lab

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "testbed.md").read_text(encoding="utf-8")


def test_the_testbed_file_of_the_page_can_be_read(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    lab = read_lab(path)
    assert [host.name for host in lab.hosts] == ["pi1", "pi2", "server"]
    assert [host.ssh is None for host in lab.hosts] == [False, False, True]


def test_what_the_page_holds_out_is_not_all_that_it_measured():
    models = set(re.findall(r"^hwrun sweep .*--model (\S+)", PAGE, re.MULTILINE))
    assert len(models) == 1
    assert re.findall(r"--hold-out (\S+)", PAGE) == ["cells"]


def test_every_command_of_the_page_is_there():
    typed = set(re.findall(r"^(?:ssh \S+ \S*/)?hwrun ([a-z]+)", PAGE, re.MULTILINE))
    assert {"up", "status", "down", "sweep", "doctor", "probe"} <= typed
    assert typed <= {subcommand.name for subcommand in SUBCOMMANDS}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path):
    unit = (DOCS / "hwrun-worker.service").read_text(encoding="utf-8")
    path = tmp_path / "hwrun-worker.service"
    installed = "/home/pi/paretosim/.venv/bin/hwrun"
    assert installed in unit
    path.write_text(unit.replace(installed, sys.executable))  # it must be there to be verified
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot verify here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
