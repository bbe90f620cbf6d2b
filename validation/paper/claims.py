"""The paper's claims, each as a question to the predictions: does the direction hold, and by what arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from paretosim.prediction import Row
from validation.paper.evidence import Evidence
from validation.paper.rows import front_of
from validation.published import TABLES, PublishedRow, TableName
from validation.wording import duration, percent

Outcome = Literal["holds", "holds within the profiles' error", "does not hold", "cannot be judged"]
OUTCOMES: tuple[Outcome, ...] = ("holds", "holds within the profiles' error", "does not hold", "cannot be judged")
_PATHS: dict[TableName, str] = {"pi_to_pi": "Pi–Pi", "pi_to_gpu": "Pi–GPU"}
SYMMETRIC = ("alexnet", "inception_v3", "vgg16")
ASYMMETRIC = ("mobilenet_v2", "resnet18", "resnet50")
# A split of the paper's index in the middle third of a model's blocks is called symmetric. The paper gives no
# definition; by this one its own best splits (P10/21, P10/22, P14/39; P3/21, P2/14, P5/22) fall as it says.
MIDDLE = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, about what, whether it holds for the predictions, and the arithmetic."""

    section: str
    says: str
    about: str
    outcome: Outcome
    arithmetic: str


def judge_claims(evidence: Evidence) -> tuple[Claim, ...]:
    """All claims that the predictions have something to say to, but for sockets against RPC (`backends`)."""
    found = (
        _named_points, _symmetry, _first_blocks, _light_and_heavy, _one_point_fronts, _gpu_gains, _slow_front,
        _slow_split, _sparse, _idle_gpu, _early_splits, _busy_devices,
    )  # fmt: skip
    return tuple(claim for judge in found for claim in judge(evidence))


def paper_index(model: str, split: int) -> int:
    """The paper's own index of a split: the inverse of `published.split_of_index`."""
    if model in ("resnet18", "resnet50"):
        return split - 4
    return split - 1 if model == "inception_v3" and split > 16 else split


def _offered(
    evidence: Evidence, table: TableName, model: str, *, shaped: bool = False, unseen: PublishedRow | None = None
) -> tuple[Row, ...]:
    return evidence.offered(evidence.predicted(table, model, shaped=shaped, unseen=unseen))


def _fastest(rows: tuple[Row, ...]) -> Row:
    return min(rows, key=lambda row: (row.latency_s, -row.throughput_per_s))


def _busiest(rows: tuple[Row, ...]) -> Row:
    return max(rows, key=lambda row: (row.throughput_per_s, -row.latency_s))


def _within(loss: float, error: float) -> Outcome:
    if loss <= 0:
        return "holds"
    return "holds within the profiles' error" if loss <= error else "does not hold"


def _models(evidence: Evidence) -> list[str]:
    return list(dict.fromkeys(row.model for row in evidence.rows))


def _named_points(evidence: Evidence) -> Iterator[Claim]:
    """The Pareto points that the text names."""
    for section, table, model, index, what in (
        ("V-A", "pi_to_pi", "mobilenet_v2", 3, "throughput"),
        ("V-C", "pi_to_pi", "alexnet", 10, "throughput"),
        ("V-C", "pi_to_pi", "alexnet", 11, "latency"),
        ("V-A", "pi_to_gpu", "mobilenet_v2", 1, "throughput"),
        ("V-A", "pi_to_gpu", "mobilenet_v2", 1, "latency"),
    ):
        named: TableName = "pi_to_pi" if table == "pi_to_pi" else "pi_to_gpu"
        row = evidence.row(named, model, index)
        offered = _offered(evidence, named, model, unseen=row)
        own = next(found for found in offered if found.split == row.split)
        error = evidence.error_of(named, model)
        if what == "throughput":
            best = _busiest(offered)
            loss = 1 - own.throughput_per_s / best.throughput_per_s
            values = f"{own.throughput_per_s:.2f} images/s against {best.throughput_per_s:.2f}"
        else:
            best = _fastest(offered)
            loss = own.latency_s / best.latency_s - 1
            values = f"{duration(own.latency_s)} against {duration(best.latency_s)}"
        yield Claim(
            section,
            f"{'highest throughput' if what == 'throughput' else 'lowest latency'} at P{index}",
            f"{model}, {_PATHS[named]}",
            _within(loss, error),
            f"without this row, P{index} has {values} of the predicted best, P{paper_index(model, best.split)}:"
            f" {percent(loss)} lost, profiles' error {percent(error)}",
        )


