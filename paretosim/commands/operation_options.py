"""The options that say how a pipeline is operated beside what is sent through it, and the paper's preset."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from paretosim.errors import BadInputError
from paretosim.mode import ARRIVAL_PROCESSES
from paretosim.operation import SEND_BUFFER_BYTES, WORKERS, Operation, Workers


def add_operation_options(parser: ArgumentParser) -> None:
    """Add arrivals, workers, buffers, the length of a run and its seed."""
    group = parser.add_argument_group("operation")
    group.add_argument("--rate", type=float, metavar="R", help="batches that arrive a second: mode open")
    group.add_argument(
        "--arrivals", choices=ARRIVAL_PROCESSES, help="in mode open: evenly spaced (default) or at random"
    )
    group.add_argument("--batches", type=int, metavar="N", help="a finite run: in closed and open; in burst as --burst")
    group.add_argument(
        "--workers", choices=WORKERS, help="serial: one thread receives, computes and sends (default overlapped)"
    )
    group.add_argument("--buffers", type=int, metavar="N", help="batches that may wait before a stage or link")
    group.add_argument(
        "--send-buffer", type=int, metavar="BYTES", help=f"of a serial worker's socket (default {SEND_BUFFER_BYTES})"
    )
    group.add_argument(
        "--receive-buffer", type=int, metavar="BYTES", help="of a serial worker's socket (default the link's window)"
    )
    group.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default 0)")


def add_paper_preset(parser: ArgumentParser) -> None:
    """Add `--paper` and what only it sets; mode, splits and workers are then filled in by `settle`."""
    parser.add_argument(
        "--paper",
        action="store_true",
        help="as the paper's programs: burst of 8, serial workers, interior splits, clock from the start of stage 1;"
        " options given beside it win, but the mode",
    )
    parser.add_argument("--clock", choices=("dispatch", "stage1"), help="when a latency begins (default dispatch)")
    parser.set_defaults(mode=None, splits=None)


def settle(arguments: Namespace) -> None:
    """Fill in mode, splits, workers and clock where they were not given, and build `arguments.operation`.

    Raises
    ------
    BadInputError : options that contradict each other.
    """
    paper = getattr(arguments, "paper", False)
    if paper and arguments.mode not in (None, "burst"):
        raise BadInputError(f"--paper: means mode burst, got --mode {arguments.mode}; leave one of them out")
    if paper and arguments.rate is not None:
        raise BadInputError("--paper: means mode burst, got --rate, which is of mode open; leave one of them out")
    if arguments.mode is None:
        arguments.mode = "burst" if paper else "open" if arguments.rate is not None else "paced"
    if getattr(arguments, "splits", "all") is None:
        arguments.splits = "interior" if paper else "all"
    workers: Workers = arguments.workers or ("serial" if paper and arguments.buffers is None else "overlapped")
    batches = arguments.batches
    if arguments.mode == "burst" and batches is not None:
        if arguments.burst not in (None, batches):
            raise BadInputError(f"--batches: got {batches}, and --burst {arguments.burst}; expected one of them")
        arguments.burst, batches = batches, None
    for option in ("send_buffer", "receive_buffer"):
        if getattr(arguments, option) is not None and workers != "serial":
            raise BadInputError(
                f"--{option.replace('_', '-')}: has no meaning for overlapped workers, expected --workers serial"
            )
    arguments.operation = Operation(
        workers=workers,
        slots=arguments.buffers,
        batches=batches,
        clock=getattr(arguments, "clock", None) or ("stage1" if paper else "dispatch"),
        send_buffer_bytes=SEND_BUFFER_BYTES if arguments.send_buffer is None else arguments.send_buffer,
        receive_buffer_bytes=arguments.receive_buffer,
        seed=arguments.seed,
    )
