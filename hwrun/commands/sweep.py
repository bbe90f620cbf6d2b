"""`hwrun sweep`: measure plans over links, modes and repeats, into a run folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from hwrun.errors import BadUsageError, RecordError
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry
from hwrun.models.model_source import reference_of
from hwrun.steady import restart_if_unsteady, usable_cores
from hwrun.sweep_cells import Sink, Source, parse_asked_link, parse_splits, plan_cells
from hwrun.sweep_plan import BenchSettings, SweepPlan, emulated_blocks
from hwrun.wire.control import MAX_LIMIT_BYTES, MAX_QUEUE_DEPTH
from paretosim.block import Model
from paretosim.command_line import DONE
from paretosim.errors import BadInputError
from paretosim.mode import MODE_NAMES, Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from paretosim.units import parse_duration_s

# What a bare `hwrun sweep` (or `hwrun sweep --local`) does: small enough for a minute, large enough to show what a
# slow link changes.
QUICK = (
    "--model mobilenet_v2 --emulate rpi4b,rpi4b --speed 20 --splits 0,14,18,21"
    " --link unshaped --link 20mbit,20ms --mode paced --repeats 1 --batches-per-cell 8"
)
# Options that say how to run rather than what: they may differ when a sweep is resumed.
_NOT_CONDITIONS = ("local", "resume", "json", "dry_run", "output", "max_cell_time", "subcommand")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun sweep`."""
    parser.epilog = f"Without any option: hwrun sweep {QUICK}"
    parser.add_argument("--local", action="store_true", help="workers on this machine (the default, and all so far)")
    parser.add_argument("--model", action="append", metavar="NAME", help=f"one of {', '.join(MODEL_NAMES)}; repeatable")
    parser.add_argument(
        "--allow-module",
        action="append",
        metavar="PKG.MOD:FACTORY",
        help="a traced network outside the catalogue that --model may name: its code runs here; repeatable",
    )
    parser.add_argument("--splits", metavar="LIST", help="all (default), interior, or numbers such as 14,18-21")
    parser.add_argument("--emulate", metavar="A,B", help="let the workers stand in for these devices, at their pace")
    parser.add_argument("--devices", metavar="A,B", help="names the workers are recorded under (x86-core,x86-core)")
    parser.add_argument("--emulate-compute", action="store_true", help="emulated stages compute every batch as well")
    parser.add_argument("--speed", type=float, metavar="K", help="emulated devices are K times faster (default 1)")
    parser.add_argument(
        "--link",
        action="append",
        metavar="LINK",
        help="unshaped (default), a preset, or RATE,DELAY[,jitter=TIME][,loss=SHARE%%][,limit=SIZE]; repeatable",
    )
    parser.add_argument("--bw", metavar="RATE", help="with --delay, one link: its rate each way, such as 5mbit")
    parser.add_argument("--delay", metavar="TIME", help="with --bw, its one-way delay, such as 200ms")
    parser.add_argument("--mode", action="append", choices=MODE_NAMES, help="paced (default); repeatable")
    parser.add_argument("--window", type=int, metavar="W", help="batches in flight in mode closed (default 4)")
    parser.add_argument("--burst", type=int, metavar="N", help="batches at once in mode burst (default 8)")
    parser.add_argument("--batch", type=int, default=8, metavar="B", help="images a batch (default 8)")
    parser.add_argument("--source", choices=get_args(Source), default="stage1", help="where the inputs are")
    parser.add_argument("--sink", choices=get_args(Sink), default="last", help="device where results are wanted")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="times each cell is measured (default 5)")
    parser.add_argument("--batches-per-cell", type=int, default=12, metavar="N", help="measured batches (default 12)")
    parser.add_argument(
        "--queue-depth", type=int, default=2, metavar="N", help="batches waiting in a stage (default 2)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that compute, each worker")
    parser.add_argument("--max-cell-time", metavar="TIME", help="skip cells that take longer at least (default 60s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, inputs and the order of cells")
    parser.add_argument(
        "--profiles", action="append", type=Path, metavar="DIR", help="searched before the shipped ones"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="run folder (runs/<time>-<model>)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the sweep in this folder")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and stop")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run or resume a sweep."""
    defaults = parsed([])
    chosen = ""
    if arguments.resume is not None:
        arguments = resumed(arguments, defaults)
    elif all(value == getattr(defaults, name, None) for name, value in conditions_of(arguments).items()):
        arguments = _with_run_options(parsed(shlex.split(QUICK)), arguments)
        chosen = f"hwrun sweep: no options, so: hwrun sweep {QUICK}"
    plan = sweep_plan(arguments)
    if arguments.dry_run:
        _say(chosen)
        return _dry_run(plan)
    _permit_shaping(plan)
    # The reference output is computed here, under the same conditions as in the workers; torch loads only now.
    restart_if_unsteady(arguments.threads)
    _say(chosen)  # only now, or a restarted command would say it twice
    from hwrun.sweep_display import run_and_show

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
    )


