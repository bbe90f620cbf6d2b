"""What the options of `hwrun sweep` ask for: plans, links, modes and where they are measured, as one value."""

from __future__ import annotations

import argparse
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from hwrun.data.opening import open_images
from hwrun.errors import BadUsageError
from hwrun.local.memory_site import MemorySite
from hwrun.local.site import LocalSite
from hwrun.machine.steady import usable_cores
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry
from hwrun.models.model_source import reference_of
from hwrun.planned_cell import PlannedCell
from hwrun.probing.link_check import DEFAULT_TOLERANCE
from hwrun.records import BackendName, ComputeDevice, TcpState, WorkerKind
from hwrun.remote.lab_file import PLAIN_NAME, Lab, read_lab
from hwrun.remote.site import RemoteSite
from hwrun.sweeps.cells import parse_asked_links, parse_splits, plan_cells
from hwrun.sweeps.plan import BenchSettings, SweepPlan, emulated_blocks, known_blocks
from hwrun.testbed import Site
from hwrun.wire.control import MAX_LIMIT_BYTES, MAX_QUEUE_DEPTH, MAX_SEED
from paretosim.block import Model
from paretosim.errors import BadInputError
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from paretosim.units import parse_duration_s, parse_fraction

# What --serial says: absent, alone, and `too`.
_WORKERS: dict[str | None, tuple[WorkerKind, ...]] = {
    None: ("overlapped",),
    "only": ("serial",),
    "too": ("overlapped", "serial"),
}


# What this machine's cores are taken for where nothing else is said, by the name of a shipped profile.
_HOST_DEVICE = "x86-core"
# Of models that are split, as in the paper.
_BATCH = 8


def sweep_plan(arguments: argparse.Namespace) -> SweepPlan:
    """What these options ask for.

    Raises
    ------
    BadUsageError, BadInputError : options that cannot be, models, devices or links that are not known.
    """
    for name, least in (
        ("batch", 1),
        ("repeats", 1),
        ("batches_per_cell", 2),
        ("queue_depth", 1),
        ("threads", 1),
        ("accuracy_images", 1),
    ):
        if (value := getattr(arguments, name)) is not None and value < least:
            raise BadUsageError(f"--{name.replace('_', '-')}: got {value}, expected {least} or more")
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
    if not 0 <= arguments.seed < MAX_SEED:
        raise BadUsageError(f"--seed: got {arguments.seed}, expected a whole number of 0 or more, below 2^63")
    if not 0 < speed < float("inf"):
        raise BadUsageError(f"--speed: got {speed}, expected a number above zero")
    if arguments.testbed is not None and arguments.local:
        raise BadUsageError("--local: got it with --testbed, expected one of them")
    lab = None if arguments.testbed is None else read_lab(arguments.testbed)
    hosts = None if arguments.hosts is None else _host_names(arguments.hosts)
    known_hosts = tuple(string.ascii_uppercase) if lab is None else tuple(host.name for host in lab.hosts)
    allowed = tuple(dict.fromkeys(arguments.allow_module or ()))
    given = [Plan.parse(text) for text in dict.fromkeys(arguments.plan or ())]
    asked = list(dict.fromkeys(arguments.model or ([] if given else ["mobilenet_v2"])))
    found = {name: _model(name, store, allowed) for name in (*asked, *(plan.model for plan in given))}
    models = {model.name: model for model in found.values()}
    own_devices = (
        f"{_HOST_DEVICE},{_HOST_DEVICE}"
        if lab is None
        else ",".join(lab.host(n).device for n in hosts or known_hosts[:2])
    )
    plans = [*_split_plans(arguments, [found[name] for name in asked], own_devices), *given]
    unlike = [plan for plan in given if arguments.batch not in (None, plan.batch)]
    if unlike and not asked:
        raise BadUsageError(
            f"--batch: got {arguments.batch}, which is of --model alone, and {unlike[0]} has {unlike[0].batch}; write"
            f" /b{arguments.batch}/ in the plan, or leave --batch out"
        )
    for plan in plans:
        _check_plan(plan, found[plan.model], arguments.emulate)
    block_s, timings = (
        emulated_blocks(store, plans, models, speed) if emulated else (known_blocks(store, plans, models), {})
    )
    given_backends = [plan.backend for plan in given]
    if arguments.backend is None and len(set(given_backends)) > 1:
        raise BadUsageError(
            f"--plan: got plans of backends {', '.join(dict.fromkeys(given_backends))}, expected one; name those that"
            " every plan is to be measured with by --backend"
        )
    cells = plan_cells(
        plans=plans,
        links=[parse_asked_links(text, store) for text in _link_texts(arguments)],
        modes=_modes(arguments, given),
        source=arguments.source,
        sink=arguments.sink,
        repeats=arguments.repeats,
        seed=arguments.seed,
        hosts=hosts,
        known_hosts=known_hosts,
        workers=_WORKERS[arguments.serial],
        tcp_states=_tcp_states(arguments),
        backends=list(dict.fromkeys(arguments.backend or given_backends or ["tcp"])),
    )
    if lab is not None and not emulated:
        _require_own_devices(cells, lab)
    images = None if arguments.data is None else open_images(arguments.data)
    if images is not None:
        images.chosen(max(plan.batch for plan in plans), arguments.seed)  # raises where it holds too few
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
        link_tolerance=DEFAULT_TOLERANCE
        if arguments.link_tolerance is None
        else parse_fraction(arguments.link_tolerance, "--link-tolerance"),
    )
    return SweepPlan(
        cells=cells,
        sites=_sites(arguments, cells, lab, allowed),
        models=models,
        settings=settings,
        threads=arguments.threads,
        timings=timings,
        block_s=block_s,
        allowed=allowed,
        images=images,
        weights=_weights(arguments, models),
        accuracy_images=arguments.accuracy_images,
        devices=_compute_devices(arguments, plans),
        host_block_s=_host_blocks(store, plans, models),
    )


