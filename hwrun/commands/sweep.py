"""`hwrun sweep`: measure plans over links, modes and repeats, into a run folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError, RecordError
from hwrun.machine.steady import restart_if_unsteady
from hwrun.models.catalogue import MODEL_NAMES
from hwrun.records import MANIFEST_NAME, BackendName, ComputeDevice, Sink, Source, TcpState
from hwrun.sweeps.duration import estimate, parse_long_duration_s
from hwrun.sweeps.plan import SweepPlan
from paretosim.command_line import DONE
from paretosim.errors import BadInputError
from paretosim.mode import MODE_NAMES

# What a bare `hwrun sweep` (or `hwrun sweep --local`) does: small enough for a minute, large enough to show what a
# slow link changes.
QUICK = (
    "--model mobilenet_v2 --emulate rpi4b,rpi4b --speed 20 --splits 0,14,18,21"
    " --link unshaped --link 20mbit,20ms --mode paced --repeats 1 --batches-per-cell 8"
)
# What is measured where an option was not typed. The parser has none of these: that one was typed, though it says what
# would be measured anyway, means that the small sweep above is not meant, nor what a resumed run has.
_DEFAULTS = {
    "source": "stage1",
    "sink": "last",
    "repeats": 5,
    "batches_per_cell": 12,
    "queue_depth": 2,
    "threads": 1,
    "accuracy_images": 256,
    "seed": 0,
}
# Options that say how to run rather than what: they may differ when a sweep is resumed.
_NOT_CONDITIONS = (
    "local", "resume", "json", "dry_run", "output", "max_cell_time", "max_time", "link_tolerance", "subcommand",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun sweep`."""
    parser.epilog = f"Without any option: hwrun sweep {QUICK}"
    parser.add_argument("--local", action="store_true", help="workers on this machine (the default)")
    parser.add_argument(
        "--testbed", type=Path, metavar="FILE", help="on the hosts of this file, whose workers hwrun up has started"
    )
    parser.add_argument("--model", action="append", metavar="NAME", help=f"one of {', '.join(MODEL_NAMES)}; repeatable")
    parser.add_argument(
        "--allow-module",
        action="append",
        metavar="PKG.MOD:FACTORY",
        help="a traced network outside the catalogue that --model may name: its code runs here; repeatable",
    )
    parser.add_argument(
        "--plan", action="append", metavar="PLAN", help="a plan as paretosim plan prints it, of any stages; repeatable"
    )
    parser.add_argument(
        "--backend", action="append", choices=get_args(BackendName), help="how batches travel (default tcp); repeatable"
    )
    parser.add_argument(
        "--serial",
        nargs="?",
        const="only",
        choices=("only", "too"),
        help="workers that receive, compute and send in turn, as the paper's do; too: beside overlapped ones",
    )
    parser.add_argument(
        "--tcp-state",
        action="append",
        choices=get_args(TcpState),
        help="warm (default), or cold: every batch on a connection that carried nothing before; repeatable",
    )
    parser.add_argument("--hosts", metavar="A,B,…", help="where each stage runs (default: a host for each, in order)")
    parser.add_argument("--splits", metavar="LIST", help="all (default), interior, or numbers such as 14,18-21")
    parser.add_argument("--emulate", metavar="A,B", help="let the workers stand in for these devices, at their pace")
    parser.add_argument("--devices", metavar="A,B", help="names the workers are recorded under (x86-core,x86-core)")
    parser.add_argument(
        "--device",
        metavar="NAME[,…]",
        help=f"what stages compute on, of {', '.join(get_args(ComputeDevice))}: one for all, or one for each in turn"
        " (default: as each worker was started)",
    )
    parser.add_argument("--emulate-compute", action="store_true", help="emulated stages compute every batch as well")
    parser.add_argument("--speed", type=float, metavar="K", help="emulated devices are K times faster (default 1)")
    parser.add_argument(
        "--link",
        action="append",
        metavar="LINK[+LINK…]",
        help="unshaped (default), a preset, or RATE,DELAY[,jitter=TIME][,loss=SHARE%%][,limit=SIZE], of every hop, or"
        " one a hop joined by +; repeatable",
    )
    parser.add_argument("--bw", metavar="RATE", help="with --delay, one link: its rate each way, such as 5mbit")
    parser.add_argument("--delay", metavar="TIME", help="with --bw, its one-way delay, such as 200ms")
    parser.add_argument("--mode", action="append", choices=MODE_NAMES, help="paced (default); repeatable")
    parser.add_argument("--window", type=int, metavar="W", help="batches in flight in mode closed (default 4)")
    parser.add_argument("--burst", type=int, metavar="N", help="batches at once in mode burst (default 8)")
    parser.add_argument("--batch", type=int, metavar="B", help="images a batch of --model (default 8)")
    parser.add_argument("--source", choices=get_args(Source), help="where the inputs are (default stage1)")
    parser.add_argument("--sink", choices=get_args(Sink), help="device where results are wanted (default last)")
    parser.add_argument("--repeats", type=int, metavar="N", help="times each cell is measured (default 5)")
    parser.add_argument("--batches-per-cell", type=int, metavar="N", help="measured batches (default 12)")
    parser.add_argument("--queue-depth", type=int, metavar="N", help="batches waiting in a stage (default 2)")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads that compute, each worker (default 1); a testbed file says its own, and this is then the"
        " reference's",
    )
    parser.add_argument(
        "--link-tolerance",
        metavar="SHARE%",
        help="refuse cells whose link, as probed, misses its rate or round trip by more (default 5%%)",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="images to send: of CIFAR-10, or of a folder (default: synthetic, by the seed)"
    )
    parser.add_argument(
        "--weights",
        action="append",
        metavar="MODEL=FILE",
        help="safetensors with a model's state dict, whose head says the number of classes (default: random);"
        " repeatable",
    )
    parser.add_argument(
        "--accuracy-images",
        type=int,
        metavar="N",
        help="images that the unsplit model's top-1 is of, at most, where images have labels (default 256)",
    )
    parser.add_argument(
        "--max-cell-time",
        metavar="TIME",
        help="skip cells whose batches take longer at least, and give up those that take three times as long (default"
        " 60s)",
    )
    parser.add_argument(
        "--max-time", metavar="TIME", help="start no cell after this time; the rest is left for --resume (such as 8h)"
    )
    parser.add_argument("--seed", type=int, help="of weights, inputs and the order of cells (default 0)")
    parser.add_argument(
        "--profiles", action="append", type=Path, metavar="DIR", help="searched before the shipped ones"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="run folder (runs/<time>-<model>)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the sweep in this folder")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the cells and an estimate of their duration, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run or resume a sweep."""
    arguments, chosen = meant(arguments)
    plan = _planned(arguments)
    max_time_s = None if arguments.max_time is None else parse_long_duration_s(arguments.max_time, "--max-time")
    if arguments.dry_run:
        _say(chosen)
        return _dry_run(plan, frozenset() if arguments.resume is None else _done_in(arguments.resume, plan))
    if arguments.testbed is None:
        _permit_shaping(plan)
    # The reference output is computed here, under the same conditions as in the workers; torch loads only now.
    restart_if_unsteady(arguments.threads)
    _say(chosen)  # only now, or a restarted command would say it twice
    for remark in dict.fromkeys(site.remark(plan.cells) for site in plan.sites.values()):
        _say(remark)
    from hwrun.sweeps.display import run_and_show

    now = datetime.now(UTC)
    models = "+".join(plan.models)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{models}"
    folder = arguments.resume or arguments.output or Path("runs") / run_id
    return run_and_show(
        plan,
        folder,
        command_line=("hwrun", "sweep", *spelled(arguments)),
        run_id=run_id,
        created_utc=now.isoformat(timespec="seconds"),
        resume=arguments.resume is not None,
        as_json=arguments.json,
        max_time_s=max_time_s,
    )


def _planned(arguments: argparse.Namespace) -> SweepPlan:
    try:
        return sweep_plan(arguments)
    except (BadUsageError, BadInputError) as error:
        if arguments.resume is None:
            raise
        # Perhaps of an option that nobody typed now, whose path begins where that was done then.
        recorded = shlex.join(_recorded_options(arguments.resume))
        raise BadUsageError(
            f"--resume {arguments.resume}: {error}. It was started with {recorded}: resume it where that was typed, or"
            " type all of it, with what is elsewhere now"
        ) from error


def _say(line: str) -> None:
    if line:
        print(line, file=sys.stderr)


def parsed(options: Sequence[str]) -> argparse.Namespace:
    """These options of `hwrun sweep`, every other one at its default."""
    parser = argparse.ArgumentParser(prog="hwrun sweep", allow_abbrev=False)
    configure(parser)
    return _with_defaults(parser.parse_args(list(options)))


def meant(typed: argparse.Namespace) -> tuple[argparse.Namespace, str]:
    """What the options that were typed (others are None or False) ask for, and what is to be said of it, if anything.

    Without any that says what is measured, that is what the folder to resume has, or a small sweep.

    Raises
    ------
    BadUsageError : there is nothing to resume.
    """
    recorded = None if typed.resume is None else _recorded_options(typed.resume)
    if any(value is not None and value is not False for value in conditions_of(typed).values()):
        return _with_defaults(typed), ""  # beside --resume they are compared with what the folder has
    if recorded is not None:
        return _with_run_options(parsed(recorded), typed), ""
    return _with_run_options(parsed(shlex.split(QUICK)), typed), f"hwrun sweep: no options, so: hwrun sweep {QUICK}"


def conditions_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The options that say what is measured."""
    return {name: value for name, value in vars(arguments).items() if name not in _NOT_CONDITIONS}


