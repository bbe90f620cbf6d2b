"""`paretosim predict`: every split of a model over two devices and one link."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.commands.decision_options import add_decision_options, decide, is_decision
from paretosim.commands.operation_options import add_operation_options, add_paper_preset, settle
from paretosim.commands.split_options import add_calibration_options, add_split_options, setting_of
from paretosim.commands.uncertainty_options import (
    add_uncertainty_options,
    check_uncertainty,
    uncertainty_asked,
    write_uncertain,
)
from paretosim.errors import BadInputError
from paretosim.mode import ALL_MODE_NAMES
from paretosim.prediction import Prediction, predict

if TYPE_CHECKING:
    from paretosim.uncertainty.sampling import Uncertainty


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim predict`."""
    network = add_split_options(parser, modes=ALL_MODE_NAMES, several=True)
    add_operation_options(parser)
    add_paper_preset(parser)
    network.add_argument("--bw", metavar="RATE", help="rate both ways as tc reads it, such as 5mbit")
    wanted = parser.add_argument_group("what is wanted")
    wanted.add_argument("--max-latency", metavar="TIME", help="recommend only splits at most this slow")
    wanted.add_argument("--min-throughput", type=float, metavar="R", help="images per second at least")
    wanted.add_argument("--fps", type=float, metavar="F", help="a camera's frames per second, to be kept up with")
    add_decision_options(parser)
    add_uncertainty_options(parser)
    add_calibration_options(parser)
    output = parser.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="one line per split")
    output.add_argument("--explain", type=int, metavar="SPLIT", help="one batch of that split, term by term")
    output.add_argument("--plot", type=Path, metavar="FILE", help="also write a figure: .svg, .png or .pdf")


def run(arguments: Namespace) -> int:
    """Predict and print."""
    settle(arguments)
    decision = is_decision(arguments)
    check_uncertainty(arguments, elsewhere="several batches or windows, or --objectives" if decision else None)
    _check_explain(arguments, decision=decision)
    if decision:
        return decide(arguments)
    prediction = predict(setting_of(arguments))
    if arguments.explain is not None:
        return _explained(arguments, prediction)
    uncertainty = uncertainty_asked(arguments, prediction)
    if arguments.plot is not None:
        from paretosim.show.figures import plot

        plot(prediction, arguments.plot, uncertainty)
    if uncertainty is not None and (arguments.json or arguments.csv):
        write_uncertain(arguments, prediction, uncertainty)
    elif arguments.json:
        from paretosim.show.prediction_json import as_json

        sys.stdout.write(as_json(prediction).decode())
    elif arguments.csv:
        from paretosim.show.prediction_json import as_csv

        sys.stdout.write(as_csv(prediction))
    else:
        _show(prediction, uncertainty)
    if arguments.plot is not None:
        print(f"figure: {arguments.plot}", file=sys.stderr)
    return 0


def _check_explain(arguments: Namespace, *, decision: bool) -> None:
    """Refuse what says nothing beside an explanation of one split."""
    if arguments.explain is None:
        return
    beside = {
        "--csv": arguments.csv, "--plot": arguments.plot is not None, "--uncertainty": arguments.uncertainty,
        "several batches or windows, or --objectives": decision,
    }  # fmt: skip
    if given := [name for name, is_given in beside.items() if is_given]:
        raise BadInputError(
            f"--explain: explains one split of one setting, got it with {given[0]}; leave one of them out"
        )


def _explained(arguments: Namespace, prediction: Prediction) -> int:
    from paretosim.explanation.explaining import explain

    explanation = explain(prediction, arguments.explain)
    if arguments.json:
        from paretosim.explanation.as_json import as_json

        sys.stdout.write(as_json(prediction, explanation).decode())
        return 0
    from rich.console import Console

    from paretosim.explanation.text import show

    show(explanation, Console(highlight=False, markup=False, emoji=False))
    return 0


def _show(prediction: Prediction, uncertainty: Uncertainty | None) -> None:
    from rich.console import Console

    from paretosim.show.tables import show

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160 if uncertainty is None else 230  # a file or a pipe has no width: let no column be cut
    show(prediction, console, uncertainty)
