"""Data sets with images that cannot be read, passed over by name."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data.readable import ReadableImages
from personsearch.data.sample import Frame, Query, Sample

BOX = np.array([1, 2, 11, 22], np.float32)


class Numbered:
    """Five frames, each filled with its number; some without a size, some without pixels."""

    name, terms, person_count, protocol = "numbered", "none", 3, "all"

    def __init__(self, unsized: tuple[int, ...], unreadable: tuple[int, ...], queries: tuple[Query, ...] = ()) -> None:
        self._unsized, self._unreadable, self.queries = unsized, unreadable, queries

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        if index in self._unsized:
            raise InputError("image is missing", where=f"{index}.jpg")
        return Sample(None, BOX[None], np.array([index % 3]), 0, index, (40, 30))

    def frame_bgr(self, index: int) -> Frame:
        if index in self._unreadable:
            raise InputError("is not an image", where=f"{index}.jpg")
        return np.full((30, 40, 3), index, np.uint8)


def test_images_queries_and_galleries_are_renumbered() -> None:
    gallery, stated = np.array([4, 1, 3, 3, 0]), np.stack([BOX, BOX + 1, BOX + 2])
    queries = (
        Query(2, BOX, 2, gallery, stated),  # image 1 is the second of its gallery and of its stated answers
        Query(1, BOX, 1),
        Query(4, BOX, 0),
    )
    calls: list[tuple[int, int]] = []
    dataset = ReadableImages(Numbered((1,), (3,), queries), lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(1, 6)]
    assert dataset.skipped == ("1.jpg: image is missing", "3.jpg: is not an image")
    assert (len(dataset), dataset.protocol, dataset.person_count) == (3, "all", 3)
    assert [dataset[index].frame_index for index in range(3)] == [0, 2, 4]
    assert [int(dataset.frame_bgr(index)[0, 0, 0]) for index in range(3)] == [0, 2, 4]
    assert dataset.skipped_queries == 1
    first, second = dataset.queries
    assert (first.image_index, first.person_id, second.image_index, second.gallery) == (1, 2, 2, None)
    assert first.gallery is not None
    assert first.gallery.tolist() == [2, 0]
    assert first.answers_xyxy is not None
    assert first.answers_xyxy.tolist() == [BOX.tolist()]  # those for images 1 and 3 went with them


def test_a_whole_set_stays_as_it_is() -> None:
    queries = (Query(2, BOX, 2, np.array([0, 0, 4])),)
    dataset = ReadableImages(Numbered((), (), queries))
    assert (dataset.skipped, dataset.skipped_queries, len(dataset)) == ((), 0, 5)
    assert dataset.queries[0].gallery is not None
    assert dataset.queries[0].gallery.tolist() == [0, 0, 4]


def test_a_set_without_a_readable_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"numbered: none of 5 images can be read; 0\.jpg: is not an image"):
        ReadableImages(Numbered((), (0, 1, 2, 3, 4)))