def _symmetry(evidence: Evidence) -> Iterator[Claim]:
    for model in (*SYMMETRIC, *ASYMMETRIC):
        row = evidence.rows_of("pi_to_pi", model)[0]
        blocks = len(evidence.models[model].blocks)
        best = _busiest(_offered(evidence, "pi_to_pi", model, unseen=row))
        index = paper_index(model, best.split)
        share = index / blocks
        symmetric = MIDDLE[0] <= share <= MIDDLE[1]
        stem = (
            f"; counted from the input it is split {best.split} of {blocks} ({best.split / blocks:.2f}), so the"
            " asymmetry is one of the index, which leaves out the stem's four blocks"
            if model.startswith("resnet")
            else ""
        )
        yield Claim(
            "V-A",
            f"best split {'symmetric' if model in SYMMETRIC else 'asymmetric'}",
            f"{model}, Pi–Pi",
            "holds" if symmetric == (model in SYMMETRIC) else "does not hold",
            f"without P{row.index}, throughput is best at P{index} of {blocks} blocks ({share:.2f} of them; symmetric"
            f" is {MIDDLE[0]:.2f} to {MIDDLE[1]:.2f}), {best.throughput_per_s:.2f} images/s, stages"
            f" {duration(best.stages_s[0])} and {duration(best.stages_s[1])}{stem}",
        )


def _first_blocks(evidence: Evidence) -> Iterator[Claim]:
    row = evidence.row("pi_to_pi", "mobilenet_v2", 3)
    own = next(r for r in _offered(evidence, "pi_to_pi", "mobilenet_v2", unseen=row) if r.split == row.split)
    share, blocks = own.stages_s[0] / sum(own.stages_s), len(evidence.models["mobilenet_v2"].blocks)
    published = row.stages_s[0] / sum(row.stages_s)
    yield Claim(
        "V-A",
        "initial blocks are the most computationally intensive",
        "mobilenet_v2, Pi",
        "holds" if share > 2 * row.split / blocks else "does not hold",
        f"without this row, the first {row.split} of {blocks} blocks ({row.split / blocks:.0%} of them) take"
        f" {share:.0%} of the time; published {row.stages_s[0]:g}/({row.stages_s[0]:g} + {row.stages_s[1]:g}) ="
        f" {published:.0%}",
    )


def _light_and_heavy(evidence: Evidence) -> Iterator[Claim]:
    best = {m: _offered(evidence, "pi_to_pi", m) for m in ("mobilenet_v2", "alexnet", "vgg16", "resnet50")}
    throughput = {model: _busiest(rows).throughput_per_s for model, rows in best.items()}
    latency = {model: _fastest(rows).latency_s for model, rows in best.items()}
    light, heavy = ("mobilenet_v2", "alexnet"), ("vgg16", "resnet50")
    holds = min(throughput[m] for m in light) > max(throughput[m] for m in heavy) and max(
        latency[m] for m in light
    ) < min(latency[m] for m in heavy)
    yield Claim(
        "V-A",
        "light models outperform heavy ones in throughput and latency",
        "MobileNetV2 and AlexNet against VGG16 and ResNet50, Pi–Pi",
        "holds" if holds else "does not hold",
        "; ".join(f"{m} {throughput[m]:.2f} images/s, {duration(latency[m])}" for m in (*light, *heavy)),
    )


def _one_point_fronts(evidence: Evidence) -> Iterator[Claim]:
    for row in evidence.rows_of("pi_to_gpu"):
        offered = _offered(evidence, "pi_to_gpu", row.model, unseen=row)
        front = front_of(offered)
        error = evidence.error_of("pi_to_gpu", row.model)
        spread = max(
            _busiest(front).throughput_per_s / front[0].throughput_per_s - 1,
            front[-1].latency_s / front[0].latency_s - 1,
        )
        own = next(found for found in offered if found.split == row.split)
        loss = max(
            1 - own.throughput_per_s / _busiest(offered).throughput_per_s,
            own.latency_s / _fastest(offered).latency_s - 1,
        )
        named = ", ".join(f"P{paper_index(row.model, found.split)}" for found in front)
        yield Claim(
            "V-C",
            "the front is a single point",
            f"{row.model}, Pi–GPU",
            "holds" if len(front) == 1 else _within(spread, error),
            f"without this row, predicted front: {named}"
            + (
                ""
                if len(front) == 1
                else f", whose ends differ by {percent(spread)} (profiles' error {percent(error)})"
            ),
        )
        yield Claim(
            "table III",
            f"that point is P{row.index}",
            f"{row.model}, Pi–GPU",
            _within(loss, error),
            f"P{row.index}: {own.throughput_per_s:.2f} images/s and {duration(own.latency_s)}, at most"
            f" {percent(loss)} behind the predicted best (P{paper_index(row.model, _busiest(offered).split)} in"
            f" throughput, P{paper_index(row.model, _fastest(offered).split)} in latency); profiles' error"
            f" {percent(error)}",
        )


