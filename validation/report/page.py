"""The report as one HTML page that needs nothing beside it: styles and figures are inside, and there is no script.

Every string that comes from a run folder is escaped; nothing of it is ever markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from itertools import groupby

from validation.assessment import Assessment, ConditionAssessment, fronts_of
from validation.report import cell_tables, figures, notes, origin_tables, score_tables
from validation.report.charts import marker
from validation.report.figures import Figure, Key
from validation.report.tables import Column, Table
from validation.report.text import TITLE
from validation.scores import ErrorScore
from validation.verdict import verdict
from validation.wording import count, percent, percent_range, signed

# A column of words with a longer cell than this wraps.
LONG_CHARACTERS = 42
_SECTIONS = (
    ("fronts", "Fronts"),
    ("errors", "How far off"),
    ("residuals", "Residuals"),
    ("terms", "What each term is worth"),
    ("cells", "Every cell"),
    ("failures", "Known failures"),
    ("provenance", "Where this comes from"),
)


def as_html(assessment: Assessment) -> str:
    """The page."""
    style = (files("validation.report") / "style.css").read_text(encoding="utf-8")
    found = verdict(assessment)
    told = "".join(f"<p>{escape(finding)}</p>" for finding in found.findings)
    doubts = "".join(f"<li>{escape(caution)}</li>" for caution in found.cautions)
    body = [
        f"<h1>{TITLE}</h1>",
        f'<p class="runs">{escape(assessment.title)}</p>',
        f'<div class="verdict"><strong>{escape(found.headline)}</strong>{told}<ul>{doubts}</ul></div>',
    ]
    if assessment.conditions:
        links = "".join(f'<a href="#{name}">{title}</a>' for name, title in _SECTIONS)
        body += [_cards(assessment), f'<nav aria-label="sections">{links}</nav>', *_findings(assessment)]
    body += [*_failures(assessment), *_provenance(assessment)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}: {escape(assessment.title)}</title>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _cards(assessment: Assessment) -> str:
    """The numbers that one asks for first."""
    found = assessment.headline
    assert found is not None  # there are conditions, so there are cells
    cards = [
        _error_card("latency", found.scores.latency),
        _error_card("throughput", found.scores.throughput),
        _error_card("transfer phase, shaped links", found.shaped_transfer),
    ]
    if found.scores.latency is not None:
        cards.append((percent(found.scores.latency.within), "of cells within ±10 % in latency", ""))
    fronts = fronts_of(assessment.headline_conditions)
    values = [front.decision_hypervolume for front in fronts]
    if values:
        cards.append(
            (
                percent(min(values)),
                "of the measured front kept by the predicted one",
                f"least of {count(len(values), 'front')}",
            )
        )
    pairs = sum(c.latency_rank.pairs + c.throughput_rank.pairs for c in assessment.headline_conditions)
    inverted = sum(len(c.inversions) for c in assessment.headline_conditions)
    cards.append(
        (str(inverted), f"of {pairs} pairs of splits in the wrong order", "of those that measurements tell apart")
    )
    shown = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span><span>{escape(more)}</span></div>'
        for value, what, more in cards
        if value
    )
    return f'<div class="cards">{shown}</div>'


def _error_card(name: str, score: ErrorScore | None) -> tuple[str, str, str]:
    if score is None:
        return ("", "", "")
    interval = percent_range(score.intervals.get("mape"), 2)
    known = "unknown" if score.noise_floor is None else percent(score.noise_floor, 2)
    return (
        percent(score.mape, 2), f"mean error (MAPE) of {name}",
        f"{f'{interval}, ' if interval else ''}noise floor {known}",
    )  # fmt: skip


def _findings(assessment: Assessment) -> Iterable[str]:
    yield _heading("fronts")
    yield _legend(figures.FRONT_LEGEND)
    yield from _front_panels(assessment)
    yield _folded("Front agreement, regret and order", len(assessment.conditions) <= 6, [
        score_tables.front_table(assessment), score_tables.order_table(assessment),
    ])  # fmt: skip
    yield _heading("errors")
    yield _figure(figures.parity_figure(assessment, "parity"))
    scores = score_tables.score_table(assessment)
    yield _table(score_tables.overall(scores))
    yield _folded("Scores of every condition", False, [scores])
    yield _heading("residuals")
    yield _figure(figures.residual_figure(assessment, "residuals"), "charts four")
    phases = score_tables.phase_error_table(assessment)
    if phases.rows:
        yield "<h3>Phase by phase</h3>"
        yield _figure(figures.phase_figure(assessment, "phases"), "charts four")
        yield _table(phases)
    yield _heading("terms")
    yield _figure(figures.ablation_figure(assessment, "ablation"))
    yield _table(score_tables.ablation_table(assessment))
    for number, basis in enumerate(assessment.bases):
        yield f"<h3>Simpler models ({escape(basis.basis)})</h3>"
        yield _figure(figures.baseline_figure(basis, f"simpler{number}"))
    yield _table(score_tables.simpler_table(assessment))
    yield _heading("cells")
    groups = _groups(assessment)
    yield _index(groups, "cells")
    keys = (cell_tables.cell_table(assessment.conditions[0]).key, cell_tables.phase_table(assessment.conditions[0]).key)
    yield "".join(f'<p class="note">{escape(key)}</p>' for key in keys)
    for number, (title, members) in enumerate(groups.items()):
        yield f'<h3 id="cells-{number}">{escape(title)}</h3>' if len(groups) > 1 else ""
        for _, found in members:
            yield _condition(found, len(assessment.conditions) <= 3)
    yield _folded("Links, asked for and probed", False, [cell_tables.link_table(assessment)])


def _heading(identifier: str) -> str:
    return f'<h2 id="{identifier}">{dict(_SECTIONS)[identifier]}</h2>'


def _front_panels(assessment: Assessment) -> Iterable[str]:
    """Panels for each model on its devices: one for every mode and link, as in the paper's figures."""
    groups = _groups(assessment)
    yield _index(groups, "fronts")
    for place, (title, members) in enumerate(groups.items()):
        shared = [tag for tag in _tags(members[0][1]) if all(tag in _tags(found) for _, found in members)]
        yield f'<h3 id="fronts-{place}">{escape(title)} {_marked(shared)}</h3>'
        panels = []
        for number, found in members:
            condition = found.joined.condition
            tags = _marked([tag for tag in _tags(found) if tag not in shared])
            score = found.scores.latency
            about = "" if score is None else f" · latency off by {signed(score.bias)} (median)"
            panels.append(
                f'<figure><p class="panel-title">{escape(condition.link_name)} · {escape(str(condition.mode))}</p>'
                f"{figures.front_chart(found, f'front{number}')}<figcaption>{tags}{escape(_agreement(found) + about)}"
                "</figcaption></figure>"
            )
        yield f'<div class="charts">{"".join(panels)}</div>'


