"""PRW (v16.04.20) as published: Zheng et al., "Person re-identification in the wild", CVPR 2017.

``frame_train.mat`` and ``frame_test.mat`` name the frames of a split, ``annotations/<frame>.jpg.mat`` has rows
``id, x, y, w, h`` of one frame, ``query_info.txt`` lines ``id x y w h frame``. Cameras 1 to 5 are 1920x1080, camera 6
is 720x576; the digit after ``c`` in a frame's name is the camera.

Identities are numbered 0, 1, ... in the order of the publisher's numbers, by split: 483 in train, 544 in test, of whom
450 are searched and 94 are people of the training set who happen to pass. ``person_names`` has the publisher's
numbers. The publisher's -2, a person whom nobody named, is -1 here.

Boxes are x, y, x + w, y + h, cut to whole pixels towards zero and then at the frame's edges; annotations and queries
alike. ``compat``: public loaders cut to whole pixels too, but those that descend from OIM raise negative x and y of an
annotation to 0 before they add w and h, which moves its right or lower edge outwards by as much; of a query they do
not. Nor do they cut at the right and lower edges. Figures differ for those few boxes alone.

Search protocols: ``all``, every other frame of the test set, the query's own camera included, as one-step papers
report it; ``cross-camera``, the frames of the other cameras; ``mini``, PRW-mini's 30 queries, where
``prwmini_query_info.txt`` lies beside ``query_info.txt``, in the frames of ``all``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.data.frame_edges import cut_at_frames, edge_problems
from personsearch.data.index import (
    IndexedDataset,
    LabelIndex,
    Problem,
    QueryTable,
    cached_index,
    image_sizes,
    missing_images,
)
from personsearch.data.matfiles import load_array
from personsearch.data.sample import UNLABELLED, IntArray, Query

NAME = "PRW"
TERMS = "academic"
SPLITS = ("train", "test")
ALL, CROSS_CAMERA, MINI = "all", "cross-camera", "mini"
QUERIES, MINI_QUERIES = "query_info.txt", "prwmini_query_info.txt"
BOX_KEYS = ("box_new", "anno_file", "anno_previous")
"""Variables that hold a frame's rows, in the order in which they count."""
_UNNAMED = -2
_VERSION = "prw/1"
_AGAIN = "unpack the set again"
_FRAME_NAME = re.compile(r"c(\d)s\d+_(\d+)")


def open_prw(root: Path, split: str, protocol: str | None = None) -> IndexedDataset:
    """One split of PRW.

    Args:
        root: the folder that holds ``frames``, ``annotations`` and ``query_info.txt``.
        split: ``train`` (5,704 frames) or ``test`` (6,112).
        protocol: ``all``, ``cross-camera`` or ``mini`` for the test split; none for ``all``.

    Raises:
        InputError: the split or the protocol is unknown; a label file is missing or wrong.
    """
    if split not in SPLITS:
        raise InputError(f"split `{split}` is unknown", where=str(root), expected=f"one of {', '.join(SPLITS)}")
    # The test set is read with the training set: nobody may be trained on and searched.
    needed = SPLITS if split == "test" else ("train",)
    frames = {one: _read_frame_names(root, one) for one in needed}
    annotations = [root / _annotation(name) for names in frames.values() for name in names]
    _refuse_missing(annotations)
    files = [*(root / f"frame_{one}.mat" for one in needed), *annotations]
    if split == "test":
        files += [root / QUERIES, *(path for path in [root / MINI_QUERIES] if path.is_file())]
    index = cached_index(files, f"{_VERSION} {split}", lambda: _build(root, split, frames), root / "frames")
    return IndexedDataset(root, index, protocol)


@dataclass(frozen=True)
class QueryLine:
    """One line of ``query_info.txt``; ``corners`` are x, y, x + w, y + h as the file has them."""

    number: int
    raw_id: int
    corners: tuple[float, float, float, float]
    frame: str


