"""Sockets against RPC: the paper's headline, under terms and windows that are said, since it does not say its own.

Figure 7 and V-C: MobileNetV2 on two Pis at the splits of highest throughput; sockets have 76 % less latency and 53 %
more throughput. Which split RPC was best at, how many batches its master kept under way, and where its clock starts are
not published. So each way is predicted, and what is missing between it and the published ratio is worked out.
"""

from __future__ import annotations

from dataclasses import dataclass

from paretosim.calibration import SCHEMA_VERSION, Calibration, Relay
from paretosim.mode import Mode
from paretosim.operation import Clock
from paretosim.prediction import Row, predict
from validation.paper.claims import Claim, Outcome
from validation.paper.evidence import PAPER_MODE, Evidence
from validation.wording import duration, percent

PUBLISHED_LESS_LATENCY, PUBLISHED_MORE_THROUGHPUT = 0.76, 0.53
_MODEL, _INDEX = "mobilenet_v2", 3


@dataclass(frozen=True)
class Way:
    """How RPC's master may have fed its workers, and where its clock starts."""

    name: str
    mode: Mode
    clock: Clock


WAYS = (
    Way("RPC as sockets: 8 batches at once, clock from the start of stage 1", PAPER_MODE, "stage1"),
    Way("RPC with 8 batches at once, clock from the dispatch", PAPER_MODE, "dispatch"),
    Way("RPC one batch at a time", Mode(name="single"), "dispatch"),
)


@dataclass(frozen=True)
class BackendComparison:
    """Sockets as the paper ran them against one way of RPC, at the split of highest throughput of each."""

    way: Way
    sockets: Row
    rpc: Row

    @property
    def less_latency(self) -> float:
        """Of sockets, relative to RPC's."""
        return 1 - self.sockets.latency_s / self.rpc.latency_s

    @property
    def more_throughput(self) -> float:
        """Of sockets, relative to RPC's."""
        return self.sockets.throughput_per_s / self.rpc.throughput_per_s - 1

    @property
    def missing_s(self) -> float:
        """What RPC's period lacks, a batch, to be that much slower than sockets as published; negative: it has more."""
        return self.sockets.period_s * (1 + PUBLISHED_MORE_THROUGHPUT) - self.rpc.period_s


def assumed_rpc(evidence: Evidence) -> Calibration:
    """Terms of RPC where no calibration is at hand: a call to each worker, 1 ms each, activations over the master."""
    link = evidence.link_of("pi_to_gpu")
    return Calibration(
        schema_version=SCHEMA_VERSION,
        name="assumed",
        backend="rpc",
        title="assumed: two calls a batch of 1 ms each beside the link's round trips, activations over the server",
        rpc_round_trips=2.0,
        rpc_s=1e-3,
        relay=Relay(rate_bps=link.rate_bps, delay_s=link.one_way_delay_s),
    )


def compare_backends(evidence: Evidence, rpc: Calibration) -> tuple[BackendComparison, ...]:
    """Every way, from profiles that have not seen the row of the highest throughput."""
    row = evidence.row("pi_to_pi", _MODEL, _INDEX)
    sockets = _best(evidence.predicted("pi_to_pi", _MODEL, unseen=row).rows)
    found = []
    for way in WAYS:
        setting = evidence.setting("pi_to_pi", _MODEL, unseen=row, mode=way.mode, clock=way.clock, rpc=rpc)
        found.append(BackendComparison(way, sockets, _best(predict(setting).rows)))
    return tuple(found)


def judge_backends(comparisons: tuple[BackendComparison, ...], rpc: Calibration) -> tuple[Claim, ...]:
    """The direction, and both published ratios."""
    terms = f"RPC terms {'assumed' if rpc.name == 'assumed' else f'of calibration {rpc.name}'}"
    about = f"{_MODEL}, Pi–Pi, at each one's split of highest throughput; {terms}"
    like = comparisons[0]  # the same window and clock on both sides
    ahead: Outcome = "holds" if like.less_latency > 0 and like.more_throughput > 0 else "does not hold"
    told = "; ".join(
        f"{c.way.name} (split {c.rpc.split}): {percent(c.less_latency)} less latency ({duration(c.sockets.latency_s)}"
        f" against {duration(c.rpc.latency_s)}), {percent(c.more_throughput)} more throughput"
        for c in comparisons
    )
    latencies, gains = [c.less_latency for c in comparisons], [c.more_throughput for c in comparisons]
    missing = "; ".join(f"{c.way.name}: {duration(c.missing_s)}" for c in comparisons)
    return (
        Claim("V-C", "sockets beat RPC in latency and throughput", about, ahead, f"like for like first: {told}"),
        Claim(
            "V-C",
            f"by {PUBLISHED_LESS_LATENCY:.0%} less latency",
            about,
            _between(PUBLISHED_LESS_LATENCY, latencies),
            f"predicted {percent(min(latencies))} to {percent(max(latencies))}, most of it by where the clock starts"
            " and how many batches wait, which is no property of a backend",
        ),
        Claim(
            "V-C",
            f"by {PUBLISHED_MORE_THROUGHPUT:.0%} more throughput",
            about,
            _between(PUBLISHED_MORE_THROUGHPUT, gains),
            f"predicted {percent(min(gains))} to {percent(max(gains))}; to be {PUBLISHED_MORE_THROUGHPUT:.0%} slower"
            f" than sockets a batch of RPC lacks, in the period, {missing} (negative: it has more than that); round"
            " trips of 0.2 ms and a relayed activation explain no such time, stages that compute slower beside RPC"
            " (which the paper reports) or a small window would",
        ),
        Claim(
            "V-C",
            "execution time of each device is shorter with sockets",
            about,
            "cannot be judged",
            "block times are the device's and not the backend's in this model; a calibration of RPC says it with γ",
        ),
    )


def _between(published: float, found: list[float]) -> Outcome:
    """A ratio that ways of running it span depends on what is not published; one outside of all of them is refuted."""
    return "cannot be judged" if min(found) <= published <= max(found) else "does not hold"


def _best(rows: tuple[Row, ...]) -> Row:
    return max(rows, key=lambda row: (row.throughput_per_s, -row.latency_s))