def _say(line: str) -> None:
    if line:
        print(line, file=sys.stderr)


def parsed(options: Sequence[str]) -> argparse.Namespace:
    """These options of `hwrun sweep`, parsed."""
    parser = argparse.ArgumentParser(prog="hwrun sweep", allow_abbrev=False)
    configure(parser)
    return parser.parse_args(list(options))


def conditions_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The options that say what is measured."""
    return {name: value for name, value in vars(arguments).items() if name not in _NOT_CONDITIONS}


def spelled(arguments: argparse.Namespace) -> list[str]:
    """Options that give the same conditions again, those at their default left out."""
    defaults = vars(parsed([]))
    options: list[str] = []
    for name, value in {**conditions_of(arguments), "max_cell_time": arguments.max_cell_time}.items():
        if name not in defaults or value == defaults[name]:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        else:
            for one in value if isinstance(value, list) else [value]:
                options += [option, str(one)]
    return options


def _with_run_options(conditions: argparse.Namespace, given: argparse.Namespace) -> argparse.Namespace:
    for name in _NOT_CONDITIONS:
        value = getattr(given, name, None)
        if value is not None or not hasattr(conditions, name):
            setattr(conditions, name, value)
    return conditions


def resumed(arguments: argparse.Namespace, defaults: argparse.Namespace) -> argparse.Namespace:
    """The conditions of the folder to resume, unless others were given: those are then compared with it."""
    from hwrun.records import read_run

    try:
        recorded = read_run(arguments.resume).manifest.command_line
    except RecordError as error:
        raise BadUsageError(f"--resume: {error}") from error
    if any(value != getattr(defaults, name, None) for name, value in conditions_of(arguments).items()):
        return arguments
    return _with_run_options(parsed(recorded[2:]), arguments)


def sweep_plan(arguments: argparse.Namespace) -> SweepPlan:
    """What these options ask for.

    Raises
    ------
    BadUsageError, BadInputError : options that cannot be, models, devices or links that are not known.
    """
    for name, least in (("batch", 1), ("repeats", 1), ("batches_per_cell", 2), ("queue_depth", 1), ("threads", 1)):
        if getattr(arguments, name) < least:
            raise BadUsageError(f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, expected {least} or more")
    for name, most, what in (
        ("queue_depth", MAX_QUEUE_DEPTH, "the most that a worker agrees to"),
        ("threads", len(usable_cores()), "the number of cores: more would only wait for one another"),
    ):
        if getattr(arguments, name) > most:
            raise BadUsageError(f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, at most {most}, {what}")
    store = ProfileStore(arguments.profiles or ())
    emulated = arguments.emulate is not None
    if emulated and arguments.devices is not None:
        raise BadUsageError("--devices: got it with --emulate, which names the devices already; leave one out")
    if not emulated and (arguments.speed is not None or arguments.emulate_compute):
        raise BadUsageError("--speed, --emulate-compute: only emulated devices have a pace; add --emulate A,B")
    speed = 1.0 if arguments.speed is None else arguments.speed
    if not 0 < speed < float("inf"):
        raise BadUsageError(f"--speed: got {speed}, expected a number above zero")
    named = arguments.emulate if emulated else arguments.devices
    devices = _two_devices("x86-core,x86-core" if named is None else named)
    names = list(dict.fromkeys(arguments.model or ["mobilenet_v2"]))
    allowed = tuple(dict.fromkeys(arguments.allow_module or ()))
    models = {name: _model(name, store, allowed) for name in names}
    for model in models.values():
        if (message_bytes := max(model.cut_bytes()) * arguments.batch) > MAX_LIMIT_BYTES:
            raise BadUsageError(
                f"--batch: got {arguments.batch}, with which {model.name} has activations of {message_bytes} bytes;"
                f" expected {MAX_LIMIT_BYTES // max(model.cut_bytes())} or fewer, so that they fit in one message"
            )
    block_s, timings = (
        emulated_blocks(store, devices, list(models.values()), arguments.batch, speed) if emulated else ({}, {})
    )
    splits = "all" if arguments.splits is None else arguments.splits
    cells = plan_cells(
        models=[(model, parse_splits(splits, len(model.blocks))) for model in models.values()],
        devices=devices,
        batch=arguments.batch,
        links=[parse_asked_link(text, store) for text in _link_texts(arguments)],
        modes=_modes(arguments),
        source=arguments.source,
        sink=arguments.sink,
        repeats=arguments.repeats,
        seed=arguments.seed,
    )
    max_cell_time_s = parse_duration_s(
        "60s" if arguments.max_cell_time is None else arguments.max_cell_time, "--max-cell-time"
    )
    settings = BenchSettings(
        emulated=emulated,
        compute_each=arguments.emulate_compute,
        speed=speed,
        batches=arguments.batches_per_cell,
        seed=arguments.seed,
        queue_depth=arguments.queue_depth,
        max_cell_time_s=max_cell_time_s,
    )
    return SweepPlan(
        cells=cells,
        models=models,
        settings=settings,
        threads=arguments.threads,
        timings=timings,
        block_s=block_s,
        allowed=allowed,
    )


def _model(name: str, store: ProfileStore, allowed: Sequence[str]) -> Model:
    """The profile of a model that can be built here: of the catalogue, or a network that the user allows."""
    if name in MODEL_NAMES or name not in store.names("models"):
        name = catalogue_entry(name).name
    model = store.model(name)
    reference_of(model, allowed)
    return model


def _two_devices(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise BadUsageError(f"devices: got {text!r}, expected two names such as rpi4b,rpi4b")
    devices = names[0], names[1]
    try:  # a record names its devices by its plan, which has to parse again
        Plan.parse(str(Plan.two_devices("model", 1, 1, devices)))
    except BadInputError as error:
        raise BadUsageError(f"devices: got {text!r}, expected names without white space or any of []+@/") from error
    return devices


def _link_texts(arguments: argparse.Namespace) -> list[str]:
    if arguments.bw is None and arguments.delay is None:
        return list(dict.fromkeys(arguments.link or ["unshaped"]))
    if arguments.link is not None:
        raise BadUsageError("--bw, --delay: got them with --link; write the link as --link RATE,DELAY instead")
    if arguments.bw is None:
        raise BadUsageError("--delay: got no --bw with it; the testbed's relay needs a rate, such as --bw 1gbit")
    return [f"{arguments.bw},{arguments.delay or '0s'}"]


def _modes(arguments: argparse.Namespace) -> list[Mode]:
    names = list(dict.fromkeys(arguments.mode or ["paced"]))
    for option, name in (("window", "closed"), ("burst", "burst")):
        if getattr(arguments, option) is not None and name not in names:
            raise BadUsageError(f"--{option}: only mode {name} has it; add --mode {name}")
    return [
        Mode.named(
            name,
            window=arguments.window if name == "closed" else None,
            batches=arguments.burst if name == "burst" else None,
        )
        for name in names
    ]


def _dry_run(plan: SweepPlan) -> int:
    for cell in plan.cells:
        reason = plan.skip_reason(cell)
        print(f"{cell}{f'  skipped: {reason[0]}' if reason else ''}")
    return DONE


def _permit_shaping(plan: SweepPlan) -> None:
    """Go on inside a user namespace where shaping is permitted only there."""
    from hwrun.local.namespaces import availability, reexec_in_user_namespace

    if any(cell.link is not None for cell in plan.cells) and availability().needs_reexec:
        reexec_in_user_namespace(sys.orig_argv[1:])
