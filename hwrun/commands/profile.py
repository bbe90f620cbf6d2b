"""`hwrun profile`: time every block of models on this device and write its timing profiles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, get_args

from hwrun.commands.network_options import add_network_options, network_of
from hwrun.commands.profiled_device import APPLE_GPU, describe_device, keeps_device
from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine import steady
from hwrun.machine.clock_state import FirmwareWatch, held_back
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry
from hwrun.models.model_source import build_whole, input_for
from hwrun.records import ComputeDevice, GpuSample, Scalar
from paretosim.block import Model
from paretosim.command_line import DONE, FAILED
from paretosim.device import Device
from paretosim.profiles import read_profile, write_profile
from paretosim.timing import Timing, TimingError
from paretosim.units import format_duration
from paretosim.whole_file import require_writable

if TYPE_CHECKING:
    import torch

    from hwrun.machine.compute_device import Runtime
    from hwrun.models.block_timing import Measured
    from hwrun.models.cut import BlockChain


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun profile`."""
    add = parser.add_argument
    add("--device-name", required=True, metavar="NAME", help="what predictions will call this device")
    add("--model", nargs="+", metavar="NAME", help=f"{', '.join(MODEL_NAMES)}, or all (default)")
    add("--device", choices=get_args(ComputeDevice), default="cpu", help="what computes (default: cpu)")
    add("--batch", default="8", metavar="N,…", help="images a batch, one size or several such as 1,4,8 (default: 8)")
    add("--repeats", type=int, default=20, metavar="N", help="passes that are kept (default: 20)")
    add("--warmup", type=int, default=3, metavar="N", help="passes before those (default: 3)")
    add("--threads", type=int, default=1, metavar="N", help="computing threads (default: 1)")
    add("--cores", metavar="LIST", help="cores to stay on, such as 0 or 0-3 (default: wherever the system puts it)")
    add(
        "--max-spread",
        type=float,
        default=0.1,
        metavar="X",
        help="refuse blocks whose repeats spread more, interquartile range over median (default: 0.1)",
    )
    add("--force", action="store_true", help="keep refused numbers, with a note that says why they were refused")
    add(
        "--replace",
        action="store_true",
        help="write files that are there anew, whatever they hold (default: batch sizes that are not measured now are"
        " kept, and what was measured under other conditions is refused)",
    )
    add("--title", metavar="TEXT", help="a line that describes the device, where its profile is written anew")
    add("-o", "--output", type=Path, default=Path("profiles"), metavar="DIR", help="default: profiles")
    add_network_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, judge, write; FAILED if any model's numbers were refused."""
    references = _references(arguments)
    names = list(references)
    _check(arguments)
    batches = _batch_sizes(arguments.batch)
    Device(schema_version=1, name=arguments.device_name, title="")  # a name that plans cannot hold is refused here
    require_writable(arguments.output / "timings" / arguments.device_name)
    steady.restart_if_unsteady(arguments.threads)
    if arguments.cores is not None:
        steady.pin_to_cores(steady.parse_cores(arguments.cores))
    from hwrun.machine.compute_device import runtime_of  # torch loads from here on, in an environment that is steady

    _fix_threads(arguments.threads)
    runtime = runtime_of(arguments.device)
    # Before a model takes memory.
    device = describe_device(arguments.device_name, arguments.device, arguments.title)
    device_path = arguments.output / "devices" / f"{arguments.device_name}.json"
    is_device_kept = keeps_device(device_path, device, replace=arguments.replace, is_titled=arguments.title is not None)
    conditions = _lasting_conditions(arguments)
    earlier = {name: _earlier(name, batches, conditions, arguments) for name in names}
    refused = []
    for name in names:
        timing, objections, summaries = _profile(name, references[name], batches, runtime, earlier[name], arguments)
        print("\n".join(summaries))
        if objections and not arguments.force:
            print(f"{name}: not kept: {'; '.join(objections)}", file=sys.stderr)
            refused.append(name)
            continue
        path = _timing_path(name, arguments)
        write_profile(path, timing)
        if not is_device_kept:
            write_profile(device_path, device)
            print(f"wrote {device_path}")
            is_device_kept = True
        print(f"wrote {path}")
    if refused:
        print(
            f"hwrun profile: {len(refused)} of {len(names)} models were refused ({', '.join(refused)}). Stop other work"
            " on this device, let it cool, pin it with --cores, raise --repeats; or keep the numbers as they are"
            " with --force, or allow more with --max-spread",
            file=sys.stderr,
        )
        return FAILED
    print(
        f"use it with: paretosim predict --profiles {quote(str(arguments.output))} --model {names[0]}"
        f" --devices {arguments.device_name},{arguments.device_name}"
    )
    return DONE


