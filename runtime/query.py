"""The person to look for: from pictures with a box to embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import box_area, clip_boxes
from personsearch.core.preprocess import Frame
from personsearch.core.similarity import l2_normalise
from personsearch.runtime.engine import Engine
from personsearch.runtime.image_source import read_image

Box = tuple[float, float, float, float]
_NAME = re.compile(r"[\w .-]+")
_FORM = "`[NAME=]IMAGE[#x1,y1,x2,y2]`, the box in pixels of the image"
# A box that reaches over the edge is cut; one that lies mostly outside is a mistake.
_MIN_INSIDE = 0.5


@dataclass(frozen=True)
class QueryCrop:
    """One ``--query``: an image, and where in it the person is."""

    name: str
    image: Path
    box_xyxy: Box | None
    named: bool


@dataclass(frozen=True)
class PersonQuery:
    """A person to look for.

    Attributes:
        name: how matches are labelled.
        embeddings: ``(C, D)`` L2-normalised, one row a crop.
        thumbnail: uint8 BGR picture of the first crop.
        crops: image and box of each crop, for the summary.
        notes: what a user should know, one line each.
    """

    name: str
    embeddings: FloatArray
    thumbnail: Frame
    crops: tuple[dict[str, object], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def mean_embedding(self) -> FloatArray:
        """``(1, D)``: the crops' mean, L2-normalised.

        What the pictures of a person have in common is the person; pose and light average out. With one crop it is
        that crop's embedding.
        """
        return l2_normalise(self.embeddings.mean(axis=0, keepdims=True))


def parse_query(text: str) -> QueryCrop:
    """Reads ``[NAME=]IMAGE[#x1,y1,x2,y2]``; a file with ``#`` or ``=`` in its name is taken as it stands.

    Raises:
        InputError: the image does not exist, or the box is not four numbers with an area.
    """
    name, image, box_text = "", text, ""
    if not Path(text).is_file():
        head, equals, tail = text.partition("=")
        if equals and _NAME.fullmatch(head):
            name, image = head.strip(), tail
        if not Path(image).is_file():
            path, hash_sign, box = image.rpartition("#")
            if hash_sign:
                image, box_text = path, box
                if not box_text:
                    raise InputError("the box after `#` is empty", where=f"query {text}", expected=_FORM)
    if not image or not Path(image).is_file():
        raise InputError(f"image `{image}` does not exist", where=f"query {text}", expected=_FORM)
    box_xyxy = _parse_box(box_text, text) if box_text else None
    return QueryCrop(name or Path(image).stem, Path(image), box_xyxy, named=bool(name))


def _parse_box(box_text: str, text: str) -> Box:
    try:
        x1, y1, x2, y2 = (float(part) for part in box_text.split(","))
    except ValueError:
        raise InputError(f"the box is `{box_text}`", where=f"query {text}", expected="numbers x1,y1,x2,y2") from None
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        raise InputError(f"the box is `{box_text}`", where=f"query {text}", expected="finite numbers")
    if x2 <= x1 or y2 <= y1:
        raise InputError(
            f"the box `{box_text}` has no area",
            where=f"query {text}",
            expected="x1 < x2 and y1 < y2",
            remedy="it is two corners, not a corner and a size",
        )
    return x1, y1, x2, y2


def place_box(box_xyxy: Box, image_wh: tuple[int, int], where: str) -> tuple[Box, str]:
    """A box cut at the image's edges, and a note where something was cut off.

    Raises:
        InputError: less than half of the box lies inside the image.
    """
    box = np.array([box_xyxy], dtype=np.float64)
    clipped = clip_boxes(box, image_wh)
    inside = float(box_area(clipped)[0] / box_area(box)[0])
    shown = ",".join(f"{value:g}" for value in box_xyxy)
    size = f"{image_wh[0]} x {image_wh[1]}"
    if inside < _MIN_INSIDE:
        raise InputError(
            f"the box {shown} lies outside the image"
            if inside == 0
            else f"only {inside:.0%} of the box {shown} lies inside the image",
            where=f"query {where}",
            expected=f"a box within {size} pixels",
        )
    x1, y1, x2, y2 = (float(value) for value in clipped[0])
    note = "" if inside == 1 else f"query {where}: the box {shown} was cut at the edge of the image ({size})"
    return (x1, y1, x2, y2), note


def load_queries(engine: Engine, texts: Sequence[str]) -> list[PersonQuery]:
    """Reads and embeds every ``--query``.

    Crops under one explicit name are one person; without a name every crop is a person of its own, named after
    its image. Without a box the largest person that the engine finds in the image is meant, or the whole image
    when it finds none.

    Raises:
        InputError: no query at all, or one that cannot be used (see `parse_query` and `place_box`).
    """
    if not texts:
        raise InputError("no query", expected=f"`--query` with {_FORM}")
    people: dict[str, list[PersonQuery]] = {}
    for text in texts:
        crop = parse_query(text)
        name = crop.name if crop.named else _unused(crop.name, people)
        people.setdefault(name, []).append(_embed_crop(engine, crop, name))
    return [
        PersonQuery(
            name,
            np.concatenate([part.embeddings for part in parts]),
            parts[0].thumbnail,
            tuple(crop for part in parts for crop in part.crops),
            tuple(note for part in parts for note in part.notes),
        )
        for name, parts in people.items()
    ]


def _unused(name: str, taken: dict[str, list[PersonQuery]]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _embed_crop(engine: Engine, crop: QueryCrop, name: str) -> PersonQuery:
    image = read_image(crop.image)
    height, width = image.shape[:2]
    if crop.box_xyxy is not None:
        box, note = place_box(crop.box_xyxy, (width, height), str(crop.image))
    else:
        found = engine.infer([image])[0]
        if len(found):
            x1, y1, x2, y2 = (float(value) for value in found.boxes_xyxy[int(np.argmax(box_area(found.boxes_xyxy)))])
            box = (x1, y1, x2, y2)
            which = f"the largest of {len(found)} people found" if len(found) > 1 else "the person found"
        else:
            box, which = (0.0, 0.0, float(width), float(height)), "the whole image, as no person was found in it"
        note = f"query {crop.image}: no box given, used {which}: {','.join(f'{value:.0f}' for value in box)}"
    embedding = engine.embed(image, np.array([box], dtype=np.float32))
    left, top = math.floor(box[0]), math.floor(box[1])
    picture = image[top : max(top + 1, math.ceil(box[3])), left : max(left + 1, math.ceil(box[2]))].copy()
    return PersonQuery(
        name,
        embedding,
        picture,
        ({"image": crop.image.name, "box_xyxy": [round(value, 1) for value in box]},),
        (note,) if note else (),
    )
