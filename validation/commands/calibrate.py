"""`python -m validation calibrate RUN… -o FILE`: fit what devices, messages and a backend cost to measured runs."""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from hwrun.records import CELLS_NAME, PROBES_NAME, Cell, Run, content_of, read_run
from paretosim import __version__
from paretosim.calibration import ANY_DEVICE, BACKENDS, NEUTRAL, Backend, Calibration, DeviceTerms
from paretosim.command_line import DONE
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore, write_profile
from paretosim.whole_file import require_writable
from validation.errors import MissingExtraError
from validation.fitting.fit import DEFAULT_CONFIDENCE, Fitted, fit
from validation.fitting.observations import cases_of, observe
from validation.join import join
from validation.probed import probed_copying
from validation.report.fit_text import cautions, show
from validation.scores import Scores, score

# So fast that copying is none of it: what unshaped links within one machine are then left with is the fit's to say.
_UNHINDERED_BYTES_PER_S = 1e13


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation calibrate`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that hwrun sweep wrote")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="calibration to write, NAME.json")
    parser.add_argument("--backend", choices=BACKENDS, help="of the cells to fit; needed where runs hold several")
    parser.add_argument("--title", default="", help="what it is, in a line")
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument(
        "--level", type=float, default=DEFAULT_CONFIDENCE, metavar="P",
        help=f"how probably intervals hold the true value (default {DEFAULT_CONFIDENCE})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of starts and of the bootstrap (default 0)")
    parser.add_argument("--json", action="store_true", help="print the fit as one JSON object")


def run(arguments: Namespace) -> int:
    """Join, fit, write and print."""
    if not 0 < arguments.level < 1:
        raise BadInputError(f"--level: got {arguments.level}, expected a probability between 0 and 1, such as 0.9")
    if arguments.output is not None and arguments.output.suffix != ".json":
        raise BadInputError(f"-o: got {arguments.output}, expected a file NAME.json, which --calibration can read")
    if arguments.output is not None:
        require_writable(arguments.output.parent)  # before a fit, which may take minutes
    store = ProfileStore(arguments.profiles)
    runs = [read_run(folder) for folder in arguments.runs]
    backend = the_backend(runs, arguments.backend)
    name = arguments.output.stem if arguments.output is not None else "fitted"
    fitted = calibrate(runs, store, backend, name=name, confidence=arguments.level, seed=arguments.seed)
    calibration = msgspec.structs.replace(
        fitted.calibration,
        title=arguments.title,
        fitted_on=tuple(run.manifest.run_id for run in runs),
        hashes={run.manifest.run_id: hash_of(run) for run in runs},
    )
    scores = before_and_after(runs, store, calibration)
    if arguments.output is not None:
        write_profile(arguments.output, calibration)
    if arguments.json:
        print(json.dumps(_as_object(fitted, calibration, scores), indent=1))
    else:
        show(fitted, scores, calibration)
    if arguments.output is not None:
        print(f"calibration: {arguments.output}", file=sys.stderr if arguments.json else sys.stdout)
    return DONE


def calibrate(
    runs: Sequence[Run], store: ProfileStore, backend: Backend, *, name: str, confidence: float, seed: int
) -> Fitted:
    """Fit a calibration to the cells of that backend.

    Raises
    ------
    UnlikeConditionsError : runs differ in what has to be alike.
    FitError : there is too little to fit.
    """
    try:
        import scipy  # noqa: F401 - an extra's
    except ImportError as error:
        raise MissingExtraError(
            "calibrate: scipy is not installed, expected the extra that fits; pip install 'paretosim[report]'"
        ) from error
    chosen = [_of_backend(run, backend) for run in runs]
    joined = join(chosen, store, {backend: uncalibrated(backend)})
    return fit(
        observe(cases_of(joined)), probed_copying(chosen), name=name, confidence=confidence, seed=seed
    )  # fmt: skip


def uncalibrated(backend: Backend) -> Calibration:
    """Of a backend of which nothing is known, and within one machine not even that copying takes time."""
    unhindered = DeviceTerms(copying_bytes_per_s=_UNHINDERED_BYTES_PER_S)
    return msgspec.structs.replace(NEUTRAL, name="uncalibrated", backend=backend, devices={ANY_DEVICE: unhindered})


def the_backend(runs: Sequence[Run], asked: Backend | None) -> Backend:
    """The backend of all done cells, or the one asked for.

    Raises
    ------
    UnlikeConditionsError : several, and none was asked for.
    """
    found = sorted(
        {Plan.parse(cell.plan).backend for run in runs for cell in run.latest_cells() if cell.status == "done"}
    )
    if asked is not None and found and asked not in found:
        raise BadInputError(
            f"--backend: got {asked}, expected {' or '.join(found)}: the runs hold no done cell of another"
        )
    for backend in BACKENDS:
        if asked == backend or (asked is None and found == [backend]):
            return backend
    if not found:
        raise BadInputError("calibrate: the runs hold no done cell; resume the sweep first")
    raise UnlikeConditionsError(
        f"backend: got cells of {' and '.join(found)}; what is fitted over both is true of neither: pick one with"
        " --backend"
    )


def _of_backend(run: Run, backend: Backend) -> Run:
    def is_of(cell: Cell) -> bool:
        return Plan.parse(cell.plan).backend == backend

    return msgspec.structs.replace(run, cells=tuple(filter(is_of, run.cells)))


def before_and_after(
    runs: Sequence[Run], store: ProfileStore, calibration: Calibration
) -> tuple[Scores | None, Scores]:
    """Scores of the very cells that were fitted, without the calibration (RPC cannot be predicted so) and with it."""
    own = [_of_backend(run, calibration.backend) for run in runs]
    with_it = join(own, store, {calibration.backend: calibration})
    if calibration.backend == "rpc":
        return None, score(with_it.comparisons)
    return score(join(own, store).comparisons), score(with_it.comparisons)


def hash_of(run: Run) -> str:
    """Of what was measured: the lines of cells and probes of the folder, compressed or not."""
    found = hashlib.sha256()
    for name in (CELLS_NAME, PROBES_NAME):
        found.update(content_of(run.path / name))
    return found.hexdigest()[:16]


def _as_object(fitted: Fitted, calibration: Calibration, scores: tuple[Scores | None, Scores]) -> dict[str, Any]:
    before, after = scores
    return {
        "schema_version": 1,
        "versions": {"paretosim": __version__},
        "calibration": msgspec.to_builtins(calibration),
        "parameters": [asdict(parameter) for parameter in fitted.parameters],
        "phases": [asdict(phase) for phase in fitted.phases],
        "starts": fitted.starts,
        "agreeing": fitted.agreeing,
        "cautions": cautions(calibration),
        "bootstrap_of": fitted.drawn,
        "probed": None if fitted.probed is None else asdict(fitted.probed),
        "fitted_cells": {"before": None if before is None else asdict(before), "after": asdict(after)},
    }
