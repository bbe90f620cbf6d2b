"""Charts as inline SVG: scales with round ticks, and a panel that collects marks in the units of its data.

Colours, dashes and fonts are the page's (classes `s0` … for series, `measured`, `predicted`), so that a figure follows
its reader into dark mode and onto paper. Text stays text; what a mark stands for is in its title, which browsers show
where the pointer rests. Equal input gives equal bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Shape = Literal["circle", "square", "triangle", "diamond", "cross", "wedge"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond", "cross", "wedge")
# An axis that spans more than this factor is logarithmic.
LOGARITHMIC_FROM = 10.0
# Of the page's text in a figure, in units of the view box; widths are of an average character of a sans-serif font.
FONT_SIZE = 11.0
_CHARACTER = 0.56 * FONT_SIZE
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 10.0, 40.0
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scale:
    """Where values of an axis lie between 0 and 1."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.logarithmic:
            # Differences of logarithms: ratios of values that are far apart leave the floats' range.
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> tuple[float, ...]:
        """Round values within the scale: multiples of 1, 2 or 5 times a power of ten, or 1, 2, 5 of each decade.

        A logarithmic scale too short for two of those has the ticks of a linear one.

        >>> Scale(0.0, 10.0).ticks(), Scale(1.0, 30.0, logarithmic=True).ticks()
        ((0.0, 2.0, 4.0, 6.0, 8.0, 10.0), (1.0, 2.0, 5.0, 10.0, 20.0))
        """
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            fine = math.log10(self.high) - math.log10(self.low) < most / 3
            found = [digit * 10.0**decade for decade in decades for digit in ((1.0, 2.0, 5.0) if fine else (1.0,))]
            within = [tick for tick in found if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
            every = math.ceil(len(within) / most)
            if len(within) > 1:
                return tuple(float(f"{tick:.12g}") for tick in within[::every])
        step = _round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return tuple(float(f"{(first + k) * step:.12g}") + 0.0 for k in range(count))


def _round_step(least: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1.0, 2.0, 5.0, 10.0) if power * digit >= least * (1 - 1e-9))


def scale_over(
    values: Iterable[float], *, margin: float = 0.08, logarithmic: bool | None = None, whole: bool = False
) -> Scale:
    """A scale that holds all values with a margin; logarithmic where they span more than a factor of ten.

    Parameters
    ----------
    logarithmic : None to let the values say; they have to be above zero for it.
    whole : whether zero has to be on it, as for bars and errors.
    """
    found = [*values, *([0.0] if whole else [])]
    low, high = min(found), max(found)
    if logarithmic is None:
        logarithmic = low > 0 and high > LOGARITHMIC_FROM * low
    if logarithmic:
        factor = math.exp(margin * (math.log(high) - math.log(low))) if high > low else 1.5
        return Scale(max(low / factor, math.ulp(0.0)), min(high * factor, sys.float_info.max), logarithmic=True)
    pad = margin * (high - low) or margin * abs(high) or 1.0
    return Scale(low - pad, high + pad)


