"""A setting under lease, as its owner sees it: it holds while it is renewed, and is gone soon after the owner is.

The setting is made and taken away by a keeper, a process in a session of its own. Should that be killed itself, the
owner notices at the next renewal and takes the setting away; should both be, the root's handle still tells the next
`hwrun shape` (or `--clear`) that it was left behind.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, Self

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError, PeerGoneError, TimedOutError
from hwrun.shaping import kernel
from hwrun.shaping.keeper import MESSAGE_BYTES, keeper_of
from hwrun.shaping.rtnetlink import Traffic, require_linux
from hwrun.shaping.setting import Setting
from hwrun.shaping.tc_lines import lines, parse

DEFAULT_LEASE_S = 60.0
MAX_LEASE_S = 24 * 3600.0
# Loading a kernel module from a slow card is the longest that setting it takes.
_ANSWER_TIMEOUT_S, _END_TIMEOUT_S = 30.0, 10.0


class ShapingLease:
    """A setting on an interface for as long as this is open and renewed. Use it as a context manager.

    Parameters
    ----------
    setting : what to set; `setting` is afterwards what was read back.
    lease_s : how long it holds without renewal.
    replace_root : put aside a root qdisc that somebody set, and bring it back afterwards.

    The interface is one of the calling thread's network namespace.

    Raises
    ------
    BadUsageError, NotPermittedError, HwrunError : it could not be set; then nothing is.
    """

    def __init__(
        self,
        setting: Setting,
        lease_s: float = DEFAULT_LEASE_S,
        *,
        replace_root: bool = False,
    ) -> None:
        require_linux()
        check_lease(lease_s)
        self._lease_s = lease_s
        self._asking = threading.Lock()
        self._open = True
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "hwrun.shaping.keeper", "--control-fd", str(theirs.fileno())]
            # A session of its own: Ctrl-C and a closed terminal are the owner's, which then ends the lease.
            self._keeper = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
            )
        try:
            answer = self._ask({"lines": lines(setting), "lease_s": lease_s, "replace": replace_root})
        except BaseException:
            self._end()
            raise
        self.setting = parse(answer["lines"])
        self._put_aside = Traffic.from_json(answer["put_aside"]) if answer["put_aside"] else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def interface(self) -> str:
        """Where it is set."""
        return self.setting.interface

    def renew(self, lease_s: float | None = None) -> None:
        """Let it hold for that long from now (default: as long as at first), and check that it does.

        Raises
        ------
        HwrunError : what is on the interface is no longer what was set.
        PeerGoneError : the keeper is gone, and the setting with it.
        """
        self._require_holding(self._ask({"op": "renew", "lease_s": self._lease_s if lease_s is None else lease_s}))

    def check(self) -> None:
        """Read it back from the kernel, without renewing; raises as `renew` does."""
        self._require_holding(self._ask({"op": "read"}))

    def _require_holding(self, answer: Mapping[str, Any]) -> None:
        if not answer["holds"]:
            raise HwrunError(
                f"{self.interface}: the setting was changed meanwhile: got {answer['found']}, expected what was set;"
                " nothing measured since then is of this link"
            )

    def close(self) -> None:
        """Take the setting away; done when this returns. Closing twice is harmless.

        Raises
        ------
        HwrunError : it could not be taken away, or was not there any more.
        """
        if not self._open:
            return
        try:
            self._ask({"op": "release"})
        except PeerGoneError:
            pass  # it was taken away when the keeper went, or just now
        finally:
            self._end()

    def _ask(self, message: Mapping[str, object]) -> dict[str, Any]:
        with self._asking:
            try:
                self._control.settimeout(_ANSWER_TIMEOUT_S)
                self._control.send(json.dumps(message).encode())
                raw = self._control.recv(MESSAGE_BYTES)
            except TimeoutError as error:
                raise TimedOutError(
                    f"the keeper of a shaped link said nothing within {_ANSWER_TIMEOUT_S:g} s"
                ) from error
            except OSError:
                raw = b""
        if not raw:
            raise PeerGoneError(f"the shaped link is gone: {self._gone()}; shape it again")
        answer: dict[str, Any] = json.loads(raw)
        if "error" in answer:
            if "remedy" in answer:
                raise NotPermittedError(answer["error"], answer["remedy"])
            raise BadUsageError(answer["error"]) if answer.get("usage") else HwrunError(answer["error"])
        return answer

    def _gone(self) -> str:
        """Why the keeper is; what a killed one left is taken away."""
        code = self._keeper.wait(_END_TIMEOUT_S)
        if code < 0 and hasattr(self, "setting") and keeper_of(self.interface) is None:
            with contextlib.suppress(HwrunError):
                kernel.remove(self.interface, self._put_aside)
            return f"its keeper was killed by signal {-code}"
        return "its lease was not renewed in time, or it was cleared" if code == 0 else f"its keeper ended with {code}"

    def _end(self) -> None:
        self._open = False
        self._control.close()  # at which the keeper ends by itself
        try:
            self._keeper.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._keeper.terminate()
            self._keeper.wait()


def check_lease(lease_s: float) -> None:
    """Raise BadUsageError for a time that no lease can have."""
    if not 0 < lease_s <= MAX_LEASE_S:
        raise BadUsageError(f"lease: got {lease_s} s, expected above 0 to {MAX_LEASE_S:g} s")
