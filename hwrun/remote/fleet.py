"""All workers of a testbed at once: have them run, see how they are, end them; each host's fault is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from hwrun.errors import HwrunError, PeerGoneError
from hwrun.machine.conditions import alike_versions, version_differences
from hwrun.remote.lab_file import Lab, LabHost
from hwrun.remote.resident import Ask, Request, Start, State, Stop, WorkerSettings
from hwrun.remote.ssh import ask_host
from hwrun.wire import control
from hwrun.wire.admission import Credentials, dial_peer
from hwrun.wire.authentication import HANDSHAKE_LIMIT_S, Purpose, read_token
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import WorkerBusyError, receive_control, send_control
from hwrun.wire.tls import load_tls

_AT_ONCE = 16


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """One host as found: what it answered over ssh, what its worker answered over TCP, and what is wrong.

    `state` is None where the host gave no answer. `problems` is empty where all is well.
    """

    host: str
    state: State | None
    worker: str | None = None
    problems: tuple[str, ...] = ()


def settings_of(host: LabHost) -> WorkerSettings:
    """How the testbed file has a host's worker run."""
    return WorkerSettings(
        name=host.name,
        folder=host.folder,
        listen=str(host.control),
        data_listen=str(host.data),
        threads=host.threads,
        cores=host.cores,
        compute_on=host.compute_on,
        allow_modules=host.allow_modules,
        trust_network=host.trust_network,
        tls=host.tls,
    )


def credentials_of(lab: Lab) -> Credentials:
    """What this machine shows the testbed's workers.

    Raises
    ------
    BadUsageError : the token's or a TLS file cannot be used.
    """
    files = lab.tls_files
    return Credentials(read_token(lab.token_path), None if files is None else load_tls(files))


def start_workers(lab: Lab) -> tuple[HostReport, ...]:
    """Have every worker of the testbed run; those that do are left alone, whoever started them."""
    credentials = credentials_of(lab)
    token = credentials.token.decode(errors="surrogateescape")
    return _each(lab, lambda host: _report(lab, host, Start(settings_of(host), token), credentials))


def ask_workers(lab: Lab) -> tuple[HostReport, ...]:
    """How every worker of the testbed is."""
    credentials = credentials_of(lab)
    return _each(lab, lambda host: _report(lab, host, Ask(settings_of(host)), credentials))


def stop_workers(lab: Lab) -> tuple[HostReport, ...]:
    """End the workers that were started by `start_workers`, and no other process."""
    return _each(lab, lambda host: _report(lab, host, Stop(settings_of(host)), None))


def _each(lab: Lab, ask: Callable[[LabHost], HostReport]) -> tuple[HostReport, ...]:
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(lab.hosts))) as threads:
        return tuple(threads.map(ask, lab.hosts))


def _report(lab: Lab, host: LabHost, request: Request, credentials: Credentials | None) -> HostReport:
    answer = None if credentials is None else _answer(host, credentials)
    if isinstance(request, Start) and isinstance(answer, str):
        request = Ask(request.settings)  # whoever started it: another could not have its port
    problems: list[str] = []
    state = None
    try:
        state = ask_host(lab, host, request)
    except HwrunError as error:
        problems.append(str(error).removeprefix(f"host {host.name}: "))  # whoever shows it names the host
    else:
        problems += _found_wrong(state, host)
        if isinstance(request, Start) and credentials is not None and not state.failed:
            answer = _answer(host, credentials)
    worker = None
    if isinstance(answer, str):
        stranger = ", not started by hwrun up" if state is not None and state.pid is None else ""
        worker = f"answers at {host.control}, {answer}{stranger}"
    elif answer is not None and state is not None:  # else the host itself is not there, which has been said
        if state.pid is not None:
            worker = f"does not answer at {host.control}"
            problems.append(str(answer))
        elif not isinstance(answer.__cause__, ConnectionRefusedError):
            problems.append(f"no worker runs that hwrun up started, and {answer}")
        elif not state.failed:
            problems.append("no worker runs; start it with: hwrun up")
    return HostReport(host=host.name, state=state, worker=worker, problems=tuple(problems))


def has_ended(lab: Lab, host: LabHost, pid: int) -> bool:
    """Whether a host says that this process was a worker which `start_workers` started there, and is no more."""
    try:
        return ask_host(lab, host, Ask(settings_of(host))).ended_pid == pid
    except HwrunError:
        return False


def _found_wrong(state: State, host: LabHost) -> list[str]:
    """What a host's answer says is not as it should be."""
    found: list[str] = []
    if state.differs:
        found.append(f"{'; '.join(state.differs)}; to have it so: hwrun down, then hwrun up")
    elif state.failed:
        found += [state.what, *state.log.strip().splitlines()[-3:]]
    if differences := version_differences(alike_versions(), state.versions, "this machine", host.name):
        found.append(differences)
    return found


def _answer(host: LabHost, credentials: Credentials) -> str | HwrunError:
    """What the worker at a host's control address is or does; why there is no answer."""
    try:
        return f"process {_greeting(host, credentials)}"
    except WorkerBusyError:
        return "busy with an orchestrator"
    except HwrunError as error:
        return error


def _greeting(host: LabHost, credentials: Credentials) -> int:
    """The process number of the worker that answers at a host's control address."""
    connection = Connection(dial_peer(host.control, credentials, Purpose.CONTROL), f"worker {host.name}")
    try:
        connection.socket.settimeout(HANDSHAKE_LIMIT_S)
        send_control(connection, control.Hello(versions=alike_versions()))
        return receive_control(connection, BufferPool(), control.Welcome).pid
    finally:
        connection.close()


def problems_of(reports: Sequence[HostReport]) -> list[str]:
    """Every host's problems, each with its host's name."""
    return [f"{report.host}: {problem}" for report in reports for problem in report.problems]


def require_sound(reports: Sequence[HostReport]) -> None:
    """Raise PeerGoneError unless every host is as it should be."""
    if found := problems_of(reports):
        raise PeerGoneError("; ".join(found))
