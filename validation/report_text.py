"""The report in a terminal (rich tables) and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from validation import report_notes, report_tables
from validation.assessment import Assessment
from validation.report_tables import Table


def tables_of(assessment: Assessment) -> Iterator[Table]:
    """The tables of a run in reading order; the provenance comes last."""
    yield from report_tables.score_tables(assessment)
    yield report_tables.front_table(assessment)
    for found in assessment.conditions:
        yield report_tables.cell_table(found)
        yield report_tables.phase_table(found)
    yield report_tables.link_table(assessment)
    yield report_tables.unjoined_table(assessment)
    yield report_tables.provenance_table(assessment)


def show(assessments: Sequence[Assessment], console: Console) -> None:
    """Print every run: its verdict, then the tables that carry it. The written report has the others too."""
    for assessment in assessments:
        console.print(Text(f"{assessment.run_id}: {assessment.verdict}", style="bold"), soft_wrap=True)
        tables = [*map(report_tables.cell_table, assessment.conditions), report_tables.front_table(assessment)]
        scores, simpler = report_tables.score_tables(assessment)
        overall = tuple(row for row in simpler.rows if row[0] == report_tables.ALL_CELLS)
        tables += [scores, replace(simpler, rows=overall), report_tables.unjoined_table(assessment)]
        for table in tables:
            if table.rows:
                console.print()
                console.print(as_rich(table))
                if table.note:
                    console.print(Text(table.note, style="dim"))
        console.print()


def as_rich(table: Table) -> RichTable:
    """For a terminal: records may hold any text, so none of it is read as markup."""
    shown = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for heading in table.headings:
        words = heading in table.text_columns
        shown.add_column(Text(heading), justify="left" if words else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def as_markdown(assessments: Sequence[Assessment]) -> str:
    """The whole report as one Markdown document."""
    parts = ["# Predicted against measured"]
    for assessment in assessments:
        parts += [f"## Run {_plain(assessment.run_id)}", f"**{_plain(assessment.verdict)}**"]
        for table in tables_of(assessment):
            if table.rows:
                parts += [f"### {_plain(table.title)}", _markdown_table(table)]
                parts += [_plain(table.note)] if table.note else []
        parts += ["### How to recompute", _plain(report_notes.recompute(assessment)), "### Known limits"]
        parts.append("\n".join(f"- {_plain(limit)}" for limit in report_notes.limits(assessment)))
    if len(assessments) > 1:
        parts.append(report_notes.MERGING)
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    marks = ["---" if heading in table.text_columns else "---:" for heading in table.headings]
    lines = [
        [_plain(heading) for heading in table.headings],
        marks,
        *([_plain(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text from records on one line, with what Markdown or HTML would read as markup made harmless."""
    joined = " ".join(text.split())
    for mark, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "\\\\"), ("|", "\\|")):
        joined = joined.replace(mark, harmless)
    for mark in "`*_[]":
        joined = joined.replace(mark, f"\\{mark}")
    return joined
