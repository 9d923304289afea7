"""Queries as strips of pictures: who was searched, what became of the answers, which wrong detections came before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from personsearch.benchmarks.diagnosis.records import AnswerRecord, Box, QueryRecord
from personsearch.benchmarks.report.content import Image
from personsearch.data import SearchDataset

CELL_WH = (120, 208)
Colour = tuple[int, int, int]
TRUE_BGR: Colour = (110, 220, 90)
FOUND_BGR: Colour = (60, 150, 250)
_PALE_BGR: Colour = (240, 240, 240)
_GROUND = 128
_FAR, _NEAR = 0.45, 0.08
_GRAVEST_FIRST = ("missed", "mislocalised", "ranked late", "confused", "right")


@dataclass(frozen=True)
class Cell:
    """A picture with two short lines; ``mark`` is ``query``, ``good``, ``lost`` or ``bad``."""

    picture: Image
    first: str
    second: str
    mark: str


@dataclass(frozen=True)
class Strip:
    """One query's pictures.

    Attributes:
        title: who was searched where.
        note: what went wrong, in one line.
        average_precision: in [0, 1].
        query: the person searched.
        answers: errors of every kind, the gravest first.
        wrong: the wrong detections that cost most.
    """

    title: str
    note: str
    average_precision: float
    query: Cell
    answers: tuple[Cell, ...]
    wrong: tuple[Cell, ...]


def worst_queries(records: Sequence[QueryRecord], count: int) -> list[QueryRecord]:
    """The queries of lowest average precision, one a person, those with more answers first among equals."""
    scored = [(record.average_precision, record) for record in records if record.average_precision is not None]
    chosen: dict[int, QueryRecord] = {}
    for _, record in sorted(scored, key=lambda pair: (pair[0], -pair[1].answers, pair[1].query)):
        chosen.setdefault(record.person_id, record)
    return list(chosen.values())[:count]


def query_strip(record: QueryRecord, dataset: SearchDataset, *, answers: int = 5, wrong: int = 4) -> Strip:
    """Cuts the pictures of one query.

    Args:
        record: of the query.
        dataset: the split.
        answers: errors shown at most.
        wrong: confusers shown at most, one picture each.

    Raises:
        InputError: a frame cannot be read.
    """

    @lru_cache(maxsize=8)
    def frame(index: int) -> Image:
        return dataset.frame_bgr(index)

    shown = [_answer(answer, frame) for answer in _of_every_kind(record.errors, answers)]
    confusers = sorted(record.confusers, key=lambda one: one.rank)[:wrong]
    return Strip(
        title=f"Query {record.query}: person {record.person_name}, camera {record.camera_id}, {record.image_name}",
        note=_note(record, len(shown)),
        average_precision=record.average_precision or 0.0,
        query=Cell(_cut(frame(record.image), record.box_xyxy, _NEAR), "query", "", "query"),
        answers=tuple(shown),
        wrong=tuple(
            Cell(
                _cut(frame(one.image), one.box_xyxy, _NEAR),
                f"rank {one.rank}, {one.similarity:.2f}",
                one.who,
                "bad",
            )
            for one in confusers
        ),
    )


def _of_every_kind(errors: Sequence[AnswerRecord], count: int) -> list[AnswerRecord]:
    """At most ``count`` errors, the kinds taken in turn, the lowest rank of a kind first; ordered by kind."""
    turns = []
    for gravity, kind in enumerate(_GRAVEST_FIRST):
        of_kind = sorted((one for one in errors if one.kind == kind), key=lambda one: -(one.rank or 0))
        turns += [(turn, gravity, one) for turn, one in enumerate(of_kind)]
    turns.sort(key=lambda entry: entry[:2])
    return [one for _, _, one in sorted(turns[:count], key=lambda entry: entry[1])]


def _note(record: QueryRecord, shown: int) -> str:
    if not record.detected:
        return "the query itself was not detected"
    counts = ", ".join(f"{record.kinds[kind]} {kind}" for kind in _GRAVEST_FIRST if kind in record.kinds)
    rest = len(record.errors) - shown
    return f"{record.answers} answers: {counts}" + (f" ({rest} errors not shown)" if rest else "")


def _answer(answer: AnswerRecord, frame: Callable[[int], Image]) -> Cell:
    if answer.rank is not None:
        box = answer.found_xyxy or answer.box_xyxy
        picture = _cut(frame(answer.image), box, _NEAR)
        return Cell(picture, f"rank {answer.rank}, {answer.similarity:.2f}", answer.kind, "good")
    outlines = [(answer.box_xyxy, TRUE_BGR)]
    if answer.found_xyxy is not None:
        outlines.append((answer.found_xyxy, FOUND_BGR))
    picture = _cut(frame(answer.image), answer.box_xyxy, _FAR, outlines)
    second = f"IoU {answer.overlap:.2f}" if answer.kind == "mislocalised" else ""
    return Cell(picture, answer.kind, second, "lost")


def _cut(frame: Image, box_xyxy: Box, margin: float, outlines: Sequence[tuple[Box, Colour]] = ()) -> Image:
    """A picture of ``CELL_WH`` around a box: what stands beside it fills the cell, grey only beyond the frame.

    Without ``outlines`` the box itself is outlined, thinly: in a crowd it has to be clear who is meant.
    """
    x1, y1, x2, y2 = box_xyxy
    wide = 1 + 2 * margin
    pixels = max((x2 - x1) * wide / CELL_WH[0], (y2 - y1) * wide / CELL_WH[1])  # of the frame, for one of the cell
    width, height = max(1, round(pixels * CELL_WH[0])), max(1, round(pixels * CELL_WH[1]))
    left, top = round((x1 + x2 - width) / 2), round((y1 + y2 - height) / 2)
    view = np.full((height, width, 3), _GROUND, np.uint8)
    inside = frame[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    row, column = max(0, -top), max(0, -left)
    view[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    cell = cv2.resize(view, CELL_WH, interpolation=cv2.INTER_AREA if pixels > 1 else cv2.INTER_CUBIC)
    for box, colour in outlines or [(box_xyxy, _PALE_BGR)]:
        corners = (np.array(box).reshape(2, 2) - [left, top]) * [CELL_WH[0] / width, CELL_WH[1] / height]
        first, last = np.rint(corners).astype(int).tolist()
        if outlines:
            cv2.rectangle(cell, first, last, (20, 20, 20), 4)
        cv2.rectangle(cell, first, last, colour, 2 if outlines else 1)
    return np.asarray(cell, np.uint8)
