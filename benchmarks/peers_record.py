"""The table and the targets of a run of `peers`, made again from its record."""

from __future__ import annotations

from personsearch.benchmarks.results import Result

MISSING = "–"


def record_table(result: Result) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table, from a record."""
    people = result.settings["people"].split(", ")
    titles = ["", "what", "precision", *(f"{count} people, ms" for count in people), "search mAP %", "detection AP %"]
    rows = []
    for name in result.settings["systems"].split("; "):
        role, precision, runner = result.settings[f"{name} | about"].split("; ", 2)
        times = [_figure(result, f"{name} | {count} | frame_p50_ms", 1.0, 2) for count in people]
        shares = [_figure(result, f"{name} | {what}", 100.0, 1) for what in ("map", "detection_ap")]
        rows.append([name, f"{role}, {runner}", precision, *times, *shares])
    return titles, rows


def record_targets(result: Result) -> list[str]:
    """The targets of a record, as sentences."""
    return [value for key, value in result.settings.items() if key.startswith("target ")]


def _figure(result: Result, key: str, scale: float, decimals: int) -> str:
    figure = result.figures.get(key)
    return MISSING if figure is None else f"{figure.value * scale:.{decimals}f}"
