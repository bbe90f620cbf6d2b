"""The report's figures: fronts, parity, residuals, and what terms and simpler models are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from validation.assessment import Assessment, BasisScores, ConditionAssessment, basis_of
from validation.comparing import Comparison
from validation.conditions import MEMORY
from validation.fitting.observations import PHASES
from validation.measured import Quantity
from validation.report.charts import SHAPES, Panel, Scale, Shape, scale_over
from validation.scores import ErrorScore
from validation.wording import duration, signed

# Series colours that the page has; further ones start again with another shape.
COLOURS = 6
_Named = tuple[str, Callable[[Comparison], Sequence[Quantity]]]
_QUANTITIES: tuple[_Named, ...] = (
    ("latency", lambda c: [c.latency]),
    ("throughput", lambda c: [c.throughput]),
    ("transfer phase", lambda c: c.transfers),
)


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a marker's shape and style, and what it stands for."""

    shape: Shape
    style: str
    text: str


@dataclass(frozen=True)
class Figure:
    """Charts that belong together, the legend that they share, and what has to be said of them."""

    charts: tuple[str, ...]
    legend: tuple[Key, ...]
    caption: str


def front_chart(found: ConditionAssessment, identifier: str) -> str:
    """Latency against throughput of one condition: measured plans and front, predicted ones over them."""
    cells = found.joined.comparisons
    unit_s, unit = _unit(value for c in cells for value in (c.latency.high, c.latency.predicted))
    points = [((c.latency.measured / unit_s, c.throughput.measured)) for c in cells]
    aimed = [((c.latency.predicted / unit_s, c.throughput.predicted)) for c in cells]
    panel = Panel(
        scale_over([*(x for x, _ in aimed), *(end / unit_s for c in cells for end in _ends(c.latency))]),
        scale_over([*(y for _, y in aimed), *(end for c in cells for end in _ends(c.throughput))]),
        x_label=f"latency, {unit}", y_label="throughput, images/s",
    )  # fmt: skip
    for (x, y), (a, b) in zip(points, aimed, strict=True):
        panel.line([(x, y), (a, b)], "miss")
    front = found.front
    if front is not None:
        panel.line(sorted(p for c, p in zip(cells, points, strict=True) if c.label in front.measured), "measured front")
        panel.line(
            sorted(p for c, p in zip(cells, aimed, strict=True) if c.label in front.predicted), "predicted front"
        )
    for cell, (x, y) in zip(cells, points, strict=True):
        panel.bar((cell.latency.low / unit_s, cell.latency.high / unit_s), (y, y), "measured spread")
        panel.bar((x, x), (cell.throughput.low, cell.throughput.high), "measured spread")
        panel.point(x, y, shape="circle", style="measured", size=3.5, title=_told(cell))
    for cell, (a, b) in zip(cells, aimed, strict=True):
        panel.point(a, b, shape="diamond", style="predicted hollow", size=4.5, title=_told(cell))
    on_front = (*front.measured, *front.predicted) if front is not None else ()
    for cell, (x, y) in sorted(zip(cells, points, strict=True), key=lambda pair: pair[0].label not in on_front):
        panel.label(x, y, cell.label)
    return panel.svg(f"Latency against throughput, predicted over measured: {found.joined.condition}", identifier)


def _ends(quantity: Quantity) -> tuple[float, float]:
    """Of its spread, as far as that is worth room in a chart: no further than half the value."""
    return max(quantity.low, 0.5 * quantity.measured), min(quantity.high, 1.5 * quantity.measured)


FRONT_LEGEND = (
    Key("circle", "measured", "measured, with its range over repeats"),
    Key("diamond", "predicted hollow", "predicted"),
)


