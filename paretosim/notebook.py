"""How results show in a notebook: self-contained HTML, every name in it escaped.

A prediction is a small picture of its front beside a table of all splits. Colours have enough contrast on light and
dark pages; the picture is SVG drawn here, since matplotlib may be missing and is slow to start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from paretosim.show.axis_scale import fractions, is_logarithmic
from paretosim.show.basis import conditions, devices_and_link, timings
from paretosim.units import format_bytes, format_number

if TYPE_CHECKING:
    from paretosim.decision.space import DecisionSpace
    from paretosim.placement.placing import Placement
    from paretosim.prediction import Prediction, Row
    from paretosim.side_by_side.panels import SideBySide
    from paretosim.simulation.simulating import Simulation
    from paretosim.tabular import Tabular

FRONT_COLOUR, SPLIT_COLOUR, UNFIT_COLOUR = "#d0501e", "#8a9bb0", "#b04040"
_SIZE, _MARGIN = (340, 230), (52, 20, 16, 40)  # margin: left, top, right, bottom
_LABEL_SPACING = 18  # points of the front nearer than this to the last one labelled have no label of their own
_HEADINGS = ("split", "after block", "latency, s", "throughput, images/s", "bottleneck", "sent a batch", "front")


def as_html(result: Tabular) -> str:
    """How a result shows, by what it is of."""
    renderers: dict[str, Callable[[Any], str]] = {
        "Prediction": prediction_html,
        "Placement": placement_html,
        "DecisionSpace": space_html,
        "SideBySide": panels_html,
        "Simulation": simulation_html,
    }
    return next(renderers[kind.__name__] for kind in type(result).__mro__ if kind.__name__ in renderers)(result)


def prediction_html(prediction: Prediction) -> str:
    """The picture and the table of a prediction."""
    return (
        f"<div><p><b>{escape(prediction.setting.model.name)}</b> {escape(conditions(prediction))}<br>"
        f"<small>{escape(timings(prediction))}</small></p>"
        f"<div style='display:flex;flex-wrap:wrap;align-items:flex-start'>{front_svg(prediction)}{_table(prediction)}"
        "</div></div>"
    )


def placement_html(placement: Placement) -> str:
    """The front over several devices, from the lowest latency up."""
    headings = ("plan", "latency, s", "throughput, images/s", "bottleneck", "best in")
    body = []
    for row in placement.rows:
        best = [name for name in ("latency", "throughput", "knee") if getattr(placement.recommended, name) == row]
        cells = (
            str(row.plan), _number(row.latency_s), _number(row.throughput_per_s), row.bottleneck, ", ".join(best)
        )  # fmt: skip
        body.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    setting = placement.setting
    kinds = dict.fromkeys(
        f"{device.name} {kind}" for device, kind in zip(setting.devices, placement.timing_kinds, strict=True)
    )
    error = "unknown" if placement.profile_error is None else f"{placement.profile_error:.1%}"
    obstacle = "" if placement.obstacle is None else f"<p>{escape(placement.obstacle)}</p>"
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return (
        f"<div><p><b>{escape(setting.model.name)}</b> over {escape(', '.join(d.name for d in setting.devices))},"
        f" batch {setting.batch}, mode {setting.mode}<br>"
        f"<small>timings: {escape(', '.join(kinds))}; error of stage times {error}</small></p>{obstacle}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def simulation_html(simulation: Simulation) -> str:
    """Latency, throughput and how busy each station was."""
    latencies = simulation.latencies_s
    cells = [(escape(name), f"{simulation.busy_share(place):.1%}") for place, name in enumerate(simulation.stations)]
    body = "".join(f"<tr><td>{name}</td><td>{share}</td></tr>" for name, share in cells)
    setting = simulation.setting
    names = " → ".join(device.name for device in setting.devices)
    return (
        f"<div><p><b>{escape(setting.model.name)}</b> split {simulation.split} over {escape(names)}, batch"
        f" {setting.batch}, mode {escape(str(setting.mode))}, {len(latencies)} batches<br>latency mean"
        f" {_number(float(latencies.mean()))} s, from {_number(float(latencies.min()))} to"
        f" {_number(float(latencies.max()))} s; a batch every {_number(simulation.period_s)} s</p>"
        f"<table><thead><tr><th>station</th><th>busy</th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def space_html(space: DecisionSpace) -> str:
    """The front over splits, batches and windows, the best in the first objective first."""
    from paretosim.objectives import figure_text

    first = space.predictions[0]
    headings = ("split", "batch", "window", *(objective.name for objective in space.objectives), "best in")
    best = {objective.name: space.best(objective.name) for objective in space.objectives}
    body = []
    for choice in space.front:
        figures = [figure_text(objective, objective.of(choice.figures)) for objective in space.objectives]
        window = "–" if choice.window is None else str(choice.window)
        leads = ", ".join(name for name, one in best.items() if one == choice)
        cells = (str(choice.row.split), str(choice.batch), window, *figures, leads)
        body.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    known = "<br>".join(dict.fromkeys(escape(timings(prediction)) for prediction in space.predictions))
    return (
        f"<div><p><b>{escape(first.setting.model.name)}</b> {escape(devices_and_link(first))}, mode"
        f" {first.setting.mode.name}: front, {len(space.front)} of {len(space.choices)} choices<br>"
        f"<small>{known}</small></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def panels_html(found: SideBySide) -> str:
    """The pictures of several predictions in rows, a row for each pair of devices and link."""
    parts = [f"<p><b>{escape(found.title)}</b></p>"]
    for panels in found.conditions:
        parts.append(f"<p>{escape(conditions(panels[0]))}</p><div style='display:flex;flex-wrap:wrap'>")
        parts += [
            f"<figure style='margin:4px'><figcaption><b>{escape(panel.setting.model.name)}</b><br>"
            f"<small>{escape(timings(panel))}</small></figcaption>{front_svg(panel)}</figure>"
            for panel in panels
        ]
        parts.append("</div>")
    return f"<div>{''.join(parts)}</div>"


def front_svg(prediction: Prediction) -> str:
    """Latency against throughput of every split that fits; the front as a staircase, its splits as tooltips."""
    rows = [row for row in prediction.rows if row.fits and math.isfinite(row.latency_s)]
    if not rows:
        return "<p>No split fits in the devices' memory and keeps up with what arrives.</p>"
    (width, height), (left, top, right, bottom) = _SIZE, _MARGIN
    latencies, throughputs = [row.latency_s for row in rows], [row.throughput_per_s for row in rows]
    xs = [left + 24 + fraction * (width - left - right - 32) for fraction in fractions(latencies)]
    ys = [height - bottom - 8 - fraction * (height - top - bottom - 16) for fraction in fractions(throughputs)]
    place = {row.split: (x, y) for row, x, y in zip(rows, xs, ys, strict=True)}
    corner = height - bottom
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="11"'
        f' font-family="sans-serif" fill="currentColor" role="img" aria-label="latency against throughput">',
        f'<path d="M{left} {top}V{corner}H{width - right}" fill="none" stroke="currentColor" opacity="0.5"/>',
    ]
    stairs = "".join(
        f"{'M' if index == 0 else 'H'}{x:.1f}{' ' if index == 0 else 'V'}{y:.1f}"
        for index, (x, y) in enumerate(place[row.split] for row in prediction.front)
    )
    parts.append(f'<path d="{stairs}" fill="none" stroke="{FRONT_COLOUR}"/>')
    for row in sorted(rows, key=lambda row: row.on_front):
        x, y = place[row.split]
        radius, colour = (4, FRONT_COLOUR) if row.on_front else (2.5, SPLIT_COLOUR)
        said = f"split {row.split}: {_number(row.latency_s)} s, {_number(row.throughput_per_s)} images/s"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{said}</title></circle>')
    labelled: tuple[float, float] | None = None
    for row in prediction.front:
        x, y = place[row.split]
        if labelled is None or max(abs(x - labelled[0]), abs(y - labelled[1])) >= _LABEL_SPACING:
            parts.append(f'<text x="{x - 5:.1f}" y="{y - 4:.1f}" text-anchor="end">{row.split}</text>')
            labelled = x, y
    for text, x, y, anchor in (
        (format_number(max(throughputs), 3), left - 4, top + 12, "end"),
        (format_number(min(throughputs), 3), left - 4, corner - 4, "end"),
        (format_number(min(latencies), 3), left + 4, corner + 14, "start"),
        (format_number(max(latencies), 3), width - right, corner + 14, "end"),
        (f"latency, s{_scale(latencies)}", (left + width - right) / 2, height - 6, "middle"),
    ):
        parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>')
    middle = (top + corner) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">images/s'
        f"{_scale(throughputs)}</text></svg>"
    )
    return "".join(parts)


def _table(prediction: Prediction) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in _HEADINGS)
    body = []
    for row in prediction.rows:
        style = (
            f' style="color:{FRONT_COLOUR if row.on_front else UNFIT_COLOUR}"' if row.on_front or not row.fits else ""
        )
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in _cells(prediction, row))
        body.append(f"<tr{style}>{cells}</tr>")
    alone = [
        ("–", f"{baseline.device} alone, no link", _number(baseline.latency_s), _number(baseline.throughput_per_s),
         "", "", "" if baseline.fits else "does not fit")
        for baseline in prediction.baselines
    ]  # fmt: skip
    foot = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in alone)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody><tfoot>{foot}</tfoot></table>"


def _cells(prediction: Prediction, row: Row) -> tuple[str, ...]:
    recommended = prediction.recommended
    best = [name for name in ("latency", "throughput", "knee") if getattr(recommended, name) == row.split]
    mark = ", ".join(("front", *best)) if row.on_front else "" if row.fits else "does not fit"
    after = prediction.setting.model.cut_name(row.split)
    return (
        str(row.split), after, _number(row.latency_s), _number(row.throughput_per_s), row.bottleneck,
        format_bytes(row.activation_bytes[0]), mark,
    )  # fmt: skip


def _number(value: float) -> str:
    return format_number(value, 4)


def _scale(values: Sequence[float]) -> str:
    return " (log)" if is_logarithmic(values) else ""
