"""The gate's record as tables: for the model card, and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

AGREEMENT = (
    "engine and precision", "verdict", "matched", "IoU min", "box px max", "score max",
    "cosine mean", "cosine p1", "cosine min", "same first", "same first k", "rank tau",
)  # fmt: skip
END_FIGURES = ("", "detection AP", "search mAP", "top-1", "points lost")
_UNKNOWN = "-"


def candidates_of(parity: Mapping[str, Any], precision: str) -> list[Mapping[str, Any]]:
    """The report of each candidate, also of a manifest from before the gate had several.

    Args:
        parity: the manifest's.
        precision: the manifest's, which such an old report did not repeat.
    """
    if "candidates" in parity:
        candidates: list[Mapping[str, Any]] = parity["candidates"]
        return candidates
    if "compared" not in parity:
        return []
    engine = str(parity.get("engine", "onnxruntime"))
    return [{"name": f"{engine.split(' ')[0]} {precision}", "engine": engine, "precision": precision, **parity}]


def agreement_rows(parity: Mapping[str, Any], precision: str) -> list[tuple[str, ...]]:
    """A row of `AGREEMENT` for each candidate; a dash where something was not measured."""
    return [_agreement_row(report) for report in candidates_of(parity, precision)]


def end_figure_rows(parity: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row of `END_FIGURES` for the checkpoint and each candidate; empty where they were not measured."""
    figures = parity.get("end_figures")
    if not figures:
        return []
    rows = [("checkpoint", *_shares(figures["checkpoint"]), "")]
    for report in parity["candidates"]:
        own = report.get("end_figures")
        if own is not None:
            lost = ", ".join(f"{points:+.2f}" for points in own["drop_points"].values())
            rows.append((report["name"], *_shares(own), lost))
    return rows


def looked_at(parity: Mapping[str, Any]) -> str:
    """On which frames the gate looked, in a sentence."""
    words = f"{parity.get('frames', 'no')} frames ({parity.get('frames_from', 'unknown')})"
    if "scenes" in parity:
        words += ", " + ", ".join(f"{count} {scene}" for scene, count in parity["scenes"].items())
    if "source_sizes" in parity:
        words += f", sources of {', '.join(parity['source_sizes'])}"
    if "score_threshold" in parity:
        words += f"; detections from score {parity['score_threshold']:g} on"
    return words


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal, columns aligned."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *rows)
    ]


def verdict_lines(parity: Mapping[str, Any], precision: str) -> list[str]:
    """What the gate said, for a terminal: verdict, a row a candidate, end figures, failures, what did not run."""
    verdict = "passed" if parity.get("passed") else "FAILED"
    lines = [f"parity gate {verdict}: {looked_at(parity)}"]
    rows = agreement_rows(parity, precision)
    if rows:
        lines += text_table(AGREEMENT, rows)
    figures = end_figure_rows(parity)
    if figures:
        lines += [f"end figures on {parity['end_figures']['on']}", *text_table(END_FIGURES, figures)]
    lines += [f"failed: {words}" for words in parity.get("failures", [])]
    lines += [f"not run: {words}" for words in parity.get("not_run", [])]
    return lines


def _agreement_row(report: Mapping[str, Any]) -> tuple[str, ...]:
    def figure(group: str, name: str, form: str) -> str:
        values = report.get(group)
        return f"{values[name]:{form}}" if values and name in values else _UNKNOWN

    matched = _UNKNOWN
    if "compared" in report:
        settled = report["compared"] + report.get("unmatched", 0)
        matched = f"{report['compared']} of {settled}"
    against = f" against {report['reference']}" if "reference" in report else ""
    return (
        report["name"] + against,
        "passed" if report.get("passed") else "FAILED",
        matched,
        figure("iou", "min", ".4f"),
        figure("box_difference_px", "max", ".2g"),
        figure("score_difference", "max", ".2g"),
        figure("embedding_cosine", "mean", ".4f"),
        figure("embedding_cosine", "p1", ".4f"),
        figure("embedding_cosine", "min", ".4f"),
        figure("ranking", "top_1_agreement", ".1%"),
        figure("ranking", "top_k_overlap", ".1%"),
        figure("ranking", "rank_correlation", ".3f"),
    )


def _shares(figures: Mapping[str, Any]) -> tuple[str, ...]:
    values = (figures[name] for name in ("detection_ap", "search_map", "top_1"))
    return tuple(_UNKNOWN if value is None else f"{100 * value:.2f}" for value in values)
