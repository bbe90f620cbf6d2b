"""What happens on a host itself when a worker is started, asked after or ended there: one request, one answer.

`hwrun up`, `status` and `down` run `hwrun resident` on each host (over ssh) and hand it a request on its standard
input, so that nothing secret stands on a command line. A worker is known by its process number together with when
that process began since the host was booted: a number alone may be another process's by now, and only a process that
was started here is ever ended here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.conditions import alike_versions
from hwrun.machine.steady import steady_environment
from hwrun.records import ComputeDevice
from hwrun.remote.lab_file import TlsPaths
from paretosim.whole_file import write_whole

# Importing torch from an SD card takes its time.
START_LIMIT_S = 120.0
_END_LIMIT_S = 10.0
_POLL_S = 0.1
_TAIL_BYTES = 2000


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker runs; equal settings are the same worker."""

    name: str
    folder: str
    listen: str
    data_listen: str
    threads: int
    cores: str | None = None
    compute_on: ComputeDevice = "cpu"
    allow_modules: tuple[str, ...] = ()
    trust_network: bool = False
    tls: TlsPaths | None = None


class Start(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Have the worker run with these settings and this token."""

    settings: WorkerSettings
    token: str


class Ask(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Say how the worker is."""

    settings: WorkerSettings


class Stop(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """End the worker, if it runs."""

    settings: WorkerSettings


Request = Start | Ask | Stop


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host's answer: the worker's process if it runs, and the versions installed now.

    `what` says what was done. `differs` names what about a running worker is not as asked, or not as installed.
    `ended_pid` is the process of one that was started here and has ended since, without having been told to.
    """

    hostname: str
    versions: dict[str, str]
    what: str
    pid: int | None = None
    uptime_s: float | None = None
    ended_pid: int | None = None
    differs: tuple[str, ...] = ()
    log: str = ""
    failed: bool = False


class _Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a worker that was started: which process it is, and how it was started."""

    pid: int
    began: str
    settings: WorkerSettings
    versions: dict[str, str]


def answer(request: Request) -> State:
    """Carry out a request on this host.

    Raises
    ------
    HwrunError : the folder cannot be used.
    """
    place = _Place(request.settings)
    with place.held():
        match request:
            case Start():
                return _start(place, request)
            case Stop():
                return _stop(place)
            case Ask():
                return place.state("running" if place.running() else "not running")


class _Place:
    """The files of one worker."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.folder = Path(settings.folder).expanduser().absolute()
        self.log = self.folder / f"{settings.name}.log"
        self.token = self.folder / f"{settings.name}.token"
        self._started = self.folder / f"{settings.name}.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Alone in it: two commands at once must not start two workers."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.folder / f"{self.settings.name}.lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise HwrunError(
                f"folder: {self.folder} on {socket.gethostname()} cannot be used: {error.strerror or error}; give"
                " another as the host's folder"
            ) from error

    def running(self) -> _Started | None:
        """The worker that was started here, if that process is still there."""
        started = self._kept()
        return started if started is not None and began(started.pid) == started.began else None

    def _kept(self) -> _Started | None:
        """What is remembered of the worker that was started here last, until it is told to end."""
        try:
            return msgspec.json.decode(self._started.read_bytes(), type=_Started)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise HwrunError(f"{self._started}: is damaged ({error}); end the worker by hand and remove it") from error

    def keep(self, started: _Started) -> None:
        """Remember a worker, whole or not at all."""
        write_whole(self._started, lambda unfinished: unfinished.write_bytes(msgspec.json.encode(started)))

    def forget(self) -> None:
        """Remove what was kept of a worker, its token above all; the log stays."""
        for path in (self._started, self.token):
            path.unlink(missing_ok=True)

    def state(self, what: str, *, failed: bool = False, log_from: int | None = None) -> State:
        """How things stand."""
        kept, started, versions = self._kept(), self.running(), alike_versions()
        differs: list[str] = []
        if started is not None:
            differs = _differences(started, self.settings, versions)
        return State(
            hostname=socket.gethostname(),
            versions=versions,
            what=what,
            pid=started.pid if started else None,
            uptime_s=_uptime_s(started.began) if started else None,
            ended_pid=kept.pid if kept and not started else None,
            differs=tuple(differs),
            log=self.log_since(log_from) if log_from is not None else "",
            failed=failed,
        )

    def log_since(self, offset: int) -> str:
        """What the log has gained since it was `offset` long; its end if that is much."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - _TAIL_BYTES))
            return file.read().decode(errors="replace")


def _start(place: _Place, request: Start) -> State:
    token = request.token.encode()
    if place.running() is not None:
        state = place.state("was running already")
        same_token = place.token.is_file() and place.token.read_bytes() == token
        differs = state.differs + (() if same_token else ("token: another than the testbed file's",))
        return msgspec.structs.replace(state, differs=differs, failed=bool(differs))
    place.forget()
    descriptor = os.open(place.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(token)
    with place.log.open("ab") as log:
        offset = log.tell()
        process = subprocess.Popen(
            _command(place),
            cwd=place.folder,
            env=os.environ | steady_environment(request.settings.threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the ssh session that starts it
        )
    start = began(process.pid)
    if start is not None:
        versions = alike_versions()
        try:
            place.keep(_Started(pid=process.pid, began=start, settings=request.settings, versions=versions))
        except BaseException:  # a full disk, Ctrl-C: nobody would ever know whose process it is
            _end(process.pid)
            process.wait()
            place.forget()
            raise
    deadline_s = time.monotonic() + START_LIMIT_S
    while not any(line.startswith("ready: ") for line in place.log_since(offset).splitlines()):
        code = process.poll()
        if code is not None or time.monotonic() > deadline_s:
            how = f"ended with code {code}" if code is not None else f"was not ready within {START_LIMIT_S:g} s"
            _end(process.pid)
            process.wait()
            place.forget()
            return place.state(f"{how} before it was ready", failed=True, log_from=offset)
        time.sleep(_POLL_S)
    process.returncode = 0  # it is left running on purpose
    return place.state("started")


def _stop(place: _Place) -> State:
    started = place.running()
    if started is not None and not _end(started.pid):
        return place.state(f"process {started.pid} could not be ended", failed=True)
    place.forget()
    return place.state("stopped" if started is not None else "was not running")


def _command(place: _Place) -> list[str]:
    settings = place.settings
    words = [sys.executable, "-m", "hwrun.cli", "worker", "--listen", settings.listen]
    words += ["--data-listen", settings.data_listen, "--token-file", str(place.token)]
    words += ["--threads", str(settings.threads), "--cache", str(place.folder / "weights")]
    if settings.cores is not None:
        words += ["--cores", settings.cores]
    if settings.compute_on != "cpu":
        words += ["--device", settings.compute_on]
    if settings.trust_network:
        words += ["--trust-network"]
    for module in settings.allow_modules:
        words += ["--allow-module", module]
    if settings.tls is not None:
        for option in ("cert", "key", "ca"):
            # Relative to the folder of login, where this process began, and not to the worker's.
            words += [f"--tls-{option}", str(Path(getattr(settings.tls, option)).expanduser().absolute())]
    return words


def _differences(started: _Started, asked: WorkerSettings, versions: dict[str, str]) -> list[str]:
    found = [
        f"{name}: it runs with {_spelled(getattr(started.settings, name))}, asked is {_spelled(getattr(asked, name))}"
        for name in WorkerSettings.__struct_fields__
        if getattr(started.settings, name) != getattr(asked, name)
    ]
    return found + [
        f"{name}: it runs {started.versions.get(name)}, installed is {versions[name]}"
        for name in versions
        if started.versions.get(name) != versions[name]
    ]


def _spelled(value: str | int | tuple[str, ...] | TlsPaths | None) -> str:
    """A setting as the testbed file has it."""
    if isinstance(value, TlsPaths):
        return ", ".join(f"{option} {getattr(value, option)}" for option in TlsPaths.__struct_fields__)
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def began(pid: int) -> str | None:
    """When a process began, as boot and clock ticks since then; None where there is none, or it is a zombie.

    Field 22 of proc_pid_stat(5). The clock on the wall, which may be set, has no part in it; elsewhere than on Linux it
    has, for want of such a file.
    """
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{sys.platform}/{process.create_time()}"
        except psutil.Error:
            return None
    try:
        # The command's name, second, may hold spaces and brackets; what counts comes behind its last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _uptime_s(start: str) -> float:
    if sys.platform != "linux":
        return time.time() - float(start.rpartition("/")[2])
    ticks = int(start.rpartition("/")[2])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _end(pid: int) -> bool:
    """End a process by asking, then by force; whether it is gone."""
    start = began(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline_s = time.monotonic() + _END_LIMIT_S
        with contextlib.suppress(ProcessLookupError):
            if start is not None:
                os.kill(pid, number)
        while start is not None and began(pid) == start:
            if time.monotonic() > deadline_s:
                break
            time.sleep(_POLL_S)
        else:
            return True
    return False


_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def read_request(raw: bytes) -> Request:
    """The request in one line of JSON.

    Raises
    ------
    BadUsageError : it is none.
    """
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise BadUsageError(
            f"request: {error}; expected what hwrun up, status and down send, of the same version"
        ) from error
