"""`paretosim predict` over several batch sizes and windows, or other objectives than latency and throughput."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from paretosim import setting_words
from paretosim.commands.output import write
from paretosim.commands.split_options import setting_of
from paretosim.console import stdout_console
from paretosim.setting_words import as_option


def add_decision_options(parser: ArgumentParser) -> None:
    """Add what choices are compared by, and how many of them are shown."""
    decisions = parser.add_argument_group("choices")
    decisions.add_argument(
        "--objectives",
        metavar="A,B,…",
        help="any of latency, throughput, energy, memory, bytes (default latency,throughput)",
    )
    decisions.add_argument(
        "--all", action="store_true", help="with lists or --objectives: every choice, not the front and the best alone"
    )


def is_decision(arguments: Namespace) -> bool:
    """Whether more is asked for than the splits of one batch and window under latency and throughput."""
    several = isinstance(arguments.batch, tuple) or isinstance(arguments.window, tuple)
    return several or arguments.objectives is not None


def decide(arguments: Namespace) -> int:
    """Explore and print."""
    from paretosim.decision.space import across, explore
    from paretosim.objectives import DEFAULT_OBJECTIVES

    batches, windows = _listed(arguments.batch), _listed(arguments.window)
    for batch in batches:
        for window in windows or (None,):
            setting_words.check_load(
                arguments.mode, batch, window=window, burst=arguments.burst, wishes={}, spelling=as_option
            )
    one = {"batch": batches[0], "window": windows[0] if windows else None, "extrapolate": False}
    setting = setting_of(Namespace(**{**vars(arguments), **one}))
    names = DEFAULT_OBJECTIVES if arguments.objectives is None else arguments.objectives.split(",")
    space = explore(
        across(setting, batches, windows, extrapolate=arguments.extrapolate), [name.strip() for name in names]
    )
    from paretosim.decision import as_json, figures, tables

    return write(
        arguments,
        show=lambda: tables.show(space, stdout_console(width_elsewhere=160), everything=arguments.all),
        as_json=lambda: as_json.as_json(space),
        as_csv=lambda: as_json.as_csv(space),
        plot=lambda path: figures.plot(space, path),
    )


def _listed(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)
