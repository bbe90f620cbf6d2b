"""The `paretosim` command."""

from __future__ import annotations

import sys

try:
    from paretosim.held_interrupt import held_interrupt

    with held_interrupt():
        from paretosim.command_line import Subcommand, dispatch
        from paretosim.errors import BadInputError, ParetosimError
except KeyboardInterrupt:  # Ctrl-C while the first modules load, before anything could turn it into a message
    print("paretosim: interrupted", file=sys.stderr)
    sys.exit(130)  # as dispatch would

SUBCOMMANDS = (
    Subcommand("predict", "paretosim.commands.predict", "latency, throughput and front of every split"),
    Subcommand(
        "front", "paretosim.commands.front", "several models and links side by side, as the paper's figures 3-6"
    ),
    Subcommand("plan", "paretosim.commands.plan", "several devices: exact front of all cuts, in order or in any order"),
    Subcommand("map", "paretosim.commands.map", "best split over rate and delay: exact break-even rates, regret"),
    Subcommand("simulate", "paretosim.commands.simulate", "one split batch by batch: percentiles, traces, a timeline"),
    Subcommand("list", "paretosim.commands.list_profiles", "models, devices, timings and links that are known"),
)


def main(argv: list[str] | None = None) -> int:
    """Run `paretosim` with `argv` (default: the process's own) and return its exit code."""
    return dispatch(
        "paretosim",
        "Where to split a neural network over devices: predicted in milliseconds, for any bandwidth and delay.",
        SUBCOMMANDS,
        argv,
        bad_input=(BadInputError,),
        failures=(ParetosimError, OSError),
    )


if __name__ == "__main__":
    sys.exit(main())
