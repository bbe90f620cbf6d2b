"""What the command shows, as tables: rows, their standing, claims, contradictions; and the page in docs/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paretosim.calibration import Calibration
from validation.contradictions import Contradiction
from validation.left_out import median_error
from validation.paper.backends import BackendComparison
from validation.paper.claims import OUTCOMES, Claim
from validation.paper.rows import RowVerdict
from validation.published import DEVICES
from validation.report.tables import Column, Table, words
from validation.report.text import markdown_table, plain
from validation.wording import duration, percent, signed

COMMAND = "python -m validation published"
_PATHS = {"pi_to_pi": "Pi–Pi (table II)", "pi_to_gpu": "Pi–GPU (table III)"}
_CONTRADICTIONS = {
    "longer_is_faster": "more blocks in less time",
    "exceeds_total": "a stage slower than the whole model",
    "beats_the_wire": "a transfer faster than a 1 Gbit/s wire",
    "totals_differ": "totals of one model differ",
    "out_of_line": "far from what all other rows say",
}


@dataclass(frozen=True)
class Judgement:
    """Everything that the command found out."""

    rows: tuple[RowVerdict, ...]
    claims: tuple[Claim, ...]
    backends: tuple[BackendComparison, ...]
    rpc: Calibration
    contradictions: tuple[Contradiction, ...]

    @property
    def verdict(self) -> str:
        """In a few sentences."""
        counts = Counter(claim.outcome for claim in self.claims)
        told = ", ".join(f"{counts[outcome]} {_spoken(outcome)}" for outcome in OUTCOMES if counts[outcome])
        left_out = {
            device: median_error(s.left_out_error for row in self.rows for s in row.stages if s.time.device == device)
            for device in dict.fromkeys(device for pair in DEVICES.values() for device in pair)
        }
        errors = ", ".join(f"{percent(error)} on {device}" for device, error in left_out.items())
        near = sum(row.standing != "off the front" for row in self.rows)
        wire = sum(entry.kind == "beats_the_wire" for entry in self.contradictions)
        return (
            f"Of {len(self.claims)} claims, {told}. Stage times of rows left out of the fit are off by {errors}"
            f" (median); of {len(self.rows)} published splits, predicted without them, {near} are on the front or"
            f" within the profiles' error of it. {len(self.contradictions)} contradictions stand in the tables"
            f" themselves, {wire} of them network times that beat the wire."
        )


def _spoken(outcome: str) -> str:
    return {
        "holds": "hold",
        "holds within the profiles' error": "hold within the profiles' error",
        "does not hold": "do not hold",
    }.get(outcome, outcome)


def stage_table(found: Judgement) -> Table:
    """Every stage time of every row: published, fitted and left out; and the network time."""
    rows = []
    for entry in found.rows:
        row = entry.row
        stages = [
            cell
            for stage in entry.stages
            for cell in (
                f"{stage.time.seconds:.3f}", f"{stage.left_out_s:.3f}",
                signed(stage.left_out_error), signed(stage.fitted_error),
            )
        ]  # fmt: skip
        beats = any(text.startswith("beats_the_wire") for text in entry.contradictions)
        rows.append(
            (
                _PATHS[row.table], f"{row.model} P{row.index}", str(row.split), *stages, f"{row.network_s:.3f}",
                f"{entry.network_s:.3f}", signed(entry.network_error), "beats the wire" if beats else "",
            )
        )  # fmt: skip
    columns = (
        Column("table", words=True), Column("row", words=True), Column("split"),
        *(
            Column(heading, f"stage {k}", priority=priority)
            for k in (1, 2)
            for heading, priority in (("published, s", 2), ("left out, s", 3), ("error", 0), ("error if fitted", 4))
        ),
        Column("published, s", "network", priority=2), Column("wire and delay, s", "network", priority=3),
        Column("error", "network"), Column("note", words=True, priority=1),
    )  # fmt: skip
    return Table(
        "Every row",
        columns,
        tuple(rows),
        (
            "Left out: predicted by a fit that never saw the row; fitted errors beside it flatter. Network: x + d at 1"
            " Gbit/s; the published times start after the header was read, so they omit propagation and what was"
            " already buffered, and hold the receiver's reading: they are not fitted on.",
        ),
    )


def standing_table(found: Judgement) -> Table:
    """What is predicted of each published split in the paper's own mode, without its row."""
    rows = [
        (
            _PATHS[e.row.table], f"{e.row.model} P{e.row.index}", f"{e.throughput_per_s:.2f}", duration(e.latency_s),
            f"{e.throughput_rank} of {e.splits}", percent(e.throughput_loss), f"{e.latency_rank} of {e.splits}",
            percent(e.latency_loss), percent(e.profile_error), e.standing,
        )
        for e in found.rows
    ]  # fmt: skip
    return Table(
        "The published splits among all",
        (
            Column("table", words=True), Column("row", words=True), Column("images/s", priority=2),
            Column("latency", priority=2), Column("rank", "in throughput"), Column("behind the best", "in throughput"),
            Column("rank", "in latency"), Column("behind the best", "in latency"),
            Column("profiles' error", priority=1), Column("standing", words=True),
        ),
        tuple(rows),
        ("All rows are said to be on the front. Predicted without the row as the paper ran it: bursts of 8 batches,"
        " serial workers, interior splits that its programs offer, latency from the start of stage 1. Near the"
        " front: on it once made better by the profiles' error.",),
    )  # fmt: skip


