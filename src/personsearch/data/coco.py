"""COCO files with identities: the way in for own data, and the format of published conversions.

What is read, beside COCO's own fields (Lin et al., "Microsoft COCO", 2014; boxes are ``[x, y, w, h]``):

- the identity of an annotation: `coco_identities` has its names and numbers.
- the camera of an image, under one of `CAMERA_KEYS`, or ``video_id``; else the digits after ``c`` in names such as
  PRW's ``c1s2_000351`` and DukeMTMC's ``c1_f0000351``; else one camera for all.
- the frame's number, under one of `FRAME_KEYS`, else the last digits of the file names, else the order.
- the weight of an annotation, under ``score``: that of the detector which proposed it; 1 where absent.

Two of these names in one file are refused, as only its author knows which counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.data.coco_identities import Identities, only_people, read_identities
from personsearch.data.frame_edges import cut_at_frames
from personsearch.data.index import LabelIndex, Problem, ProblemKind, QueryTable, image_sizes, missing_images
from personsearch.data.label_json import ImageIds, Rows, read_label_json
from personsearch.data.query_lists import (
    PER_CAMERA,
    queries_per_camera,
    query_info_name,
    read_query_info,
    stated_protocols,
)
from personsearch.data.sample import FloatArray, IntArray

CAMERA_KEYS = ("camera_id", "cam_id", "camid", "camera")
FRAME_KEYS = ("frame_index", "frame_id")
_CAMERA_IN_NAME = re.compile(r"c(\d{1,6})(?:s\d+)?_f?\d+")
_LAST_DIGITS = re.compile(r"(\d{1,15})\D*$")


def read_coco(
    path: Path,
    root: Path,
    *,
    image_folders: Sequence[str] = ("",),
    name: str | None = None,
    terms: str | None = None,
    query_files: Sequence[Path] = (),
    derive_queries: bool = False,
) -> LabelIndex:
    """One COCO file as the labels of one split; see the module for what is read.

    Args:
        path: ``.json`` or ``.json.gz``.
        root: that image paths are to count from.
        image_folders: folders below ``root`` that ``file_name`` may count from; the first that has images counts.
        name: of the data set; none for ``info.description``, or the folder's name.
        terms: under which the images may be used; none for the names of ``licenses``, or `unknown`.
        query_files: texts of queries beside the file, see `query_lists.read_query_info`.
        derive_queries: whether a file that states no ``queries`` gets those of `query_lists.queries_per_camera`.

    Returns:
        Labels; boxes without area in their image are left out and counted in ``problems``.

    Raises:
        InputError: the file, or one row of it, is wrong; the message names the row.
    """
    content = read_label_json(path)
    images = Rows(path, "image", content.pop("images", None))
    annotations = only_people(content, Rows(path, "annotation", content.pop("annotations", None)))
    find = ImageIds(images)
    file_names = _file_names(images, root, image_folders)
    sizes, absent = _image_sizes(images, root, file_names)
    people = read_identities(content, annotations)
    rows, boxes, dropped = _boxes(annotations, find, sizes, root)
    image_rows = find.indices(annotations.column("image_id"))[rows]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(image_rows, minlength=len(images)))]).astype(np.int64)
    person_ids, cameras = people.ids[rows], _cameras(images, file_names)
    states_queries = not content.keys().isdisjoint(("queries", "protocols"))
    protocols = stated_protocols(path, content, find, sizes, people.id_of)
    protocols |= _from_query_files(query_files, file_names, sizes, people)
    if derive_queries and not states_queries:
        derived = queries_per_camera(offsets, boxes, person_ids, cameras)
        protocols |= {PER_CAMERA: derived} if derived is not None else {}
    info = content.get("info")
    description = info.get("description") if isinstance(info, dict) else None
    return LabelIndex(
        name=name if name is not None else description if isinstance(description, str) else root.name,
        terms=terms if terms is not None else _terms(content.get("licenses")),
        image_paths=file_names,
        image_wh=sizes,
        camera_ids=cameras,
        frame_indices=_frames(images, file_names),
        offsets=offsets,
        boxes_xyxy=boxes,
        person_ids=person_ids,
        person_names=people.names,
        protocols=protocols,
        problems=(*dropped, *absent),
        weights=_weights(annotations, rows),
    )


def _file_names(images: Rows, root: Path, image_folders: Sequence[str]) -> tuple[str, ...]:
    names = images.texts("file_name")
    seen: set[str] = set()
    for number, name in enumerate(names):
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
            raise images.wrong(number, f"file_name `{name}`", "a path inside the data set folder, with `/`")
        if name in seen:
            raise images.wrong(number, f"file_name `{name}` is that of an earlier image", "names that differ")
        seen.add(name)
    some = {names[0], names[len(names) // 2], names[-1]} if names else set()
    for folder in image_folders:
        if folder and any((root / folder / name).is_file() for name in some):
            return tuple(f"{folder}/{name}" for name in names)
        if not folder and any((root / name).is_file() for name in some):
            break
    return tuple(names)


def _image_sizes(images: Rows, root: Path, file_names: tuple[str, ...]) -> tuple[IntArray, tuple[Problem, ...]]:
    """``(I, 2)`` as stated, from the header of an image whose size is not; and what is said of missing images."""
    stated = np.array([row.get("width") is not None or row.get("height") is not None for row in images.rows], bool)
    sizes = np.zeros((len(images), 2), np.int64)
    readable = np.zeros(len(images), np.int64)
    unstated = [file_names[i] for i in np.flatnonzero(~stated)]
    sizes[~stated] = image_sizes(root, unstated)
    readable[~stated] = sizes[~stated, 0]
    numbers = np.flatnonzero(stated)
    part = Rows(images.path, "image", [images.rows[i] for i in numbers])
    given = np.stack([part.ints("width"), part.ints("height")], axis=1).reshape(-1, 2)
    if (given <= 0).any():
        number = int(np.argmax((given <= 0).any(axis=1)))
        raise part.wrong(number, f"is {given[number, 0]}x{given[number, 1]}", "positive pixels")
    sizes[stated] = given
    readable[stated] = [(root / file_names[i]).is_file() for i in numbers]
    return sizes, missing_images(root, file_names, np.stack([readable, readable], axis=1).reshape(-1, 2))


def _boxes(
    annotations: Rows, find: ImageIds, image_wh: IntArray, root: Path
) -> tuple[IntArray, FloatArray, tuple[Problem, ...]]:
    """The rows of annotations kept, in the order of their images; their boxes, cut at the frame; what was dropped."""
    listed = annotations.column("image_id")
    images = find.indices(listed)
    if (images < 0).any():
        number = int(np.argmax(images < 0))
        raise annotations.wrong(number, f"image id {listed[number]!r} is unknown", "the id of one of `images`")
    if "id" in annotations.keys and len(set(ids := annotations.ids("id"))) != len(ids):
        seen: set[Any] = set()
        for number, annotation_id in enumerate(ids):
            if annotation_id in seen:
                raise annotations.wrong(number, "id is that of an earlier annotation", "ids that differ")
            seen.add(annotation_id)
    stated = annotations.boxes_xyxy()
    cut, inside = cut_at_frames(stated, image_wh[images])
    has_area = np.asarray((stated[:, 2:] > stated[:, :2]).all(axis=1), bool)
    kept = has_area & inside
    over_edge = kept & np.asarray((stated.astype(np.float32) != cut).any(axis=1), bool)
    problems = [
        _boxes_problem(annotations, "dropped", "boxes without area", ~has_area, root),
        _boxes_problem(annotations, "dropped", "boxes outside their image", has_area & ~inside, root),
        _boxes_problem(annotations, "noted", "boxes over an edge of their image, cut there", over_edge, root),
    ]
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(images[rows], kind="stable")]
    return rows, cut[rows], tuple(problem for problem in problems if problem is not None)


def _weights(annotations: Rows, rows: IntArray) -> FloatArray | None:
    """Scores of the annotations kept, none where the file has no scores."""
    if "score" not in annotations.keys:
        return None
    values = [1.0 if value is None else value for value in annotations.column("score")]
    for number, value in enumerate(values):
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise annotations.wrong(number, f"score is {value!r}", "0 to 1, as it is the weight of the box")
    return np.array(values, np.float32)[rows]


def _boxes_problem(
    annotations: Rows, kind: ProblemKind, what: str, mask: NDArray[np.bool_], root: Path
) -> Problem | None:
    numbers = np.flatnonzero(mask)
    if not len(numbers):
        return None
    first = f"{annotations.label(int(numbers[0]))} has bbox {annotations.rows[numbers[0]]['bbox']}"
    more = f", and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    path = annotations.path
    file = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return Problem(kind, file, f"{what}: {first}{more}", "correct `bbox`", len(numbers))


def _cameras(images: Rows, file_names: Sequence[str]) -> IntArray:
    key = images.one_of(CAMERA_KEYS) or ("video_id" if "video_id" in images.keys else None)
    if key is not None:
        values = images.ids(key)
        if set(map(type, values)) == {str}:
            return np.unique(np.array(values), return_inverse=True)[1].astype(np.int64).reshape(-1)
        return images.ints(key)
    found = [_CAMERA_IN_NAME.fullmatch(PurePosixPath(name).stem) for name in file_names]
    if all(found):
        return np.array([int(match[1]) for match in found if match], np.int64)
    return np.zeros(len(images), np.int64)


def _frames(images: Rows, file_names: Sequence[str]) -> IntArray:
    key = images.one_of(FRAME_KEYS)
    if key is not None:
        return images.ints(key)
    found = [_LAST_DIGITS.search(PurePosixPath(name).stem) for name in file_names]
    if all(found):
        return np.array([int(match[1]) for match in found if match], np.int64)
    return np.arange(len(images), dtype=np.int64)


def _from_query_files(
    query_files: Sequence[Path], file_names: Sequence[str], image_wh: IntArray, people: Identities
) -> dict[str, QueryTable]:
    stems = {PurePosixPath(file_name).stem: index for index, file_name in enumerate(file_names)} if query_files else {}
    tables = {path: read_query_info(path, stems, image_wh, people.id_of) for path in query_files}
    return {query_info_name(path): table for path, table in tables.items() if table is not None}


def _terms(licenses: Any) -> str:
    listed = licenses if isinstance(licenses, list) else []
    names = [one["name"] for one in listed if isinstance(one, dict) and isinstance(one.get("name"), str)]
    return "; ".join(names) if names else "unknown"
