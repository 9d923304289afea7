"""CUHK-SYSU ("ssm") as published: Xiao et al., "Joint detection and identification feature learning", CVPR 2017.

``annotation/Images.mat`` has every box of every image, ``annotation/pool.mat`` the names of the test images,
``annotation/test/train_test/Train.mat`` who is who in the other images, and ``TestG50.mat`` to ``TestG4000.mat`` the
searches; ``annotation/Person.mat`` repeats what these say and is not read. Boxes are ``x, y, w, h``; a person belongs
to the first box of an image whose four numbers, as int32, are equal.

Search protocols are ``g50`` to ``g4000``, where each query has a gallery of that many images, and ``full``: the
gallery of ``g50``, which has every image that shows the person, then all other test images but the query's own, in
the order of the pool. It is the full set of the authors' own evaluator; SeqNet's ranks the images of ``g50`` twice.

What public evaluators count on is kept: images that stand twice in a gallery, a query's own image in its gallery, and
the boxes that a protocol states for the person (`Query.answers_xyxy`, never cut at the frame).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import xywh_to_xyxy
from personsearch.data.cuhk_searches import (
    GALLERY_SIZES,
    IMAGES,
    NAME,
    PROTOCOLS,
    TERMS,
    UNPACK_AGAIN,
    BoxXywh,
    Person,
    SplitImages,
    at_record,
    box_xywh,
    frame_number,
    full_galleries,
    image_finder,
    image_folder,
    protocol_table,
    read_searches,
)
from personsearch.data.frame_edges import cut_at_frames, edge_problems
from personsearch.data.index import IndexedDataset, LabelIndex, Problem, QueryTable, cached_index
from personsearch.data.matfiles import iter_records, load_array, structures, text
from personsearch.data.sample import UNLABELLED, IntArray

SPLITS = ("train", "test")
FULL = "full"
POOL = "annotation/pool.mat"
TRAIN = f"{PROTOCOLS}/Train.mat"
_VERSION = "cuhk-sysu/1"


def open_cuhk_sysu(root: Path, split: str, protocol: str | None = None) -> IndexedDataset:
    """One split of CUHK-SYSU.

    Args:
        root: the folder that holds ``annotation`` and ``Image``.
        split: ``train`` (11,206 images) or ``test`` (6,978).
        protocol: ``g50`` to ``g4000`` or ``full`` for the test split; none for ``g100``.

    Raises:
        InputError: the split or the protocol is unknown; a .mat file is missing or wrong.
    """
    if split not in SPLITS:
        raise InputError(f"split `{split}` is unknown", where=str(root), expected=f"one of {', '.join(SPLITS)}")
    files = [IMAGES, POOL, TRAIN]
    if split == "test":
        files += [protocol_file(size) for size in GALLERY_SIZES]
    folder = image_folder(root)
    index = cached_index(
        [root / file for file in files],
        f"{_VERSION} {split} {folder}",
        lambda: _build(root, split, folder),
        root / folder,
    )
    return IndexedDataset(root, index, protocol)


def protocol_file(gallery_size: int) -> str:
    """The .mat file of the searches in galleries of that size, relative to the root."""
    return f"{PROTOCOLS}/TestG{gallery_size}.mat"


def _build(root: Path, split: str, folder: str) -> LabelIndex:
    boxes = _read_boxes(root / IMAGES)
    pool = _read_pool(root / POOL, boxes.rows_of)
    train = _read_train(root / TRAIN)
    if split == "train":
        in_pool = set(pool)
        names = sorted(name for name in boxes.rows_of if name not in in_pool)
        images = SplitImages.of(root, folder, names)
        return _index(images, boxes, train, TRAIN, {})
    images = SplitImages.of(root, folder, pool)
    find = image_finder(pool)
    searches = {size: read_searches(root / protocol_file(size), find) for size in GALLERY_SIZES}
    smallest = searches[min(GALLERY_SIZES)]
    people = smallest.people(pool)
    protocols = {f"g{size}": protocol_table(found, people, images) for size, found in searches.items()}
    protocols[FULL] = protocol_table(full_galleries(smallest, len(pool)), people, images)
    shared = sorted({person.name for person in train} & {person.name for person in people})
    if shared:
        raise InputError(
            f"idname `{shared[0]}` is searched and trained on"
            + (f", as are {len(shared) - 1} more" if len(shared) > 1 else ""),
            where=str(root / TRAIN),
            expected="people whom the test protocols do not search",
            remedy=UNPACK_AGAIN,
        )
    return _index(images, boxes, people, protocol_file(min(GALLERY_SIZES)), protocols)


@dataclass(frozen=True, eq=False)
class _Boxes:
    """What Images.mat says: ``(N, 4)`` int64 xywh, and for each image name its rows."""

    xywh: IntArray
    rows_of: Mapping[str, range]
    dropped: int


def _read_boxes(path: Path) -> _Boxes:
    xywh: list[BoxXywh] = []
    rows_of: dict[str, range] = {}
    dropped = 0
    for number, record in enumerate(iter_records(path, "Img"), start=1):
        with at_record(path, f"Img {number}"):
            name = record.one("imname", text)
            if name in rows_of:
                raise ValueError(f"image `{name}` stands there twice")
            stated = record.one("box", lambda value: structures(value).each("idlocate", box_xywh))
        kept = [box for box in stated if box[2] > 0 and box[3] > 0]
        dropped += len(stated) - len(kept)
        rows_of[name] = range(len(xywh), len(xywh) + len(kept))
        xywh += kept
    return _Boxes(np.array(xywh, np.int64).reshape(-1, 4), rows_of, dropped)


def _read_pool(path: Path, known: Mapping[str, range]) -> list[str]:
    names = []
    for number, cell in enumerate(load_array(path, ["pool"]).ravel(), start=1):
        parts = np.asarray(cell).ravel()
        name = str(parts[0]) if len(parts) == 1 else ""
        with at_record(path, f"pool {number}"):
            if name not in known:
                raise ValueError(f"image `{name}` is not in Images.mat")
        names.append(name)
    if len(set(names)) != len(names):
        raise InputError("`pool` names an image twice", where=str(path), remedy=UNPACK_AGAIN)
    return names


def _read_train(path: Path) -> list[Person]:
    people = []
    for number, record in enumerate(iter_records(path, "Train"), start=1):
        with at_record(path, f"Train {number}"):
            people.append(Person(record.one("idname", text), record.one("scene", _places)))
    return people


def _places(value: bytes) -> tuple[tuple[str, BoxXywh], ...]:
    scenes = structures(value)
    return tuple(zip(scenes.each("imname", text), scenes.each("idlocate", box_xywh), strict=True))


def _index(
    images: SplitImages,
    boxes: _Boxes,
    people: Sequence[Person],
    people_file: str,
    protocols: Mapping[str, QueryTable],
) -> LabelIndex:
    person_ids, amiss = _assign(boxes, images.names, people, people_file)
    ranges = [boxes.rows_of[name] for name in images.names]
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(one.start, one.stop) for one in ranges)])
    image_of = np.repeat(np.arange(len(ranges)), [len(one) for one in ranges])
    corners = xywh_to_xyxy(boxes.xywh[rows].astype(np.float64))
    cut, inside = cut_at_frames(corners, images.wh[image_of])
    problems = [*images.missing, *amiss, *edge_problems(IMAGES, corners, cut, inside)]
    if boxes.dropped:
        problems.append(
            Problem("dropped", IMAGES, "boxes of no width or height, in both splits", "none", boxes.dropped)
        )
    counts = np.bincount(image_of[inside], minlength=len(ranges))
    return LabelIndex(
        name=NAME,
        terms=TERMS,
        image_paths=images.paths,
        image_wh=images.wh,
        camera_ids=np.zeros(len(ranges), np.int64),
        frame_indices=np.array([frame_number(name) for name in images.names], np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xyxy=cut[inside],
        person_ids=person_ids[rows][inside],
        person_names=tuple(person.name for person in people),
        protocols=protocols,
        problems=tuple(problems),
    )


def _assign(boxes: _Boxes, names: Sequence[str], people: Sequence[Person], file: str) -> tuple[IntArray, list[Problem]]:
    """``(N,)`` person ids of all boxes; a later identity takes a box from an earlier one, as in public loaders."""
    stated = [tuple(box) for box in boxes.xywh.tolist()]
    first_of = {(name, stated[row]): row for name in names for row in reversed(boxes.rows_of[name])}
    person_ids = np.full(len(stated), UNLABELLED, np.int64)
    unmatched, contested = [], []
    for person_id, person in enumerate(people):
        for name, box in person.seen:
            row = first_of.get((name, box))
            if row is None:
                unmatched.append(f"`{person.name}` at {box} in {name}")
                continue
            if person_ids[row] not in (UNLABELLED, person_id):
                contested.append(f"`{person.name}` at {box} in {name}")
            person_ids[row] = person_id
    problems = []
    if unmatched:
        what = f"people are at no box that Images.mat has in this split, as {unmatched[0]}"
        problems.append(Problem("wrong", file, what, UNPACK_AGAIN, len(unmatched)))
    if contested:
        what = f"boxes are of two identities, as {contested[0]}"
        problems.append(Problem("wrong", file, what, UNPACK_AGAIN, len(contested)))
    return person_ids, problems