def _groups(assessment: Assessment) -> dict[str, list[tuple[int, ConditionAssessment]]]:
    """Conditions, each with its number, by what a reader looks for first: a model on its devices."""
    groups: dict[str, list[tuple[int, ConditionAssessment]]] = {}
    for number, found in enumerate(assessment.conditions):
        groups.setdefault(_group(found), []).append((number, found))
    return groups


def _index(groups: Iterable[str], section: str) -> str:
    """Links to the groups of a section, where it has several."""
    links = [f'<a href="#{section}-{number}">{escape(title)}</a>' for number, title in enumerate(groups)]
    return f'<nav aria-label="{section} by model">{"".join(links)}</nav>' if len(links) > 1 else ""


def _group(found: ConditionAssessment) -> str:
    condition = found.joined.condition
    parts = [condition.model, " → ".join(condition.devices), f"batch {condition.batch}"]
    parts += [condition.backend] if condition.backend != "tcp" else []
    parts += [f"{condition.workers} workers"] if condition.workers != "overlapped" else []
    parts += [f"TCP {condition.tcp_state}"] if condition.tcp_state != "warm" else []
    if (condition.source, condition.sink) != ("stage1", "last"):
        parts.append(f"source {condition.source}, sink {condition.sink}")
    return ", ".join(parts)


def _marked(tags: Sequence[str]) -> str:
    return "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags)


def _tags(found: ConditionAssessment) -> list[str]:
    condition = found.joined.condition
    kinds = zip(condition.devices, found.joined.inputs.timing_kinds, strict=True)
    tags = [f"{condition.origin} stages", *dict.fromkeys(f"{device}: {kind}" for device, kind in kinds)]
    tags += ["link as probed"] if found.joined.link_origin == "probed" else []
    return [*tags, found.basis]


