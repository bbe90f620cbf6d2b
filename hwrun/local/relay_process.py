"""The relay as its owner sees it: a child process, and questions it answers."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hwrun.errors import HwrunError, PeerGoneError, TimedOutError
from hwrun.local.departure_queue import Shape
from hwrun.local.relay import CONTROL_MESSAGE_BYTES
from hwrun.machine.steady import usable_cores

# It starts in a tenth of a second and answers within microseconds; a loaded machine may take far longer.
_START_TIMEOUT_S, _ANSWER_TIMEOUT_S, _END_TIMEOUT_S = 30.0, 10.0, 2.0
_REMEDY = "shaped cells need a new testbed"

# Starts a command in the router's namespace with these descriptors passed on.
Spawn = Callable[[Sequence[str], Sequence[int]], subprocess.Popen[bytes]]


class RelayProcess:
    """A running relay between two interfaces of a router namespace.

    Parameters
    ----------
    spawn : starts it; the constructor waits until it is ready.
    beside_computing : it shares its cores with stages that compute, so it is moderated and keeps to the last one: that
        of no worker, where there are more cores than workers, else of the one that receives.
    """

    def __init__(self, spawn: Spawn, left: str, right: str, *, beside_computing: bool = False) -> None:
        self._lost: str | None = None
        self._asking = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            control_fd = theirs.fileno()
            options = ["--control-fd", str(control_fd), "--left", left, "--right", right]
            if beside_computing:
                options += ["--moderated", "--core", str(usable_cores()[-1])]
            self._process = spawn([sys.executable, "-m", "hwrun.local.relay", *options], [control_fd])
        try:
            self.properties: Mapping[str, int | bool] = self._answer(_START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise PeerGoneError if it has ended, or has once failed to answer."""
        if (code := self._process.poll()) is not None:
            raise self._gone(f"ended with code {code}")
        if self._lost is not None:
            raise self._gone(self._lost)

    def _gone(self, how: str) -> PeerGoneError:
        # Kept, because its socket closes a moment before the process is seen to have ended.
        self._lost = how
        return PeerGoneError(f"the packet relay {how}, expected it to run; {_REMEDY}")

    def shape(self, forward: Shape, backward: Shape) -> None:
        """Set both directions; they hold when this returns. A direction that changes drops what is inside it."""
        asked = {"forward": dataclasses.asdict(forward), "backward": dataclasses.asdict(backward)}
        self._ask({"op": "shape", **asked})

    def counters(self, *, reset: bool = False) -> dict[str, int | float]:
        """Both directions' counters since the last reset, `forward_…` and `backward_…`, and its share of a core."""
        answer = self._ask({"op": "counters", "reset": reset})
        found: dict[str, int | float] = {"busy_share": answer["busy_share"]}
        for direction in ("forward", "backward"):
            found |= {f"{direction}_{name}": value for name, value in answer[direction].items()}
        return found

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        with self._asking:
            self.check_alive()
            try:
                self._control.send(json.dumps(request).encode())
            except OSError as error:
                raise self._gone(f"cannot be asked ({error.strerror})") from error
            return self._answer(_ANSWER_TIMEOUT_S)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        self._control.settimeout(timeout_s)
        try:
            message = self._control.recv(CONTROL_MESSAGE_BYTES)
        except TimeoutError as error:
            # A late answer would be taken for the next question's.
            self._lost = f"did not answer within {timeout_s:g} s"
            raise TimedOutError(f"the packet relay {self._lost}; {_REMEDY}") from error
        except OSError as error:
            raise self._gone(f"does not answer ({error.strerror})") from error
        if not message:
            raise self._gone("closed its control socket")
        answer: dict[str, Any] = json.loads(message)
        if "error" in answer:
            raise HwrunError(f"the packet relay refused: {answer['error']}")
        return answer

    def close(self) -> None:
        """End it and wait until it has. Closing twice is harmless."""
        self._control.close()  # at which it ends by itself
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
