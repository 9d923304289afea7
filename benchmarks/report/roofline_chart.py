"""A machine's roof and the networks under it: operations a second over operations a byte, both logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from personsearch.benchmarks.report.charts import INK, SERIES, STYLE, svg_text
from personsearch.benchmarks.roofline import RooflinePoint


def roofline_svg(points: Sequence[RooflinePoint], description: str) -> str:
    """The chart in a page's colours; a roof for each library and precision that some point has.

    Args:
        points: at least one.
        description: read to those who cannot see it.
    """
    roofs = list(
        dict.fromkeys((point.library, point.peak_flops_per_s, point.bandwidth_bytes_per_s) for point in points)
    )
    intensities = [point.intensity for point in points]
    intensities += [peak / bandwidth for _, peak, bandwidth in roofs]
    along = np.geomspace(min(intensities) / 3, max(intensities) * 3, 64)
    with plt.rc_context({**STYLE, "axes.grid.axis": "both"}):
        figure, axis = plt.subplots(figsize=(10.4, 4.0), layout="constrained")
        try:
            for number, roof in enumerate(roofs):
                _draw_roof(axis, along, roof, points, SERIES[number % len(SERIES)])
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel("operations a byte")
            axis.set_ylabel("GFLOP/s")
            axis.legend(loc="lower right")
            return svg_text(figure, description)
        finally:
            plt.close(figure)


def _roof(point: RooflinePoint) -> tuple[str, float, float]:
    return point.library, point.peak_flops_per_s, point.bandwidth_bytes_per_s


def _draw_roof(
    axis: Any,
    along: np.ndarray[tuple[int], np.dtype[np.float64]],
    roof: tuple[str, float, float],
    points: Sequence[RooflinePoint],
    colour: str,
) -> None:
    library, peak, bandwidth = roof
    under = [point for point in points if _roof(point) == roof]
    numbers = ", ".join(dict.fromkeys(point.work.precision for point in under))
    axis.plot(
        along,
        np.minimum(peak, bandwidth * along) / 1e9,
        color=colour,
        label=f"{library}, {numbers}: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s",
    )
    for point in under:
        axis.plot(point.intensity, point.flops_per_s / 1e9, marker="o", color=colour, linestyle="none")
        axis.annotate(
            f"{point.system}, {point.share_of_peak:.0%} of the peak",
            (point.intensity, point.flops_per_s / 1e9),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
