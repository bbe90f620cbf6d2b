"""`hwrun worker`: run stages on this device for an orchestrator."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from pathlib import Path

from hwrun.commands.credential_options import add_credential_options, credentials_of
from hwrun.errors import BadUsageError
from hwrun.machine.steady import conditions, parse_cores, pin_to_cores, restart_if_unsteady, usable_cores
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.sockets import listen

# How long a worker started with --once waits for its orchestrator.
_ORCHESTRATOR_LIMIT_S = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun worker`."""
    parser.add_argument(
        "--listen",
        default="127.0.0.1:7070",
        metavar="HOST:PORT|unix:PATH",
        help="where the orchestrator dials (default %(default)s); other hosts can only with --token-file",
    )
    parser.add_argument(
        "--data-listen",
        metavar="HOST:PORT",
        help="where the stage before dials (default: --listen's host, 127.0.0.1 for a unix socket, on a free port)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that compute (default 1)")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda", "mps"),
        default="cpu",
        help="what stages compute on, unless a sweep says (default cpu)",
    )
    parser.add_argument("--cores", metavar="LIST", help="keep to these cores, such as 0 or 0,2 or 0-3")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where weights are kept (default: the user's cache)")
    parser.add_argument(
        "--allow-module",
        action="append",
        default=[],
        metavar="PKG.MOD:FACTORY",
        help="a network outside the catalogue that may be asked for: its code runs here; repeatable",
    )
    parser.add_argument(
        "--trust-network",
        action="store_true",
        help="let backend rpc form groups with other hosts: it unpickles, and so runs, whatever any of them sends",
    )
    parser.add_argument("--once", action="store_true", help="end when the first orchestrator has left")
    add_credential_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped by SIGTERM or Ctrl-C."""
    control_address = Address.parse(arguments.listen)
    data_host = "127.0.0.1" if control_address.path else control_address.host
    data_address = Address.parse(arguments.data_listen) if arguments.data_listen else Address(host=data_host)
    if data_address.path:
        raise BadUsageError(f"--data-listen: got {data_address}, expected HOST:PORT: data come from other hosts")
    for option, address in (("--listen", control_address), ("--data-listen", data_address)):
        if arguments.token_file is None and not address.is_local:
            raise BadUsageError(
                f"{option}: got {address}, which other hosts can reach, without --token-file; expected a token file"
                " (openssl rand -hex 32 > token; chmod 600 token), or 127.0.0.1"
            )
    if arguments.threads < 1:
        raise BadUsageError(f"--threads: got {arguments.threads}, expected 1 or more")
    if arguments.cores is not None:
        pin_to_cores(parse_cores(arguments.cores))
    if arguments.threads > (cores := len(usable_cores())):
        raise BadUsageError(f"--threads: got {arguments.threads}, at most {cores}, the number of cores it may use")
    credentials = credentials_of(arguments)
    restart_if_unsteady(arguments.threads)
    return _serve(arguments, control_address, data_address, credentials)


def _serve(
    arguments: argparse.Namespace, control_address: Address, data_address: Address, credentials: Credentials
) -> int:
    # torch loads from here on, in an environment that is steady.
    # Libraries stay, so the collector need not go through them whenever a stage is replaced, or in the middle of one:
    # that took 0.34 s on an x86 core, and takes microseconds without them.
    import torchvision.models  # type: ignore[import-untyped]  # noqa: F401 - what the first stage would import

    from hwrun.machine.compute_device import describe_device, require_device
    from hwrun.models.weights import WeightStore
    from hwrun.worker import Worker

    gc.collect()
    gc.freeze()
    # Hand-overs between the three threads of a stage must not wait for the default 5 ms slice to end.
    sys.setswitchinterval(0.0005)
    require_device(arguments.device)
    worker = Worker(
        control_listener := listen(control_address),
        data_listener := listen(data_address),
        credentials=credentials,
        store=WeightStore(arguments.cache),
        threads=arguments.threads,
        once=arguments.once,
        allowed=arguments.allow_module,
        rpc_reach="network" if arguments.trust_network else "loopback" if control_address.path else "nobody",
        device=arguments.device,
        conditions=conditions(arguments.threads) | {"device": describe_device(arguments.device)},
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    if arguments.once:
        lonely = threading.Timer(_ORCHESTRATOR_LIMIT_S, worker.stop_unless_serving)
        lonely.daemon = True
        lonely.start()
    host, port = data_listener.getsockname()[:2]
    shown = control_address if control_address.path else Address(*control_listener.getsockname()[:2])
    print(f"ready: control {shown}, data {Address(host=host, port=port)}, process {os.getpid()}", flush=True)
    worker.serve()
    if control_address.path:
        Path(control_address.path).unlink(missing_ok=True)
    return 0
