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
UNIT = (DOCS / "hwrun-worker.service").read_text(encoding="utf-8")
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


def test_the_unit_sees_the_socket_of_results_and_has_a_folder_for_what_torch_writes_when_it_is_imported():
    settings = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
    assert "PrivateTmp" not in settings
    # With everything read-only Python finds no temporary folder, and torch asks for one.
    assert settings["ProtectSystem"] == "strict"
    assert settings["Environment"] == f"TMPDIR=/run/{settings['RuntimeDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path):
    path = tmp_path / "hwrun-worker.service"
    installed = "/home/pi/paretosim/.venv/bin/hwrun"
    assert installed in UNIT
    path.write_text(UNIT.replace(installed, sys.executable))  # it must be there to be verified
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot verify here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
