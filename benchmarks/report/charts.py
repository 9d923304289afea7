"""Figures to SVG that lives inside a page and follows its colours, light or dark.

Matplotlib knows fixed colours only, so each chart is drawn with stand-in colours that are then replaced by the page's
CSS variables. Text stays text, in the page's font. The ids are salted with a constant: same figures, same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

from personsearch.benchmarks.report.style import CSS

matplotlib.use("svg")  # draws without a display
import matplotlib.pyplot as plt

INK, GRID, SHADE = "#010203", "#010204", "#010205"
SERIES = tuple(f"#01021{i}" for i in range(6))
_VARIABLES = {INK: "--ink-soft", GRID: "--rule", SHADE: "--shade"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "personsearch",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Line:
    """A series: ``colour`` is an index into the page's series colours, kept the same for one thing everywhere."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    logarithmic: bool = False


@dataclass(frozen=True)
class Curve:
    """Points over a quantity that is no count of steps, with the span that each was found in.

    Attributes:
        name: shown in the legend.
        xs: where.
        ys: values, shown as markers joined by lines.
        low: lower end of each value's span.
        high: upper end of each value's span.
        colour: as in `Line`.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: int


def curve_panel(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    description: str,
    logarithmic: bool = False,
    chosen: float | None = None,
) -> str:
    """Curves on one set of axes as SVG, percent from 0 to 100 upwards.

    Args:
        curves: with values in [0, 1].
        x_label: of the axis along.
        y_label: of the axis up.
        description: read to those who cannot see it.
        logarithmic: along x; every point's place is then written on the axis.
        chosen: a place along x to mark.
    """
    with _drawing(1, 3.4) as (figure, (axis,)):
        for curve in curves:
            axis.fill_between(
                curve.xs,
                [100 * value for value in curve.low],
                [100 * value for value in curve.high],
                color=SERIES[curve.colour],
                alpha=0.18,
                linewidth=0,
            )
            axis.plot(
                curve.xs,
                [100 * value for value in curve.ys],
                color=SERIES[curve.colour],
                label=curve.name,
                marker="o",
                markersize=4,
            )
        if logarithmic:
            axis.set_xscale("log")
            places = sorted({round(x) for curve in curves for x in curve.xs})
            axis.set_xticks(places, [f"{place:,}" for place in places])
            axis.minorticks_off()
        if chosen is not None:
            axis.axvline(chosen, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"chosen: {chosen:g}")
        axis.set_ylim(0, 102)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6)
        return svg_text(figure, description)


def standalone(svg: str) -> str:
    """A chart as a file of its own: with the page's colours, light or dark, and a size."""
    variables = CSS[CSS.index(":root") : CSS.index("* {")]
    background = "svg { background: var(--paper); }"
    start = svg.index(">") + 1
    head = svg[:start].replace("<svg", '<svg width="1040"', 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<style>{variables}{background}</style>{svg[start:]}\n'


def line_panels(panels: Sequence[Panel], description: str) -> str:
    """Panels side by side as one SVG; ``description`` is read to those who cannot see it."""
    with _drawing(len(panels), 3.0) as (figure, axes):
        for axis, panel in zip(axes, panels, strict=True):
            for line in panel.lines:
                axis.plot(line.xs, line.ys, color=SERIES[line.colour], label=line.name)
            if panel.logarithmic:
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            axis.set_title(panel.title)
            axis.set_xlabel(panel.x_label)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.legend()
        return svg_text(figure, description)


def timeline(
    seconds: Sequence[float],
    similarities: Sequence[float | None],
    shown: Sequence[bool],
    threshold: float,
    description: str,
) -> str:
    """The best similarity of each frame over time, the threshold, and a shade where the query is to be seen.

    Args:
        seconds: time of each frame.
        similarities: cosine of the best detection, or none where nobody was detected.
        shown: whether the ground truth shows the query.
        threshold: cosine above which a detection is reported.
        description: read to those who cannot see it.
    """
    step = seconds[1] - seconds[0] if len(seconds) > 1 else 1.0
    with _drawing(1, 2.3) as (figure, (axis,)):
        for label, (first, last) in enumerate(_runs(shown)):
            axis.axvspan(
                seconds[first] - step / 2,
                seconds[last] + step / 2,
                color=SHADE,
                linewidth=0,
                label="query in view (ground truth)" if label == 0 else None,
            )
        values = [float("nan") if value is None else value for value in similarities]
        axis.plot(seconds, values, color=SERIES[1], linewidth=1.3, label="best similarity in the frame")
        axis.axhline(
            threshold, color=SERIES[2], linewidth=1.2, linestyle=(0, (4, 3)), label=f"threshold {threshold:.2f}"
        )
        axis.set_xlabel("seconds")
        axis.set_ylabel("cosine")
        axis.set_xlim(seconds[0] - step / 2, seconds[-1] + step / 2)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return svg_text(figure, description)


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of every unbroken run of true."""
    runs: list[tuple[int, int]] = []
    for index, flag in enumerate(flags):
        if not flag:
            continue
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


@contextmanager
def _drawing(columns: int, height_inch: float) -> Iterator[tuple[Any, Any]]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(10.4, height_inch), squeeze=False, layout="constrained")
        try:
            yield figure, axes[0]
        finally:
            plt.close(figure)


def svg_text(figure: Any, description: str) -> str:
    """A figure drawn in the stand-in colours as SVG in the page's; ``description`` is read to who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The page decides how wide; viewBox keeps the shape.
    text = re.sub(r' (?:width|height)="[^"]*pt"', "", text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # group ids would repeat from chart to chart; clip paths keep theirs
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([^;\"]*?)(\d+(?:\.\d+)?px)[^;\"]*", r"font: \1\2 var(--font)", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{description.replace(chr(34), "")}"', 1)
