"""Running `hwrun resident` on a host: over the system's ssh with keys, or as a child where the host is this machine.

ssh is asked never to prompt (BatchMode) and to notice a dead path. What the user's ssh configuration says of a host
holds as well. Host keys are checked as ssh always does; an unknown one is an error and not a question.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import msgspec

from hwrun.errors import BadUsageError, HwrunError, PeerGoneError, TimedOutError
from hwrun.remote.lab_file import Lab, LabHost
from hwrun.remote.resident import START_LIMIT_S, Request, State

_CONNECT_LIMIT_S = 10
# ssh's own exit code; what it runs may end with any other.
_SSH_FAILED = 255
_NOT_FOUND = 127


def ask_host(lab: Lab, host: LabHost, request: Request) -> State:
    """The host's answer to a request.

    Raises
    ------
    BadUsageError : there is no ssh here.
    PeerGoneError, TimedOutError : the host cannot be reached or logged in to, or does not answer.
    HwrunError : hwrun is not there, or refuses.
    """
    argv = command_line(lab, host)
    limit_s = START_LIMIT_S + 3 * _CONNECT_LIMIT_S
    try:
        done = subprocess.run(argv, input=msgspec.json.encode(request), capture_output=True, timeout=limit_s)
    except FileNotFoundError as error:
        raise BadUsageError(f"host {host.name}: {argv[0]} is not there: {error.strerror}; set its command") from error
    except subprocess.TimeoutExpired as error:
        raise TimedOutError(f"host {host.name}: gave no answer within {limit_s:g} s") from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise _failure(host, done.returncode, said)
    try:
        # The last line: what a shell's start-up files print comes before it.
        return msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=State)
    except msgspec.DecodeError as error:
        raise HwrunError(
            f"host {host.name}: answered {done.stdout[-200:]!r}, expected the answer of hwrun resident ({error});"
            " install the same hwrun on both"
        ) from error


def command_line(lab: Lab, host: LabHost) -> list[str]:
    """The command that carries requests to a host; nothing of a request is in it."""
    if host.ssh is None:
        return [*(host.command or (sys.executable, "-m", "hwrun.cli")), "resident"]
    program = shutil.which("ssh")
    if program is None:
        raise BadUsageError(f"host {host.name}: ssh is not installed here; install openssh-client")
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": _CONNECT_LIMIT_S,
        "ServerAliveInterval": 5,
        "ServerAliveCountMax": 3,
        "ForwardAgent": "no",
        "ForwardX11": "no",
    }
    words = [program, "-T", "-p", str(host.ssh.port)]
    if host.ssh.key is not None:
        words += ["-i", str(lab.path(host.ssh.key))]
        options["IdentitiesOnly"] = "yes"
    if host.ssh.known_hosts is not None:
        options["UserKnownHostsFile"] = str(lab.path(host.ssh.known_hosts))
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    if host.ssh.user is not None:
        words += ["-l", host.ssh.user]
    # The remote shell splits one string, so it is quoted for one.
    return [*words, "--", host.ssh.host or host.address, shlex.join([*(host.command or ("hwrun",)), "resident"])]


def _failure(host: LabHost, code: int, said: str) -> HwrunError:
    last = said.rpartition("\n")[2]
    if host.ssh is not None and code == _SSH_FAILED:
        login = f"ssh -p {host.ssh.port} {f'{host.ssh.user}@' if host.ssh.user else ''}{host.ssh.host or host.address}"
        remedy = f"check that `{login}` logs in with a key and without a question"
        if "verification failed" in said:
            remedy = f"run `{login}` once, compare the host's key with its own, and accept it"
        return PeerGoneError(
            f"host {host.name}: ssh: {last.removeprefix('ssh: ') or 'failed without a word'}; {remedy}"
        )
    if code == _NOT_FOUND:
        command = shlex.join(host.command or ("hwrun",))
        return HwrunError(
            f"host {host.name}: {command}: not found there ({last}); set command to where hwrun is, such as"
            ' ["paretosim/.venv/bin/hwrun"]'
        )
    return HwrunError(f"host {host.name}: {last or f'hwrun resident ended with code {code}'}")
