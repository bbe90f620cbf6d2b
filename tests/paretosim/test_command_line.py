"""What the three commands share: exit codes, messages, interrupts and closed pipes."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paretosim import __version__, command_line
from paretosim.command_line import Subcommand, dispatch, with_negative_values
from paretosim.errors import BadInputError, ParetosimError
from paretosim.held_interrupt import held_interrupt


class _Loader:
    """Stands for the import of a subcommand's module; remembers what was imported."""

    def __init__(self, run: Any) -> None:
        self.imported: list[str] = []
        self._module = SimpleNamespace(configure=lambda parser: parser.add_argument("--delay"), run=run)

    def __call__(self, name: str) -> Any:
        self.imported.append(name)
        return self._module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Dispatch over two subcommands whose `run` is given; returns the exit code and what was imported."""

    def dispatched(behaviour: Any, *arguments: str) -> tuple[int, list[str]]:
        loader = _Loader(behaviour)
        monkeypatch.setattr(command_line, "import_module", loader)
        code = dispatch(
            "tool", "A tool.", (Subcommand("go", "pkg.go", "goes"), Subcommand("stop", "pkg.stop", "stops")), arguments,
            bad_input=(BadInputError,), failures=(ParetosimError, OSError),
        )  # fmt: skip
        return code, loader.imported

    return dispatched


def _raiser(error: BaseException) -> Any:
    def behaviour(arguments: argparse.Namespace) -> int:
        raise error

    return behaviour


def test_only_the_subcommand_that_is_asked_for_is_imported(run: Any) -> None:
    assert run(lambda arguments: 0, "go") == (0, ["pkg.go"])


def test_the_subcommands_own_code_is_returned(run: Any) -> None:
    assert run(lambda arguments: 1, "go")[0] == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInputError("bad: got 1"), 2), (ParetosimError("it broke"), 1), (OSError(5, "Input/output error"), 1)],
)
def test_known_errors_are_a_message_and_a_code(
    run: Any, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    assert run(_raiser(error), "go")[0] == code
    captured = capsys.readouterr()
    assert captured.err == f"tool: {error}\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/mine/x"), "/mine/x: Permission denied"),
        (OSError(30, "Read-only file system", b"/cd/x"), "/cd/x: Read-only file system"),
        (OSError(36, "File name too long", "x" * 300), f"{'x' * 300}: File name too long"),
    ],
)
def test_a_path_that_the_system_refuses_is_named_whoever_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    monkeypatch.setattr(command_line, "import_module", _Loader(_raiser(error)))
    commands = (Subcommand("go", "pkg.go", "goes"),)
    assert dispatch("tool", "A tool.", commands, ["go"], bad_input=(), failures=()) == 2
    assert capsys.readouterr().err == f"tool: {said}; give another path, or the right to this one\n"


@pytest.mark.parametrize(
    "error", [PermissionError(1, "Operation not permitted"), FileNotFoundError(2, "No such file or directory", "x")]
)
def test_another_error_of_the_system_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    monkeypatch.setattr(command_line, "import_module", _Loader(_raiser(error)))
    with pytest.raises(type(error)):
        dispatch("tool", "A tool.", (Subcommand("go", "pkg.go", "goes"),), ["go"], bad_input=(), failures=())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("failures", [(OSError,), ()])
@pytest.mark.parametrize("size", [10, 100_000])  # left in the buffer until the end, and not
def test_a_full_disk_behind_standard_output_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failures: tuple[type[Exception], ...],
    size: int,
) -> None:
    def behaviour(arguments: argparse.Namespace) -> int:
        sys.stdout.buffer.write(b"x" * size)
        return 0

    monkeypatch.setattr(command_line, "import_module", _Loader(behaviour))
    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device, not a path
        monkeypatch.setattr(sys, "stdout", full)
        commands = (Subcommand("go", "pkg.go", "goes"),)
        assert dispatch("tool", "A tool.", commands, ["go"], bad_input=(), failures=failures) == 1
    said = capsys.readouterr().err
    assert said == "tool: output: cannot be written: No space left on device; make room where it goes\n"


def test_without_standard_error_messages_go_nowhere_and_not_among_results(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert run(_raiser(BadInputError("bad")), "go")[0] == 2
    sys.stderr.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("module", "extra"), [("torch", "hw"), ("matplotlib.figure", "report")])
def test_a_missing_optional_package_names_the_extra_that_brings_it(
    run: Any, capsys: pytest.CaptureFixture[str], module: str, extra: str
) -> None:
    assert run(_raiser(ModuleNotFoundError(f"No module named {module!r}", name=module)), "go")[0] == 2
    assert capsys.readouterr().err == f"tool: {module} is not installed; pip install 'paretosim[{extra}]'\n"


def test_another_missing_module_is_a_defect_and_keeps_its_traceback(run: Any) -> None:
    with pytest.raises(ModuleNotFoundError):
        run(_raiser(ModuleNotFoundError("No module named 'nosuch'", name="nosuch")), "go")


def test_an_unknown_error_keeps_its_traceback(run: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        run(_raiser(ZeroDivisionError()), "go")


def test_an_interrupt_ends_as_shells_report_it(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_raiser(KeyboardInterrupt()), "go")[0] == 130
    assert capsys.readouterr().err == "tool: interrupted\n"


@pytest.mark.parametrize(
    "arguments", [(), ("nosuch",), ("go", "--nosuch"), ("go", "--delay"), ("--", "go"), ("go", "extra")]
)
def test_bad_usage_is_2_with_the_usage_on_stderr(
    run: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(lambda parsed: 0, *arguments)[0] == 2
    captured = capsys.readouterr()
    assert "usage: tool" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--help",), "stops"), (("go", "--help"), "--delay"), (("--version",), __version__)]
)
def test_help_and_version_are_results(
    run: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(lambda parsed: 0, *arguments)[0] == 0
    assert said in capsys.readouterr().out


def test_a_negative_value_reaches_the_check_that_names_it(run: Any) -> None:
    seen = []
    assert run(lambda arguments: seen.append(arguments.delay) or 0, "go", "--delay", "-1ms")[0] == 0
    assert seen == ["-1ms"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--delay", "-1ms"], ["--delay=-1ms"]),
        (["--fps", "-.5"], ["--fps=-.5"]),
        (["--delay", "1ms", "-5"], ["--delay", "1ms", "-5"]),
        (["--delay=2ms", "-1"], ["--delay=2ms", "-1"]),
        (["--", "-1"], ["--", "-1"]),
        (["--json", "--csv"], ["--json", "--csv"]),
        (["--json", "-x"], ["--json", "-x"]),
        (["-1"], ["-1"]),
        ([], []),
    ],
)
def test_only_a_number_after_a_long_option_is_joined_to_it(given: list[str], read: list[str]) -> None:
    assert with_negative_values(given) == read


# Whole processes, on toy profiles.


def _start(profiles: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PARETOSIM_PROFILES": str(profiles)} | options.pop("environment", {})
    return subprocess.Popen([sys.executable, "-m", "paretosim.cli", *arguments], env=environment, **options)


PREDICT = ("predict", "--model", "toy", "--devices", "one,two")


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_a_closed_pipe_ends_quietly(profiles: Path, form: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head` does once it has what it wanted
    try:
        process = _start(profiles, *PREDICT, *form, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_failure_with_the_reason(profiles: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = _start(profiles, *PREDICT, stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == b"paretosim: output: cannot be written: No space left on device; make room where it goes\n"


def test_a_closed_stdout_is_a_failure_with_a_message(profiles: Path) -> None:
    environment = os.environ | {"PARETOSIM_PROFILES": str(profiles)}
    line = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "paretosim.cli", *PREDICT]
    done = subprocess.run(line, env=environment, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_an_ascii_terminal_gets_ascii(profiles: Path, form: tuple[str, ...]) -> None:
    process = _start(
        profiles, *PREDICT, *form, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        environment={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert out.decode("ascii")
    if not form:
        assert b"one -> two" in out
        assert b"*" in out


def test_ctrl_c_ends_without_a_traceback(profiles: Path) -> None:
    # Timings that come from a named pipe keep the command waiting where the interrupt finds it.
    os.mkfifo(profiles / "mine.csv")
    wait = "import sys; from paretosim.cli import main; print('up', flush=True); sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PARETOSIM_PROFILES": str(profiles)}
    process = subprocess.Popen(
        [sys.executable, "-c", wait, *PREDICT, "--timing", f"one={profiles / 'mine.csv'}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b"paretosim: interrupted\n"


def test_an_error_that_an_interrupt_caused_is_an_interrupt(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def behaviour(arguments: argparse.Namespace) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("numpy's extension failed to load")  # noqa: B904 - as extension modules do it

    assert run(behaviour, "go")[0] == 130
    assert capsys.readouterr().err == "tool: interrupted\n"
    with pytest.raises(RuntimeError):
        run(_raiser(RuntimeError("not of an interrupt")), "go")


@pytest.mark.parametrize(
    ("module", "program"),
    [("hwrun.cli", "hwrun"), ("paretosim.cli", "paretosim"), ("validation.cli", "paretosim-validate")],
)
@pytest.mark.parametrize("at", ["argparse", "paretosim.command_line", "paretosim.errors"])
def test_ctrl_c_while_the_first_modules_load_is_a_line_and_exit_code_130(module: str, program: str, at: str) -> None:
    code = f"""