def _with_defaults(typed: argparse.Namespace) -> argparse.Namespace:
    untyped = {name: value for name, value in _DEFAULTS.items() if getattr(typed, name) is None}
    return argparse.Namespace(**vars(typed) | untyped)


def spelled(arguments: argparse.Namespace) -> list[str]:
    """Options that give the same conditions again; those at their default are left out, but not all."""
    defaults = vars(parsed([]))
    options: list[str] = []
    kept = {name: getattr(arguments, name) for name in ("max_cell_time", "link_tolerance")}
    for name, value in (conditions_of(arguments) | kept).items():
        if name not in defaults or value == defaults[name]:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        else:
            for one in value if isinstance(value, list) else [value]:
                options += [option, str(one)]
    return options or ["--repeats", str(arguments.repeats)]  # none at all would mean the small sweep


def _with_run_options(conditions: argparse.Namespace, given: argparse.Namespace) -> argparse.Namespace:
    for name in _NOT_CONDITIONS:
        value = getattr(given, name, None)
        if value is not None or not hasattr(conditions, name):
            setattr(conditions, name, value)
    return conditions


def _recorded_options(folder: Path) -> tuple[str, ...]:
    """The options of the run in a folder that is to be resumed."""
    from hwrun.records import read_run

    try:
        return read_run(folder).manifest.command_line[2:]
    except RecordError as error:
        begun = (folder / MANIFEST_NAME).exists()
        remedy = "" if begun else "; one that ended before its first cell wrote nothing to go on with: start it again"
        raise BadUsageError(f"--resume: {error}{remedy}") from error


