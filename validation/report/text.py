"""The report in a terminal (rich tables) and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from validation.assessment import Assessment
from validation.report import cell_tables, notes, origin_tables, score_tables
from validation.report.tables import Table
from validation.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

TITLE = "Predicted against measured"
# More conditions than this are not printed cell by cell: the written report has them all.
MOST_PRINTED = 6
# More cells than this that are not compared are not printed one by one, but by their reasons.
MOST_LEFT_OUT_PRINTED = 12


def tables_of(assessment: Assessment) -> Iterator[Table]:
    """All tables in reading order; the provenance comes last."""
    yield score_tables.score_table(assessment)
    yield score_tables.front_table(assessment)
    yield score_tables.order_table(assessment)
    yield score_tables.simpler_table(assessment)
    yield score_tables.ablation_table(assessment)
    for found in assessment.conditions:
        yield cell_tables.cell_table(found)
        yield cell_tables.phase_table(found)
    yield cell_tables.link_table(assessment)
    yield origin_tables.unjoined_table(assessment)
    yield origin_tables.doubt_table(assessment)
    yield origin_tables.calibration_table(assessment)
    yield origin_tables.provenance_table(assessment)


def show(assessment: Assessment, console: Console) -> None:
    """Print the verdict, then the tables that carry it. The written report has the others too."""
    from rich.text import Text

    console.print(Text(f"{assessment.title}: {verdict(assessment)}", style="bold"), soft_wrap=True)
    many = len(assessment.conditions) > MOST_PRINTED
    scores = score_tables.score_table(assessment)
    tables = [] if many else [*map(cell_tables.cell_table, assessment.conditions)]
    tables += [] if many else [score_tables.front_table(assessment)]
    left_out = origin_tables.unjoined_table(assessment)
    few_left_out = len(left_out.rows) <= MOST_LEFT_OUT_PRINTED
    tables += [
        score_tables.overall(scores) if many else scores,
        score_tables.overall(score_tables.simpler_table(assessment)),
        score_tables.ablation_table(assessment),
        left_out if few_left_out else origin_tables.unjoined_overview(assessment),
    ]
    for table in tables:
        if table.rows:
            console.print()
            console.print(as_rich(table))
            if table.note:
                console.print(Text(table.note, style="dim"))
    if many or not few_left_out:
        named = [f"{len(assessment.conditions)} conditions"] if many else []
        named += [] if few_left_out else ["the cells that are not compared"]
        console.print()
        console.print(f"{' and '.join(named)}, cell by cell, are in the written report.")
    console.print()


def as_rich(table: Table) -> RichTable:
    """For a terminal: records may hold any text, so none of it is read as markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for heading in table.headings:
        words = heading in table.text_columns
        shown.add_column(Text(heading), justify="left" if words else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def as_markdown(assessment: Assessment) -> str:
    """The whole report as one Markdown document."""
    parts = [f"# {TITLE}", f"Runs: {plain(assessment.title)}", f"**{plain(str(verdict(assessment)))}**"]
    for table in tables_of(assessment):
        if table.rows:
            parts += [f"## {plain(table.title)}", markdown_table(table)]
            parts += [plain(table.note)] if table.note else []
    parts += ["## How to recompute", plain(notes.recompute(assessment)), "## Known limits"]
    parts.append("\n".join(f"- {plain(limit)}" for limit in notes.limits(assessment)))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """The table's rows."""
    marks = ["---" if heading in table.text_columns else "---:" for heading in table.headings]
    lines = [
        [plain(heading) for heading in table.headings],
        marks,
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