import runpy, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            raise KeyboardInterrupt
sys.modules.pop({at!r}, None)
sys.meta_path.insert(0, Interrupting())
runpy.run_module({module!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, f"{program}: interrupted\n")


def test_ctrl_c_while_a_module_of_c_code_loads_waits_until_it_is_whole(profiles: Path) -> None:
    # msgspec's core looks up datetime's functions when it loads: interrupted there, it did without, and crashed later.
    code = """
import os, signal, sys
from paretosim.cli import main
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "datetime" and "msgspec" in sys.modules:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.modules.pop("datetime", None)
sys.meta_path.insert(0, Interrupting())
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *PREDICT],
        env=os.environ | {"PARETOSIM_PROFILES": str(profiles)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "paretosim: interrupted\n")
    assert done.stdout == ""


def test_an_interrupt_is_held_where_it_would_be_raised_and_nowhere_else() -> None:
    done: list[str] = []

    def interrupted(what_then: Callable[[], object]) -> None:
        with held_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            what_then()

    with pytest.raises(KeyboardInterrupt):
        interrupted(partial(done.append, "all of it"))
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):  # rather than what came of it
        interrupted(partial(_raiser(ImportError()), argparse.Namespace()))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    def elsewhere() -> str:
        with held_interrupt():
            return "another thread"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == "another thread"
