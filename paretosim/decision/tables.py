"""A space of decisions as a person reads it in a terminal: the front and the best choices, then the verdict."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console
from rich.text import Text

from paretosim.decision.hypervolume import hypervolume
from paretosim.decision.space import Alone, Choice, DecisionSpace
from paretosim.decision.verdict import best_alone, decision_verdict
from paretosim.objectives import Figures, Objective, costs_of, figure_text
from paretosim.show.basis import devices_and_link
from paretosim.show.columns import NAMES, Column, aligned, fitting_named, too_narrow
from paretosim.show.tables import calibration_lines, operation_lines, timing_lines
from paretosim.show.verdict import split_runs
from paretosim.units import format_bytes, format_number

_ORDER = ("first", "second")
_HEADINGS = {
    "latency": "latency\ns",
    "throughput": "throughput\nimages/s",
    "energy": "energy\nJ/image",
    "memory": "memory of the\nfuller device",
    "bytes": "on the wire\nan image",
}


def show(space: DecisionSpace, console: Console, *, everything: bool = False) -> None:
    """Print what the space rests on, its front with the best choices (or `everything`), and the verdict."""
    for line in _basis(space):
        console.print(line, soft_wrap=True)
    shown = list(space.choices) if everything else _front_and_best(space)
    console.print(choice_table(space, shown, console.width), soft_wrap=True)
    if len(shown) < len(space.choices):
        left_out = len(space.choices) - len(shown)
        console.print(Text(f"({left_out} choices off the front are not shown; --all shows them)", style="dim"))
    for line in [*_memory_lines(space), *_best_lines(space), *_hypervolume_lines(space)]:
        console.print(line, soft_wrap=True)
    console.print(Text(f"Verdict: {decision_verdict(space)}", style="bold"), soft_wrap=True)


def choice_table(space: DecisionSpace, shown: list[Choice], width: int) -> Text:
    """Baselines that no other one of their device dominates, then the choices; the front is marked."""
    best = {objective.name: space.best(objective.name) for objective in space.objectives}
    alone = [space.alone[place] for order in (0, 1) for place in best_alone(space, order)]
    lines = [_alone_cells(space, one) for one in alone] + [_cells(space, choice, best) for choice in shown]
    cells = list(zip(*lines, strict=True))
    places = {"split": 0, "batch": 1, "window": 2}
    if space.predictions[0].setting.mode.window is None:
        del places["window"]
    columns = [Column(heading=name, cells=cells[place]) for name, place in places.items()]
    columns.append(Column(heading="", cells=cells[3], align="left"))
    columns.append(Column(heading=NAMES, cells=cells[4], align="left", priority=2))
    columns += [
        Column(heading=_heading(space, objective), cells=cells[6 + index])
        for index, objective in enumerate(space.objectives)
    ]
    columns.append(Column(heading="bottleneck", cells=cells[5], align="left", priority=1))
    kept, left_out = fitting_named(columns, width, [_ORDER[one.order] for one in alone])
    styles = ["green" if choice.on_front else "" if choice.row.fits else "red" for choice in shown]
    text = aligned(kept, ["dim"] * len(alone) + styles)
    text.append(too_narrow(left_out), "dim")
    return text


def _several(space: DecisionSpace) -> bool:
    return len({prediction.setting.batch for prediction in space.predictions}) > 1


def _basis(space: DecisionSpace) -> list[Text]:
    first = space.predictions[0].setting
    batches = dict.fromkeys(str(p.setting.batch) for p in space.predictions)
    windows = dict.fromkeys(str(p.setting.mode.window) for p in space.predictions if p.setting.mode.window is not None)
    lines = [
        Text.assemble(
            (first.model.name, "bold"),
            f", {devices_and_link(space.predictions[0])}, TCP {first.tcp_state}, source {first.source},"
            f" sink {first.sink}",
        ),
        Text(
            f"batch {', '.join(batches)}, mode {first.mode.name}"
            f"{', window ' + ', '.join(windows) if windows else ''}; objectives"
            f" {', '.join(objective.name for objective in space.objectives)}"
        ),
    ]
    if first.frame_rate_per_s is not None:
        lines.append(
            Text(f"latency is from a batch's first image at {first.frame_rate_per_s:g} frames/s, filling included")
        )
    seen: dict[str, Text] = {}
    for prediction in space.predictions:
        for line in timing_lines(prediction.setting):
            at = f"batch {prediction.setting.batch}: " if _several(space) else ""
            seen.setdefault(f"{at}{line.plain}", Text.assemble(at, line))
    lines += [*seen.values(), *operation_lines(space.predictions[0]), *calibration_lines(first)]
    if first.speed != 1:
        lines.append(Text(f"emulated: all stage times divided by {first.speed:g}", style="yellow"))
    return lines


def _front_and_best(space: DecisionSpace) -> list[Choice]:
    shown = list(space.front)
    for objective in space.objectives:
        best = space.best(objective.name)
        if best is not None and best not in shown:
            shown.append(best)
    return shown


def _heading(space: DecisionSpace, objective: Objective) -> str:
    if objective.name == "latency" and space.predictions[0].setting.frame_rate_per_s is not None:
        return "latency\nfilled, s"
    return _HEADINGS[objective.name]


def _cells(space: DecisionSpace, choice: Choice, best: dict[str, Choice | None]) -> tuple[str, ...]:
    row = choice.row
    marks = "●" if choice.on_front else "" if row.fits else "✗"
    if row.fits and not row.meets_constraints:
        marks += "–"
    marks += "".join(name[0].upper() for name, one in best.items() if one is choice)
    after = space.predictions[0].setting.model.cut_name(row.split)
    figures = _figures(space, choice.figures)
    return str(row.split), str(choice.batch), str(choice.window), marks, after, row.bottleneck, *figures


def _alone_cells(space: DecisionSpace, one: Alone) -> tuple[str, ...]:
    name = f"{_ORDER[one.order]} alone: {one.baseline.device}"
    fits = "" if one.baseline.fits else "✗"
    return "–", str(one.batch), str(one.window), fits, name, "", *_figures(space, one.figures)


def _figures(space: DecisionSpace, figures: Figures) -> list[str]:
    values = [(objective.name, objective.of(figures)) for objective in space.objectives]
    return [format_bytes(v) if name in ("memory", "bytes") else format_number(v, 4) for name, v in values]


def _memory_lines(space: DecisionSpace) -> list[Text]:
    """What does not fit on which device at which batch, with what it needs and what there is."""
    first = space.predictions[0].setting
    lines = [
        Text(f"memory of {device.name}: unknown, so nothing is ruled out by it", style="yellow")
        for device in {device.name: device for device in first.devices}.values()
        if device.memory_bytes is None
    ]
    for prediction in {p.setting.batch: p for p in space.predictions}.values():
        for stage, device in enumerate(first.devices):
            over = [row for row in prediction.rows if row.memory_bytes[stage] > device.usable_bytes]
            if over:
                needs = [row.memory_bytes[stage] for row in over]
                needed = " to ".join(dict.fromkeys(map(format_bytes, (min(needs), max(needs)))))
                lines.append(
                    Text(
                        f"✗ batch {prediction.setting.batch}: stage{stage + 1} of splits"
                        f" {split_runs(tuple(row.split for row in over))} does not fit on {device.name}:"
                        f" {needed} needed, {format_bytes(device.usable_bytes)} usable",
                        style="red",
                    )
                )
    return lines


def _best_lines(space: DecisionSpace) -> list[Text]:
    lines = [Text(f"front: {len(space.front)} of {len(space.choices)} choices", style="bold")]
    for objective in space.objectives:
        best = space.best(objective.name)
        letter = objective.name[0].upper()
        if best is None:
            lines.append(Text(f"{letter} {objective.best}: no choice qualifies", style="red"))
            continue
        window = "" if best.window is None else f", window {best.window}"
        figures = ", ".join(figure_text(one, one.of(best.figures)) for one in space.objectives)
        lines.append(Text(f"{letter} {objective.best}: split {best.row.split}, batch {best.batch}{window}: {figures}"))
    return lines


def _hypervolume_lines(space: DecisionSpace) -> list[Text]:
    found = hypervolume(costs_of([c.figures for c in space.choices if c.comparable], space.objectives))
    if found is None:
        missing = len(space.objectives) > 1 and find_spec("moocore") is None
        return [Text("hypervolume: needs moocore; pip install 'paretosim[report]'", style="dim")] if missing else []
    corners = [
        ", ".join(
            figure_text(objective, -value if objective.maximised else value)
            for objective, value in zip(space.objectives, corner, strict=True)
        )
        for corner in (found.ideal, found.reference)
    ]
    return [
        Text(
            f"hypervolume of the front: {found.share:.3f} of the box from the best in each objective ({corners[0]})"
            f" to the reference point ({corners[1]})",
            style="dim",
        )
    ]