def _host_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise BadUsageError(
                f"--hosts: got {name!r} in {text!r}, expected up to 63 letters, digits, _, . and -, the first no sign"
            )
    return names


def _require_own_devices(cells: Sequence[PlannedCell], lab: Lab) -> None:
    """Refuse to record what a host computes under the name of another device than the testbed file says it is."""
    for plan, hosts in dict.fromkeys((cell.plan, cell.hosts) for cell in cells):
        for stage, name in zip(plan.stages, hosts, strict=True):
            if stage.device != (own := lab.host(name).device):
                raise BadUsageError(
                    f"--testbed: plan {plan} has a stage of {stage.device} on host {name}, expected one of {own}, which"
                    f" is its device in {lab.name}; say with --hosts where each stage runs, or name {own} there"
                )


def _host_blocks(
    store: ProfileStore, plans: Sequence[Plan], models: Mapping[str, Model]
) -> dict[tuple[str, int], tuple[float, ...]]:
    """What each block takes on a core such as this machine's, by the shipped profile of one."""
    here = [
        Plan.two_devices(plan.model, plan.stages[-1].last, 0, (_HOST_DEVICE, _HOST_DEVICE), batch=plan.batch)
        for plan in plans
    ]
    known = known_blocks(store, list(dict.fromkeys(here)), models)
    return {(model, batch): blocks_s for (_, model, batch), blocks_s in known.items()}


def _compute_devices(arguments: argparse.Namespace, plans: Sequence[Plan]) -> tuple[ComputeDevice, ...]:
    """What stages are to compute on: one for all, or one for each of as many as every plan has."""
    if arguments.device is None:
        return ()
    if arguments.emulate is not None:
        raise BadUsageError("--device: emulated stages stand in for a device and use none; leave it, or --emulate")
    names = [name.strip() for name in arguments.device.split(",")]
    known = get_args(ComputeDevice)
    if unknown := [name for name in names if name not in known]:
        raise BadUsageError(f"--device: got {unknown[0]!r}, expected one of {', '.join(known)}")
    counts = {len(plan.stages) for plan in plans}
    if len(names) > 1 and counts != {len(names)}:
        raise BadUsageError(
            f"--device: got {len(names)} names, expected one for all stages, or"
            f" {' or '.join(map(str, sorted(counts)))}, one for each"
        )
    return tuple(msgspec.convert(name, ComputeDevice) for name in names)


def _weights(arguments: argparse.Namespace, models: Mapping[str, Model]) -> dict[str, Path]:
    """Files of weights by model; each of a model that is measured, and there."""
    found: dict[str, Path] = {}
    for text in arguments.weights or ():
        name, equals, file = text.partition("=")
        if not equals or name not in models or name not in MODEL_NAMES or name in found:
            raise BadUsageError(
                f"--weights: got {text!r}, expected MODEL=FILE of each model once, of {', '.join(models)}"
            )
        if not Path(file).is_file():
            raise BadUsageError(f"--weights: got {text!r}, expected a safetensors file; {file} is none that is there")
        found[name] = Path(file)
    return found


def _model(name: str, store: ProfileStore, allowed: Sequence[str]) -> Model:
    """The profile of a model that can be built here: of the catalogue, or a network that the user allows."""
    if name in MODEL_NAMES or name not in store.names("models"):
        name = catalogue_entry(name).name
    model = store.model(name)
    reference_of(model, allowed)
    return model


def _sites(
    arguments: argparse.Namespace, cells: Sequence[PlannedCell], lab: Lab | None, allowed: Sequence[str]
) -> dict[str, Site]:
    """Where each backend's cells are measured: memory's in this process, all others on one testbed."""
    hosts = tuple(sorted({host for cell in cells for host in cell.hosts}))
    sites: dict[str, Site] = {}
    for backend in dict.fromkeys(cell.plan.backend for cell in cells):
        if backend == "memory" and lab is not None:
            raise BadUsageError(
                "--backend: got memory with --testbed, but its stages share this process and would pass for the file's"
                " hosts; leave --testbed out, or give tcp or rpc"
            )
        if backend == "memory":
            sites[backend] = MemorySite(hosts=hosts, threads=arguments.threads, allowed=allowed)
            continue
        others = [site for known, site in sites.items() if known != "memory"]
        sites[backend] = others[0] if others else _connected_site(arguments, hosts, lab, allowed)
    return sites


