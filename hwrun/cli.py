"""The `hwrun` command: finds the subcommand's module, and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

from paretosim.command_line import Subcommand, dispatch

SUBCOMMANDS = (
    Subcommand("worker", "hwrun.commands.worker", "run stages on this device for an orchestrator"),
    Subcommand("sweep", "hwrun.commands.sweep", "measure plans over links, modes and repeats"),
    Subcommand("profile", "hwrun.commands.profile", "time every block of a model on this device"),
    Subcommand("trace", "hwrun.commands.trace", "write model profiles: blocks, parameters, FLOPs, output bytes"),
)


def main(argv: list[str] | None = None) -> int:
    """Run `hwrun` with `argv` (default: the process's own) and return its exit code."""
    from hwrun.errors import BadUsageError, HwrunError
    from paretosim.errors import BadInputError, ParetosimError

    return dispatch(
        "hwrun",
        "Run split neural networks on real devices (or this machine standing in for them) and record raw samples.",
        SUBCOMMANDS,
        argv,
        bad_input=(BadUsageError, BadInputError),
        failures=(HwrunError, ParetosimError),
    )


if __name__ == "__main__":
    sys.exit(main())
