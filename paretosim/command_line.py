"""What the project's three commands share: lazy subcommands, error messages and exit codes.

A subcommand's module is imported only when it is asked for, so `paretosim predict` never pays for another
one's imports. It offers `configure(parser)` and `run(arguments) -> int`.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from paretosim.held_interrupt import held_interrupt
from paretosim.plain_text import speak_plainly

DONE, FAILED, BAD_USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a system says of a path that it will not follow for this user, whoever asks and for what.
_REFUSED_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)

# Packages that only an extra installs; pyproject.toml has the lists.
_EXTRA_OF = dict.fromkeys(("torch", "torchvision", "fvcore", "psutil", "safetensors", "pyroute2"), "hw")
_EXTRA_OF |= dict.fromkeys(("matplotlib", "scipy", "moocore"), "report")
_EXTRA_OF["pyarrow"] = "parquet"


@dataclass(frozen=True)
class Subcommand:
    """A subcommand: its name, the module that has `configure` and `run`, and a line of help."""

    name: str
    module: str
    summary: str


def dispatch(
    program: str,
    description: str,
    subcommands: Sequence[Subcommand],
    argv: Sequence[str] | None,
    *,
    bad_input: tuple[type[Exception], ...],
    failures: tuple[type[Exception], ...],
) -> int:
    """Run the subcommand that `argv` names; 0 done, 1 the run failed, 2 bad usage or bad input.

    Parameters
    ----------
    bad_input, failures : errors shown as a message alone, with exit code 2 and 1; others keep their traceback.
    """
    if sys.stdout is None:  # closed by the caller: there is nowhere to put a result
        print(f"{program}: standard output is closed, expected somewhere to write results", file=sys.stderr)
        return FAILED
    if sys.stderr is None:  # print() would take stdout instead, and a file opened next would get its number
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process runs
    speak_plainly(sys.stdout)
    try:
        code = _run(program, description, subcommands, list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as request:  # argparse: 0 after --help and --version, 2 after a usage message
        if isinstance(request.__context__, BrokenPipeError):  # rich's way to pass on a closed pipe
            return DONE
        return request.code if isinstance(request.code, int) else FAILED
    except BrokenPipeError:  # `paretosim predict … | head`: the reader has what it wanted
        _discard_stdout()
        return DONE
    except bad_input as error:
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_USAGE
    except failures as error:
        return _output_failed(program, error) or _failed(program, error)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"{program}: {error.name} is not installed; pip install 'paretosim[{extra}]'", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        return _interrupted(program)
    except Exception as error:
        # Extension modules that are interrupted while they load raise errors of their own about it.
        if _was_interrupted(error):
            return _interrupted(program)
        if failed := _output_failed(program, error):
            return failed
        if isinstance(error, OSError) and error.errno in _REFUSED_PATH and error.filename is not None:
            path = os.fsdecode(error.filename)
            print(f"{program}: {path}: {error.strerror}; give another path, or the right to this one", file=sys.stderr)
            return BAD_USAGE
        raise
    return code


def _failed(program: str, error: Exception) -> int:
    print(f"{program}: {error}", file=sys.stderr)
    return FAILED


def _output_failed(program: str, error: Exception) -> int:
    """FAILED, said, where the disk behind `> FILE` is full, else 0: an error of a file with a name is not of that."""
    if not isinstance(error, OSError) or error.errno not in _NO_ROOM or error.filename is not None:
        return 0
    _discard_stdout()
    return _failed(program, OSError(f"output: cannot be written: {error.strerror}; make room where it goes"))


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or leaving would fail at it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(program: str) -> int:
    print(f"{program}: interrupted", file=sys.stderr)
    return INTERRUPTED


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether the error came of a Ctrl-C: raised from one, or while handling one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _run(program: str, description: str, subcommands: Sequence[Subcommand], arguments: Sequence[str]) -> int:
    from paretosim import __version__

    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    chosen = next((entry for entry in subcommands if arguments and entry.name == arguments[0]), None)
    with held_interrupt():
        module = import_module(chosen.module) if chosen else None
    usage = parser  # of the subcommand, where there is one: its options are what was mistyped
    # With `prog`, argparse need not format a usage line (and import shutil and the compressors for it) to find it.
    children = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True, prog=program)
    # The others' parsers are for the list in the help, and take as long to make as the chosen one's.
    for entry in subcommands if chosen is None else [chosen]:
        child = children.add_parser(entry.name, help=entry.summary, description=entry.summary, allow_abbrev=False)
        if module is not None:
            # Each option is formatted once to check it; a width is given, so that nobody need import shutil to ask.
            child.formatter_class = partial(argparse.HelpFormatter, width=80)
            module.configure(child)
            child.formatter_class = argparse.HelpFormatter
            usage = child
    parsed, unknown = parser.parse_known_args(with_negative_values(arguments))
    if unknown:
        usage.error(f"unrecognized arguments: {' '.join(unknown)}")
    if module is None:  # a subcommand hidden behind something else, such as `--`
        parser.error(f"expected the command first, one of {', '.join(entry.name for entry in subcommands)}")
    code: int = module.run(parsed)
    return code


def with_negative_values(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--delay -1ms` written as `--delay=-1ms`.

    argparse takes `-1ms` for an option and complains of a missing value; this way the value reaches the check
    that can say what is wrong with it.
    """
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1] if joined else ""
        if re.match(r"-[.\d]", argument) and before.startswith("--") and before != "--" and "=" not in before:
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    return joined