def parity_figure(assessment: Assessment, identifier: str) -> Figure:
    """Predicted against measured, with bands of ±5 and ±10 %."""
    charts = []
    series = _Series(assessment)
    for place, (name, pick) in enumerate(_QUANTITIES):
        pairs = [(c, q) for c in assessment.joined.comparisons for q in pick(c) if q.error is not None]
        if not pairs:
            continue
        unit_s, unit = (1.0, "images/s") if name == "throughput" else _unit(q.measured for _, q in pairs)
        values = [value / unit_s for _, q in pairs for value in (q.measured, q.predicted)]
        scale = scale_over(values, margin=0.05)
        panel = Panel(
            scale, scale, x_label=f"measured {name}, {unit}", y_label=f"predicted, {unit}", size=(360.0, 320.0)
        )
        for share, style in ((0.10, "band wide"), (0.05, "band")):
            ends = (scale.low, scale.high)
            panel.band(
                [(x, x * (1 - share)) for x in _along(*ends, scale)]
                + [(x, x * (1 + share)) for x in reversed(_along(*ends, scale))],
                style,
            )
        panel.line([(scale.low, scale.low), (scale.high, scale.high)], "rule")
        for cell, q in pairs:
            panel.bar((q.low / unit_s, q.high / unit_s), (q.predicted / unit_s,) * 2, f"spread {series.style(cell)}")
        for cell, q in pairs:
            panel.point(
                q.measured / unit_s, q.predicted / unit_s,
                shape=series.shape(cell), style=f"hollow {series.style(cell)}",
                title=f"{_name(cell)}: {name} off by {signed(q.error)}",
            )  # fmt: skip
        charts.append(panel.svg(f"Predicted against measured {name} of every cell", f"{identifier}-{place}"))
    return Figure(
        tuple(charts), series.legend,
        "On the diagonal a prediction is exact; the bands are ±5 and ±10 %. Bars: range over repeats, or the noise"
        " floor of a single one.",
    )  # fmt: skip


def _along(low: float, high: float, scale: Scale, steps: int = 24) -> list[float]:
    """Values from one end to the other, evenly on the scale, so that a band bends as it should."""
    if scale.logarithmic:
        return [low * (high / low) ** (k / steps) for k in range(steps + 1)]
    return [low + (high - low) * k / steps for k in range(steps + 1)]


def residual_figure(assessment: Assessment, identifier: str) -> Figure:
    """Signed errors against what could explain them: bytes, rate, delay, imbalance; a row of charts a quantity."""
    variables: tuple[tuple[str, Callable[[Comparison], float | None]], ...] = (
        ("sent a batch, MB", lambda c: c.activation_bytes / 1e6),
        ("rate, Mbit/s", _rate_mbps),
        ("one-way delay, ms", lambda c: c.inputs.links[0].one_way_delay_s * 1e3),
        ("longest stage's share of computing", lambda c: c.imbalance),
    )
    series = _Series(assessment)
    shaped = {
        id(cell)
        for condition in assessment.joined.conditions
        if condition.link_origin == "asked"
        for cell in condition.comparisons
    }
    charts = []
    for row, (name, pick) in enumerate(_QUANTITIES):
        cells = assessment.joined.comparisons
        if name == "transfer phase" and any(id(c) in shaped and c.transfers for c in cells):
            cells = tuple(c for c in cells if id(c) in shaped)
        found = [(c, q, q.error) for c in cells for q in pick(c) if q.error is not None]
        if not found:
            continue
        # A bar has room as far as the largest error: one cell that was measured badly must not flatten all others.
        reach = max(abs(error) for *_, error in found)
        floors = [min(q.noise_floor or 0.0, reach) for _, q, _ in found]
        ends = [error + side * floor for (*_, error), floor in zip(found, floors, strict=True) for side in (-1, 1)]
        y = scale_over([end * 100 for end in ends], whole=True)
        for column, (label, value) in enumerate(variables):
            placed = [(x, c, q, error) for c, q, error in found if (x := value(c)) is not None]
            if len({x for x, *_ in placed}) < 2:
                continue  # what never changes explains nothing
            panel = Panel(
                scale_over([x for x, *_ in placed]), y,
                x_label=label, y_label=f"error of {name}, %", size=(330.0, 230.0),
            )  # fmt: skip
            panel.rule(y=0.0)
            for x, cell, q, error in placed:
                noise = (q.noise_floor or 0.0) * 100
                panel.bar((x, x), (error * 100 - noise, error * 100 + noise), f"spread {series.style(cell)}")
            for x, cell, _, error in placed:
                panel.point(
                    x, error * 100, shape=series.shape(cell), style=f"hollow {series.style(cell)}", size=3.5,
                    title=f"{_name(cell)}: {name} off by {signed(error)}",
                )  # fmt: skip
            charts.append(panel.svg(f"Error of {name} against {label}", f"{identifier}-{row}-{column}"))
    return Figure(
        tuple(charts), series.legend,
        "Error is (predicted − measured) / measured. Bars are the cells' own noise floors: an error inside its bar"
        " is no larger than the cell's repeats differ among themselves. A trend along an axis is a term that is"
        " missing. Transfer phases are those over shaped links, where there are any: over an unshaped one they last a"
        " fraction of a millisecond.",
    )  # fmt: skip


