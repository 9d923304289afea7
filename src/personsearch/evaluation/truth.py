"""What evaluation needs to know of a data set; `personsearch.data`'s samples and queries have this shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray

IGNORE_ID = -2


class LabelledImage(Protocol):
    """One image's ground truth."""

    @property
    def boxes_xyxy(self) -> FloatArray:
        """``(N, 4)``, pixels of the source image."""

    @property
    def person_ids(self) -> NDArray[np.int64]:
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
    def gallery(self) -> tuple[int, ...] | None:
        """Images to search in; none for every image but the query's own."""


def check_images(predictions: Sequence[Detections], truths: Sequence[LabelledImage]) -> None:
    """Raises ValueError unless there is one set of detections for each labelled image."""
    if len(predictions) != len(truths):
        raise ValueError(f"detections of {len(predictions)} images, ground truth of {len(truths)}")
    for index, truth in enumerate(truths):
        if truth.boxes_xyxy.shape != (len(truth.person_ids), 4):
            shape, count = truth.boxes_xyxy.shape, len(truth.person_ids)
            raise ValueError(f"image {index}: boxes_xyxy has shape {shape}, expected ({count}, 4)")