def _done_in(folder: Path, plan: SweepPlan) -> frozenset[str]:
    """The cells that are done in the folder of a run to resume.

    Raises
    ------
    BadUsageError : its plan is another; whether hosts and workers are alike shows only once they are there.
    """
    from hwrun.records import read_run
    from hwrun.sweeps.manifest import manifest_of
    from hwrun.sweeps.resuming import refuse_unlike

    run = read_run(folder)
    now = manifest_of(
        plan, command_line=(), run_id="", created_utc="", testbed=run.manifest.testbed, workers=(), qdisc=""
    )  # fmt: skip
    refuse_unlike(run.manifest, now, folder)
    return frozenset(cell.cell_id for cell in run.latest_cells() if cell.status == "done")


def _dry_run(plan: SweepPlan, done: Set[str]) -> int:
    left = [cell for cell in plan.cells if cell.cell_id not in done]
    measured = []
    for cell in left:
        reason = plan.skip_reason(cell)
        print(f"{cell}{f'  skipped: {reason[0]}; {reason[1]}' if reason else ''}")
        if reason is None:
            measured.append(cell)
    if len(left) < len(plan.cells):
        print(f"{len(plan.cells) - len(left)} of {len(plan.cells)} cells are done")
    print(estimate(plan, measured))
    return DONE


def _permit_shaping(plan: SweepPlan) -> None:
    """Go on inside a user namespace where shaping is permitted only there."""
    from hwrun.local.namespaces import availability, reexec_in_user_namespace

    if any(cell.is_shaped and cell.plan.backend != "memory" for cell in plan.cells) and availability().needs_reexec:
        reexec_in_user_namespace(sys.orig_argv[1:])