def _agreement(found: ConditionAssessment) -> str:
    if found.front is None:
        return "one split: no front"
    if found.front.agrees:
        return "same front"
    return f"front {', '.join(found.front.predicted)} predicted, {', '.join(found.front.measured)} measured"


def _condition(found: ConditionAssessment, is_open: bool) -> str:
    score = found.scores
    aside = " · ".join(
        f"{name} MAPE {percent(value.mape, 2)}"
        for name, value in (("latency", score.latency), ("throughput", score.throughput))
        if value is not None
    )
    # How to read them stands once, above all of them.
    tables = [replace(table, key="") for table in (cell_tables.cell_table(found), cell_tables.phase_table(found))]
    return _folded(str(found.joined.condition), is_open, tables, aside)


def _failures(assessment: Assessment) -> Iterable[str]:
    yield _heading("failures")
    unjoined, doubts = origin_tables.unjoined_table(assessment.joined.unjoined), origin_tables.doubt_table(assessment)
    yield _table(unjoined) if unjoined.rows else "<p>No cell was left out: every recorded one is compared above.</p>"
    if doubts.rows:
        yield _folded(f"{doubts.title} ({len(doubts.rows)})", len(doubts.rows) <= 12, [doubts])
    elif assessment.conditions:
        none = "No pair in the wrong order, no link that misses, no error beyond 10 %, no overrun, no unequal output."
        yield f"<p>{none}</p>"
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in notes.limits(assessment))
    yield f"<h3>Known limits</h3><ul>{limits}</ul>"


def _provenance(assessment: Assessment) -> Iterable[str]:
    yield _heading("provenance")
    yield f"<h3>How to recompute</h3><p>{escape(notes.recompute(assessment))}</p>"
    calibrations = origin_tables.calibration_table(assessment)
    if calibrations.rows:
        yield _table(calibrations)
    yield _folded("Runs, versions, hosts and settings", False, [origin_tables.provenance_table(assessment)])


def _figure(figure: Figure, style: str = "charts") -> str:
    if not figure.charts:
        return ""
    charts = "".join(f"<div>{chart}</div>" for chart in figure.charts)
    return (
        f'<figure>{_legend(figure.legend)}<div class="{style}">{charts}</div>'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _legend(keys: Sequence[Key]) -> str:
    items = "".join(
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true">{marker(0, 0, shape=k.shape, style=k.style)}</svg>'
        f"{escape(k.text)}</li>"
        for k in keys
    )
    return f'<ul class="legend">{items}</ul>'


def _folded(title: str, is_open: bool, tables: Sequence[Table], aside: str = "") -> str:
    """Tables that fold away."""
    more = f' <span class="aside">{escape(aside)}</span>' if aside else ""
    shown = "".join(_table(table) for table in tables if table.rows)
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}{more}</summary>{shown}</details>"


def _table(table: Table) -> str:
    table = table.said_once()
    classes = [_column_class(table, place) for place in range(len(table.columns))]
    rows = "\n".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for cell, kind in zip(row, classes, strict=True))}</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.told)}</p>' if table.told else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<caption>{escape(table.title)}</caption><thead>{_head(table.columns, classes)}</thead>"
        f"<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def _head(columns: Sequence[Column], classes: Sequence[str]) -> str:
    """Headings, in two lines where columns stand in groups."""
    groups = [(group, list(members)) for group, members in groupby(zip(columns, classes, strict=True), _group_of)]
    deep = any(group for group, _ in groups)
    first, second = [], []
    for group, members in groups:
        if group:
            first.append(f'<th scope="colgroup" class="group" colspan="{len(members)}">{escape(group)}</th>')
            second += [f'<th scope="col"{kind}>{escape(column.heading)}</th>' for column, kind in members]
        else:
            span = ' rowspan="2"' if deep else ""
            first += [f'<th scope="col"{span}{kind}>{escape(column.heading)}</th>' for column, kind in members]
    return f"<tr>{''.join(first)}</tr>" + (f"<tr>{''.join(second)}</tr>" if deep else "")


def _group_of(entry: tuple[Column, str]) -> str:
    return entry[0].group


def _column_class(table: Table, place: int) -> str:
    """Words start at the left, and wrap where a cell of their column is long."""
    if not table.columns[place].words:
        return ""
    longest = max((len(row[place]) for row in table.rows), default=0)
    return ' class="words long"' if longest > LONG_CHARACTERS else ' class="words"'
