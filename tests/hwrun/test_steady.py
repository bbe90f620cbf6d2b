from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine import steady

FAULTS = """
import resource, threading
def work():
    before = 0
    for turn in range(6):
        if turn == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        activation = b"x" * 40_000_000
        del activation
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


class Executed(BaseException):
    """Stands for the process having been replaced, which nothing can catch."""


def execute(path: str, command_line: list[str], environ: Mapping[str, str]) -> NoReturn:
    raise Executed(path, command_line, environ)


def test_the_environment_fixes_threads_and_allocator() -> None:
    environment = steady.steady_environment(3)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"} < environment.keys()
    with pytest.raises(BadUsageError, match="threads: got 0, expected 1 or more"):
        steady.steady_environment(0)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_steady_thread_gets_its_memory_back_without_page_faults() -> None:
    def faults(extra: Mapping[str, str]) -> int:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        result = subprocess.run(
            [sys.executable, "-c", FAULTS], env={**environ, **extra}, capture_output=True, text=True, check=True
        )
        return int(result.stdout)

    assert faults({}) > 1000
    assert faults(steady.steady_environment(1)) < 100


def test_a_process_that_is_not_steady_starts_itself_again_with_the_same_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(Executed) as caught:
        steady.restart_if_unsteady(2, {"HOME": "/home/pi"}, ["python3", "-m", "hwrun.cli", "profile"], execute)
    path, command_line, environ = caught.value.args
    assert path == sys.executable
    assert command_line == [sys.executable, "-m", "hwrun.cli", "profile"]
    assert environ["HOME"] == "/home/pi"
    assert environ.items() >= steady.steady_environment(2).items()
    # What was restarted goes on, and does not hand the mark to its own children.
    started = dict(environ)
    steady.restart_if_unsteady(2, started, [], execute)
    assert started == {"HOME": "/home/pi"} | steady.steady_environment(2)


def test_a_steady_process_goes_on() -> None:
    assert steady.is_steady(steady.steady_environment(1), 1)
    assert not steady.is_steady(steady.steady_environment(1), 2)
    steady.restart_if_unsteady(1, steady.steady_environment(1), [], execute)


def test_it_restarts_once_and_then_says_what_was_lost() -> None:
    stripped = {"HWRUN_STEADY_RESTART": "1"} | steady.steady_environment(1)
    del stripped["MALLOC_TOP_PAD_"]
    with pytest.raises(HwrunError, match="MALLOC_TOP_PAD_ did not survive a restart"):
        steady.restart_if_unsteady(1, stripped, [], execute)


def test_torch_loaded_too_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(HwrunError, match="torch was loaded before"):
        steady.restart_if_unsteady(1, {}, [], execute)


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, hwrun.machine.steady; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("text", "cores"), [("0", (0,)), ("0,2", (0, 2)), ("1-3", (1, 2, 3)), ("3, 0-1", (0, 1, 3))])
def test_core_lists_are_read(text: str, cores: tuple[int, ...]) -> None:
    assert steady.parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0;1", "0.5"])
def test_other_core_lists_are_refused(text: str) -> None:
    with pytest.raises(BadUsageError, match="expected numbers such as 0 or 0,2 or 0-3"):
        steady.parse_cores(text)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pinning_keeps_to_the_cores_and_refuses_others() -> None:
    before = os.sched_getaffinity(0)
    try:
        steady.pin_to_cores([min(before)])
        assert steady.usable_cores() == (min(before),)
        with pytest.raises(BadUsageError, match="cores: got 4096, expected some of"):
            steady.pin_to_cores([4096])
        with pytest.raises(BadUsageError, match="cores: got none"):
            steady.pin_to_cores([])
    finally:
        os.sched_setaffinity(0, before)


def test_conditions_are_none_where_the_system_does_not_say(tmp_path: Path) -> None:
    found = steady.conditions(2, tmp_path)
    assert found["threads"] == 2
    for key in ("frequency_hz", "governor", "temperature_c", "load_1min"):
        assert found[key] is None
    assert steady.steal_s(tmp_path) is None


def test_conditions_are_read_from_the_system(tmp_path: Path) -> None:
    cpu = tmp_path / f"sys/devices/system/cpu/cpu{steady.usable_cores()[0]}/cpufreq"
    contents = {
        cpu / "scaling_cur_freq": "1800000\n",
        cpu / "scaling_governor": "performance\n",
        tmp_path / "sys/class/thermal/thermal_zone0/temp": "48312\n",
        tmp_path / "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        tmp_path / "proc/loadavg": "0.25 0.3 0.4 1/200 4242\n",
        tmp_path / "proc/stat": "cpu  10 0 5 100 0 0 1 250 0 0\ncpu0 0 0 0 0\n",
        tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\ncpu MHz : 2596.146\n")
    found = steady.conditions(4, tmp_path)
    assert found["frequency_hz"] == 1.8e9
    assert found["governor"] == "performance"
    assert found["temperature_c"] == pytest.approx(48.312)
    assert found["cpu_model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["load_1min"] == 0.25
    assert found["throttled"] is True
    assert steady.steal_s(tmp_path) == pytest.approx(250 / os.sysconf("SC_CLK_TCK"))


def test_a_system_without_frequency_scaling_tells_its_nominal_frequency(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\ncpu MHz : 2596.5\n")
    found = steady.conditions(1, tmp_path)
    assert found["frequency_hz"] == 2596.5e6
    assert found["cpu_model"] == "Some CPU"