def _gpu_gains(evidence: Evidence) -> Iterator[Claim]:
    gains, faster = {}, {}
    for model in _models(evidence):
        pi, gpu = (_offered(evidence, table, model) for table in TABLES)
        gains[model] = _busiest(gpu).throughput_per_s / _busiest(pi).throughput_per_s
        faster[model] = _fastest(pi).latency_s / _fastest(gpu).latency_s
    told = "; ".join(f"{model} {gains[model]:.1f}×, latency {faster[model]:.1f}× shorter" for model in gains)
    yield Claim(
        "V-A",
        "a GPU server boosts throughput and shortens latency",
        "all models, Pi–GPU against Pi–Pi",
        "holds" if min(*gains.values(), *faster.values()) > 1 else "does not hold",
        told,
    )
    heavy = ("resnet50", "vgg16", "inception_v3")
    rest = [model for model in gains if model not in heavy]
    holds = min(gains[m] for m in heavy) > max(gains[m] for m in rest) and min(faster[m] for m in heavy) > max(
        faster[m] for m in rest
    )
    yield Claim(
        "V-A",
        "especially for larger models like ResNet50, VGG16 and InceptionV3",
        "their gain against that of the other three",
        "holds" if holds else "does not hold",
        f"gains as above: the smallest of the three is {min(gains[m] for m in heavy):.1f}×, the largest of the others"
        f" {max(gains[m] for m in rest):.1f}×; in latency {min(faster[m] for m in heavy):.1f}× and"
        f" {max(faster[m] for m in rest):.1f}×",
    )


def _slow_front(evidence: Evidence) -> Iterator[Claim]:
    for table in TABLES:
        worse, told = True, []
        for model in _models(evidence):
            lan, slow = (_offered(evidence, table, model, shaped=shaped) for shaped in (False, True))
            before, after = _fastest(lan).latency_s, _fastest(slow).latency_s
            much, less = _busiest(lan).throughput_per_s, _busiest(slow).throughput_per_s
            worse &= after > before and less < much
            told.append(
                f"{model} {duration(before)} → {duration(after)}, {much:.2f} → {less:.2f} images/s"
            )  # fmt: skip
        yield Claim(
            "V-B",
            "200 ms and 5 Mbit/s shift the whole front to higher latency and lower throughput",
            f"all models, {_PATHS[table]}",
            "holds" if worse else "does not hold",
            "best of each: " + "; ".join(told),
        )


def _slow_split(evidence: Evidence) -> Iterator[Claim]:
    for table in TABLES:
        later, told = True, []
        for model in _models(evidence):
            lan, slow = (_offered(evidence, table, model, shaped=shaped) for shaped in (False, True))
            splits = [(pick(lan).split, pick(slow).split) for pick in (_busiest, _fastest)]
            later &= all(after >= before for before, after in splits) and any(b != a for b, a in splits)
            (a, b), (c, d) = splits
            told.append(f"{model} {a} → {b} in throughput, {c} → {d} in latency")
        yield Claim(
            "V-B",
            "the best split moves towards the first device",
            f"all models, {_PATHS[table]}",
            "holds" if later else "does not hold",
            "splits (blocks on the first device): " + "; ".join(told),
        )


