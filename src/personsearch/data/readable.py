"""What is left of a data set when images that cannot be read are passed over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from personsearch.core.errors import InputError
from personsearch.data.sample import Frame, Query, Sample, SearchDataset


class ReadableImages:
    """The readable images of a data set, as a data set of its own, with a list of the others.

    An image that cannot be read is left out of every gallery, with its people; a query that stands in one is left
    out, too. Figures on the rest are those of another, smaller set, so whoever reports them has to report
    ``skipped`` beside them.

    Args:
        dataset: any.
        progress: called with images looked at and images in all; every image is decoded once.

    Attributes:
        skipped: one line for each image left out: the file and what is wrong with it.
        skipped_queries: queries left out because they stand in one of these.

    Raises:
        InputError: no image can be read.
    """

    def __init__(self, dataset: SearchDataset, progress: Callable[[int, int], None] | None = None) -> None:
        self._dataset = dataset
        self.name, self.terms, self.person_count = dataset.name, dataset.terms, dataset.person_count
        self.protocol: str = getattr(dataset, "protocol", "default")
        readable, skipped = [], []
        for index in range(len(dataset)):
            try:
                dataset[index], dataset.frame_bgr(index)
            except InputError as error:
                skipped.append(str(error))
            else:
                readable.append(index)
            if progress is not None:
                progress(index + 1, len(dataset))
        if not readable:
            raise InputError(f"none of {len(dataset)} images can be read", where=dataset.name, remedy=skipped[0])
        self._images = readable
        self.skipped = tuple(skipped)
        place = np.full(len(dataset), -1, np.int64)
        place[readable] = np.arange(len(readable))
        queries = [_moved(query, place) for query in dataset.queries if place[query.image_index] >= 0]
        self.queries: tuple[Query, ...] = tuple(queries)
        self.skipped_queries = len(dataset.queries) - len(queries)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._images[index]]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``; see `SearchDataset`."""
        return self._dataset.frame_bgr(self._images[index])


def skipped_images_of(dataset: SearchDataset) -> tuple[str, ...]:
    """One line for each image that a data set leaves out because it cannot be read; most leave out none."""
    return tuple(getattr(dataset, "skipped", ()))


def _moved(query: Query, place: np.ndarray) -> Query:
    """The query with image ``i`` called ``place[i]``, and images at place -1 left out of its gallery."""
    gallery, answers = query.gallery, query.answers_xyxy
    if gallery is not None:
        kept = place[gallery] >= 0
        if answers is not None:
            answers = answers[kept[: len(answers)]]
        gallery = place[gallery[kept]]
    return Query(int(place[query.image_index]), query.box_xyxy, query.person_id, gallery, answers)
