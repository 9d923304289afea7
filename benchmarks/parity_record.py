"""The parity gate's report as the record of a measurement, and the table of every artifact, precision and engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from personsearch.benchmarks.record_tables import MISSING, RecordTable
from personsearch.benchmarks.results import Result
from personsearch.core.manifest import Manifest
from personsearch.export.parity_table import candidates_of, looked_at

KIND = "parity"
EXPORT, RUN = "export", "run"
PRECISIONS = ("fp32", "fp16", "int8")
SPREADS = {
    "iou": "IoU", "box_difference_px": "px", "score_difference": "score", "embedding_cosine": "cosine",
    "query_embedding_cosine": "cosine",
}  # fmt: skip
COUNTS = ("detections", "compared", "unsettled", "unmatched", "extra")
RANKING = {
    "queries": "queries", "gallery": "people", "top_k": "ranks", "top_1_agreement": "share", "top_k_overlap": "share",
    "rank_correlation": "Kendall's tau",
}  # fmt: skip
END_FIGURES = {
    "images": "images", "queries": "queries", "detection_ap": "share", "detection_recall": "share",
    "search_map": "share", "top_1": "share",
}  # fmt: skip
LOST = ("detection_ap", "search_map", "top_1")
TITLES = (
    "", "graphs", "engine", "against", "input", "verdict", "boxes matched", "IoU min", "box off at most, px",
    "score off at most", "cosine mean", "cosine p1", "cosine min", "same first %", "rank tau", "detection AP %",
    "search mAP %", "top-1 %", "points lost: AP / mAP / top-1", "note",
)  # fmt: skip
MEANINGS = (
    "graphs: the precision of those compared; another than the artifact's own are what its own were made from",
    "boxes matched: at IoU 0.5 or more, of the reference's that do not hang on rounding; IoU, differences and cosines "
    "of embeddings are those of matched boxes, p1 the first percentile",
    "same first: queries that find the same person first; rank tau: Kendall's, 1 where everybody is found in the "
    "reference's order",
    "points lost: what the reference has more on the same labelled images; negative where it has less",
    "forced: the artifact failed the gate and was written all the same",
)


def parity_figures(parity: Mapping[str, Any], precision: str) -> dict[str, tuple[float, str]]:
    """Value and unit of everything that the gate measured, as ``CANDIDATE | WHAT``.

    Args:
        parity: the gate's report, as `personsearch.export.gate.run_gate` returns it or an older manifest has it.
        precision: the manifest's.

    Returns:
        What was not measured, or is no number, is left out, not 0. Differences of boxes are input pixels, losses are
        points.
    """
    figures = {"frames": (float(parity.get("frames", 0)), "frames")}
    checkpoint = (parity.get("end_figures") or {}).get("checkpoint", {})
    figures |= _measured("reference", checkpoint, END_FIGURES)
    for report in candidates_of(parity, precision):
        name = _name(report)
        figures |= _measured(name, report, dict.fromkeys(COUNTS, "boxes"))
        for group, unit in SPREADS.items():
            values: Mapping[str, Any] = report.get(group) or {}
            figures |= _measured(f"{name} | {group}", values, dict.fromkeys(values, unit))
        figures |= _measured(f"{name} | ranking", report.get("ranking") or {}, RANKING)
        end = report.get("end_figures") or {}
        figures |= _measured(f"{name} | end", end, END_FIGURES)
        figures |= _measured(f"{name} | lost", end.get("drop_points", {}), dict.fromkeys(LOST, "points"))
    return figures


def parity_settings(manifest: Manifest, parity: Mapping[str, Any], gate: str) -> dict[str, str]:
    """What `parity_figures` depend on, the verdicts, and whether the artifact was written by force.

    Args:
        manifest: the artifact's.
        parity: the manifest's report, or that of this machine's engines.
        gate: `EXPORT` or `RUN`, where the report is from.
    """
    width, height = manifest.preprocess.input_wh
    reports = candidates_of(parity, manifest.precision)
    settings = {
        "model": manifest.name,
        "checkpoint_sha256": manifest.checkpoint_sha256,
        "precision": manifest.precision,
        "int8_flavour": manifest.int8_flavour or "",
        "layout": manifest.layout,
        "input": f"{width}x{height}",
        "exported": manifest.created,
        "builder": ", ".join(f"{library} {version}" for library, version in manifest.builder.items()),
        # Whatever failed here: without force the export would have written nothing.
        "forced": "no" if manifest.parity.get("passed") is True else "yes",
        "gate": gate,
        "verdict": _verdict(parity),
        "reference": parity.get("reference", "torch"),  # the first manifests did not say it: there was no other
        "frames": looked_at(parity),
        "end_figures_on": (parity.get("end_figures") or {}).get("on", ""),
        "failures": "; ".join(parity.get("failures", [])),
        "not_run": "; ".join(parity.get("not_run", [])),
        "candidates": "; ".join(dict.fromkeys(_name(report) for report in reports)),
    }
    for report in reports:
        name = _name(report)
        settings |= {
            f"{name} | engine": report["engine"],
            f"{name} | precision": report["precision"],
            f"{name} | graphs": " ".join(report["name"].split(" ")[1:]),
            f"{name} | reference": report.get("reference", settings["reference"]),
            f"{name} | verdict": _verdict(report),
            f"{name} | failures": "; ".join(report.get("failures", [])),
            f"{name} | limits": ", ".join(
                f"{limit} {'none' if value is None else value}" for limit, value in report.get("limits", {}).items()
            ),
        }
    return settings


def run_subject(artifact: str, parity: Mapping[str, Any]) -> str:
    """``ARTIFACT@ENGINE`` for a report of this machine's engines, so that the export's record stays beside it."""
    return f"{artifact}@{'+'.join(dict.fromkeys(_library(report['engine']) for report in parity['candidates']))}"


def parity_table(results: Sequence[Result]) -> RecordTable | None:
    """Every artifact's engines and precisions, one a row; none without such records.

    The float32 graphs that an artifact of less precision was made from are compared in its gate again; they are left
    out where a record of float32 has the same of them.
    """
    records = sorted((result for result in results if result.kind == KIND), key=_order)
    if not records:
        return None
    lines = [(result, name) for result in records for name in result.settings["candidates"].split("; ")]
    shown = {_same(result, name) for result, name in lines if _is_own(result, name)}
    rows, notes = [], dict[str, int]()
    for result, name in lines:
        if not _is_own(result, name):
            if _same(result, name) in shown:
                continue
            shown.add(_same(result, name))
        number = notes.setdefault(_note(result), len(notes) + 1)
        rows.append([*_cells(result, name), str(number)])
    said = [f"{number}: {note}" for note, number in notes.items()]
    return RecordTable(TITLES, rows, [*MEANINGS, *said], list(dict.fromkeys(result.command for result in records)))


def _name(report: Mapping[str, Any]) -> str:
    """Of a candidate in a record; one with a reference of its own may stand there twice."""
    against = f" against {report['reference']}" if "reference" in report else ""
    return f"{report['name']}{against}"


def _library(engine: str) -> str:
    return engine.split(" ")[0]


def _verdict(report: Mapping[str, Any]) -> str:
    return "passed" if report.get("passed") else "FAILED"


def _measured(prefix: str, values: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, tuple[float, str]]:
    found: Iterator[tuple[str, Any]] = ((name, values.get(name)) for name in units)
    # An engine that overflows has embeddings that are no numbers: its verdict says so, a figure cannot.
    return {f"{prefix} | {name}": (float(value), units[name]) for name, value in found
            if value is not None and math.isfinite(value)}  # fmt: skip


def _order(result: Result) -> tuple[str, str, int, str]:
    settings = result.settings
    return settings["model"], settings["checkpoint_sha256"], PRECISIONS.index(settings["precision"]), result.subject


def _is_own(result: Result, name: str) -> bool:
    return result.settings[f"{name} | precision"] == result.settings["precision"]


def _same(result: Result, name: str) -> tuple[str, ...]:
    """What tells one comparison of a model from another, whichever artifact's gate made it."""
    settings = result.settings
    about = [settings[key] for key in ("model", "checkpoint_sha256", "input", "layout")]
    own = [settings[f"{name} | {key}"] for key in ("graphs", "verdict")]
    libraries = [_library(settings[f"{name} | {key}"]) for key in ("engine", "reference")]
    return *about, *own, *libraries


