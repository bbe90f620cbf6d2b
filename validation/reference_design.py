"""The design of the reference data set: which plans are measured over which links, drawn by seed.

Every model on every pair of devices over every link at every split would be days. What is drawn instead is balanced: in
each sweep (a pair of devices, a backend, a link) has two models, which take turns from sweep to sweep, and two or
three splits of each, so that there is an order to be right about. They are drawn among those whose cells are short
enough: large activations meet fast links only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from hwrun.records import Manifest
from paretosim.calibration import Backend
from paretosim.errors import BadInputError
from paretosim.link import HEADER_BYTES_SHAPED, Link, parse_link
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.prediction import Prediction, predict
from paretosim.profiles import ProfileStore
from paretosim.setting import Setting

UNSHAPED = "unshaped"
MODELS = ("mobilenet_v2", "resnet18", "inception_v3", "resnet50", "alexnet", "vgg16")
MODES = (Mode.named("single"), Mode.named("closed"), Mode.named("burst"))
BATCH = 8
# What an unshaped link within one machine is at least: for how long a cell takes, not for what it will show.
_BARE = Link(
    schema_version=1, name=UNSHAPED, rate_bps=1e10, one_way_delay_s=0.0, return_rate_bps=1e10, return_delay_s=0.0
)
# Deploying, priming and tearing down a cell, and starting workers and probing a link: from pilots, for the estimate.
_CELL_OVERHEAD_S, _SWEEP_OVERHEAD_S = 0.7, 30.0
_WARMUP_BATCHES = 2
_MODELS_A_SWEEP, _FEWEST_SPLITS = 2, 2


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is drawn from, and how much. `speed` None measures real computation of these devices.

    Plans are of the devices `measured_as` where those have profiles of their own: what is drawn must not depend on what
    a machine was profiled at.
    """

    name: str
    models: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    backends: tuple[Backend, ...]
    links: tuple[str, ...]
    speed: float | None
    repeats: int = 5
    batches: int = 3
    most_cells: int = 1500
    longest_cell_s: float = 3.0
    measured_as: tuple[str, str] | None = None


EMULATED = Design(
    name="emulated",
    models=MODELS,
    pairs=(("rpi4b", "rpi4b"), ("rpi4b", "rtx4090")),
    backends=("tcp", "rpc"),
    links=(UNSHAPED, "200mbit,1ms", "50mbit,10ms", "20mbit,40ms", "5mbit,200ms"),
    speed=50.0,
)
# The machine at hand, with contention between neighbours: few cells, as real stages take as long as they take. Each of
# its cores is a device of its own: what slows them beside transfers differs, for one sends and the other receives.
COMPUTED = Design(
    name="computed",
    models=("mobilenet_v2", "resnet18", "alexnet"),
    pairs=(("x86-core", "x86-core"),),
    backends=("tcp",),
    links=(UNSHAPED, "50mbit,10ms", "20mbit,40ms"),
    speed=None,
    most_cells=150,
    batches=6,
    longest_cell_s=6.0,
    measured_as=("core0", "core1"),
)
DESIGNS = {design.name: design for design in (EMULATED, COMPUTED)}


@dataclass(frozen=True)
class Sweep:
    """One call of `hwrun sweep`: plans over one link, of one pair of devices and one backend."""

    name: str
    plans: tuple[Plan, ...]
    devices: tuple[str, str]
    link: str
    cells: int
    estimate_s: float

    def options(self, design: Design, seed: int) -> list[str]:
        """The options of `hwrun sweep`."""
        options = ["--local", "--link", self.link, "--repeats", str(design.repeats)]
        options += ["--batches-per-cell", str(design.batches), "--seed", str(seed), "--max-cell-time", "30s"]
        for mode in MODES:
            options += ["--mode", mode.name]
        for plan in self.plans:
            options += ["--plan", str(plan)]
        if design.speed is not None:
            options += ["--emulate", ",".join(self.devices), "--speed", f"{design.speed:g}"]
        return options

    def differences(self, run: Manifest, design: Design, seed: int) -> tuple[str, ...]:
        """What a run was asked for otherwise than this sweep of that design and seed; empty of a run of it."""
        asked = self.options(design, seed)
        pairs = (
            *((name, values_of(name, run.command_line), values_of(name, asked)) for name in ("--link", "--plan")),
            ("cells", str(run.cells_planned), str(self.cells)),  # plans, modes and repeats together
            ("--seed", str(run.seed), str(seed)),
            ("--speed", f"{run.speed:g}" if run.emulated else "none", f"{design.speed:g}" if design.speed else "none"),
        )
        return tuple(f"{name} {got} and not {expected}" for name, got, expected in pairs if got != expected)