def claim_table(found: Judgement) -> Table:
    """Every claim with its outcome and arithmetic."""
    rows = tuple((c.outcome, c.section, c.says, c.about, c.arithmetic) for c in found.claims)
    return Table("Claims", words("outcome", "where", "the paper says", "of", "arithmetic"), rows)


def contradiction_table(found: Judgement) -> Table:
    """Rows that contradict each other or physics."""
    rows = tuple((_CONTRADICTIONS[entry.kind], entry.model, entry.arithmetic) for entry in found.contradictions)
    return Table("Contradictions in the tables", words("what", "model", "arithmetic"), rows)


def tables_of(found: Judgement) -> Iterator[Table]:
    """All, in reading order."""
    yield claim_table(found)
    yield stage_table(found)
    yield standing_table(found)
    yield contradiction_table(found)


def as_markdown(found: Judgement) -> str:
    """The page docs/published.md."""
    parts = [
        "# The paper's tables and claims",
        f"Written by `{COMMAND} --markdown`; change the code, not this page.",
        "Masud et al., *Where to Split? A Pareto-Front Analysis of DNN Partitioning for Edge Inference*"
        " (ParetoPipe), tables II and III and sections V-A to V-C, against predictions from the device profiles that"
        " were reconstructed from those very tables (`python -m validation reconstruct`). So that nothing is judged"
        " by what it was fitted on, every row is predicted by a fit that never saw it. Claims of a direction are"
        " judged by what is predicted of it; a ratio that depends on what the paper does not publish cannot be"
        " judged, and the arithmetic says why.",
        f"**{plain(found.verdict)}**",
    ]
    for table in tables_of(found):
        parts += [f"## {plain(table.title)}", markdown_table(table)]
        parts += [plain(table.told)] if table.told else []
    parts += [
        "## What is not judged",
        "CPU, GPU and memory percentages beyond which device is busy, accuracies, and the curves of figures 2 to 7,"
        f" which are published as pictures. Terms of RPC: {plain(found.rpc.title or found.rpc.name)}.",
    ]
    return "\n\n".join(parts) + "\n"


def as_json(found: Judgement) -> dict[str, Any]:
    """The same, unrounded."""
    return {
        "schema_version": 1,
        "verdict": found.verdict,
        "rows": [_row_json(entry) for entry in found.rows],
        "claims": [asdict(claim) for claim in found.claims],
        "backends": [
            {
                "way": c.way.name,
                "sockets": _short(c.sockets.split, c.sockets.latency_s, c.sockets.throughput_per_s),
                "rpc": _short(c.rpc.split, c.rpc.latency_s, c.rpc.throughput_per_s),
                "less_latency": c.less_latency,
                "more_throughput": c.more_throughput,
                "missing_s": c.missing_s,
            }
            for c in found.backends
        ],
        "rpc_terms": found.rpc,
        "contradictions": [
            {"kind": entry.kind, "rows": [row.name for row in entry.rows], "arithmetic": entry.arithmetic}
            for entry in found.contradictions
        ],
    }


def _short(split: int, latency_s: float, throughput_per_s: float) -> dict[str, Any]:
    return {"split": split, "latency_s": latency_s, "throughput_per_s": throughput_per_s}


def _row_json(entry: RowVerdict) -> dict[str, Any]:
    row = entry.row
    stages: Sequence[dict[str, Any]] = [
        {
            "published_s": stage.time.seconds,
            "fitted_s": stage.fitted_s,
            "fitted_error": stage.fitted_error,
            "left_out_s": stage.left_out_s,
            "left_out_error": stage.left_out_error,
        }
        for stage in entry.stages
    ]
    return {
        "table": row.table,
        "model": row.model,
        "index": row.index,
        "split": row.split,
        "stages": stages,
        "network": {"published_s": row.network_s, "predicted_s": entry.network_s, "error": entry.network_error},
        "activation_bytes": entry.activation_bytes,
        "throughput_per_s": entry.throughput_per_s,
        "latency_s": entry.latency_s,
        "standing": entry.standing,
        "throughput_rank": entry.throughput_rank,
        "throughput_loss": entry.throughput_loss,
        "latency_rank": entry.latency_rank,
        "latency_loss": entry.latency_loss,
        "splits": entry.splits,
        "profile_error": entry.profile_error,
        "contradictions": entry.contradictions,
    }
