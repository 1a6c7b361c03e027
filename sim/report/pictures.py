"""Small pictures as inline SVG. Colours come from the page's style, by class; every text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 62, 14, 10, 38
SERIES = 6  # colours and dashes in the style
Point = tuple[float, float]
Bar = tuple[str, float, float, float | None, str]  # name, low, high, a mark in it, what it tells


@dataclass
class Plot:
    """A plane with axes. x, y: (low, high) of what is shown; height in pixels of the 640 wide picture."""

    title: str
    says: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    height: int = 220
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = (x - x0) / ((x1 - x0) or 1.0) * (WIDTH - LEFT - RIGHT) + LEFT
        down = self.height - BOTTOM - (y - y0) / ((y1 - y0) or 1.0) * (self.height - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    def line(
        self, points: Sequence[tuple[float, float]], series: int = 0, *, key: str = "", dots: bool = False
    ) -> None:
        """A line through points. key: a class by which it can be hidden."""
        if points:
            pixels = [self.at(*point) for point in points]
            path = "M" + "L".join(f"{x} {y}" for x, y in pixels)
            self.parts.append(f'<path class="line s{series % SERIES} {escape(key)}" d="{path}"/>')
            for (x, y), (a, b) in zip(pixels, points, strict=True) if dots else ():
                told = f"{_short(a)}: {_short(b)}"
                self.parts.append(
                    f'<circle class="dot f{series % SERIES} {escape(key)}" cx="{x}" cy="{y}" r="3">'
                    f"<title>{told}</title></circle>"
                )

    def bar(self, x: float, width: float, y: float, told: str, series: int = 0) -> None:
        """A column from 0 to y."""
        (x0, y1), (x1, y0) = self.at(x, y), self.at(x + width, max(self.y[0], 0))
        self.parts.append(
            f'<rect class="f{series % SERIES}" x="{x0}" y="{y1}" width="{max(x1 - x0 - 1, 1):.1f}" '
            f'height="{max(y0 - y1, 0):.1f}"><title>{escape(told)}</title></rect>'
        )

    def level(self, y: float, name: str) -> None:
        """A horizontal line with its name."""
        (x0, down), (x1, _) = self.at(self.x[0], y), self.at(self.x[1], y)
        self.parts.append(f'<path class="level" d="M{x0} {down}H{x1}"/>')
        self.parts.append(f'<text class="small" x="{x1 - 2}" y="{down - 3}" text-anchor="end">{escape(name)}</text>')

    def svg(self, *, whole_x: bool = False) -> Markup:
        """The picture. whole_x: ticks of x are integers."""
        return framed(self.title, self.says, WIDTH, self.height, "".join([*self._axes(whole_x), *self.parts]))

    def _axes(self, whole_x: bool) -> list[str]:
        (x0, y0), (x1, y1) = self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[1])
        found = [f'<path class="axis" d="M{x0} {y1}V{y0}H{x1}"/>']
        for value in ticks(*self.y, 4):
            _, down = self.at(0, value)
            found.append(f'<path class="grid" d="M{x0} {down}H{x1}"/>')
            found.append(f'<text class="small" x="{x0 - 5}" y="{down + 3}" text-anchor="end">{_short(value)}</text>')
        for value in ticks(*self.x, 8, whole=whole_x):
            across, _ = self.at(value, 0)
            found.append(f'<text class="small" x="{across}" y="{y0 + 14}" text-anchor="middle">{_short(value)}</text>')
        middle = (x0 + x1) / 2
        found.append(f'<text x="{middle}" y="{self.height - 6}" text-anchor="middle">{escape(self.x_label)}</text>')
        turned = (y0 + y1) / 2
        found.append(
            f'<text x="12" y="{turned}" text-anchor="middle" transform="rotate(-90 12 {turned})">'
            f"{escape(self.y_label)}</text>"
        )
        return found


def framed(title: str, says: str, width: float, height: float, inside: str, *, css: str = "") -> Markup:
    """An <svg> that screen readers read as one picture: its title, and what it says. inside: safe SVG."""
    label = f"{escape(title)}. {escape(says)}"
    head = f'<svg role="img" class="plot {css}" viewBox="0 0 {width} {height}" aria-label="{label}">'
    return Markup(f"{head}{inside}</svg>")


def interval_bars(
    title: str,
    says: str,
    rows: Sequence[tuple[str, float, float, float | None, str]],
    x_label: str,
    *,
    zero: bool = True,
) -> Markup:
    """Horizontal intervals. zero: the axis starts at 0."""
    step, left = 26, 190
    low = 0.0 if zero else min(row[1] for row in rows)
    high = max(row[2] for row in rows)
    pad = 0 if zero else (high - low) * 0.05 or 1
    low, high = low - pad, (high + pad) or 1.0
    height = len(rows) * step + 40

    def at(value: float) -> float:
        return round(left + (value - low) / ((high - low) or 1) * (WIDTH - left - 20), 1)

    parts = []
    for value in ticks(low, high, 5):
        parts.append(f'<path class="grid" d="M{at(value)} 4V{height - 34}"/>')
        parts.append(
            f'<text class="small" x="{at(value)}" y="{height - 20}" text-anchor="middle">{_short(value)}</text>'
        )
    for number, (name, start, stop, mark, told) in enumerate(rows):
        y = 6 + number * step
        shown = name if len(name) <= 27 else name[:26] + "…"
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(shown)}</text>')
        parts.append(
            f'<rect class="f{number % SERIES}" x="{at(start)}" y="{y + 3}" width="{max(at(stop) - at(start), 2):.1f}" '
            f'height="14" rx="2"><title>{escape(told)}</title></rect>'
        )
        if mark is not None:
            parts.append(f'<path class="mark" d="M{at(mark)} {y}V{y + 20}"/>')
    parts.append(f'<text x="{(left + WIDTH) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return framed(title, says, WIDTH, height, "".join(parts))


def ticks(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """Round numbers between two."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / wanted))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= wanted), 10)
    step = max(step, 1.0) if whole else step
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    """A number as a reader wants it at an axis."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}"
