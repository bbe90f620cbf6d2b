"""What a worker shapes for its orchestrator: leases by interface, renewed by whatever the orchestrator says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.own_command import own_command
from hwrun.shaping.keeper import all_left_behind
from hwrun.shaping.lease import ShapingLease
from hwrun.shaping.setting import Path, Setting
from hwrun.shaping.tc_lines import lines
from hwrun.shaping.towards import interface_towards

# Leases are renewed this many times in their term, so that a late message costs nothing.
_RENEWALS = 6


class ShapedSession:
    """The shaping of one orchestrator's session; it ends with it.

    Parameters
    ----------
    own_ports : TCP ports of this worker that stay unshaped whatever is asked for.
    open_lease : for tests; makes a lease of a setting and a term.
    left : finds settings that nobody keeps, by interface.
    """

    def __init__(
        self,
        own_ports: Iterable[int] = (),
        open_lease: Callable[[Setting, float], ShapingLease] = ShapingLease,
        towards: Callable[[str], str] = interface_towards,
        left: Callable[[], Mapping[str, str]] = all_left_behind,
    ) -> None:
        self._own_ports = tuple(own_ports)
        self._open_lease, self._towards, self._left = open_lease, towards, left
        self._leases: dict[str, ShapingLease] = {}
        self._lease_s = 0.0
        self._renew_at_s = float("inf")
        self._lost: HwrunError | None = None

    def shape(
        self, paths: Sequence[Path], except_ports: Sequence[int], interface: str | None, lease_s: float
    ) -> tuple[str, ...]:
        """Set these paths instead of what was set before; the lines that were read back.

        Parameters
        ----------
        interface : where; None for the one that leads to each path's peers.

        Raises
        ------
        BadUsageError, NotPermittedError, HwrunError : it could not be set; then nothing is.
        """
        wanted = self._settings(paths, except_ports, interface)
        if self._lost is None and {lease.interface: _asked(lease.setting) for lease in self._leases.values()} == {
            setting.interface: setting for setting in wanted
        }:
            self._lease_s = lease_s
            self._renew()  # the same again keeps connections and queues as they are
        else:
            self._end()
            self._lease_s = lease_s
            try:
                for setting in wanted:
                    self._leases[setting.interface] = self._open_lease(setting, lease_s)
            except BaseException:
                with contextlib.suppress(HwrunError):
                    self._end()
                raise
        self._renew_at_s = time.monotonic() + lease_s / _RENEWALS
        return self.lines()

    def _settings(self, paths: Sequence[Path], except_ports: Sequence[int], interface: str | None) -> list[Setting]:
        by_interface: dict[str, list[Path]] = {}
        for path in paths:
            towards = {interface} if interface else {self._towards(peer.address) for peer in path.peers}
            if len(towards) > 1:
                raise BadUsageError(
                    f"paths: peers of one path are reached by {', '.join(sorted(towards))}; expected one"
                )
            by_interface.setdefault(towards.pop(), []).append(path)
        settings = []
        for name, mine in by_interface.items():
            whole = any(not peer.ports for path in mine for peer in path.peers)
            unshaped = tuple({*except_ports, *self._own_ports}) if whole else ()
            settings.append(Setting(interface=name, paths=tuple(mine), except_ports=unshaped))
        return settings

    def heard(self) -> None:
        """The orchestrator said something: renew what is due. What that finds lost is told by the next `check`."""
        if time.monotonic() >= self._renew_at_s:
            try:
                self._renew()
            except HwrunError as error:
                self._lost = error
                self._renew_at_s = float("inf")

    def check(self) -> tuple[str, ...]:
        """The lines that are set, read back just now and the same ever since they were set.

        Raises
        ------
        HwrunError : they were not, or are no longer.
        """
        if self._lost is not None:
            raise self._lost
        for lease in self._leases.values():
            lease.check()
        return self.lines()

    def lines(self) -> tuple[str, ...]:
        """What is set, as tc lines."""
        return tuple(line for lease in self._leases.values() for line in lines(lease.setting))

    def _renew(self) -> None:
        self._renew_at_s = time.monotonic() + self._lease_s / _RENEWALS
        for lease in self._leases.values():
            lease.renew(self._lease_s)

    def unshape(self) -> None:
        """Take everything away. Harmless where there is nothing.

        Raises
        ------
        HwrunError : something could not be, or was no longer there; all else is away. Or what others shaped and nobody
            keeps is still there: this host is not unshaped.
        """
        self._end()
        if left := self._left():
            raise HwrunError(
                f"{'; '.join(f'{name}: has {words}' for name, words in left.items())}, which was left behind by hwrun"
                " shape or a worker that was killed, expected no shaping; run on that host: "
                + "; ".join(f"sudo {own_command()} shape --clear --interface {name}" for name in left)
            )

    def _end(self) -> None:
        leases, self._leases = self._leases, {}
        self._renew_at_s, self._lost = float("inf"), None
        failure: HwrunError | None = None
        for lease in leases.values():
            try:
                lease.close()
            except HwrunError as error:
                failure = error
        if failure is not None:
            raise failure


def _asked(setting: Setting) -> Setting:
    """A setting as it was asked for, without what was found to restore."""
    return Setting(interface=setting.interface, paths=setting.paths, except_ports=setting.except_ports)