def read_query_lines(path: Path) -> list[QueryLine]:
    """The lines of a ``query_info.txt``, whatever their line ends; frames without ``.jpg``.

    Raises:
        InputError: the file is missing, or a line is not ``id x y w h frame``; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "cannot be read", where=str(path), expected="lines of `id x y w h frame`", remedy=str(error)
        ) from None
    found = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            raw_id, (x, y, width, height) = int(fields[0]), map(float, fields[1:5])
        except ValueError:
            fields = []
        if len(fields) != 6 or not np.isfinite([x, y, width, height]).all() or min(width, height) <= 0:
            raise InputError(
                f"line {number} is `{line.strip()[:80]}`", where=str(path), expected="id x y w h frame", remedy=_AGAIN
            )
        found.append(QueryLine(number, raw_id, (x, y, x + width, y + height), fields[5].removesuffix(".jpg")))
    return found


def _read_frame_names(root: Path, split: str) -> list[str]:
    path, variable = root / f"frame_{split}.mat", f"img_index_{split}"
    names = []
    for number, cell in enumerate(load_array(path, [variable]).ravel(), start=1):
        parts = np.asarray(cell).ravel()
        name = str(parts[0]).strip().removesuffix(".jpg") if len(parts) == 1 else ""
        if not _FRAME_NAME.fullmatch(name):
            raise InputError(
                f"{variable} {number} is `{name}`", where=str(path), expected="a name as c1s1_000151", remedy=_AGAIN
            )
        names.append(name)
    if len(set(names)) != len(names):
        raise InputError(f"`{variable}` names a frame twice", where=str(path), remedy=_AGAIN)
    return names


def _annotation(frame: str) -> str:
    return f"annotations/{frame}.jpg.mat"


def _refuse_missing(paths: Sequence[Path]) -> None:
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise InputError(
            f"is missing, as are {len(absent) - 1} more of {len(paths)} annotations"
            if len(absent) > 1
            else "is missing",
            where=str(absent[0]),
            expected="one .mat file for each frame that frame_train.mat and frame_test.mat name",
            remedy=_AGAIN,
        )


@dataclass(frozen=True, eq=False)
class _Labels:
    """All rows of a split: ``(N,)`` frame numbers and raw ids, ``(N, 4)`` float64 whole pixels, uncut."""

    frame_of: IntArray
    raw_ids: IntArray
    corners: NDArray[np.float64]
    dropped: int

    def names(self) -> IntArray:
        """The publisher's numbers of the identities, ascending; the place of a number is our person id."""
        return np.unique(self.raw_ids[self.raw_ids != _UNNAMED])


def _read_labels(root: Path, frames: Sequence[str]) -> _Labels:
    frame_of, rows = [np.zeros(0, np.int64)], [np.zeros((0, 5))]
    for number, frame in enumerate(frames):
        stated = _read_annotation(root / _annotation(frame))
        frame_of.append(np.full(len(stated), number))
        rows.append(stated)
    stated = np.concatenate(rows)
    has_area = (stated[:, 3:] > 0).all(axis=1)
    stated = stated[has_area]
    stated[:, 3:] += stated[:, 1:3]
    return _Labels(
        np.concatenate(frame_of)[has_area],
        stated[:, 0].astype(np.int64),
        np.trunc(stated[:, 1:]),
        int((~has_area).sum()),
    )


def _read_annotation(path: Path) -> NDArray[np.float64]:
    rows = load_array(path, BOX_KEYS)
    if rows.size == 0:
        return np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5 or rows.dtype.kind not in "iuf" or not np.isfinite(rows).all():
        raise InputError(
            f"rows have shape {rows.shape} and type {rows.dtype}",
            where=str(path),
            expected="finite numbers id, x, y, w, h",
            remedy=_AGAIN,
        )
    stated = rows.astype(np.float64)
    wrong = (stated[:, 0] != np.trunc(stated[:, 0])) | ((stated[:, 0] < 0) & (stated[:, 0] != _UNNAMED))
    if wrong.any():
        raise InputError(
            f"id is {stated[int(np.argmax(wrong)), 0]:g}",
            where=str(path),
            expected=f"a whole number, 0 or more, or {_UNNAMED}",
            remedy=_AGAIN,
        )
    return stated


def _build(root: Path, split: str, frames: Mapping[str, Sequence[str]]) -> LabelIndex:
    names, labels = frames[split], _read_labels(root, frames[split])
    parts = [_FRAME_NAME.fullmatch(name) for name in names]
    cameras = np.array([int(part.group(1)) for part in parts if part], np.int64)
    paths = tuple(f"frames/{name}.jpg" for name in names)
    sizes = image_sizes(root, paths)
    boxes, inside = cut_at_frames(labels.corners, sizes[labels.frame_of])
    identities, box_counts = labels.names(), np.bincount(labels.frame_of[inside], minlength=len(names))
    person_ids = np.where(labels.raw_ids == _UNNAMED, UNLABELLED, np.searchsorted(identities, labels.raw_ids))
    problems = [*missing_images(root, paths, sizes), *edge_problems("annotations", labels.corners, boxes, inside)]
    if labels.dropped:
        problems.append(Problem("dropped", "annotations", "boxes of no width or height", "none", labels.dropped))
    protocols: dict[str, QueryTable] = {}
    if split == "test":
        protocols, more = _protocols(root, names, cameras, sizes, labels)
        problems += more
        _refuse_shared(root / QUERIES, _read_labels(root, frames["train"]).names(), identities, protocols)
    return LabelIndex(
        name=NAME,
        terms=TERMS,
        image_paths=paths,
        image_wh=sizes,
        camera_ids=cameras,
        frame_indices=np.array([int(part.group(2)) for part in parts if part], np.int64),
        offsets=np.concatenate([[0], np.cumsum(box_counts)]).astype(np.int64),
        boxes_xyxy=boxes[inside],
        person_ids=person_ids[inside],
        person_names=tuple(str(identity) for identity in identities.tolist()),
        protocols=protocols,
        problems=tuple(problems),
    )