def _references(arguments: argparse.Namespace) -> dict[str, str]:
    """What builds each model that was asked for, by its name.

    Raises
    ------
    BadUsageError : a network whose profile was not written, or from another one.
    """
    asked = network_of(arguments)
    if asked is None:
        chosen = arguments.model or ["all"]
        names = MODEL_NAMES if chosen == ["all"] else [catalogue_entry(name).name for name in chosen]
        return {name: name for name in names}
    if arguments.model is not None:
        raise BadUsageError("--model: names models of the catalogue, expected it without --module or --torchvision")
    network, name = asked
    path = arguments.output / "models" / f"{name}.json"
    trace = f"hwrun trace {network.options} --name {name} -o {quote(str(arguments.output))}"
    if not path.is_file():
        raise BadUsageError(f"{path}: is not there, expected the network's blocks; write it first: {trace}")
    if (traced := read_profile(path, Model).origin.get("network")) != str(network):
        raise BadUsageError(
            f"{path}: is of {traced}, expected {network}; give the same options, or write it anew: {trace}"
        )
    return {name: str(network)}


def _check(arguments: argparse.Namespace) -> None:
    for option, least in (("repeats", 2), ("warmup", 0), ("threads", 1)):
        value = getattr(arguments, option)
        if value < least:
            raise BadUsageError(f"--{option}: got {value}, expected {least} or more")
    if not arguments.max_spread > 0:
        raise BadUsageError(f"--max-spread: got {arguments.max_spread}, expected more than 0, such as 0.1")


def _batch_sizes(text: str) -> list[int]:
    """Batch sizes in ascending order.

    >>> _batch_sizes("8,1")
    [1, 8]
    """
    sizes = [int(size) if size.isascii() and size.isdecimal() else 0 for size in map(str.strip, text.split(","))]
    if min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise BadUsageError(f"--batch: got {text!r}, expected whole numbers from 1, each once, such as 8 or 1,4,8")
    return sorted(sizes)


def _timing_path(name: str, arguments: argparse.Namespace) -> Path:
    path: Path = arguments.output / "timings" / arguments.device_name / f"{name}.json"
    return path


def _earlier(
    name: str, batches: list[int], conditions: dict[str, Scalar], arguments: argparse.Namespace
) -> Timing | None:
    """The timing that is there and goes on with the batch sizes that are measured now; None where none does.

    Raises
    ------
    BadUsageError : it was measured otherwise, and is not to be replaced.
    """
    from hwrun.models.earlier_timing import differences, how_measured

    path = _timing_path(name, arguments)
    if not path.exists():
        return None
    if arguments.replace:
        print(f"{path}: is replaced, with all batch sizes that it has", file=sys.stderr)
        return None
    timing = read_profile(path, Timing)
    how = how_measured([arguments.repeats], arguments.warmup)
    if unlike := differences(timing, how, _block_names(name, arguments), conditions):
        raise BadUsageError(
            f"{path}: is of other conditions ({'; '.join(unlike)}), expected the same, since its batch sizes and those"
            " measured now would be one timing; give another --device-name or -o, or lose what it has with --replace"
        )
    sizes = sorted(entry.batch for entry in timing.batches)
    for what, listed in (
        ("kept", [size for size in sizes if size not in batches]),
        ("measured anew", [size for size in sizes if size in batches]),
    ):
        if listed:
            print(f"{path}: {_listed(listed)} {what}", file=sys.stderr)
    return timing


