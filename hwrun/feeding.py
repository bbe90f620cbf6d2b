"""Feeding a pipeline in each mode: how many batches are under way, or when the next one starts.

Decisions only. The pipeline is a `Line`: something that takes a batch and gives it back, with times on one
clock. Tests feed lines that compute their times instead of waiting for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from hwrun.errors import BadUsageError, HwrunError
from paretosim.mode import MODE_NAMES, Mode

# A saturated pipeline's period is at its least when doubling the window improves it by no more than this.
PERIOD_TOLERANCE = 0.01
# Paced batches come at this share of the saturated rate, so that they do not queue.
PACE = 0.95
WARMUP_BATCHES = 2
# Completions that one window is judged by, at least; in whole rounds of the window.
TRIAL_BATCHES = 4
MAX_WINDOW = 256
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


def feed(line: Line, mode: Mode, batches: int, *, stages_share_a_host: bool = False) -> tuple[FedRun, ...]:
    """Feed a warmed-up, empty line in `mode`; the sub-runs, in order.

    Parameters
    ----------
    batches : measured batches a sub-run, at least; `burst` has its own number.
    stages_share_a_host : so that a batch is slowed by those behind it. A window is then kept full until the last
        measured batch is back; those under way by then are in no statistic.

    Raises
    ------
    BadUsageError : a mode that is predicted only.
    NotSaturatedError : in `paced`, where no window up to MAX_WINDOW saturates.
    """
    check_feedable(mode)
    feeder = _Feeder(line, keeps_full=stages_share_a_host)
    if mode.name == "single":
        return (_single(feeder, batches),)
    if mode.name == "closed":
        assert mode.window is not None  # Mode has checked it
        return (_closed(feeder, mode.window, batches),)
    if mode.name == "burst":
        assert mode.batches is not None
        return (_burst(feeder, mode.batches),)
    saturated = _saturated(feeder, batches)
    completions = [fed.returned_s for fed in saturated.batches]
    period_s = (completions[-1] - completions[0]) / (len(completions) - 1)
    return saturated, _paced(feeder, period_s / PACE, batches)


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
    trials = 2 * (1 + TRIAL_BATCHES)  # windows 1 and 2 are tried in any case; the last one's count as measured
    return trials - TRIAL_BATCHES + batches + WARMUP_BATCHES + batches


class _Feeder:
    def __init__(self, line: Line, *, keeps_full: bool = False) -> None:
        self.line = line
        self._keeps_full = keeps_full
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
    taken = feeder.run_full(window, window + _in_rounds(batches, window) + 1)
    return FedRun("closed", tuple(taken[:window]), tuple(taken[window:]), window=window)


def _burst(feeder: _Feeder, batches: int) -> FedRun:
    warmup = feeder.run(1, WARMUP_BATCHES)
    return FedRun("burst", tuple(warmup), tuple(feeder.run(batches, batches)), window=batches)


def _saturated(feeder: _Feeder, batches: int) -> FedRun:
    """Double the window, without emptying the line, until the period no longer falls.

    The period at window w is max(t*, L₀/w). If it does not fall from w to 2w by more than the tolerance, then
    L₀/w cannot have been above t* by more than it either: two small windows that look alike are saturated.
    Batches that only settled or tried a window are kept as warm-up.
    """
    window = 1
    warmup: list[Fed] = []
    previous_s: float | None = None
    while window <= MAX_WINDOW:
        settling = feeder.keep(window, window)
        trial = feeder.keep(window, _in_rounds(TRIAL_BATCHES, window))
        period_s = (trial[-1].returned_s - settling[-1].returned_s) / len(trial)
        if previous_s is not None and period_s > previous_s * (1 - PERIOD_TOLERANCE):
            more = max(batches - len(trial), feeder.under_way)
            return FedRun("saturated", (*warmup, *settling), (*trial, *feeder.run_full(window, more)), window=window)
        warmup += [*settling, *trial]
        previous_s = period_s
        window *= 2
    raise NotSaturatedError(
        f"saturated: the period still falls at window {MAX_WINDOW} (to {previous_s:.6g} s); expected it to settle."
        " The delay is too long for so short stages: use mode closed, a lower --speed, or a shorter delay"
    )


def _paced(feeder: _Feeder, interval_s: float, batches: int) -> FedRun:
    count = WARMUP_BATCHES + batches
    first_s = feeder.dispatch()
    for number in range(1, count):
        feeder.line.wait_until(first_s + number * interval_s)
        feeder.dispatch()
    taken = [feeder.take() for _ in range(count)]
    return FedRun("paced", tuple(taken[:WARMUP_BATCHES]), tuple(taken[WARMUP_BATCHES:]), interval_s=interval_s)
