"""What the project's three commands share: lazy subcommands, error messages and exit codes.

A subcommand's module is imported only when it is asked for, so `paretosim predict` never pays for another
one's imports. It offers `configure(parser)` and `run(arguments) -> int`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

DONE, FAILED, BAD_USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


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
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    from paretosim import __version__

    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    chosen = next((entry for entry in subcommands if arguments and entry.name == arguments[0]), None)
    module = import_module(chosen.module) if chosen else None
    children = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for entry in subcommands:
        child = children.add_parser(entry.name, help=entry.summary, description=entry.summary, allow_abbrev=False)
        if module is not None and entry is chosen:
            module.configure(child)
    try:
        parsed = parser.parse_args(arguments)
        assert module is not None  # parse_args has left with a usage message otherwise
        code: int = module.run(parsed)
        sys.stdout.flush()
    except SystemExit as request:  # argparse: 0 after --help and --version, 2 after a usage message
        return request.code if isinstance(request.code, int) else FAILED
    except bad_input as error:
        print(f"{program}: {error}", file=sys.stderr)
        return BAD_USAGE
    except failures as error:
        print(f"{program}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `paretosim predict … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code
