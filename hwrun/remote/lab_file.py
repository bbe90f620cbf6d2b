"""The testbed file: which hosts there are, how their workers are reached, and how they are run. TOML, checked.

Paths of this machine (token, keys, certificates) are read beside the file; paths under a host are that host's own,
where relative ones begin in the folder that ssh logs in to.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.steady import parse_cores
from hwrun.records import ComputeDevice
from hwrun.wire.address import Address
from hwrun.wire.tls import TlsFiles

CONTROL_PORT, DATA_PORT = 7070, 7071
# Where the members of an RPC group meet, on the first one's host: this port or one of the next few.
RPC_PORT, RPC_PORTS = 7080, 16
# Of hosts and devices: logs, sockets and profiles are files of that name.
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# What dials or logs in to: names and addresses, nothing that ssh could take for an option.
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9_.:-]{0,252}")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}")  # IFNAMSIZ of Linux is 16 with its closing zero


class SshLogin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to log in: by key, through the system's ssh and its own configuration.

    `host` is where to log in if not at the host's address. `key` and `known_hosts` are files of this machine.
    """

    user: str | None = None
    port: int = 22
    host: str | None = None
    key: str | None = None
    known_hosts: str | None = None


class TlsPaths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host's certificate, its key, and the authority's certificate."""

    cert: str
    key: str
    ca: str


class LabHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device with a worker. Without `ssh` it is this very machine.

    `device` names the profile that its measurements go under, `compute_on` what its stages compute on;
    `data_address` is where data travel, if not to
    `address`; `command` runs hwrun there; `folder` takes the worker's log, process number and weights. With
    `trust_network` it may join RPC groups, which ask for no token and meet from `rpc_port` on.
    """

    name: str
    address: str
    device: str
    data_address: str | None = None
    control_port: int = CONTROL_PORT
    data_port: int = DATA_PORT
    interface: str | None = None
    ssh: SshLogin | None = None
    command: tuple[str, ...] | None = None
    folder: str = ".local/state/hwrun"
    threads: int = 1
    cores: str | None = None
    compute_on: ComputeDevice = "cpu"
    allow_modules: tuple[str, ...] = ()
    trust_network: bool = False
    rpc_port: int = RPC_PORT
    tls: TlsPaths | None = None

    @property
    def control(self) -> Address:
        """Where the orchestrator dials."""
        return Address(host=self.address, port=self.control_port)

    @property
    def data(self) -> Address:
        """Where the stage before dials."""
        return Address(host=self.data_address or self.address, port=self.data_port)


