"""The searches of CUHK-SYSU: TestG50.mat to TestG4000.mat, read with their label files or alone.

A record has a query (image, box, identity) and the rows of its gallery: image and, in the first ones, the box of the
person there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.geometry import xywh_to_xyxy
from personsearch.data.frame_edges import cut_at_frames
from personsearch.data.index import (
    IndexedDataset,
    LabelIndex,
    Problem,
    QueryTable,
    image_sizes,
    missing_images,
)
from personsearch.data.matfiles import iter_records, numbers, structures, text
from personsearch.data.sample import FloatArray, IntArray, Query

NAME = "CUHK-SYSU"
TERMS = "research"
GALLERY_SIZES = (100, 50, 500, 1000, 2000, 4000)
"""Images a query, the field's default first."""
IMAGE_FOLDERS = ("Image/SSM", "Image", "SSM")
IMAGES = "annotation/Images.mat"
PROTOCOLS = "annotation/test/train_test"
UNPACK_AGAIN = "unpack the set again"

BoxXywh = tuple[int, int, int, int]


def image_folder(root: Path) -> str:
    """Where the images are: as published, or flat as some unpack them; the published place where there are none."""
    return next((one for one in IMAGE_FOLDERS if next((root / one).glob("*.jpg"), None)), IMAGE_FOLDERS[0])


@dataclass(frozen=True, eq=False)
class SplitImages:
    """The images of a split: names, paths from the root and sizes, and which are not there."""

    names: Sequence[str]
    paths: tuple[str, ...]
    wh: IntArray
    missing: tuple[Problem, ...]

    @staticmethod
    def of(root: Path, folder: str, names: Sequence[str]) -> SplitImages:
        paths = tuple(f"{folder}/{name}" for name in names)
        sizes = image_sizes(root, paths)
        return SplitImages(names, paths, sizes, missing_images(root, paths, sizes))


@dataclass(frozen=True)
class Person:
    """An identity and where it is seen: image names with boxes."""

    name: str
    seen: tuple[tuple[str, BoxXywh], ...]


@dataclass(frozen=True, eq=False)
class Searches:
    """One TestG file; by record the identity, the query's image and box, the gallery, and the first images' boxes."""

    path: Path
    names: list[str]
    query_images: list[int]
    query_boxes: list[BoxXywh]
    galleries: list[NDArray[np.int32]]
    answers: list[list[BoxXywh]]

    def people(self, image_names: Sequence[str]) -> list[Person]:
        """Each record's person, in the query's image and in the answers."""
        found = []
        for number, name in enumerate(self.names):
            seen = [(image_names[self.query_images[number]], self.query_boxes[number])]
            answers = self.answers[number]
            images = self.galleries[number][: len(answers)].tolist()
            seen += [(image_names[image], box) for image, box in zip(images, answers, strict=True)]
            found.append(Person(name, tuple(seen)))
        return found


def read_searches(path: Path, find: Callable[[str], int]) -> Searches:
    """One TestG file; ``find`` gives an image's index by its name, or raises ValueError.

    Raises:
        InputError: the file is missing or wrong; the message names the record.
    """
    # Millions of rows name a few thousand images and mostly state no box: each stored value is decoded once.
    image, answer = cache(lambda value: find(text(value))), cache(_box_or_none)
    found = Searches(path, [], [], [], [], [])
    seen: set[str] = set()
    for number, record in enumerate(iter_records(path, path.stem), start=1):
        with at_record(path, f"{path.stem} {number}"):
            query, gallery = record.one("Query", structures), record.one("Gallery", structures)
            name = query.one("idname", text)
            if name in seen:
                raise ValueError(f"`idname`: `{name}` is searched twice")
            seen.add(name)
            found.names.append(name)
            found.query_images.append(query.one("imname", image))
            found.query_boxes.append(query.one("idlocate", box_xywh))
            found.galleries.append(np.array(gallery.each("imname", image), np.int32))
            boxes = gallery.each("idlocate", answer)
            stated = [box for box in boxes if box is not None]
            if None in boxes[: len(stated)]:
                raise ValueError("`Gallery`: images with a box of the person are not the first ones")
            if min(found.query_boxes[-1][2:]) <= 0 or any(min(box[2:]) <= 0 for box in stated):
                raise ValueError("`idlocate`: a box has no area")
            found.answers.append(stated)
    if not found.names:
        raise InputError(f"`{path.stem}` has no records", where=str(path), remedy=UNPACK_AGAIN)
    return found