def _sparse(evidence: Evidence) -> Iterator[Claim]:
    counts = {
        (table, model, shaped): len(front_of(_offered(evidence, table, model, shaped=shaped)))
        for table in TABLES
        for model in _models(evidence)
        for shaped in (False, True)
    }
    fewer = all(counts["pi_to_pi", model, True] < counts["pi_to_pi", model, False] for model in _models(evidence))
    yield Claim(
        "V-B",
        "fronts become sparse on the slow link",
        "all models, Pi–Pi",
        "holds" if fewer else "does not hold",
        "points: "
        + "; ".join(f"{m} {counts['pi_to_pi', m, False]} → {counts['pi_to_pi', m, True]}" for m in _models(evidence)),
    )
    still = all(counts["pi_to_gpu", model, True] <= counts["pi_to_pi", model, False] for model in _models(evidence))
    yield Claim(
        "V-B",
        "fronts are sparse on the slow link, in contrast to the LAN",
        "all models, Pi–GPU",
        "holds" if still else "does not hold",
        "no model has more points than Pi–Pi on the LAN, but most have more than Pi–GPU on the LAN had: "
        + "; ".join(f"{m} {counts['pi_to_gpu', m, False]} → {counts['pi_to_gpu', m, True]}" for m in _models(evidence)),
    )


def _idle_gpu(evidence: Evidence) -> Iterator[Claim]:
    idle, share_then, share_best, told = [], [], [], []
    for row in evidence.rows_of("pi_to_gpu"):
        slow = _offered(evidence, "pi_to_gpu", row.model, shaped=True)
        own = next(found for found in slow if found.split == row.split)
        best = _fastest(slow)
        idle.append(1 - max(found.stages_s[1] / found.period_s for found in slow))
        share_then.append(_sending_share(own))
        share_best.append(_sending_share(best))
        told.append(
            f"{row.model} P{row.index} {share_then[-1]:.0%}, P{paper_index(row.model, best.split)} {share_best[-1]:.0%}"
        )
    yield Claim(
        "V-B",
        "the GPU is idle most of the time",
        "all models and splits, Pi–GPU on the slow link",
        "holds" if min(idle) > 0.5 else "does not hold",
        f"at any split it computes for {1 - min(idle):.1%} of the time at most",
    )
    yield Claim(
        "V-B",
        "transfers are the dominant portion of latency",
        "splits that were best on the LAN, Pi–GPU on the slow link",
        "holds" if min(share_then) > 0.5 else "does not hold",
        "share of an unloaded batch's time, at the LAN's best split and at the slow link's best: " + "; ".join(told),
    )
    yield Claim(
        "V-B",
        "the same",
        "splits that are best on the slow link itself",
        "holds" if min(share_best) > 0.5 else "does not hold",
        f"there a batch's transfer takes {min(share_best):.0%} to {max(share_best):.0%} of its time (second figures"
        " above): whoever moves the split computes for most of it",
    )


def _sending_share(row: Row) -> float:
    sending = sum(row.links_s) + sum(row.delays_s)
    return sending / (sending + sum(row.stages_s))


def _early_splits(evidence: Evidence) -> Iterator[Claim]:
    sizes = evidence.models["mobilenet_v2"].cut_bytes()
    inner = sizes[1:-1]
    largest = inner.index(max(inner)) + 1
    slow = _offered(evidence, "pi_to_gpu", "mobilenet_v2", shaped=True)
    own, best = next(r for r in slow if r.split == 1), _busiest(slow)
    yield Claim(
        "V-B",
        "early splits are punished most: P1 sends the most intermediate data",
        "mobilenet_v2, Pi–GPU on the slow link",
        "holds" if largest == 1 and own.throughput_per_s == min(r.throughput_per_s for r in slow) else "does not hold",
        f"a batch is {8 * sizes[1] / 1e6:.2f} MB at P1, the most of any cut; {own.throughput_per_s:.2f} images/s"
        f" there against {best.throughput_per_s:.2f} at P{best.split}",
    )


def _busy_devices(evidence: Evidence) -> Iterator[Claim]:
    told, holds = [], True
    for model in _models(evidence):
        rows = evidence.rows_of("pi_to_pi", model)
        found = {r.split: r for r in _offered(evidence, "pi_to_pi", model)}
        shares = [[stage / found[row.split].period_s for stage in found[row.split].stages_s] for row in rows]
        high, low = shares[0], shares[-1]
        # The two AlexNet rows are both balanced: of the others the second is the one of lowest latency.
        holds &= min(high) > min(low) or model == "alexnet"
        told.append(
            f"{model} "
            + ", ".join(f"P{row.index} {one:.0%} and {two:.0%}" for row, (one, two) in zip(rows, shares, strict=True))
        )
    yield Claim(
        "V-C",
        "both Pis are busy where throughput is high, unevenly so where latency is low",
        "all models but AlexNet, whose two rows are both balanced, Pi–Pi",
        "holds" if holds else "does not hold",
        "predicted share of time that each computes: " + "; ".join(told),
    )
