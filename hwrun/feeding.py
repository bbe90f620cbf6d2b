"""Feeding a pipeline in each mode: how many batches are under way, or when the next one starts.

Decisions only. The pipeline is a `Line`: something that takes a batch and gives it back, with times on one
clock. Tests feed lines that compute their times instead of waiting for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hwrun.errors import BadUsageError, HwrunError
from paretosim.mode import MODE_NAMES, Mode

# Paced batches come at this share of the saturated rate, so that they do not queue.
PACE = 0.95
WARMUP_BATCHES = 2
# The first window that is tried: two stages and the link between them are three stations, and one batch waits.
FIRST_WINDOW = 4
MAX_WINDOW = 256
# Rounds that open TCP's windows: two at least, and as many as each is faster than the one before by this share.
FEWEST_OPENING_ROUNDS = 2
_MOST_OPENING_ROUNDS = 8
_OPENED = 0.02
SubRunName = Literal["single", "saturated", "paced", "closed", "burst"]


class Line(Protocol):
    """A pipeline in which batches come back in the order they were dispatched."""

    def dispatch(self, sequence: int) -> float:
        """Start a batch; when that was, seconds."""

    def take_returned(self) -> tuple[int, float]:
        """Wait for the next batch to return; its number and when that was, seconds."""

    def wait_until(self, time_s: float) -> None:
        """Return at that time, or at once where it has passed."""


@dataclass(frozen=True)
class Fed:
    """A batch that was dispatched and has returned, seconds of the line's clock."""

    sequence: int
    dispatched_s: float
    returned_s: float


@dataclass(frozen=True)
class FedRun:
    """Batches fed in one way, those that only warmed up apart."""

    name: SubRunName
    warmup: tuple[Fed, ...]
    batches: tuple[Fed, ...]
    window: int | None = None
    interval_s: float | None = None


class NotSaturatedError(HwrunError):
    """No window within bounds saturated the pipeline."""


def feed(
    line: Line, mode: Mode, batches: int, *, slowed_from_behind: bool = False, opening: bool = False
) -> tuple[FedRun, ...]:
    """Feed a warmed-up, empty line in `mode`; the sub-runs, in order.

    Parameters
    ----------
    batches : measured batches a sub-run, at least; `burst` has its own number.
    slowed_from_behind : a batch is slowed by those behind it, as where stages share a host, or compute for real beside
        one another. A window is then kept full until the last measured batch is back; those under way by then are in
        no statistic.
    opening : a window of batches is more than TCP has let out so far, as where they are small beside what a link
        holds in a round trip. Rounds of a window at once warm it up then, until they are no longer faster.

    Raises
    ------
    BadUsageError : a mode that is predicted only.
    NotSaturatedError : in `paced`, where no window up to MAX_WINDOW saturates.
    """
    check_feedable(mode)
    feeder = _Feeder(line, keeps_full=slowed_from_behind, opening=opening)
    if mode.name == "single":
        return (_single(feeder, batches),)
    if mode.name == "closed":
        assert mode.window is not None  # Mode has checked it
        return (_closed(feeder, mode.window, batches),)
    if mode.name == "burst":
        assert mode.batches is not None
        return (_burst(feeder, mode.batches),)
    saturated = _saturated(feeder, batches)
    return saturated, _paced(feeder, _period_s(saturated.batches) / PACE, batches)


def _period_s(taken: Sequence[Fed]) -> float:
    """Mean interval of completions."""
    return (taken[-1].returned_s - taken[0].returned_s) / (len(taken) - 1)


def check_feedable(mode: Mode) -> None:
    """Refuse a mode that a pipeline cannot be fed in.

    Raises
    ------
    BadUsageError : such a mode.
    """
    if mode.name not in MODE_NAMES:
        raise BadUsageError(
            f"mode {mode}: it is predicted and simulated only, expected one of {', '.join(MODE_NAMES)} to measure in"
        )


def fed_batches(mode: Mode, batches: int) -> int:
    """At least how many batches `feed` sends through the line in that mode."""
    check_feedable(mode)
    if mode.name == "single":
        return WARMUP_BATCHES + batches
    if mode.name == "closed":
        assert mode.window is not None
        return mode.window + _in_rounds(batches, mode.window) + 1
    if mode.name == "burst":
        assert mode.batches is not None
        return WARMUP_BATCHES + mode.batches
    return WARMUP_BATCHES + saturating_batches(FIRST_WINDOW, batches) + WARMUP_BATCHES + batches


def saturating_batches(window: int, batches: int) -> int:
    """How many measured batches tell whether a window saturates: those asked for, and a whole round of it at least."""
    return max(batches, window + 1)