class Panel:
    """One chart: axes, a grid, and what is drawn over it, in data units.

    `size` is (width, height) of the view box. With `rows`, the upright axis has places and no values, so no ticks.
    """

    def __init__(
        self,
        x: Scale,
        y: Scale,
        *,
        x_label: str,
        y_label: str,
        size: tuple[float, float] = (360.0, 265.0),
        rows: bool = False,
    ) -> None:
        self._x, self._y = x, y
        self._width, self._height = size
        self._labels = (x_label, y_label)
        self._rows = rows
        self._left = 12.0 if rows else _LEFT
        self._marks: list[str] = []
        self._texts: list[str] = []
        self._taken: list[_Box] = []

    def _px(self, x: float) -> float:
        return self._left + self._x.at(x) * (self._width - self._left - _RIGHT)

    def _py(self, y: float) -> float:
        return self._height - _BOTTOM - self._y.at(y) * (self._height - _TOP - _BOTTOM)

    def band(self, corners: Sequence[tuple[float, float]], style: str) -> None:
        """A filled area."""
        self._marks.append(f'<polygon class="{style}" points="{self._path(corners)}"/>')

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points."""
        if len(points) > 1:
            self._marks.append(f'<polyline class="{style}" points="{self._path(points)}"/>')

    def bar(self, x: tuple[float, float], y: tuple[float, float], style: str) -> None:
        """An error bar from (x, y) to (x, y) along one axis, as far as the panel goes."""
        x0, x1 = (self._px(min(max(value, self._x.low), self._x.high)) for value in x)
        y0, y1 = (self._py(min(max(value, self._y.low), self._y.high)) for value in y)
        if math.hypot(x1 - x0, y1 - y0) >= 0.5:
            self._marks.append(f'<path class="{style}" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')

    def point(self, x: float, y: float, *, shape: Shape, style: str, size: float = 4.0, title: str = "") -> None:
        """A marker, with what it says when pointed at."""
        px, py = self._px(x), self._py(y)
        self._taken.append((px - size, py - size, px + size, py + size))
        told = f"<title>{escape(title)}</title>" if title else ""
        self._marks.append(marker(px, py, shape=shape, style=style, size=size, inside=told))

    def label(self, x: float, y: float, text: str) -> None:
        """A text beside a point, on the side where nothing else is; left out where there is no room."""
        px, py = self._px(x), self._py(y)
        width = _CHARACTER * len(text)
        for dx, dy in ((7, -6), (7, 12), (-7, -6), (-7, 12), (0, -10), (0, 18)):
            left = px + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
            box = (left, py + dy - FONT_SIZE * 0.8, left + width, py + dy + 2)
            inside = self._left < box[0] and box[2] < self._width and box[3] < self._height - _BOTTOM and box[1] > 0
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                self._texts.append(f'<text class="label" x="{left:.1f}" y="{py + dy:.1f}">{escape(text)}</text>')
                return

    def write(self, x: float, y: float, text: str) -> None:
        """A text that starts at a place, moved to the left where it would leave the panel."""
        left = max(min(self._px(x), self._width - _RIGHT - _CHARACTER * len(text)), self._left)
        self._texts.append(f'<text class="label" x="{left:.1f}" y="{self._py(y):.1f}">{escape(text)}</text>')

    def rule(self, *, x: float | None = None, y: float | None = None, style: str = "rule") -> None:
        """A line across the whole panel at one value of an axis."""
        if x is not None:
            self.line([(x, self._y.low), (x, self._y.high)], style)
        if y is not None:
            self.line([(self._x.low, y), (self._x.high, y)], style)

    def svg(self, description: str, identifier: str) -> str:
        """The chart as an element; `identifier` is unique on the page."""
        left, right, bottom = self._left, self._width - _RIGHT, self._height - _BOTTOM
        axes = []
        for tick in self._x.ticks():
            px = self._px(tick)
            axes.append(f'<path class="grid" d="M{px:.1f} {_TOP}V{bottom}"/>')
            axes.append(f'<text class="tick" x="{px:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
        for tick in () if self._rows else self._y.ticks():
            py = self._py(tick)
            axes.append(f'<path class="grid" d="M{left} {py:.1f}H{right}"/>')
            axes.append(f'<text class="tick" x="{left - 6}" y="{py + 3.5:.1f}" text-anchor="end">{_minus(tick)}</text>')
        middle = (_TOP + bottom) / 2
        names = (
            f'<text class="axis" x="{(left + right) / 2}" y="{self._height - 6}" text-anchor="middle">'
            f"{escape(self._labels[0])}</text>"
            f'<text class="axis" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
            f"{escape(self._labels[1])}</text>"
        )
        inner = f'<rect x="{left}" y="{_TOP}" width="{right - left}" height="{bottom - _TOP}"/>'
        return (
            f'<svg class="chart" viewBox="0 0 {self._width:g} {self._height:g}" role="img" aria-label="'
            f'{escape(description)}"><clipPath id="{identifier}">{inner}</clipPath>{"".join(axes)}'
            f'<g clip-path="url(#{identifier})">{"".join(self._marks)}</g>{"".join(self._texts)}{names}</svg>'
        )

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)


def marker(px: float, py: float, *, shape: Shape, style: str, size: float = 4.0, inside: str = "") -> str:
    """A marker's element, in units of the view box."""
    outlines: dict[Shape, str] = {
        "square": f"M{px - size:.1f} {py - size:.1f}h{2 * size}v{2 * size}h{-2 * size}z",
        "triangle": f"M{px:.1f} {py - 1.2 * size:.1f}l{1.2 * size:.1f} {2 * size:.1f}h{-2.4 * size:.1f}z",
        "wedge": f"M{px:.1f} {py + 1.2 * size:.1f}l{1.2 * size:.1f} {-2 * size:.1f}h{-2.4 * size:.1f}z",
        "diamond": f"M{px:.1f} {py - 1.35 * size:.1f}l{1.35 * size:.1f} {1.35 * size:.1f}"
        f"l{-1.35 * size:.1f} {1.35 * size:.1f}l{-1.35 * size:.1f} {-1.35 * size:.1f}z",
        "cross": f"M{px - size:.1f} {py - size:.1f}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}",
    }
    if shape == "circle":
        return f'<circle class="{style}" cx="{px:.1f}" cy="{py:.1f}" r="{size}">{inside}</circle>'
    return f'<path class="{style}" d="{outlines[shape]}">{inside}</path>'


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _minus(value: float) -> str:
    return f"{value:g}".replace("-", "−")
