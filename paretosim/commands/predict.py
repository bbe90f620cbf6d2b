"""`paretosim predict`: every split of a model over two devices and one link."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from paretosim.commands.decision_options import add_decision_options, decide, is_decision
from paretosim.commands.operation_options import add_operation_options, add_paper_preset, settle
from paretosim.commands.output import add_output_options, write
from paretosim.commands.split_options import add_calibration_options, add_split_options, setting_of
from paretosim.commands.uncertainty_options import add_uncertainty_options, check_uncertainty, uncertainty_asked
from paretosim.console import stdout_console
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
    add_output_options(parser, lines="split")
    parser.add_argument("--explain", type=int, metavar="SPLIT", help="one batch of that split, term by term")


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
    return write(
        arguments,
        show=lambda: _show(prediction, uncertainty),
        as_json=lambda: _as_json(prediction, uncertainty),
        as_csv=lambda: _as_csv(prediction, uncertainty),
        plot=lambda path: _plot(prediction, uncertainty, path),
    )


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
    from paretosim.explanation.text import show

    show(explanation, stdout_console())
    return 0


def _show(prediction: Prediction, uncertainty: Uncertainty | None) -> None:
    from paretosim.show.tables import show

    show(prediction, stdout_console(width_elsewhere=160 if uncertainty is None else 230), uncertainty)


def _as_json(prediction: Prediction, uncertainty: Uncertainty | None) -> bytes:
    if uncertainty is not None:
        from paretosim.uncertainty.as_json import as_json as uncertain_as_json

        return uncertain_as_json(prediction, uncertainty)
    from paretosim.show.prediction_json import as_json

    return as_json(prediction)


def _as_csv(prediction: Prediction, uncertainty: Uncertainty | None) -> str:
    if uncertainty is not None:
        from paretosim.uncertainty.as_json import as_csv as uncertain_as_csv

        return uncertain_as_csv(prediction, uncertainty)
    from paretosim.show.prediction_json import as_csv

    return as_csv(prediction)


def _plot(prediction: Prediction, uncertainty: Uncertainty | None, path: Path) -> None:
    from paretosim.show.figures import plot

    plot(prediction, path, uncertainty)
