"""Commands that fix their environment before torch loads must not load it by being imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["sweep", "worker", "profile", "probe"])
def test_importing_a_command_loads_no_torch(command: str) -> None:
    program = f"import sys, hwrun.commands.{command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
