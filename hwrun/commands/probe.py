"""`hwrun probe`: what the path between two hosts is: round trips, goodput, cost of a message and of a byte, clocks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwrun.commands.credential_options import add_credential_options, credentials_of
from hwrun.errors import BadUsageError
from hwrun.machine.steady import restart_if_unsteady
from hwrun.planned_cell import UNSHAPED
from hwrun.probing.display import probe_document, show_probe
from hwrun.probing.probe import MAX_ECHO_S, MIN_PINGS, RESTED_S, bulk_bytes, run_probe
from hwrun.records import LinkMeasured, Medium
from hwrun.sweeps.cells import parse_asked_link
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, dial_peer
from hwrun.wire.authentication import Purpose
from hwrun.wire.connection import Connection
from paretosim.command_line import DONE
from paretosim.indented_json import indented_json
from paretosim.link import Link
from paretosim.profiles import ProfileStore
from paretosim.units import parse_duration_s

if TYPE_CHECKING:
    from hwrun.worker_client import WorkerClient

# Beside the sweep of sizes, a probe spends up to ten seconds on goodput and a round trip a ping.
_PATIENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much of a probe there is to be."""

    pings: int
    echo_s: float


@dataclass(frozen=True, kw_only=True)
class Probing:
    """A path that was probed, by the names of its two ends."""

    near: str
    far: str
    link: str
    measured: LinkMeasured


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun probe`."""
    parser.epilog = "With no worker named: hwrun probe --local, two hosts on this machine."
    add = parser.add_argument
    add(
        "workers",
        nargs="*",
        metavar="HOST:PORT",
        help="a worker's control address, or its name in --testbed: from here to it; two of them: from the first to the"
        " second, and back",
    )
    add("--testbed", type=Path, metavar="FILE", help="the file that names the workers' hosts (docs/testbed.md)")
    add("--local", action="store_true", help="between two hosts on this machine, as hwrun sweep --local has them")
    add("--link", action="append", metavar="LINK", help="with --local: unshaped (default), a preset, or RATE,DELAY")
    add("--pings", type=int, default=50, metavar="N", help="round trips of empty messages (default 50)")
    add(
        "--echo-time",
        default="20s",
        metavar="TIME",
        help="what messages of 64 B to 64 MiB may take; sizes that do not fit are left out and named (default 20s)",
    )
    add("--profiles", action="append", type=Path, metavar="DIR", help="searched before the shipped ones")
    add("--json", action="store_true", help="print every raw sample as JSON")
    add_credential_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Probe, and show what was found."""
    asked = _asked(arguments)
    if arguments.workers:
        probes = _between_workers(arguments, asked)
    else:
        links = [
            parse_asked_link(text, ProfileStore(arguments.profiles or ())) for text in arguments.link or [UNSHAPED]
        ]
        _permit_shaping(links)
        probes = _local(links, asked)
    found = []
    for probing in probes:
        found.append(probing)
        if not arguments.json:
            show_probe(probing.near, probing.far, probing.link, probing.measured)
    if arguments.json:
        document = [probe_document(one.near, one.far, one.link, one.measured) for one in found]
        sys.stdout.buffer.write(indented_json({"schema_version": 1, "probes": document}))
    return DONE


def _asked(arguments: argparse.Namespace) -> Asked:
    if arguments.pings < MIN_PINGS:
        raise BadUsageError(f"--pings: got {arguments.pings}, expected {MIN_PINGS} or more")
    echo_s = parse_duration_s(arguments.echo_time, "--echo-time")
    if not 0 <= echo_s <= MAX_ECHO_S:
        raise BadUsageError(f"--echo-time: got {arguments.echo_time}, expected 0s to {MAX_ECHO_S:g}s")
    if len(arguments.workers) > 2:
        raise BadUsageError(f"workers: got {len(arguments.workers)}, expected one or two; probe a chain hop by hop")
    if arguments.testbed is not None and not arguments.workers:
        raise BadUsageError(f"--testbed {arguments.testbed}: got no host of it to probe, expected one or two names")
    if arguments.workers and (arguments.local or arguments.link):
        raise BadUsageError(
            "--local, --link: are for two hosts on this machine, expected no worker's address with them"
        )
    return Asked(pings=arguments.pings, echo_s=echo_s)


def _request(address: Address, medium: Medium, bulk: int, asked: Asked) -> control.ProbeLink:
    return control.ProbeLink(
        address=str(address),
        medium=medium,
        pings=asked.pings,
        bulk_bytes=bulk,
        echo_s=asked.echo_s,
        rested_s=RESTED_S,
    )


def _probed(client: WorkerClient, request: control.ProbeLink) -> LinkMeasured:
    return client.request(request, control.Probed, _PATIENCE_S + MAX_ECHO_S).measured


def _local(links: list[tuple[str, Link | None]], asked: Asked) -> Iterator[Probing]:
    restart_if_unsteady(1)
    from hwrun.local.testbed import LocalTestbed
    from hwrun.local.workers import LocalWorkers
    from hwrun.testbed import DataPath

    with (
        LocalTestbed(shaped=any(link is not None for _, link in links)) as testbed,
        LocalWorkers(testbed, threads=1, log_folder=None) as workers,
    ):
        one, two = workers.hosts
        near, far = workers.client(one), workers.client(two)
        for name, link in links:
            testbed.shape({} if link is None else {(one, two): link})
            address = workers.route(DataPath((one, two), (link,), two, link)).stage_address(1)
            request = _request(address, testbed.medium(one, two, link), bulk_bytes(link), asked)
            yield Probing(near=near.name, far=far.name, link=name, measured=_probed(near, request))


def _permit_shaping(links: list[tuple[str, Link | None]]) -> None:
    """Go on inside a user namespace where shaping is permitted only there."""
    from hwrun.local.namespaces import availability, reexec_in_user_namespace

    if any(link is not None for _, link in links) and availability().needs_reexec:
        reexec_in_user_namespace(sys.orig_argv[1:])


@dataclass(frozen=True)
class _Far:
    """A worker on another host: where its control connection is dialled, and where data reach it from others."""

    name: str
    control: Address
    data_host: str


def _named_workers(arguments: argparse.Namespace) -> tuple[list[_Far], Credentials]:
    if arguments.testbed is None:
        addresses = [Address.parse(text) for text in arguments.workers]
        for address in addresses:
            if address.path:
                raise BadUsageError(f"worker: got {address}, expected HOST:PORT: a path between hosts is probed")
        return [_Far(str(address), address, address.host) for address in addresses], credentials_of(arguments)
    from hwrun.remote import fleet
    from hwrun.remote.lab_file import read_lab

    given = (arguments.token_file, arguments.tls_cert, arguments.tls_key, arguments.tls_ca)
    if any(option is not None for option in given):
        raise BadUsageError("--token-file, --tls-…: got them with --testbed, whose file names its own; leave them out")
    lab = read_lab(arguments.testbed)
    hosts = [lab.host(name) for name in arguments.workers]
    return [_Far(host.name, host.control, host.data.host) for host in hosts], fleet.credentials_of(lab)


def _between_workers(arguments: argparse.Namespace, asked: Asked) -> Iterator[Probing]:
    workers, credentials = _named_workers(arguments)
    with ExitStack() as stack:
        dial = _dialler(stack, credentials)
        clients = [dial(worker) for worker in workers]
        data = [
            Address(host=worker.data_host, port=client.welcome.data_port)
            for worker, client in zip(workers, clients, strict=True)
        ]
        if len(clients) == 1:
            measured = _from_here(data[0], credentials, asked)
            yield Probing(near="here", far=workers[0].name, link="network", measured=measured)
            return
        for near, far in ((0, 1), (1, 0)):
            request = _request(data[far], _medium(data[far]), bulk_bytes(None), asked)
            measured = _probed(clients[near], request)
            yield Probing(near=workers[near].name, far=workers[far].name, link="network", measured=measured)


def _medium(address: Address) -> Medium:
    return "loopback" if address.is_local else "network"


def _dialler(stack: ExitStack, credentials: Credentials) -> Callable[[_Far], WorkerClient]:
    from hwrun.worker_client import WorkerClient

    def dial(worker: _Far) -> WorkerClient:
        client = WorkerClient.dial(worker.name, worker.control, credentials)
        stack.callback(client.close)
        return client

    return dial


def _from_here(address: Address, credentials: Credentials, asked: Asked) -> LinkMeasured:
    connection = Connection(dial_peer(address, credentials, Purpose.PROBE), str(address))
    try:
        return run_probe(
            connection,
            medium=_medium(address),
            pings=asked.pings,
            bulk_bytes=bulk_bytes(None),
            echo_s=asked.echo_s,
            rested_s=RESTED_S,
        )
    finally:
        connection.close()
