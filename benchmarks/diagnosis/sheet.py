"""Strips on one picture, for where no page can be opened."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from personsearch.benchmarks.diagnosis.strips import CELL_WH, Cell, Strip
from personsearch.benchmarks.report.content import Image
from personsearch.data.sheet_drawing import FAINT, INK, beside, blank, put_text, shortened, stacked

_BORDER, _GAP, _LINE, _SMALL, _LARGE = 3, 8, 17, 0.42, 0.52
_MARK_BGR = {"query": (190, 190, 190), "good": (100, 200, 80), "lost": (60, 150, 250), "bad": (70, 80, 240)}


def strip_sheet(strips: Sequence[Strip]) -> Image:
    """All strips, one below the other.

    Raises:
        ValueError: there is no strip.
    """
    if not strips:
        raise ValueError("no strip to draw")
    rows = [_strip(strip) for strip in strips]
    width = max(row.shape[1] for row in rows)
    page = stacked(rows, width, 3 * _GAP)
    return np.asarray(cv2.copyMakeBorder(page, 16, 16, 16, 16, cv2.BORDER_CONSTANT, value=page[0, 0].tolist()))


def _strip(strip: Strip) -> Image:
    blocks = [_block("", [strip.query])]
    if strip.answers:
        blocks.append(_block("answers", strip.answers))
    if strip.wrong:
        blocks.append(_block("wrong, and before an answer", strip.wrong))
    pictures = beside(blocks, 3 * _GAP)
    head = blank(max(pictures.shape[1], 900), 2 * _LINE + 10)
    put_text(head, f"AP {100 * strip.average_precision:.0f} %   {strip.title}", 0, 14, _LARGE)
    put_text(head, strip.note, 0, 14 + _LINE + 4, _SMALL, FAINT)
    return stacked([head, pictures], head.shape[1], 2)


def _block(title: str, cells: Sequence[Cell]) -> Image:
    row = beside([_cell(cell) for cell in cells], _GAP)
    head = blank(row.shape[1], _LINE)
    put_text(head, shortened(title, row.shape[1], _SMALL), 0, 12, _SMALL, FAINT)
    return stacked([head, row], row.shape[1], 0)


def _cell(cell: Cell) -> Image:
    colour = _MARK_BGR[cell.mark]
    framed = cv2.copyMakeBorder(cell.picture, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=colour)
    canvas = blank(framed.shape[1], framed.shape[0] + 2 * _LINE + 2)
    canvas[: framed.shape[0]] = framed
    for number, (text, ink) in enumerate(((cell.first, INK), (cell.second, FAINT))):
        line = shortened(text, CELL_WH[0] + 2 * _BORDER, _SMALL)
        put_text(canvas, line, 0, framed.shape[0] + (number + 1) * _LINE - 3, _SMALL, ink)
    return canvas