class Lab(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a testbed file says: hosts in the order of a plan's stages, and what this machine shows them.

    `results_port` is where results are taken on this machine when another host sends them; 0 is any free one.
    """

    token_file: str
    hosts: tuple[LabHost, ...]
    name: str = ""
    results_port: int = 0
    tls: TlsPaths | None = None
    folder: Path = Path()  # of the file itself: not a field that may be written

    @property
    def token_path(self) -> Path:
        """The token's file on this machine."""
        return self.path(self.token_file)

    @property
    def tls_files(self) -> TlsFiles | None:
        """This machine's TLS identity, where TLS is used."""
        return None if self.tls is None else TlsFiles(*map(self.path, (self.tls.cert, self.tls.key, self.tls.ca)))

    def path(self, written: str) -> Path:
        """A path of this machine as written in the file."""
        return self.folder / Path(written).expanduser()

    def host(self, name: str) -> LabHost:
        """The host of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise BadUsageError(f"host: got {name!r}, expected one of {', '.join(host.name for host in self.hosts)}")


def read_lab(path: Path) -> Lab:
    """The testbed in a file.

    Raises
    ------
    BadUsageError : unreadable, no TOML, or a field that cannot be; says file, field, what it holds and what it should.
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadUsageError(
            f"--testbed: {path} cannot be read: {error.strerror}; docs/testbed.md shows how to write one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadUsageError(f"{path}: is no TOML ({error}); docs/testbed.md shows how to write one") from error
    try:
        if "folder" in written:
            raise BadUsageError("folder: belongs under [[hosts]], expected it there")
        lab = msgspec.convert(written, Lab)
        _check(lab)
    except msgspec.ValidationError as error:
        raise BadUsageError(f"{path}: {_with_value(str(error), written)}") from error
    except BadUsageError as error:
        raise BadUsageError(f"{path}: {error}") from error
    return msgspec.structs.replace(lab, folder=path.resolve().parent, name=lab.name or path.stem)


def _with_value(message: str, written: dict[str, Any]) -> str:
    """Msgspec's message with the field first, and the value that stands there."""
    text, separator, location = message.partition(" - at `$")
    if not separator:
        return message
    field = location.rstrip("`").removeprefix(".")
    value: Any = written
    for key in field.replace("[", ".[").split("."):
        try:
            value = value[int(key.strip("[]"))] if key.startswith("[") else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"{field}: {text}"
    if isinstance(value, dict):  # what is missing or unknown in a table is said; the rest of it is no help
        return f"{field}: {text}"
    return f"{field}: got {value!r}: {text}"


def _check(lab: Lab) -> None:
    if not 0 <= lab.results_port < 65536:
        raise BadUsageError(f"results_port: got {lab.results_port}, expected 0 to 65535")
    if len(lab.hosts) < 1:
        raise BadUsageError("hosts: got none, expected a [[hosts]] table for each device")
    taken: dict[object, str] = {}

    def take(field: str, value: object, what: str) -> None:
        if value in taken:
            raise BadUsageError(f"{field}: got {value}, which is {taken[value]} already; expected another {what}")
        taken[value] = field

    for number, host in enumerate(lab.hosts):
        at = f"hosts[{number}]"
        _check_host(host, at)
        take(f"{at}.name", host.name, "name")
        take(f"{at}.control_port", str(host.control), "address or port")
        take(f"{at}.data_port", str(host.data), "address or port")
        if (host.tls is None) is not (lab.tls is None):
            with_tls, without = (at, "the file") if host.tls else ("the file", at)
            raise BadUsageError(f"{at}.tls: {with_tls} has TLS and {without} has not, expected all or none")


def _check_host(host: LabHost, at: str) -> None:
    def require(condition: object, field: str, got: object, expected: str) -> None:
        if not condition:
            raise BadUsageError(f"{at}.{field}: got {got!r}, expected {expected}")

    require(PLAIN_NAME.fullmatch(host.name), "name", host.name, "letters, digits, _, . and -, such as pi1")
    require(PLAIN_NAME.fullmatch(host.device), "device", host.device, "the name of a device profile, such as rpi4b")
    for field, address in (("address", host.address), ("data_address", host.data_address)):
        if address is not None:
            require(_is_dialled(address), field, address, "one that others can dial, such as 192.168.7.11")
    for field, port in (("control_port", host.control_port), ("data_port", host.data_port)):
        require(0 < port < 65536, field, port, "1 to 65535")
    require(0 < host.rpc_port <= 65536 - RPC_PORTS, "rpc_port", host.rpc_port, f"1 to {65536 - RPC_PORTS}")
    if host.interface is not None:
        require(_INTERFACE.fullmatch(host.interface), "interface", host.interface, "a name such as eth0")
    if host.ssh is not None:
        require(0 < host.ssh.port < 65536, "ssh.port", host.ssh.port, "1 to 65535")
        for field, text in (("ssh.user", host.ssh.user), ("ssh.host", host.ssh.host)):
            require(text is None or _ADDRESS.fullmatch(text), field, text, "a plain name")
    if host.command is not None:
        require(host.command and all(host.command), "command", list(host.command), 'words, such as ["venv/bin/hwrun"]')
    require(host.folder.strip(), "folder", host.folder, "a folder of that host")
    require(host.threads >= 1, "threads", host.threads, "1 or more")
    if host.cores is not None:
        try:
            cores = parse_cores(host.cores)
        except HwrunError as error:
            raise BadUsageError(f"{at}.{error}") from error
        require(len(cores) >= host.threads, "cores", host.cores, f"{host.threads} or more, one a thread")


def _is_dialled(address: str) -> bool:
    if not _ADDRESS.fullmatch(address):
        return False
    try:
        return not ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return True  # a name
