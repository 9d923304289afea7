"""Accuracy against each cost as a chart: those that nobody beats are filled and joined, the others are hollow.

Points are numbered as they come; the key is under the chart, as names beside points would cover each other.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from personsearch.benchmarks.pareto import COSTS, Cost, ParetoPoint
from personsearch.benchmarks.report.charts import GRID, INK, SERIES, STYLE, svg_text
from personsearch.core.files import atomic_file

LIGHT = {INK: "#5b666e", GRID: "#e0e4e6", SERIES[0]: "#5b6ee1", SERIES[1]: "#0f8b8d", SERIES[2]: "#d9772b",
         SERIES[3]: "#a23e8c", SERIES[4]: "#6a994e", SERIES[5]: "#7a7f87"}  # fmt: skip
DPI = 160
KEY_LETTERS = 170
NEAR = 0.04  # share of an axis


def pareto_svg(points: Sequence[ParetoPoint], description: str) -> str:
    """The chart in a page's colours."""
    figure = _draw(points, {})
    try:
        return svg_text(figure, description)
    finally:
        plt.close(figure)


def write_pareto_png(points: Sequence[ParetoPoint], path: Path) -> None:
    """The chart as a picture on white."""
    figure = _draw(points, LIGHT)
    try:
        with atomic_file(path) as part:
            figure.savefig(part, format="png", dpi=DPI, facecolor="white")
    finally:
        plt.close(figure)


def _draw(points: Sequence[ParetoPoint], colours: dict[str, str]) -> Any:
    """A figure with a panel for each cost that some point has."""
    shown: list[Cost] = [cost for cost in COSTS if any(_drawable(point, cost) for point in points)]
    runners = sorted({point.runner for point in points})
    style = {key: colours.get(value, value) if isinstance(value, str) else value for key, value in STYLE.items()}
    with plt.rc_context({**style, "axes.grid.axis": "both"}):
        figure, axes = plt.subplots(1, len(shown), figsize=(10.4, 4.4), squeeze=False, layout="constrained")
        for axis, cost in zip(axes[0], shown, strict=True):
            _panel(axis, points, cost, runners, colours)
        key = "   ".join(f"{number}\u00a0{point.name}" for number, point in enumerate(points, start=1))
        figure.supxlabel(
            textwrap.fill(key, KEY_LETTERS, break_on_hyphens=False), fontsize=7.5, color=colours.get(INK, INK)
        )
        handles: dict[str, Any] = {}
        for axis in axes[0]:
            handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 6))
    return figure


def _panel(
    axis: Any, points: Sequence[ParetoPoint], cost: Cost, runners: Sequence[str], colours: dict[str, str]
) -> None:
    known = sorted((point for point in points if _drawable(point, cost)), key=lambda one: getattr(one, cost))
    front = [point for point in known if cost not in point.dominated]
    ink = colours.get(INK, INK)
    axis.plot(
        [getattr(point, cost) for point in front],
        [100 * point.mean_ap for point in front],
        color=ink,
        linewidth=1.0,
        linestyle=(0, (4, 3)),
        zorder=1,
    )
    for point in known:
        stand_in = SERIES[runners.index(point.runner) % len(SERIES)]
        colour = colours.get(stand_in, stand_in)
        axis.scatter(
            [getattr(point, cost)],
            [100 * point.mean_ap],
            s=38,
            facecolors="none" if cost in point.dominated else colour,
            edgecolors=colour,
            linewidths=1.5,
            label=point.runner or "not said",
            zorder=2,
        )
    numbers = {id(point): number for number, point in enumerate(points, start=1)}
    for group in _neighbours(known, cost):
        axis.annotate(
            ",".join(str(numbers[id(point)]) for point in group),
            (getattr(group[0], cost), 100 * group[0].mean_ap),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=ink,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=_ticks([getattr(point, cost) for point in known])))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.22, y=0.16)
    axis.set_xlabel(COSTS[cost])
    axis.set_ylabel("search mAP %")


def _drawable(point: ParetoPoint, cost: Cost) -> bool:
    """On a logarithmic axis; net energy may come out below zero on a noisy sensor."""
    value = getattr(point, cost)
    return value is not None and value > 0


def _ticks(values: Sequence[float]) -> tuple[int, ...]:
    """Which multiples of powers of ten are written on the axis: fewer, the more decades there are."""
    decades = math.log10(max(values) / min(values))
    return (1,) if decades > 2 else (1, 3) if decades > 1 else (1, 2, 3, 5)


def _neighbours(points: Sequence[ParetoPoint], cost: Cost) -> list[list[ParetoPoint]]:
    """Points, cheapest first, in groups that lie so close that their numbers would cover each other."""
    span = max(point.mean_ap for point in points) - min(point.mean_ap for point in points)
    decades = math.log10(getattr(points[-1], cost) / getattr(points[0], cost))
    groups: list[list[ParetoPoint]] = []
    for point in points:
        for group in groups:
            first = group[0]
            near = math.log10(getattr(point, cost) / getattr(first, cost)) <= NEAR * decades
            if near and abs(point.mean_ap - first.mean_ap) <= NEAR * span:
                group.append(point)
                break
        else:
            groups.append([point])
    return groups