def _note(result: Result) -> str:
    settings = result.settings
    parts = [f"{settings['model']}, weights {settings['checkpoint_sha256'][:12]}", settings["frames"]]
    if settings["gate"] == RUN:
        parts.append(f"run on {result.machine.cpu}, {result.machine.cores} cores")
    on = settings["end_figures_on"]
    parts.append(f"end figures on {on}" if on else "no end figures")
    parts += [f"{words}: {settings[key]}" for words, key in (("not run", "not_run"), ("failed", "failures"))
              if settings[key]]  # fmt: skip
    return "; ".join(parts)


def _cells(result: Result, name: str) -> list[str]:
    settings = result.settings

    def figure(key: str, decimals: int, scale: float = 1.0) -> str:
        found = result.figures.get(f"{name} | {key}")
        return MISSING if found is None else f"{scale * found.value:.{decimals}f}"

    def largest(key: str) -> str:
        found = result.figures.get(f"{name} | {key} | max")
        if found is None:
            return MISSING
        # Rounding moves a box by a ten-thousandth of a pixel, int8 by tens of pixels: two digits tell both.
        return f"{found.value:.1f}" if found.value >= 1 else f"{found.value:.2g}"

    def lost(key: str) -> str:
        found = result.figures.get(f"{name} | lost | {key}")
        # No "-0.00": a loss of less than half a hundredth is none.
        return MISSING if found is None else f"{round(found.value, 2) + 0.0:.2f}"

    forced = " (forced)" if settings["forced"] == "yes" else ""
    return [
        f"{result.subject}{forced}", settings[f"{name} | graphs"], settings[f"{name} | engine"],
        _library(settings[f"{name} | reference"]), settings["input"], settings[f"{name} | verdict"],
        _matched(result, name), figure("iou | min", 4), largest("box_difference_px"), largest("score_difference"),
        figure("embedding_cosine | mean", 4), figure("embedding_cosine | p1", 4), figure("embedding_cosine | min", 4),
        figure("ranking | top_1_agreement", 1, 100), figure("ranking | rank_correlation", 3),
        *(figure(f"end | {what}", 2, 100) for what in LOST), " / ".join(lost(what) for what in LOST),
    ]  # fmt: skip


def _matched(result: Result, name: str) -> str:
    compared, unmatched = (result.figures.get(f"{name} | {what}") for what in ("compared", "unmatched"))
    if compared is None or unmatched is None:
        return MISSING
    return f"{compared.value:.0f} of {compared.value + unmatched.value:.0f}"
