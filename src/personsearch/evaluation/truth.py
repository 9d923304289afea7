"""What evaluation needs to know of a data set; `personsearch.data`'s samples and queries have this shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray

IGNORE_ID = -2

Indices = NDArray[np.int64]


class LabelledImage(Protocol):
    """One image's ground truth."""

    @property
    def boxes_xyxy(self) -> FloatArray:
        """``(N, 4)``, pixels of the source image."""

    @property
    def person_ids(self) -> Indices:
        """``(N,)``: 0 and more a labelled person, -1 a person without identity, -2 a region to ignore."""


class SearchQuery(Protocol):
    """One person to search for."""

    @property
    def image_index(self) -> int:
        """The image that the query was cut from."""

    @property
    def person_id(self) -> int:
        """Who is searched for, 0 or more."""

    @property
    def gallery(self) -> Indices | None:
        """``(G,)`` images to search in, repeated where the publisher repeats them; none for every image but the
        query's own."""

    @property
    def answers_xyxy(self) -> FloatArray | None:
        """``(A, 4)`` boxes of the person in the first A images of ``gallery``, as the protocol states them; none
        where the labels are to be asked."""


class BoxedQuery(SearchQuery, Protocol):
    """A query that knows its place in its image."""

    @property
    def box_xyxy(self) -> FloatArray:
        """``(4,)``, pixels of the source image."""


def check_images(predictions: Sequence[Detections], truths: Sequence[LabelledImage]) -> None:
    """Raises ValueError unless there is one set of detections for each labelled image."""
    if len(predictions) != len(truths):
        raise ValueError(f"detections of {len(predictions)} images, ground truth of {len(truths)}")
    for index, truth in enumerate(truths):
        if truth.boxes_xyxy.shape != (len(truth.person_ids), 4):
            shape, count = truth.boxes_xyxy.shape, len(truth.person_ids)
            raise ValueError(f"image {index}: boxes_xyxy has shape {shape}, expected ({count}, 4)")


def check_embeddings(predictions: Sequence[Detections]) -> None:
    """Raises ValueError unless embeddings, scores and boxes are finite and all embeddings have one width."""
    width: int | None = None
    for index, one in enumerate(predictions):
        for name in ("embeddings", "scores", "boxes_xyxy"):
            if not np.isfinite(getattr(one, name)).all():
                raise ValueError(f"image {index}: {name} holds a value that is not finite")
        if not len(one):
            continue
        if width is not None and one.embeddings.shape[1] != width:
            raise ValueError(f"image {index}: embeddings are {one.embeddings.shape[1]} wide, those before {width}")
        width = one.embeddings.shape[1]