def protocol_table(searches: Searches, people: Sequence[Person], images: SplitImages) -> QueryTable:
    """The queries of one file, with the galleries and answers as published.

    Raises:
        InputError: an identity is not one of ``people``, or a query's box lies outside its image.
    """
    person_of = {person.name: person_id for person_id, person in enumerate(people)}
    queries = []
    for number, name in enumerate(searches.names):
        if name not in person_of:
            raise InputError(
                f"{searches.path.stem} {number + 1}: idname is `{name}`",
                where=str(searches.path),
                expected="an identity that the other TestG files search too",
                remedy=UNPACK_AGAIN,
            )
        image = searches.query_images[number]
        box, inside = cut_at_frames(corners([searches.query_boxes[number]]), images.wh[image : image + 1])
        if not inside.all():
            raise InputError(
                f"{searches.path.stem} {number + 1}: query box {searches.query_boxes[number]}",
                where=str(searches.path),
                expected=f"a box inside {images.names[image]}, {images.wh[image, 0]}x{images.wh[image, 1]}",
                remedy=UNPACK_AGAIN,
            )
        gallery = searches.galleries[number].astype(np.int64)
        queries.append(Query(image, box[0], person_of[name], gallery, corners(searches.answers[number])))
    return QueryTable.of(queries)


def full_galleries(smallest: Searches, image_count: int) -> Searches:
    """The smallest galleries, each followed by all images that are neither in it nor the query's own."""
    galleries = []
    for image, gallery in zip(smallest.query_images, smallest.galleries, strict=True):
        others = np.ones(image_count, bool)
        others[gallery] = False
        others[image] = False
        galleries.append(np.concatenate([gallery, np.flatnonzero(others).astype(np.int32)]))
    return replace(smallest, galleries=galleries)


def image_finder(names: Sequence[str]) -> Callable[[str], int]:
    """From the names of the pool to indices, as `read_searches` wants it."""
    index_of = {name: index for index, name in enumerate(names)}

    def find(name: str) -> int:
        if name not in index_of:
            raise ValueError(f"image `{name}` is not in pool.mat")
        return index_of[name]

    return find


def box_xywh(value: bytes) -> BoxXywh:
    """A stored ``idlocate``, its numbers cut to int32 as every public loader does; ValueError for anything else."""
    stated = numbers(value).ravel()
    if len(stated) != 4 or not np.isfinite(stated).all():
        raise ValueError(f"box {stated.tolist()} where x, y, w, h should be")
    x, y, width, height = stated.astype(np.int32).tolist()
    return x, y, width, height


def _box_or_none(value: bytes) -> BoxXywh | None:
    return box_xywh(value) if numbers(value).size else None


def corners(boxes_xywh: Sequence[BoxXywh]) -> FloatArray:
    """``(N, 4)`` float32; added as float64, so that no sum overflows."""
    return xywh_to_xyxy(np.array(boxes_xywh, np.float64).reshape(-1, 4)).astype(np.float32)


def frame_number(name: str) -> int:
    """The number in an image's name, 0 where there is none."""
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 0


@contextmanager
def at_record(path: Path, place: str) -> Iterator[None]:
    """Names file and record in what is wrong within."""
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"{place}: {error}", where=str(path), expected="the file as published", remedy=UNPACK_AGAIN
        ) from None


def searches_alone(root: Path) -> dict[int, Path]:
    """TestG files that lie in ``root`` itself, without the label files, by gallery size, the default first."""
    places = {size: root / f"TestG{size}.mat" for size in GALLERY_SIZES}
    return {size: place for size, place in places.items() if place.is_file()}


def open_searches_alone(root: Path, split: str, protocol: str | None = None) -> IndexedDataset:
    """The searches of CUHK-SYSU without its other label files: who is searched where, and no other box.

    For looking at the protocols; there is nothing to train on, and no person but those searched.

    Args:
        root: folder with at least one of TestG50.mat to TestG4000.mat.
        split: ``test``.
        protocol: ``g50`` to ``g4000``, of those whose file is there; none for ``g100``, or the first there.

    Raises:
        InputError: the split or the protocol is unknown, a file is wrong or they contradict one another.
    """
    if split != "test":
        raise InputError(f"split `{split}` is unknown", where=str(root), expected="test, there is no Train.mat")
    names: dict[str, int] = {}
    searches = {
        size: read_searches(path, lambda name: names.setdefault(name, len(names)))
        for size, path in searches_alone(root).items()
    }
    images = SplitImages.of(root, image_folder(root), list(names))
    people = next(iter(searches.values())).people(images.names)
    person_of = {(names[name], box): person_id for person_id, one in enumerate(people) for name, box in one.seen}
    order = sorted(person_of, key=lambda place: place[0])
    boxes, inside = cut_at_frames(corners([box for _, box in order]), images.wh[[image for image, _ in order]])
    counts = np.bincount([image for (image, _), kept in zip(order, inside, strict=True) if kept], minlength=len(names))
    labels = Problem("missing", IMAGES, "only the people of the searches have boxes", "get the whole annotation folder")
    index = LabelIndex(
        name=f"{NAME} (searches only)",
        terms=TERMS,
        image_paths=images.paths,
        image_wh=images.wh,
        camera_ids=np.zeros(len(names), np.int64),
        frame_indices=np.array([frame_number(name) for name in names], np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xyxy=boxes[inside],
        person_ids=np.array([person_of[place] for place in order], np.int64)[inside],
        person_names=tuple(person.name for person in people),
        protocols={f"g{size}": protocol_table(found, people, images) for size, found in searches.items()},
        problems=(labels, *images.missing),
    )
    return IndexedDataset(root, index, protocol)
