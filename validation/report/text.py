"""The report in a terminal (rich tables) and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from validation.assessment import Assessment
from validation.report import cell_tables, notes, origin_tables, score_tables
from validation.report.tables import Table
from validation.report.terminal import print_aside, print_table
from validation.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console

TITLE = "Predicted against measured"
# More conditions than this are not printed cell by cell: the written report has them all.
MOST_PRINTED = 6
# More rows than this of cells that are not compared are not printed, but their reasons.
MOST_LEFT_OUT_PRINTED = 12
WRITTEN = "report.md"


def tables_of(assessment: Assessment) -> Iterator[Table]:
    """All tables in reading order; the provenance comes last."""
    yield score_tables.score_table(assessment)
    yield score_tables.front_table(assessment)
    yield score_tables.order_table(assessment)
    yield score_tables.simpler_table(assessment)
    yield score_tables.phase_error_table(assessment)
    yield score_tables.ablation_table(assessment)
    for found in assessment.conditions:
        yield cell_tables.cell_table(found)
        yield cell_tables.phase_table(found)
    yield cell_tables.link_table(assessment)
    yield origin_tables.unjoined_table(assessment.joined.unjoined)
    yield origin_tables.doubt_table(assessment)
    yield origin_tables.calibration_table(assessment)
    yield origin_tables.provenance_table(assessment)


def show(assessment: Assessment, console: Console) -> None:
    """Print the verdict, then the tables that carry it. The written report has the others too."""
    from rich.text import Text

    found = verdict(assessment)
    for lines, style in (([f"{assessment.title}: {found.headline}", *found.findings], "bold"), (found.cautions, "")):
        if lines:
            # Where nobody looks at lines, a sentence stays on one, for whoever searches them.
            console.print(Text(" ".join(lines), style=style), soft_wrap=not console.is_terminal)
    many = len(assessment.conditions) > MOST_PRINTED
    if not many:
        cells = [cell_tables.cell_table(condition).said_once() for condition in assessment.conditions]
        shared = [note for note in cells[0].notes if all(note in table.notes for table in cells)] if cells else []
        for table in cells:
            own = tuple(note for note in table.notes if note not in shared)
            print_table(console, replace(table, notes=own), elsewhere=WRITTEN)
        if cells:
            console.print()
            print_aside(console, *shared, cells[0].key)
        print_table(console, score_tables.front_table(assessment), elsewhere=WRITTEN)
    left_out = origin_tables.unjoined_table(assessment.joined.unjoined)
    few_left_out = len(left_out.rows) <= MOST_LEFT_OUT_PRINTED
    for table in (
        score_tables.overall(score_tables.score_table(assessment)),
        score_tables.simpler_table(assessment),
        score_tables.ablation_table(assessment),
        left_out if few_left_out else origin_tables.unjoined_overview(assessment.joined.unjoined),
    ):
        print_table(console, table, elsewhere=WRITTEN)
    console.print()
    if many or not few_left_out:
        named = [f"{len(assessment.conditions)} conditions"] if many else []
        named += [] if few_left_out else ["the cells that are not compared"]
        console.print(f"{' and '.join(named)}, cell by cell, are in the written report.")
        console.print()


def as_markdown(assessment: Assessment) -> str:
    """The whole report as one Markdown document."""
    parts = [f"# {TITLE}", f"Runs: {plain(assessment.title)}", f"**{plain(str(verdict(assessment)))}**"]
    for table in tables_of(assessment):
        if table.rows:
            said = table.said_once()
            parts += [f"## {plain(table.title)}", markdown_table(said)]
            parts += [plain(said.told)] if said.told else []
    parts += ["## How to recompute", plain(notes.recompute(assessment)), "## Known limits"]
    parts.append("\n".join(f"- {plain(limit)}" for limit in notes.limits(assessment)))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """The table's rows."""
    lines = [
        [plain(column.name) for column in table.columns],
        ["---" if column.words else "---:" for column in table.columns],
        *([plain(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Text from records on one line, with what Markdown or HTML would read as markup made harmless."""
    joined = " ".join(text.split())
    for mark, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "\\\\"), ("|", "\\|")):
        joined = joined.replace(mark, harmless)
    for mark in "`*_[]":
        joined = joined.replace(mark, f"\\{mark}")
    return joined
