"""The keeper of a setting: a process of its own that sets it, and takes it away when nobody wants it any more.

It outlives whoever asked for it, so that a killed worker or command leaves nothing behind. It takes the setting away
when its owner says so, when the owner is gone (their socket closes, however it died), when the lease was not renewed in
time, and when it is told to end (SIGTERM, SIGINT, SIGHUP). An abstract socket, which a network namespace has one of
each name, says that an interface is kept and by whom; the kernel frees it with the process.

Messages are one JSON object each over a SOCK_SEQPACKET socket: first `{"lines": […], "lease_s": 60, "replace": false}`,
then `{"op": "renew", "lease_s": 60}`, `{"op": "read"}`, `{"op": "release"}`. Each is answered by one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError
from hwrun.shaping import kernel
from hwrun.shaping.rtnetlink import Traffic
from hwrun.shaping.setting import Setting
from hwrun.shaping.tc_lines import lines, parse

MESSAGE_BYTES = 2**17
# SO_PEERCRED: struct ucred { pid, uid, gid }
_PEER = struct.Struct("3i")
_END_TIMEOUT_S = 10.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _EndedError(Exception):
    """A signal asked the keeper to end."""


def _end(number: int, _: FrameType | None) -> None:
    raise _EndedError(signal.Signals(number).name)


def _mark(interface: str) -> str:
    return f"\0hwrun-shape/{kernel.interface_index(interface)}"


def hold(interface: str) -> socket.socket:
    """The mark of an interface as kept by this process, for as long as the socket is open.

    Raises
    ------
    BadUsageError : another keeper has it.
    """
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mark.bind(_mark(interface))
        mark.listen()
    except OSError as error:
        mark.close()
        pid = keeper_of(interface)
        raise BadUsageError(
            f"{interface}: is being shaped by process {pid or 'unknown'} already; end it, or: hwrun shape --clear"
            f" --interface {interface}"
        ) from error
    return mark


def keeper_of(interface: str) -> int | None:
    """Process id of the keeper that holds an interface, None where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(_mark(interface))
        except OSError:
            return None
        return int(_PEER.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0])


def left_behind(interface: str) -> str | None:
    """In words, a setting of ours that nobody keeps: its keeper was killed, and its owner has not noticed or is gone.

    None where there is none.
    """
    if not kernel.read(interface).is_ours or keeper_of(interface) is not None:
        return None
    found = kernel.read(interface)  # once more: a keeper that ended in between took its own away
    return str(found) if found.is_ours else None


def all_left_behind() -> dict[str, str]:
    """Every such setting of this host, by its interface; interfaces that cannot be read are left out."""
    found = {}
    for _, interface in socket.if_nameindex():
        with contextlib.suppress(HwrunError):  # gone meanwhile, or nobody may ask
            if (words := left_behind(interface)) is not None:
                found[interface] = words
    return found


def end_keeper_of(interface: str) -> int | None:
    """End the keeper of an interface and wait until it has; its process id, None where there was none.

    Raises
    ------
    NotPermittedError : it is another user's.
    HwrunError : it does not end.
    """
    pid = keeper_of(interface)
    if pid is None:
        return None
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return pid
    except PermissionError as error:
        raise NotPermittedError(
            f"{interface}: its keeper, process {pid}, is another user's", "run it as root"
        ) from error
    deadline_s = time.monotonic() + _END_TIMEOUT_S
    while keeper_of(interface) == pid:
        if time.monotonic() > deadline_s:
            raise HwrunError(f"{interface}: its keeper, process {pid}, does not end; kill it, and clear again")
        time.sleep(0.01)
    return pid


class Keeper:
    """Serves one owner over `control` until the setting is gone."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._set: tuple[Setting, Traffic | None] | None = None
        self._lease_end_s = 0.0

    def run(self) -> str:
        """Keep what is asked for; why it ended."""
        mark: socket.socket | None = None
        try:
            asked = self._receive()
            if asked is None:
                return "its owner left"
            try:
                setting = parse(asked["lines"])
                mark = hold(setting.interface)
                self._lease(asked["lease_s"])
                # Nothing may come between setting it and knowing that it is set.
                signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
                self._set = kernel.apply(setting, replace_root=asked["replace"])
            except HwrunError as error:
                self._answer(_refusal(error))
                return str(error)
            kept, put_aside = self._set
            self._answer({"lines": lines(kept), "put_aside": put_aside and put_aside.as_json()})
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            return self._serve()
        except _EndedError as error:
            return str(error)
        finally:
            for number in _ENDING:
                signal.signal(number, signal.SIG_IGN)  # what is begun is ended
            self._remove()
            if mark is not None:
                mark.close()

    def _serve(self) -> str:
        while True:
            left_s = self._lease_end_s - time.monotonic()
            if left_s <= 0 or not select.select([self._control], (), (), left_s)[0]:
                return "its lease was not renewed"
            message = self._receive()
            if message is None:
                return "its owner left"
            if message["op"] == "release":
                problem = self._remove()
                self._answer({"error": problem} if problem else {"removed": True})
                return "it was released"
            if message["op"] == "renew":
                self._lease(message["lease_s"])
            assert self._set is not None  # it is being served
            try:
                found = kernel.read(self._set[0].interface)
                holds = found.setting == self._set[0]
                self._answer({"holds": holds, "found": str(found.problem or found)})
            except HwrunError as error:
                self._answer(_refusal(error))

    def _lease(self, lease_s: float) -> None:
        self._lease_end_s = time.monotonic() + lease_s

    def _remove(self) -> str | None:
        """Take the setting away; what went wrong, None where nothing did."""
        kept, self._set = self._set, None
        if kept is None:
            return None
        try:
            if not kernel.remove(kept[0].interface, kept[1]):
                kernel.restore_offloads(kept[0].interface, kept[0].restores)
                return f"{kept[0].interface}: another program has replaced the setting meanwhile"
        except HwrunError as error:
            with contextlib.suppress(OSError):
                print(f"hwrun shape: {error}", file=sys.stderr, flush=True)
            return str(error)
        return None

    def _receive(self) -> dict[str, Any] | None:
        try:
            message = self._control.recv(MESSAGE_BYTES)
        except OSError:
            return None
        return json.loads(message) if message else None

    def _answer(self, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # the owner is gone, which the next read sees
            self._control.send(json.dumps(message).encode())


def _refusal(error: HwrunError) -> dict[str, object]:
    if isinstance(error, NotPermittedError):
        return {"error": error.reason, "remedy": error.remedy}
    return {"error": str(error), "usage": isinstance(error, BadUsageError)}


def main(argv: Sequence[str]) -> int:
    """Keep until done."""
    parser = argparse.ArgumentParser(prog="keeper", allow_abbrev=False)
    parser.add_argument("--control-fd", type=int, required=True)
    arguments = parser.parse_args(argv)
    for number in _ENDING:
        signal.signal(number, _end)
    with socket.socket(fileno=arguments.control_fd) as control:
        Keeper(control).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
