"""Messages of the paper's activation sizes over loopback: the TCP backend beside what else there is.

What is compared, of one run: several processes in turn (a process draws its memory once, and with it how well caches
hold it), each with all transports interleaved (`transport_rounds`), sender on one core and receiver on another; goodput
is a message's bytes over the median time until it is answered.

Two conditions alternate, since what a host defaults to decides more than a transport does:

- *as the host is*: ours and the bare pair it is held against ask for cubic, as hwrun does over loopback; `bare, host's`
  (another bare pair), PyTorch RPC, ZeroMQ and pickle have the host's congestion control.
- *cubic for all*: the same in a network namespace whose loopback route says cubic to every socket.

The bare pair is `sendall` and `recv_into` between sockets set as ours, into buffers of the same pool, so ours over bare
is what frames cost. All ends have a worker's allocator, so that none pays for memory that it could have kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hwrun.local.namespaces import NetworkNamespace, availability
from hwrun.machine.steady import steady_environment
from tests.benchmarks.transport_rounds import SIZES_BYTES

# Ours over bare, at least.
BARE_BARS = {2_400_000: 0.9, 12_800_000: 0.9, 102_760_448: 0.85}
# Ours over PyTorch RPC, at least.
RPC_BARS = {2_400_000: 2.0, 12_800_000: 2.0}
ECHO_BAR = 1.5
AS_HOST, CUBIC = "as the host is", "cubic for all"
_PROCESSES = 3


@dataclass(frozen=True)
class Share:
    """One process's median seconds of a message, by size and transport; of a small one there and back."""

    median_s: dict[int, dict[str, float]]
    echo_s: dict[str, float]

    def ratio(self, size_bytes: int, other: str) -> float:
        """Goodput of ours over another's."""
        return self.median_s[size_bytes][other] / self.median_s[size_bytes]["ours"]

    @property
    def echo_ratio(self) -> float:
        """A small message there and back as frames, over a bare echo."""
        return self.echo_s["frames"] / self.echo_s["echo"]


@dataclass(frozen=True)
class Transports:
    """Shares by condition. A ratio is the median of the shares', shown with the least and the most of them."""

    shares: dict[str, tuple[Share, ...]]
    host_control: str

    @property
    def missed(self) -> list[str]:
        """Bars that were missed, each as a sentence."""
        found = []
        for condition, shares in self.shares.items():
            for other, bars in (("bare", BARE_BARS), ("rpc", RPC_BARS)):
                for size, bar in bars.items():
                    ratio = statistics.median(share.ratio(size, other) for share in shares)
                    if ratio < bar:
                        found.append(f"{condition}, {size / 1e6:g} MB: {ratio:.2f}× the goodput of {other}, bar {bar}×")
            if (ratio := statistics.median(share.echo_ratio for share in shares)) > ECHO_BAR:
                found.append(f"{condition}, small round trip: {ratio:.2f}× a bare echo, bar {ECHO_BAR:g}×")
        return found

    @property
    def met(self) -> bool:
        """Whether every bar is."""
        return not self.missed

    def __str__(self) -> str:
        lines = []
        for condition, shares in self.shares.items():
            lines += [
                f"transports over loopback, {condition} ({self._said(condition)}),"
                f" ms a message, medians of {len(shares)} processes:",
                *_table(shares),
            ]
        lines.append("    MISSED: " + "; ".join(self.missed) if self.missed else "    all bars met")
        return "\n".join(lines)

    def _said(self, condition: str) -> str:
        if condition == CUBIC:
            return "every socket has cubic"
        return f"ours and bare ask for cubic, the others have {self.host_control}"


def _table(shares: tuple[Share, ...]) -> list[str]:
    names = list(shares[0].median_s[SIZES_BYTES[0]])
    lines = ["    " + "payload".rjust(9) + "".join(name.rjust(14) for name in names) + "   ours over bare, over rpc"]
    for size in SIZES_BYTES:
        medians = (statistics.median(share.median_s[size][name] for share in shares) for name in names)
        cells = "".join(f"{median * 1e3:.3g}".rjust(14) for median in medians)
        ratios = (_spread([share.ratio(size, other) for share in shares]) for other in ("bare", "rpc"))
        lines.append("    " + f"{size / 1e6:g} MB".rjust(9) + cells + "   " + ", ".join(ratios))
    frames, echo = (statistics.median(share.echo_s[name] for share in shares) * 1e6 for name in ("frames", "echo"))
    lines.append(
        f"    small message there and back: frames {frames:.1f} µs, bare echo {echo:.1f} µs:"
        f" {_spread([share.echo_ratio for share in shares])}"
    )
    return lines


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def transports() -> Transports:
    """Measure them all, in both conditions where this host permits a network namespace."""
    shares: dict[str, list[Share]] = {AS_HOST: []}
    cubic = _cubic_namespace()
    if cubic is not None:
        shares[CUBIC] = []
    for _ in range(_PROCESSES):
        shares[AS_HOST].append(_share())
        if cubic is not None:
            with cubic.entered():
                shares[CUBIC].append(_share())
    if cubic is not None:
        cubic.close()
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return Transports({condition: tuple(found) for condition, found in shares.items()}, control)


def _share() -> Share:
    """What a process of its own measures, in the network namespace of this thread."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.transport_rounds"],
        env=os.environ | steady_environment(1),
        stdout=subprocess.PIPE,
        check=True,
    )
    messages, echoes = json.loads(done.stdout)
    return Share(
        {int(size): {n: statistics.median(times) for n, times in of.items()} for size, of in messages.items()},
        {name: statistics.median(times) for name, times in echoes.items()},
    )


def _cubic_namespace() -> NetworkNamespace | None:
    """A namespace whose loopback gives cubic to every socket; None where none may be made.

    By its routes, since the sysctl is not every namespace's to write.
    """
    found = availability()
    if found.how == "none" or found.needs_reexec:
        return None
    namespace = NetworkNamespace.create()
    with namespace.entered():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for destination in ("127.0.0.0/8", "127.0.0.1"):
            route = f"local {destination} dev lo proto kernel scope host src 127.0.0.1 congctl cubic"
            subprocess.run(["ip", "route", "replace", "table", "local", *route.split()], check=True)
    return namespace


if __name__ == "__main__":
    print(transports())