def _connected_site(
    arguments: argparse.Namespace, hosts: tuple[str, ...], lab: Lab | None, allowed: Sequence[str]
) -> Site:
    if lab is not None:
        return RemoteSite(lab, hosts)
    return LocalSite(
        hosts=hosts,
        threads=arguments.threads,
        computing=arguments.emulate is None or arguments.emulate_compute,
        allowed=allowed,
        seed=arguments.seed,
    )


def _split_plans(arguments: argparse.Namespace, models: Sequence[Model], own_devices: str) -> list[Plan]:
    """The plans of every split of these models over the two devices that are named, or over the hosts' own."""
    if not models:
        if arguments.splits is not None or arguments.devices is not None:
            raise BadUsageError(
                "--splits, --devices: only models are split; --plan says its own. Add --model, or leave"
            )
        return []
    named = arguments.devices if arguments.emulate is None else arguments.emulate
    devices = _two_devices(own_devices if named is None else named)
    splits = "all" if arguments.splits is None else arguments.splits
    batch = _BATCH if arguments.batch is None else arguments.batch
    return [
        Plan.two_devices(model.name, len(model.blocks), split, devices, batch=batch)
        for model in models
        for split in parse_splits(splits, len(model.blocks))
    ]


def _check_plan(plan: Plan, model: Model, emulate: str | None) -> None:
    """Refuse a plan of another model's blocks, of a device that is not emulated, or of messages that are too long."""
    if (last := plan.stages[-1].last) != len(model.blocks):
        raise BadUsageError(f"--plan: {plan} ends at block {last}, expected {len(model.blocks)}, as {model.name} has")
    if plan.backend not in get_args(BackendName):
        raise BadUsageError(f"--plan: {plan} names {plan.backend}, expected one of {', '.join(get_args(BackendName))}")
    if plan.wire_dtype != "f32":
        raise BadUsageError(f"--plan: {plan} sends {plan.wire_dtype}, expected f32: activations travel as they are")
    emulated = None if emulate is None else {name.strip() for name in emulate.split(",")}
    if emulated is not None and (others := {stage.device for stage in plan.stages} - emulated):
        raise BadUsageError(
            f"--plan: {plan} has {', '.join(sorted(others))}, expected devices of --emulate {emulate}; name them there"
        )
    if (message_bytes := max(model.cut_bytes()) * plan.batch) > MAX_LIMIT_BYTES:
        raise BadUsageError(
            f"--batch: got {plan.batch}, with which {model.name} has activations of {message_bytes} bytes;"
            f" expected {MAX_LIMIT_BYTES // max(model.cut_bytes())} or fewer, so that they fit in one message"
        )


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


def _tcp_states(arguments: argparse.Namespace) -> list[TcpState]:
    """The states asked for; cold ones where each batch can have a connection of its own."""
    states = list(dict.fromkeys(arguments.tcp_state or ["warm"]))
    if "cold" in states and (arguments.source, arguments.sink) != ("stage1", "last"):
        raise BadUsageError(
            "--tcp-state: cold connections are made from stage to stage only, and inputs or results would cross a link"
            " on a warm one; leave --source and --sink at their defaults"
        )
    if "cold" in states and arguments.mode != ["single"]:
        raise BadUsageError(
            "--tcp-state: cold connections are measured one batch at a time, since those of a full line wait for"
            " connections to be dialled, which is in no prediction; give --mode single, and no other"
        )
    return states


def _modes(arguments: argparse.Namespace, given: Sequence[Plan]) -> list[Mode]:
    """The modes asked for; plans that name a window say `closed` themselves where no mode does."""
    windows = {plan.window for plan in given if plan.window is not None}
    wanted = windows | ({arguments.window} if arguments.window is not None else set())
    if windows and len(wanted) > 1:
        raise BadUsageError(
            f"--plan, --window: got windows {', '.join(map(str, sorted(wanted)))}, expected one a sweep; sweep them one"
            " after the other"
        )
    if windows and arguments.mode is None:
        return [Mode.named("closed", window=wanted.pop())]
    names = list(dict.fromkeys(arguments.mode or ["paced"]))
    for option, name in (("window", "closed"), ("burst", "burst")):
        if getattr(arguments, option) is not None and name not in names:
            raise BadUsageError(f"--{option}: only mode {name} has it; add --mode {name}")
    return [
        Mode.named(
            name,
            window=next(iter(wanted), None) if name == "closed" else None,
            batches=arguments.burst if name == "burst" else None,
        )
        for name in names
    ]
