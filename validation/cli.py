"""The `paretosim-validate` command (`python -m validation`): finds the subcommand, turns errors into exit codes."""

from __future__ import annotations

import sys

try:
    from paretosim.held_interrupt import held_interrupt

    with held_interrupt():
        from hwrun.errors import RecordError
        from paretosim.command_line import Subcommand, dispatch
        from paretosim.errors import BadInputError, ParetosimError
        from validation.errors import PublishedTableError, ValidationError
except KeyboardInterrupt:  # Ctrl-C while the first modules load, before anything could turn it into a message
    print("paretosim-validate: interrupted", file=sys.stderr)
    sys.exit(130)  # as dispatch would

# In the order in which a reader of --help meets the questions: how wrong, why, and is that good enough.
SUBCOMMANDS = (
    Subcommand("report", "validation.commands.report", "join a run with predictions of the same mode and link"),
    Subcommand("calibrate", "validation.commands.calibrate", "fit what devices, messages and a backend cost to runs"),
    Subcommand("accuracy", "validation.commands.accuracy", "fit on one model and a few links, and judge all else"),
    Subcommand("gate", "validation.commands.gate", "fail where predictions are worse than a file of bars allows"),
    Subcommand("reference", "validation.commands.reference", "draw and measure the reference data set, step by step"),
    Subcommand(
        "published",
        "validation.commands.published",
        "hold the paper's tables and claims against predictions from the reconstructed profiles",
    ),
    Subcommand(
        "reconstruct",
        "validation.commands.reconstruct",
        "fit the rpi4b and rtx4090 profiles to the published stage times, with left-out errors",
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Run `paretosim-validate` with `argv` (default: the process's own) and return its exit code."""
    return dispatch(
        "paretosim-validate",
        "Hold predictions against measurements and published figures, and say how far off they are.",
        SUBCOMMANDS,
        argv,
        bad_input=(BadInputError, PublishedTableError, RecordError),
        failures=(ValidationError, ParetosimError),
    )


if __name__ == "__main__":
    sys.exit(main())