def _block_names(name: str, arguments: argparse.Namespace) -> list[str]:
    if network_of(arguments) is None:
        return [block.name for block in catalogue_entry(name).blocks]
    return [block.name for block in read_profile(arguments.output / "models" / f"{name}.json", Model).blocks]


def _listed(sizes: Sequence[int]) -> str:
    return f"batch{'es' if len(sizes) > 1 else ''} {', '.join(map(str, sizes))}"


def _lasting_conditions(arguments: argparse.Namespace) -> dict[str, Scalar]:
    return {
        **steady.conditions(arguments.threads),
        "dtype": "float32",
        **_accelerator_conditions(arguments.device),
    }


def _fix_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def _profile(
    name: str,
    reference: str,
    batches: list[int],
    runtime: Runtime | None,
    earlier: Timing | None,
    arguments: argparse.Namespace,
) -> tuple[Timing, list[str], list[str]]:
    """A model's timing, what speaks against keeping it, and a line that sums it up for each batch size measured now."""
    from hwrun.models.block_timing import CpuStopwatch, EventStopwatch, measure_blocks, objections
    from hwrun.models.earlier_timing import FORCED, how_measured, kept_batches, kept_notes

    device = "cpu" if runtime is None else runtime.device
    chain = _chain(name, reference, device, arguments)
    watch = _Watch(_own_gpus(arguments.device))
    before = _lasting_conditions(arguments)
    steal_before_s = steady.steal_s()
    measured = [
        measure_blocks(
            chain,
            (input_for(reference, batch, 0).to(device),),
            repeats=arguments.repeats,
            warmup=arguments.warmup,
            stopwatch=CpuStopwatch() if runtime is None else EventStopwatch(runtime),
            progress=_progress_of(f"{name}, batch {batch}", watch),
        )
        for batch in batches
    ]
    after = steady.conditions(arguments.threads)
    steal_after_s = steady.steal_s()
    throttling = held_back(before, after, watch.processor)
    kept = () if earlier is None else kept_batches(earlier, batches)
    together = sorted((*measured, *kept), key=lambda one: one.batch)
    against = [
        f"batch {one.batch}: {objection}" if len(together) > 1 else objection
        for one in measured
        for objection in (*objections(one, arguments.max_spread, throttling), *watch.objections())
    ]
    stolen_s = None if steal_before_s is None or steal_after_s is None else round(steal_after_s - steal_before_s, 2)
    timing = Timing(
        schema_version=1,
        device=arguments.device_name,
        model=name,
        kind="measured",
        how=how_measured([len(one.blocks_s[0]) for one in together], arguments.warmup),
        batches=tuple(one.as_batch_timing() for one in together),
        error=_error(together),
        conditions={
            **before,
            "load_1min_after": after["load_1min"],
            "temperature_c_after": after["temperature_c"],
            "throttled_after": after["throttled"],
            "throttled_flags_after": after["throttled_flags"],
            "frequency_after_hz": after["frequency_hz"],
            "steal_s": stolen_s,
            "worst_spread": round(max(one.worst_spread() for one in together), 6),
            "accelerator_held_back": watch.accelerator,
            **({"earlier_batches": ", ".join(str(one.batch) for one in kept)} if kept else {}),
        },
        notes=(
            *(() if not kept or earlier is None else kept_notes(earlier, batches)),
            *(f"{FORCED} {objection}" for objection in against),
        ),
    )
    summaries = [_summary(name, one) for one in measured]
    return timing, against, summaries