def values_of(option: str, command_line: Sequence[str]) -> str:
    """What an option was given, each time it was, as words.

    >>> values_of("--plan", ["--plan", "a", "--link", "unshaped", "--plan", "b"])
    'a b'
    """
    return " ".join(value for name, value in pairwise(command_line) if name == option)


def draw(design: Design, store: ProfileStore, seed: int, most_plans: int | None = None) -> tuple[Sweep, ...]:
    """The sweeps of a design, the same for the same seed and profiles; of each at most that many plans.

    Raises
    ------
    BadInputError : not one plan is short enough.
    """
    kinds = [(pair, backend, link) for link in design.links for pair in design.pairs for backend in design.backends]
    per_plan = len(MODES) * design.repeats
    most = min(max(1, design.most_cells // per_plan // len(kinds)), most_plans or design.most_cells)
    generator = random.Random(seed)
    turns = list(design.models)
    generator.shuffle(turns)
    sweeps = []
    for pair, backend, link in kinds:
        eligible = {model: _eligible(design, store, model, pair, link) for model in design.models}
        for found in eligible.values():
            generator.shuffle(found)
        pair_of_models = [model for model in turns if len(eligible[model]) >= _FEWEST_SPLITS][:_MODELS_A_SWEEP]
        # Whoever has had its turn goes to the back; whoever was too long here stays in front, for the next link.
        turns = [model for model in turns if model not in pair_of_models] + pair_of_models
        chosen: list[tuple[str, int, int, float]] = []
        while len(chosen) < most and any(eligible[model] for model in pair_of_models):
            for model in pair_of_models:
                if eligible[model] and len(chosen) < most:
                    chosen.append((model, *eligible[model].pop()))
        if not chosen:
            continue
        devices = design.measured_as or pair
        plans = tuple(
            msgspec.structs.replace(Plan.two_devices(model, blocks, split, devices, batch=BATCH), backend=backend)
            for model, split, blocks, _ in sorted(chosen)
        )
        sweeps.append(
            Sweep(
                name=f"{design.name}-{'+'.join(devices)}-{backend}-{link.replace(',', '+')}",
                plans=plans,
                devices=devices,
                link=link,
                cells=len(plans) * per_plan,
                estimate_s=_SWEEP_OVERHEAD_S
                + design.repeats * sum(seconds + len(MODES) * _CELL_OVERHEAD_S for *_, seconds in chosen),
            )
        )
    if not sweeps:
        raise BadInputError(f"design {design.name}: no plan has cells of {design.longest_cell_s:g} s or less")
    return tuple(sweeps)


def _eligible(
    design: Design, store: ProfileStore, model: str, pair: tuple[str, str], link: str
) -> list[tuple[int, int, float]]:
    """Splits none of whose cells is too long: the split, the model's blocks, seconds of one cell of each mode."""
    predictions = [_predicted(design, store, model, pair, link, mode) for mode in MODES]
    blocks = len(predictions[0].setting.model.blocks)
    found = []
    for split in range(blocks + 1):
        rows = [prediction.row(split) for prediction in predictions]
        if not all(row.fits for row in rows):
            continue
        alone_s, interval_s = rows[0].latency_s, rows[1].period_s
        window, burst = MODES[1].window or 1, MODES[2].batches or 1
        rounds = -(-design.batches // window) * window
        lengths = (
            (_WARMUP_BATCHES + design.batches) * alone_s,
            alone_s + (window + rounds) * interval_s,
            _WARMUP_BATCHES * alone_s + burst * rows[2].period_s,
        )
        if max(lengths) <= design.longest_cell_s:
            found.append((split, blocks, sum(lengths)))
    return found


def _predicted(
    design: Design, store: ProfileStore, model: str, pair: tuple[str, str], link: str, mode: Mode
) -> Prediction:
    bare = msgspec.structs.replace(_BARE, header_bytes=HEADER_BYTES_SHAPED)
    one, two = pair
    return predict(
        Setting(
            model=store.model(model),
            devices=(store.device(one), store.device(two)),
            timings=(store.timing(one, model), store.timing(two, model)),
            link=bare if link == UNSHAPED else parse_link(link, bare),
            batch=BATCH,
            mode=mode,
            speed=design.speed or 1.0,
        )
    )


def total_s(sweeps: Sequence[Sweep]) -> float:
    """How long all of them take, about."""
    return sum(sweep.estimate_s for sweep in sweeps)
