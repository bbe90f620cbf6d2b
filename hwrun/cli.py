"""The `hwrun` command: finds the subcommand's module, and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

try:
    from paretosim.held_interrupt import held_interrupt

    with held_interrupt():
        from hwrun.errors import BadUsageError, HwrunError
        from paretosim.command_line import Subcommand, dispatch
        from paretosim.errors import BadInputError, ParetosimError
except KeyboardInterrupt:  # Ctrl-C while the first modules load, before anything could turn it into a message
    print("hwrun: interrupted", file=sys.stderr)
    sys.exit(130)  # as dispatch would

SUBCOMMANDS = (
    Subcommand("worker", "hwrun.commands.worker", "run stages on this device for an orchestrator"),
    Subcommand("up", "hwrun.commands.up", "start the workers of a testbed file, over ssh"),
    Subcommand("status", "hwrun.commands.status", "say how the hosts and workers of a testbed file are"),
    Subcommand("down", "hwrun.commands.down", "end the workers that hwrun up started"),
    Subcommand("resident", "hwrun.commands.resident", "what up, status and down run on each host; not typed by hand"),
    Subcommand("sweep", "hwrun.commands.sweep", "measure plans over links, modes and repeats"),
    Subcommand("export", "hwrun.commands.export", "a run as CSV or Parquet, or a cell's timeline"),
    Subcommand("finetune", "hwrun.commands.finetune", "train a model's head on labelled images"),
    Subcommand("probe", "hwrun.commands.probe", "round trips, goodput, message cost and clocks between two hosts"),
    Subcommand("profile", "hwrun.commands.profile", "time every block of a model on this device"),
    Subcommand("doctor", "hwrun.commands.doctor", "what on this host, or a testbed's, will spoil a measurement"),
    Subcommand("shape", "hwrun.commands.shape", "make the link to a peer slow, late or lossy, by tc, under a lease"),
    Subcommand("trace", "hwrun.commands.trace", "write model profiles: blocks, parameters, FLOPs, output bytes"),
)


def main(argv: list[str] | None = None) -> int:
    """Run `hwrun` with `argv` (default: the process's own) and return its exit code."""
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
