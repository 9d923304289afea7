"""A diagnosis as a folder: JSON for programs, one page and one picture for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2

from personsearch.benchmarks.diagnosis.gallery_size import GalleryCurve
from personsearch.benchmarks.diagnosis.page import diagnosis_page, gallery_chart
from personsearch.benchmarks.diagnosis.records import Diagnosis, QueryRecord
from personsearch.benchmarks.diagnosis.sheet import strip_sheet
from personsearch.benchmarks.diagnosis.strips import Strip, query_strip, worst_queries
from personsearch.benchmarks.report.charts import standalone
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.data import SearchDataset

SUMMARY, QUERIES, PAGE, WORST, CURVE = "diagnosis.json", "queries.json", "index.html", "worst.png", "gallery_size.svg"


def check_destination(out: Path) -> None:
    """Raises an `InputError` where writing to ``out`` would destroy something that is not a diagnosis."""
    if out.exists() and not out.is_dir():
        raise InputError("exists and is not a folder", where=str(out), remedy="name another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / SUMMARY).is_file():
        raise InputError(
            "exists and is not a diagnosis",
            where=str(out),
            expected=f"a new or empty folder, or one with {SUMMARY} to replace",
            remedy="name another --out",
        )


def write_diagnosis(
    out: Path, diagnosis: Diagnosis, curve: GalleryCurve | None, dataset: SearchDataset, *, worst: int = 12
) -> None:
    """Writes a folder, whole or not at all, in place of a diagnosis that was there.

    ``diagnosis.json`` holds the summary and the curve, ``queries.json`` a line a query in the protocol's order,
    ``index.html`` all of it with pictures, ``worst.png`` the worst queries, ``gallery_size.svg`` the curve.

    Args:
        out: the folder.
        diagnosis: see `personsearch.benchmarks.diagnosis.diagnose`.
        curve: against the size of the gallery; none where it was not asked for.
        dataset: the split, for its pictures.
        worst: queries shown.

    Raises:
        InputError: as `check_destination`, or a frame cannot be read.
    """
    check_destination(out)
    chosen = worst_queries(diagnosis.queries, worst)
    strips = [query_strip(record, dataset) for record in chosen]
    with atomic_dir(out) as part:
        content = diagnosis.summary.model_dump(mode="json")
        content["gallery_size"] = None if curve is None else curve.model_dump(mode="json")
        write_json(part / SUMMARY, content)
        _write_queries(part / QUERIES, diagnosis.queries)
        (part / PAGE).write_text(diagnosis_page(diagnosis.summary, curve, strips), encoding="utf-8")
        if curve is not None:
            (part / CURVE).write_text(standalone(gallery_chart(curve)), encoding="utf-8")
        if strips:
            _write_sheet(part / WORST, strips)


def _write_queries(path: Path, records: Sequence[QueryRecord]) -> None:
    """A JSON list with a line a query: files of thousands of queries stay readable and comparable line by line."""
    lines = [json.dumps(record.model_dump(mode="json"), allow_nan=False) for record in records]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def _write_sheet(path: Path, strips: Sequence[Strip]) -> None:
    done, encoded = cv2.imencode(path.suffix, strip_sheet(strips))
    if not done:
        raise InputError("the picture cannot be encoded", where=str(path))
    path.write_bytes(encoded.tobytes())