def _protocols(
    root: Path, names: Sequence[str], cameras: IntArray, sizes: IntArray, labels: _Labels
) -> tuple[dict[str, QueryTable], list[Problem]]:
    queries, problems = _queries(root / QUERIES, names, sizes, labels)
    others = {camera: np.flatnonzero(cameras != camera) for camera in np.unique(cameras).tolist()}
    across = [replace(query, gallery=others[int(cameras[query.image_index])]) for query in queries]
    protocols = {ALL: QueryTable.of(queries), CROSS_CAMERA: QueryTable.of(across)}
    if (root / MINI_QUERIES).is_file():
        few, more = _queries(root / MINI_QUERIES, names, sizes, labels)
        protocols[MINI] = QueryTable.of(few)
        problems += more
    return protocols, problems


def _queries(path: Path, names: Sequence[str], sizes: IntArray, labels: _Labels) -> tuple[list[Query], list[Problem]]:
    """The queries of a file with their boxes as it has them, and what the annotations say otherwise."""
    index_of = {name: index for index, name in enumerate(names)}
    person_of = {raw_id: person_id for person_id, raw_id in enumerate(labels.names().tolist())}
    queries: list[Query] = []
    absent: list[QueryLine] = []
    close: list[QueryLine] = []
    far: list[QueryLine] = []
    for line in read_query_lines(path):
        if line.frame not in index_of:
            raise _wrong_line(path, line, f"frame `{line.frame}` is unknown", "a frame of frame_test.mat")
        if line.raw_id not in person_of:
            raise _wrong_line(path, line, f"id {line.raw_id} is unknown", "an identity of the test annotations")
        image = index_of[line.frame]
        corners = np.trunc(np.array([line.corners]))
        box, inside = cut_at_frames(corners, sizes[image : image + 1])
        if not inside.all():
            raise _wrong_line(path, line, f"box {corners[0].tolist()} has no area in its frame", "a box inside")
        queries.append(Query(image, box[0], person_of[line.raw_id]))
        same = labels.corners[(labels.frame_of == image) & (labels.raw_ids == line.raw_id)]
        miss = np.abs(same - corners).max(axis=1).min() if len(same) else np.inf
        if miss > 0:
            (absent if not len(same) else close if miss <= 1 else far).append(line)
    problems = []
    if absent:
        what = f"queries of people without an annotation in their frame: {_examples(absent)}"
        problems.append(Problem("wrong", path.name, what, _AGAIN, len(absent)))
    if far:
        what = f"queries that miss the nearest annotation of their person by more than a pixel: {_examples(far)}"
        problems.append(Problem("wrong", path.name, what, _AGAIN, len(far)))
    if close:
        what = f"queries that miss the nearest annotation of their person by a pixel: {_examples(close)}"
        problems.append(Problem("noted", path.name, what, "kept as published", len(close)))
    return queries, problems


def _refuse_shared(path: Path, trained: IntArray, tested: IntArray, protocols: Mapping[str, QueryTable]) -> None:
    """Nobody who is searched may be in the training set; of the others 94 are, as distractors."""
    searched = {int(tested[person_id]) for table in protocols.values() for person_id in table.person_ids.tolist()}
    shared = sorted(searched & set(trained.tolist()))
    if shared:
        raise InputError(
            f"id {shared[0]} is searched and trained on"
            + (f", as are {len(shared) - 1} more" if len(shared) > 1 else ""),
            where=str(path),
            expected="people of whom the frames of frame_train.mat have no box",
            remedy=_AGAIN,
        )


def _examples(lines: Sequence[QueryLine]) -> str:
    shown = ", ".join(f"line {line.number} in {line.frame}" for line in lines[:3])
    return shown if len(lines) <= 3 else f"{shown} and others"


def _wrong_line(path: Path, line: QueryLine, what: str, expected: str) -> InputError:
    return InputError(f"line {line.number}: {what}", where=str(path), expected=expected, remedy=_AGAIN)