class _Feeder:
    def __init__(self, line: Line, *, keeps_full: bool = False, opening: bool = False) -> None:
        self.line = line
        self._keeps_full = keeps_full
        self._opening = opening
        self._next = 0
        self._dispatched_s: dict[int, float] = {}

    @property
    def under_way(self) -> int:
        return len(self._dispatched_s)

    def dispatch(self) -> float:
        sequence, self._next = self._next, self._next + 1
        self._dispatched_s[sequence] = time_s = self.line.dispatch(sequence)
        return time_s

    def take(self) -> Fed:
        sequence, returned_s = self.line.take_returned()
        return Fed(sequence, self._dispatched_s.pop(sequence), returned_s)

    def open(self, window: int) -> list[Fed]:
        """Rounds of `window` batches at once into the empty line, until one is not faster than the one before.

        A connection that carried batches one by one has a congestion window, and a send buffer, of about one batch
        (RFC 5681: it grows by what is acknowledged while it limits). Several at once would then wait a round trip or
        more for acknowledgements, which a connection long in use does not.
        """
        taken: list[Fed] = []
        last_s = math.inf
        for number in range(_MOST_OPENING_ROUNDS if self._opening else 0):
            round_ = self.run(window, window)
            taken += round_
            round_s = round_[-1].returned_s - round_[0].dispatched_s
            if number + 1 >= FEWEST_OPENING_ROUNDS and round_s > (1 - _OPENED) * last_s:
                break
            last_s = round_s
        return taken

    def keep(self, window: int, count: int) -> list[Fed]:
        """Take `count` batches while `window` are kept under way; that many are under way after it."""
        taken = []
        for _ in range(count):
            while self.under_way < window:
                self.dispatch()
            taken.append(self.take())
        return taken

    def run_full(self, window: int, count: int) -> list[Fed]:
        """As `run`, for a window that is a condition of what is measured: no batch runs before an emptier line."""
        if not self._keeps_full:
            return self.run(window, count)
        taken = self.keep(window, count)
        while self.under_way:
            self.take()
        return taken

    def run(self, window: int, count: int) -> list[Fed]:
        """Feed `count` batches with at most `window` under way, and take them all.

        Batches leave in order, so that none follow the last ones changes nothing about these.
        """
        taken = []
        for number in range(count):
            while self.under_way < min(window, count - number):
                self.dispatch()
            taken.append(self.take())
        return taken


def _single(feeder: _Feeder, batches: int) -> FedRun:
    taken = feeder.run(1, WARMUP_BATCHES + batches)
    return FedRun("single", tuple(taken[:WARMUP_BATCHES]), tuple(taken[WARMUP_BATCHES:]), window=1)


def _in_rounds(batches: int, window: int) -> int:
    return -(-batches // window) * window


def _closed(feeder: _Feeder, window: int, batches: int) -> FedRun:
    # Where the window does not fill the line, a round of `window` batches returns close together once per L₀. A
    # mean interval of completions is then right only over whole rounds: a multiple of the window, and one more.
    opening = feeder.open(window)
    taken = feeder.run_full(window, window + _in_rounds(batches, window) + 1)
    return FedRun("closed", (*opening, *taken[:window]), tuple(taken[window:]), window=window)


def _burst(feeder: _Feeder, batches: int) -> FedRun:
    warmup = feeder.run(1, WARMUP_BATCHES) + feeder.open(batches)
    return FedRun("burst", tuple(warmup), tuple(feeder.run(batches, batches)), window=batches)


def _saturated(feeder: _Feeder, batches: int) -> FedRun:
    """Double the window, each time on the empty line, until a batch always waits for the slowest station.

    The period at window w is max(t*, L₀/w), and the first batch of an empty line, which none is ahead of, takes L₀. By
    Little's law w batches under way and one out every period p stay w·p each, L₀ of it in stations and on links; so
    (w·p − L₀)/p of them wait at any time. Where that is one or more, the slowest station never runs out of work, and
    p is t*: L₀/w would leave none waiting. What slows the first batch only makes the window larger than it had to be.
    Batches of smaller windows are kept as warm-up.
    """
    window = FIRST_WINDOW
    warmup: list[Fed] = []
    while window <= MAX_WINDOW:
        warmup += feeder.open(window)
        taken = feeder.run_full(window, WARMUP_BATCHES + saturating_batches(window, batches))
        alone_s = taken[0].returned_s - taken[0].dispatched_s
        warmup += taken[:WARMUP_BATCHES]
        measured = taken[WARMUP_BATCHES:]
        # Where the window does not fill the line, a mean interval is right only over whole rounds (`_closed`).
        period_s = _period_s(measured[: (len(measured) - 1) // window * window + 1])
        if (window - 1) * period_s >= alone_s:
            return FedRun("saturated", tuple(warmup), tuple(measured), window=window)
        warmup += measured
        window *= 2
    raise NotSaturatedError(
        f"saturated: at window {MAX_WINDOW} a batch takes {alone_s:.6g} s and one returns every {period_s:.6g} s;"
        " expected one of them to wait at any time. The delay is too long for so short stages: use mode closed, a lower"
        " --speed, or a shorter delay"
    )


def _paced(feeder: _Feeder, interval_s: float, batches: int) -> FedRun:
    count = WARMUP_BATCHES + batches
    first_s = feeder.dispatch()
    for number in range(1, count):
        feeder.line.wait_until(first_s + number * interval_s)
        feeder.dispatch()
    taken = [feeder.take() for _ in range(count)]
    return FedRun("paced", tuple(taken[:WARMUP_BATCHES]), tuple(taken[WARMUP_BATCHES:]), interval_s=interval_s)
