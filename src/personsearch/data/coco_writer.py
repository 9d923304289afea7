"""A `LabelIndex` as a COCO file that `coco.read_coco` reads back without loss.

Beside COCO's fields it states ``person_count``, ``person_names`` and ``protocols`` as docs/conventions.md describes
them. Corners are stored as left, top, width and height in double precision, from which the float32 corners come back
bit by bit. Written in pieces: the galleries of a large set are never held as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.files import atomic_file
from personsearch.core.geometry import Boxes, xyxy_to_xywh
from personsearch.data.index import LabelIndex, QueryTable

_PIECE = 5000


def write_coco(path: Path, index: LabelIndex) -> None:
    """Writes one split; ids of images and annotations are their numbers from 0 on.

    Args:
        path: of the ``.json`` file.
        index: a width or height of 0 is left out, as nobody knows it; weights are written as ``score``. ``problems``
            are not written.
    """
    with atomic_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(_text(index))


def _text(index: LabelIndex) -> Iterator[str]:
    head = {
        "info": {"description": index.name},
        "licenses": [{"id": 1, "name": index.terms}],
        "categories": [{"id": 1, "name": "person"}],
        "person_count": len(index.person_names),
        "person_names": list(index.person_names),
    }
    yield json.dumps(head)[:-1]
    yield ',\n"images": ['
    yield from _pieces(len(index.image_paths), lambda rows: _images(index, rows))
    yield '],\n"annotations": ['
    boxes = _xywh(index.boxes_xyxy)
    images = np.repeat(np.arange(len(index.image_paths)), np.diff(index.offsets))
    scores = None if index.weights is None else index.weights.astype(np.float64)

    def annotations(rows: range) -> list[dict[str, Any]]:
        return [
            {
                "id": row,
                "image_id": image,
                "bbox": box,
                "area": box[2] * box[3],
                "category_id": 1,
                "iscrowd": int(person == -2),
                "person_id": person,
                **({} if scores is None else {"score": float(scores[row])}),
            }
            for row, image, box, person in zip(
                rows, _part(images, rows), _part(boxes, rows), _part(index.person_ids, rows), strict=True
            )
        ]

    yield from _pieces(len(index.person_ids), annotations)
    yield '],\n"protocols": {'
    for number, (name, table) in enumerate(index.protocols.items()):
        yield f"{',' if number else ''}\n{json.dumps(name)}: "
        yield from _protocol(table)
    yield "}}\n"


def _images(index: LabelIndex, rows: range) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        width, height = index.image_wh[row].tolist()
        size = {"width": width, "height": height} if width > 0 else {}
        found.append(
            {
                "id": row,
                "file_name": index.image_paths[row],
                **size,
                "camera_id": int(index.camera_ids[row]),
                "frame_index": int(index.frame_indices[row]),
            }
        )
    return found


def _protocol(table: QueryTable) -> Iterator[str]:
    boxes, answers = _xywh(table.boxes_xyxy), _xywh(table.answers_xyxy)
    queries = []
    for row, gallery in enumerate(table.gallery_numbers.tolist()):
        query: dict[str, Any] = {
            "image_id": int(table.image_indices[row]),
            "bbox": boxes[row].tolist(),
            "person_id": int(table.person_ids[row]),
        }
        if gallery >= 0:
            query["gallery"] = gallery
        first, last = table.answer_offsets[row : row + 2].tolist()
        if first >= 0:
            query["answers"] = answers[first:last].tolist()
        queries.append(query)
    yield '{"queries": ['
    yield from _pieces(len(queries), lambda rows: [queries[row] for row in rows])
    yield '],\n"galleries": ['
    for number, (first, last) in enumerate(zip(table.gallery_offsets[:-1], table.gallery_offsets[1:], strict=True)):
        listed = json.dumps({"image_ids": table.gallery_images[first:last].tolist()}, separators=(",", ":"))
        yield f"{',' if number else ''}\n{listed}"
    yield "]}"


def _pieces(count: int, rows: Callable[[range], list[dict[str, Any]]]) -> Iterator[str]:
    """Objects of a list, without its brackets, a piece at a time."""
    for first in range(0, count, _PIECE):
        texts = [json.dumps(row, allow_nan=False) for row in rows(range(first, min(first + _PIECE, count)))]
        yield ("," if first else "") + "\n" + ",\n".join(texts)


def _xywh(boxes_xyxy: Boxes) -> Boxes:
    return xyxy_to_xywh(boxes_xyxy.astype(np.float64))


def _part(array: np.ndarray[Any, Any], rows: range) -> list[Any]:
    listed: list[Any] = array[rows.start : rows.stop].tolist()
    return listed