# Phases that figures above have already: of them it is relative errors that matter.
_SHOWN_ABOVE = ("transfer", "period")


def phase_figure(assessment: Assessment, identifier: str) -> Figure:
    """Errors of each phase of a batch's way, in time, against the bytes that are sent; a chart a phase."""
    series = _Series(assessment)
    charts = []
    for phase in PHASES:
        found = [error for error in assessment.phases if error.phase == phase]
        if not found or phase in _SHOWN_ABOVE:
            continue
        unit_s, unit = _small_unit(abs(error.error_s) for error in found)
        # As in the figure above, a bar has room as far as the largest error.
        reach_s = max(abs(error.error_s) for error in found)
        noises_s = [(error.high_s - error.low_s) / 2 for error in found]
        ends_s = [
            error.error_s + side * min(noise_s, reach_s)
            for error, noise_s in zip(found, noises_s, strict=True)
            for side in (-1, 1)
        ]
        panel = Panel(
            scale_over([error.cell.activation_bytes / 1e6 for error in found]),
            scale_over([end_s / unit_s for end_s in ends_s], whole=True),
            x_label="sent a batch, MB", y_label=f"error of {phase}, {unit}", size=(330.0, 230.0),
        )  # fmt: skip
        panel.rule(y=0.0)
        for error, noise_s in zip(found, noises_s, strict=True):
            x, y = error.cell.activation_bytes / 1e6, error.error_s
            ends = ((y - noise_s) / unit_s, (y + noise_s) / unit_s)
            panel.bar((x, x), ends, f"spread {series.style(error.cell)}")
        for error in found:
            panel.point(
                error.cell.activation_bytes / 1e6, error.error_s / unit_s, shape=series.shape(error.cell),
                style=f"hollow {series.style(error.cell)}", size=3.5,
                title=f"{_name(error.cell)}: {phase} {duration(error.measured_s)}, predicted"
                f" {duration(error.predicted_s)}",
            )  # fmt: skip
        charts.append(panel.svg(f"Error of phase {phase} against bytes sent", f"{identifier}-{phase}"))
    return Figure(
        tuple(charts), series.legend,
        "Predicted less measured, of each plan's median over its repeats; bars are half the range over them. A level"
        " off zero is a cost that the model lacks, a slope one of bytes. Taken of modes in which no batch waits for"
        " another; transfers and how often a batch leaves (throughput) are above.",
    )  # fmt: skip


def _small_unit(values_s: Iterable[float]) -> tuple[float, str]:
    """The unit that suits the largest of them, which may be far below a millisecond."""
    largest_s = max(values_s)
    return (1e-6, "µs") if largest_s < 1e-3 else _unit([largest_s])


def ablation_figure(assessment: Assessment, identifier: str) -> Figure:
    """Mean error of the cells that a term changes, with the term and without it."""
    charts = []
    for place, name in enumerate(("latency", "throughput", "transfer")):
        rows = [
            (entry.term, with_term.mape * 100, without_term.mape * 100)
            for entry in assessment.ablation
            if (with_term := getattr(entry.with_term, name, None)) is not None
            and (without_term := getattr(entry.without_term, name, None)) is not None
        ]
        if rows:
            title = "transfer phase" if name == "transfer" else name
            charts.append(_dumbbells(rows, f"MAPE of {title}, %", f"{identifier}-{place}"))
    return Figure(
        tuple(charts),
        (Key("circle", "predicted", "with the term"), Key("cross", "series s3", "without it")),
        "Each over the cells that the term changes. A cross to the right of its dot: the term makes predictions"
        " better by that much; to the left: worse.",
    )  # fmt: skip


def baseline_figure(found: BasisScores, identifier: str) -> Figure:
    """Mean error of the model and of simpler ones on the same cells."""
    scores = found.scores
    groups: tuple[tuple[str, ErrorScore | None, tuple[tuple[str, ErrorScore | None], ...]], ...] = (
        ("latency", scores.latency, (("additive", scores.additive_latency),)),
        (
            "throughput", scores.throughput,
            (("additive", scores.additive_throughput), ("max(compute, communication)", scores.overlap_throughput)),
        ),
    )  # fmt: skip
    rows = [
        (f"{quantity}: {name}", ours.mape * 100, simpler.mape * 100)
        for quantity, ours, others in groups
        if ours is not None
        for name, simpler in others
        if simpler is not None
    ]
    return Figure(
        (_dumbbells(rows, "MAPE, %", identifier),) if rows else (),
        (Key("circle", "predicted", "this model"), Key("cross", "series s3", "the simpler one")),
        "On the same cells.",
    )


