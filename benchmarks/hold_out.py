"""A part of a split that is kept apart, to choose a setting on: whole people where possible, else whole cameras.

Two images of one person, or of one camera, are no independent witnesses. So images are divided into groups that share
no identity; where these are too large to make a part of the size that was asked for (in PRW all images hang together),
into cameras; and only where there is a single camera into single images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data import Query, Sample, SearchDataset
from personsearch.data.sample import Frame

Unit = Literal["split", "identities", "cameras", "images"]
_LEAST, _MOST = 0.5, 1.5
"""Of the size that was asked for: how far a part of whole groups may be off."""


@dataclass(frozen=True)
class HoldOut:
    """Which images are held out.

    Attributes:
        images: ascending indices in the split.
        unit: what was held out whole; ``split`` where it is all of it.
        groups: number of these.
    """

    images: tuple[int, ...]
    unit: Unit
    groups: int


class HeldOutImages:
    """The images held out as a data set of its own, with one query for each person and camera.

    A query's gallery is every image but its own. People who stand in one of the images only are not searched. Where
    the whole split is held out and has a search protocol, that one is taken.

    Args:
        dataset: the split.
        held_out: which of its images.
    """

    def __init__(self, dataset: SearchDataset, held_out: HoldOut) -> None:
        self._dataset, self._images = dataset, held_out.images
        self.name, self.terms, self.person_count = dataset.name, dataset.terms, dataset.person_count
        self.protocol = getattr(dataset, "protocol", "default")
        self.queries = dataset.queries if held_out.unit == "split" else ()
        if not self.queries:
            self.queries, self.protocol = _one_a_person_and_camera(self), "one query a person and camera"

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._images[index]]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``; see `SearchDataset`."""
        return self._dataset.frame_bgr(self._images[index])


def hold_out(dataset: SearchDataset, share: float, seed: int) -> HoldOut:
    """Chooses images of about ``share`` of a split, in groups as the module says.

    Args:
        dataset: the split.
        share: in (0, 1]; 1 for all of it. Whole groups may miss it by half of it.
        seed: of the choice.

    Raises:
        InputError: the share is not in (0, 1], or is less than an image.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share:g}", where="--hold-out", expected="more than 0, at most 1")
    count = len(dataset)
    if share == 1:
        return HoldOut(tuple(range(count)), "split", 1)
    target = share * count
    if target < 1:
        raise InputError(f"{share:g} of {count} images is less than one", where=dataset.name, remedy="a larger share")
    samples = [dataset[index] for index in range(count)]
    cameras = np.array([sample.camera_id for sample in samples])
    ways: tuple[tuple[Unit, NDArray[np.int64]], ...] = (
        ("identities", _linked(samples)),
        ("cameras", np.unique(cameras, return_inverse=True)[1]),
    )
    for unit, group_of in ways:
        chosen = _choose(np.bincount(group_of), target, rng_for(seed, "hold out", unit))
        images = np.flatnonzero(np.isin(group_of, chosen))
        if _LEAST * target <= len(images) < count:
            return HoldOut(tuple(images.tolist()), unit, len(chosen))
    picked = np.sort(rng_for(seed, "hold out", "images").permutation(count)[: min(round(target), count - 1)])
    return HoldOut(tuple(picked.tolist()), "images", len(picked))


def _choose(sizes: NDArray[np.int64], target: float, rng: np.random.Generator) -> list[int]:
    """Groups in a random order, as long as they are wanted and do not make the part much too large."""
    chosen: list[int] = []
    total = 0
    for group in rng.permutation(len(sizes)).tolist():
        if total < target and total + sizes[group] <= _MOST * target:
            chosen.append(group)
            total += int(sizes[group])
    return chosen


def _linked(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """``(I,)`` group of each image: images that share an identity, directly or through others, are of one group."""
    parent = list(range(len(samples)))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    first: dict[int, int] = {}
    for image, sample in enumerate(samples):
        for person_id in sample.person_ids[sample.person_ids >= 0].tolist():
            parent[root(image)] = root(first.setdefault(person_id, image))
    groups: NDArray[np.int64] = np.unique([root(image) for image in range(len(samples))], return_inverse=True)[1]
    return groups


def _one_a_person_and_camera(dataset: SearchDataset) -> tuple[Query, ...]:
    first: dict[tuple[int, int], Query] = {}
    shown_in: dict[int, int] = {}
    for index in range(len(dataset)):
        sample = dataset[index]
        ids = sample.person_ids
        for row in np.flatnonzero(ids >= 0).tolist():
            person = int(ids[row])
            first.setdefault((person, sample.camera_id), Query(index, sample.boxes_xyxy[row], person))
        for person in np.unique(ids[ids >= 0]).tolist():
            shown_in[person] = shown_in.get(person, 0) + 1
    return tuple(query for query in first.values() if shown_in[query.person_id] > 1)
