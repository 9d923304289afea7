"""Search protocols as label files state them, or as they follow from the labels.

Three sources: ``queries`` and ``protocols`` of a COCO file (docs/conventions.md), PRW's text files of queries
(`read_query_info`), and `queries_per_camera` where nobody states any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import clip_boxes, xywh_to_xyxy
from personsearch.data.index import DEFAULT_PROTOCOL, QueryTable
from personsearch.data.label_json import ImageIds, Rows
from personsearch.data.sample import FloatArray, IntArray, Query

PER_CAMERA = "per-camera"
"""Name of the protocol that follows from the labels alone."""
QUERY_INFO = "query_info.txt"


def stated_protocols(
    path: Path, content: dict[str, Any], find: ImageIds, image_wh: IntArray, person_of: Mapping[Any, int]
) -> dict[str, QueryTable]:
    """The protocols that a COCO file states; ``queries`` is the one called `default`.

    Args:
        path: the file, for messages.
        content: of the file; `queries` and `protocols` are taken out of it, as their galleries can be large.
        find: image indices by id.
        image_wh: ``(I, 2)``, 0, 0 where unknown.
        person_of: person id by the number or text that the file uses.

    Raises:
        InputError: a query or a gallery is wrong.
    """
    named: dict[str, Any] = {}
    if "queries" in content:
        named[DEFAULT_PROTOCOL] = {"queries": content.pop("queries")}
    more = content.pop("protocols", {})
    if not isinstance(more, dict):
        raise InputError("`protocols` is no object", where=str(path), expected='{"NAME": {"queries": [...]}}')
    if named.keys() & more.keys():
        raise InputError(
            "`protocols` has a `default` beside `queries`", where=str(path), expected="one of them", remedy="rename it"
        )
    named |= more
    tables = {}
    for name in list(named):
        stated = named.pop(name)
        if not isinstance(stated, dict):
            raise InputError(f"protocol `{name}` is no object", where=str(path), expected='{"queries": [...]}')
        what = "query" if name == DEFAULT_PROTOCOL else f"`{name}` query"
        shared = [
            find(row.get("image_ids", ()), f"gallery {number} of `{name}`")
            for number, row in enumerate(Rows(path, "gallery", stated.get("galleries", []), "galleries").rows)
        ]
        queries = Rows(path, what, stated.get("queries", []), "queries")
        tables[name] = QueryTable.of(_queries(queries, shared, find, image_wh, person_of))
    return tables


def _queries(
    rows: Rows, shared: Sequence[IntArray], find: ImageIds, image_wh: IntArray, person_of: Mapping[Any, int]
) -> list[Query]:
    boxes = rows.boxes_xyxy()
    images = find(rows.ids("image_id"), rows.kind)
    people = rows.ids("person_id")
    found = []
    for number, row in enumerate(rows.rows):
        what = f"{rows.kind} in image {row['image_id']}"
        box = _cut(boxes[number], image_wh[images[number]])
        person = person_of.get(people[number], -1)
        if box is None or person < 0:
            raise InputError(
                f"{what}: bbox {row['bbox']}, person_id {people[number]}",
                where=str(rows.path),
                expected="a box with area inside the image and a person whom `annotations` know",
            )
        gallery = row.get("gallery")
        if isinstance(gallery, int):
            if not 0 <= gallery < len(shared):
                raise InputError(
                    f"{what}: gallery is {gallery}", where=str(rows.path), expected=f"0 to {len(shared) - 1}, or a list"
                )
            gallery = shared[gallery]
        elif gallery is not None:
            if not isinstance(gallery, list | np.ndarray):
                raise InputError(f"{what}: gallery is {gallery!r}", where=str(rows.path), expected="image ids")
            gallery = find(gallery, what)
        try:
            found.append(Query(int(images[number]), box, person, gallery, _answers(rows.path, row, what)))
        except ValueError as error:
            raise InputError(f"{what}: {error}", where=str(rows.path)) from None
    return found


def _answers(path: Path, row: dict[str, Any], what: str) -> FloatArray | None:
    if row.get("answers") is None:
        return None
    try:
        boxes = np.array(row["answers"], np.float64).reshape(-1, 4)
    except (ValueError, TypeError):
        boxes = np.full((1, 4), np.nan)
    if not np.isfinite(boxes).all():
        raise InputError(f"{what}: `answers` are no boxes", where=str(path), expected="a list of [x, y, w, h]")
    return xywh_to_xyxy(boxes).astype(np.float32)


def _cut(box_xyxy: Any, image_wh: IntArray) -> FloatArray | None:
    """The box inside its image, where the size is known; none where nothing is left."""
    if image_wh[0] > 0:
        box_xyxy = clip_boxes(box_xyxy[None], (int(image_wh[0]), int(image_wh[1])))[0]
    box: FloatArray = np.asarray(box_xyxy, np.float32)
    return box if (box[2:] > box[:2]).all() else None


def query_info_files(*folders: Path) -> list[Path]:
    """PRW's ``query_info.txt`` and files named after it, such as PRW-mini's, in some folders; its own first."""
    found = {path.name: path for folder in reversed(folders) for path in folder.glob(f"*{QUERY_INFO}")}
    return [found[name] for name in sorted(found, key=lambda name: (name != QUERY_INFO, name))]


def query_info_name(path: Path) -> str:
    """What the protocol of such a file is called: `default`, or what stands before ``query_info``, as `mini`."""
    return path.name.removesuffix(QUERY_INFO).removeprefix("prw").strip("_-.") or DEFAULT_PROTOCOL


def read_query_info(
    path: Path, image_names: Mapping[str, int], image_wh: IntArray, person_of: Mapping[Any, int]
) -> QueryTable | None:
    """Queries of a text file with lines ``id x y w h image``, as PRW and PRW-mini publish them.

    Args:
        path: the file.
        image_names: image index by file name without folder and suffix.
        image_wh: ``(I, 2)``, 0, 0 where unknown.
        person_of: person id by the publisher's number.

    Returns:
        One query a line, in every image but its own; none where all lines name images of another split.

    Raises:
        InputError: a line is wrong, or names an image or a person that the labels do not have.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "cannot be read", where=str(path), expected="lines of `id x y w h image`", remedy=str(error)
        ) from None
    stems = [fields[-1].rsplit(".", 1)[0] for fields in lines]
    if not any(stem in image_names for stem in stems):
        return None
    queries = []
    for number, (fields, stem) in enumerate(zip(lines, stems, strict=True), start=1):
        what = f"line {number}, `{' '.join(fields)[:80]}`"
        try:
            person_name, box = int(fields[0]), np.array([float(side) for side in fields[1:5]], np.float64)
        except ValueError:
            box = np.zeros(0)
        if len(fields) != 6 or len(box) != 4 or not np.isfinite(box).all():
            raise InputError(f"{what}: is no query", where=str(path), expected="id x y w h image")
        if stem not in image_names:
            raise InputError(f"{what}: image is unknown", where=str(path), expected="an image of the same split")
        index = image_names[stem]
        cut = _cut(xywh_to_xyxy(box[None])[0], image_wh[index])
        if cut is None or person_of.get(person_name, -1) < 0:
            raise InputError(
                f"{what}: box or person is unknown",
                where=str(path),
                expected="a box inside the image and a person whom the labels know",
            )
        queries.append(Query(index, cut, person_of[person_name]))
    return QueryTable.of(queries)


def queries_per_camera(
    offsets: IntArray, boxes_xyxy: FloatArray, person_ids: IntArray, camera_ids: IntArray
) -> QueryTable | None:
    """One query for each person and camera: the first box there, searched in every other image.

    PRW chose its queries so. People who are in one image only are not searched; none where nobody is left.
    """
    images = np.repeat(np.arange(len(camera_ids)), np.diff(offsets))
    rows = np.flatnonzero(person_ids >= 0)
    pairs = np.unique(np.stack([person_ids[rows], images[rows]]), axis=1)
    in_images = np.bincount(pairs[0], minlength=1) if len(rows) else np.zeros(1, np.int64)
    rows = rows[in_images[person_ids[rows]] > 1]
    if not len(rows):
        return None
    _, first = np.unique(np.stack([person_ids[rows], camera_ids[images[rows]]]), axis=1, return_index=True)
    return QueryTable.of([Query(int(images[row]), boxes_xyxy[row], int(person_ids[row])) for row in rows[first]])