def _dumbbells(rows: Sequence[tuple[str, float, float]], label: str, identifier: str) -> str:
    """A line a row from a dot to a cross, its name above the line."""
    x = scale_over([value for _, *values in rows for value in values], whole=True, logarithmic=False)
    panel = Panel(
        x, Scale(-len(rows) + 0.4, 0.6), x_label=label, y_label="", size=(360.0, 56.0 + 34.0 * len(rows)), rows=True
    )
    for place, (name, dot, cross) in enumerate(rows):
        panel.line([(dot, -place), (cross, -place)], "miss")
        panel.point(cross, -place, shape="cross", style="series s3", title=f"{name}, without: {cross:.3g} %")
        panel.point(dot, -place, shape="circle", style="predicted", title=f"{name}, with: {dot:.3g} %")
        panel.write(min(dot, cross), -place + 0.32, f"{name}: {dot:.3g} % → {cross:.3g} %")
    return panel.svg(label, identifier)


class _Series:
    """How cells are told apart: colour by model (or, of one model, by link), shape by mode (or, of one, by link)."""

    def __init__(self, assessment: Assessment) -> None:
        conditions = [found.joined for found in assessment.conditions]
        self._of = {id(cell): joined.condition for joined in conditions for cell in joined.comparisons}
        several = len({joined.condition.model for joined in conditions}) > 1
        self._colours: list[str] = list(
            dict.fromkeys(j.condition.model if several else j.condition.link_name for j in conditions)
        )
        self._by_model = several
        self._shapes: list[str] = list(dict.fromkeys(str(j.condition.mode) for j in conditions))
        self._held = {id(cell): basis_of(cell) for joined in conditions for cell in joined.comparisons}
        self._bases = list(dict.fromkeys(self._held.values()))

    def _colour(self, cell: Comparison) -> int:
        condition = self._of[id(cell)]
        return self._colours.index(condition.model if self._by_model else condition.link_name)

    def style(self, cell: Comparison) -> str:
        """Classes of the cell's marker."""
        faint = " fitted" if len(self._bases) > 1 and self._held[id(cell)] == "fitted" else ""
        return f"series s{self._colour(cell) % COLOURS}{faint}"

    def shape(self, cell: Comparison) -> Shape:
        """Shape of the cell's marker."""
        return SHAPES[self._shapes.index(str(self._of[id(cell)].mode)) % len(SHAPES)]

    @property
    def legend(self) -> tuple[Key, ...]:
        """What colours and shapes stand for."""
        colours = [Key("square", f"series s{n % COLOURS}", name) for n, name in enumerate(self._colours)]
        shapes = [Key(SHAPES[n % len(SHAPES)], "hollow plain", name) for n, name in enumerate(self._shapes)]
        faint = [Key("square", "series fitted", "fitted on (faint)")] if len(self._bases) > 1 else []
        return (*colours, *shapes, *faint)


def _unit(values_s: Iterable[float]) -> tuple[float, str]:
    """Seconds in the unit that suits the largest of them."""
    return (1.0, "s") if max(values_s) >= 1 else (1e-3, "ms")


def _rate_mbps(cell: Comparison) -> float | None:
    """Of the first hop; None where that is memory, which has none."""
    link = cell.inputs.links[0]
    return None if link.name == MEMORY.name else link.rate_bps / 1e6


def _name(cell: Comparison) -> str:
    inputs = cell.inputs
    workers = ", serial workers" if inputs.operation.workers == "serial" else ""
    return (
        f"{inputs.model.name}, split {cell.label}, {inputs.links[0].name}, {inputs.mode}, {inputs.backend}{workers}"
    )  # fmt: skip


def _told(cell: Comparison) -> str:
    latency, throughput = cell.latency, cell.throughput
    return (
        f"split {cell.label}: latency {duration(latency.measured)} measured, {duration(latency.predicted)} predicted"
        f" ({signed(latency.error)}); {throughput.measured:.4g} images/s measured, {throughput.predicted:.4g} predicted"
        f" ({signed(throughput.error)})"
    )
