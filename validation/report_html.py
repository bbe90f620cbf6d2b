"""The report as one HTML page that needs nothing beside it: styles and figures are inside.

Every string that comes from a run folder is escaped; nothing of it is ever markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from validation import report_figures, report_notes, report_tables
from validation.assessment import Assessment
from validation.report_tables import Table

# A column of words with a longer cell than this wraps.
LONG_CHARACTERS = 42

STYLE = """
:root { color-scheme: light; --ink: #1d232b; --soft: #5a6472; --line: #d9dee5; --accent: #0b5a8a; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: var(--ink);
  background: #fff; margin: 0 auto; max-width: 84rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.verdict { font-size: 1.1rem; border-left: .3rem solid var(--accent); background: #f2f7fb; padding: .8rem 1rem;
  margin: .8rem 0; max-width: 70rem; }
.note, figcaption { color: var(--soft); font-size: .88rem; max-width: 75rem; }
.tag { display: inline-block; border: 1px solid #8a5a00; color: #6b4500; background: #fff6e0; border-radius: .3rem;
  padding: 0 .4rem; font-size: .82rem; margin-right: .4rem; }
.scroll { overflow-x: auto; margin: .4rem 0; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
th, td { white-space: nowrap; }
th { white-space: normal; }
th.words, td.words { text-align: left; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 13rem; }
tbody tr:hover { background: #f6f8fa; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; display: block; }
nav a { margin-right: 1rem; } a { color: var(--accent); }
@media print { body { max-width: none; } .figures figure { break-inside: avoid; } }
"""


def as_html(assessments: Sequence[Assessment]) -> str:
    """The page; with several runs each has its own section."""
    title = "Predicted against measured"
    several = len(assessments) > 1
    body = [f"<h1>{title}</h1>"]
    if several:
        links = "".join(f'<a href="#run{n}">{escape(a.run_id)}</a>' for n, a in enumerate(assessments, start=1))
        body.append(f'<nav aria-label="runs">{links}</nav><p class="note">{escape(report_notes.MERGING)}</p>')
    body += [_run(assessment, f"run{number}") for number, assessment in enumerate(assessments, start=1)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: {escape(', '.join(a.run_id for a in assessments))}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _run(assessment: Assessment, identifier: str) -> str:
    scores, simpler = report_tables.score_tables(assessment)
    parts = [
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">',
        f'<h2 id="{identifier}-title">Run {escape(assessment.run_id)}</h2>',
        f'<p class="verdict">{escape(assessment.verdict)}</p>',
    ]
    if assessment.conditions:
        parts += [
            "<h3>Fronts: predicted over measured</h3>", _front_figures(assessment, identifier),
            _table(report_tables.front_table(assessment)),
            "<h3>How far off</h3>", _table(scores), _table(simpler),
            _figure(
                report_figures.parity_figure(assessment, f"{identifier}-parity"),
                "Predicted against measured latency and throughput of every cell",
                "Bands are ±5 and ±10 %. Horizontal bars: range over repeats, or the noise floor of one repeat.",
            ),
            "<h3>Errors against the bytes sent</h3>",
            _figure(
                report_figures.residual_figure(assessment, f"{identifier}-residuals"),
                "Signed relative error of latency, throughput and transfer against the bytes sent a batch",
                "Bars are the cells' own noise floors: an error inside its bar is not an error anybody can show.",
            ),
            "<h3>Every cell</h3>",
            *(_table(report_tables.cell_table(found)) for found in assessment.conditions),
            "<h3>Phase by phase</h3>",
            *(_table(report_tables.phase_table(found)) for found in assessment.conditions),
            "<h3>Links</h3>", _table(report_tables.link_table(assessment)),
        ]  # fmt: skip
    parts += ["<h3>Skipped, failed and not compared</h3>", _unjoined(assessment)]
    parts += ["<h3>Where this comes from</h3>", _table(report_tables.provenance_table(assessment))]
    parts += ["<h3>How to recompute</h3>", f"<p>{escape(report_notes.recompute(assessment))}</p>"]
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in report_notes.limits(assessment))
    parts += ["<h3>Known limits</h3>", f"<ul>{limits}</ul>", "</section>"]
    return "\n".join(parts)


def _front_figures(assessment: Assessment, identifier: str) -> str:
    figures = []
    for number, found in enumerate(assessment.conditions, start=1):
        condition = found.joined.condition
        kinds = zip(condition.devices, found.joined.prediction.timing_kinds, strict=True)
        tags = [f"{condition.origin} stages", *dict.fromkeys(f"{device}: {kind}" for device, kind in kinds)]
        tags += ["link as probed"] if found.joined.link_origin == "probed" else []
        marked = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags)
        figures.append(
            _figure(
                report_figures.front_figure(found, f"{identifier}-front{number}"),
                f"Latency against throughput, predicted over measured: {condition}",
                f"{condition}. Numbers are splits; a grey line joins a split's measurement and prediction.",
                marked,
            )
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def _figure(svg: str, label: str, caption: str, tags: str = "") -> str:
    """`tags` is markup of this module; `label` and `caption` are escaped here."""
    opened = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    return f"<figure>{opened}<figcaption>{tags}{escape(caption)}</figcaption></figure>"


def _unjoined(assessment: Assessment) -> str:
    table = report_tables.unjoined_table(assessment)
    if table.rows:
        return _table(table)
    return "<p>None: every recorded cell is compared above.</p>"


def _table(table: Table) -> str:
    classes = [_column_class(table, index) for index in range(len(table.headings))]

    def line(opening: str, closing: str, cells: Sequence[str]) -> str:
        marked = zip(cells, classes, strict=True)
        return "".join(f"<{opening}{kind}>{escape(cell)}</{closing}>" for cell, kind in marked)

    rows = "\n".join(f"<tr>{line('td', 'td', row)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    head = line('th scope="col"', "th", table.headings)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def _column_class(table: Table, index: int) -> str:
    """Words start at the left, and wrap where a cell of their column is long."""
    if table.headings[index] not in table.text_columns:
        return ""
    longest = max((len(row[index]) for row in table.rows), default=0)
    return ' class="words long"' if longest > LONG_CHARACTERS else ' class="words"'