def _error(sizes: Sequence[Measured]) -> TimingError:
    """The headline error of a timing of these batch sizes: that of the worst."""
    worst = max(sizes, key=lambda one: one.error())
    worst_at = f" at batch {worst.batch}, the worst of {len(sizes)} sizes" if len(sizes) > 1 else ""
    worst_spread = max(one.worst_spread() for one in sizes)
    return TimingError(
        relative=round(worst.error(), 6),
        meaning=(
            f"the larger of two{worst_at}: the spread of the whole model's repeats (interquartile range over"
            f" median), and {worst.sum_error():.1%}, the median over {len(worst.spans_s)} spans (the whole model,"
            " prefixes, suffixes) of |sum of block medians − span run in one go| / span; single spans are off by"
            f" up to {max(map(abs, worst.span_errors().values())):.1%}, and repeats of what matters spread by up to"
            f" {worst_spread:.1%} (interquartile range over median)"
        ),
    )


def _chain(name: str, reference: str, device: str | torch.device, arguments: argparse.Namespace) -> BlockChain:
    """The model's chain on the device that computes.

    Raises
    ------
    HwrunError : a network is cut otherwise than its profile says, as another version of it or of torch may be.
    """
    # The user named it with --module or --torchvision.
    module, chain = build_whole(reference, seed=0, allowed=(reference.partition("?")[0],))
    module.to(device)
    if reference != name:
        path = arguments.output / "models" / f"{name}.json"
        if (listed := tuple(block.name for block in read_profile(path, Model).blocks)) != chain.names:
            raise HwrunError(
                f"{path}: lists {len(listed)} blocks, expected the {len(chain)} that are found here"
                f" ({', '.join(chain.names[:3])}, …); trace it again with the versions installed here"
            )
    return chain


def _summary(name: str, measured: Measured) -> str:
    whole_s = measured.as_batch_timing().spans[0].seconds
    return (
        f"{name}: {format_duration(float(f'{whole_s:.4g}'))} for a batch of {measured.batch};"
        f" block sums are off by {measured.sum_error():.1%} (median of {len(measured.spans_s)} spans);"
        f" spread of what matters up to {measured.worst_spread():.1%}"
    )


def _accelerator_conditions(device: str) -> dict[str, Scalar]:
    if device != "cuda":
        return {"accelerator": None if device == "cpu" else APPLE_GPU}
    import torch

    return {
        "accelerator": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


class _Watch:
    """What held the processor and the accelerator back while passes ran: asked between them, and so in no time of one.

    `accelerator` is None where nothing tells.
    """

    def __init__(self, gpus: Callable[[], tuple[GpuSample, ...]]) -> None:
        self._firmware = FirmwareWatch()
        self._gpus = gpus
        self.processor: set[str] = set()
        self.accelerator: bool | None = None

    def look(self) -> None:
        self.processor.update(self._firmware.look())
        told = [gpu.held_back for gpu in self._gpus() if gpu.held_back is not None]
        if told:
            self.accelerator = bool(self.accelerator) or any(told)

    def objections(self) -> list[str]:
        if not self.accelerator:
            return []
        return ["the accelerator was held back between passes; see by what: nvidia-smi -q -d PERFORMANCE"]


def _own_gpus(device: str) -> Callable[[], tuple[GpuSample, ...]]:
    """Reads what NVML says of the accelerator that computes; of several of one name, of them all."""
    from hwrun.machine.sampling import no_gpus, nvml_gpus

    if device != "cuda":
        return no_gpus
    import torch

    name, gpus = torch.cuda.get_device_name(), nvml_gpus()
    return lambda: tuple(gpu for gpu in gpus() if gpu.name == name)


def _progress_of(name: str, watch: _Watch) -> Callable[[int, int], None]:
    """After each pass, looks at what holds the clocks back, and shows how far it is where stderr is a terminal."""

    def show(done: int, total: int) -> None:
        watch.look()
        if sys.stderr.isatty():
            end = "\r" if done < total else "\n"
            print(f"{name}: pass {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show
