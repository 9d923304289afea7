"""A part of a split that is kept apart, to choose a setting on: whole people where possible, else whole cameras.

Two images of one person, or of one camera, are no independent witnesses. So images are divided into groups that share
no identity; where these are too large to make a part of the size that was asked for (in PRW all images hang together),
into cameras; and where these are too large as well, a stretch of each camera's frames is taken, as every other frame of
a video would be known from its neighbours. `HeldOutImages` is that part, `RemainingImages` what is left to train on.
"""

from __future__ import annotations

import filecmp
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.manifest import HeldOutPart, HeldOutUnit, TrainingData
from personsearch.core.seeding import rng_for
from personsearch.data.composites import CompositeDataset
from personsearch.data.mixed import MixedDataset
from personsearch.data.sample import UNLABELLED, Frame, IntArray, Query, Sample, SearchDataset, person_names_of

_LEAST, _MOST = 0.5, 1.5
"""Of the size that was asked for: how far a part of whole groups may be off."""


@dataclass(frozen=True)
class HoldOut:
    """Which images are held out.

    Attributes:
        images: ascending indices in the split.
        unit: what was held out whole; ``split`` where it is all of it.
        groups: number of these.
        share: that was asked for.
        seed: of the choice.
    """

    images: tuple[int, ...]
    unit: HeldOutUnit
    groups: int
    share: float = 1.0
    seed: int = 0


def hold_out(dataset: SearchDataset, share: float, seed: int, *, skip_bad: bool = False) -> HoldOut:
    """Chooses images of about ``share`` of a split, in groups as the module says; reads every label once.

    Args:
        dataset: the split.
        share: in (0, 1]; 1 for all of it. Whole groups may miss it by half of it.
        seed: of the choice.
        skip_bad: an image whose labels cannot be read is not held out.

    Raises:
        InputError: the share is not in (0, 1], or is less than an image; frames are rendered; a label cannot be read.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share:g}", where="--hold-out", expected="more than 0, at most 1")
    count = len(dataset)
    if share == 1:
        return HoldOut(tuple(range(count)), "split", 1)
    _check_not_rendered(dataset)
    target = share * count
    if target < 1:
        raise InputError(f"{share:g} of {count} images is less than one", where=dataset.name, remedy="a larger share")
    samples, indices = _readable(dataset, skip_bad)
    for unit, group_of in _ways(samples):
        chosen = _choose(np.bincount(group_of), target, rng_for(seed, "hold out", unit))
        images = indices[np.isin(group_of, chosen)]
        if _LEAST * target <= len(images) < count:
            return HoldOut(tuple(images.tolist()), unit, len(chosen), share, seed)
    stretches = _stretches(samples, min(round(target), len(samples) - 1), rng_for(seed, "hold out", "stretches"))
    picked = np.sort(indices[np.concatenate(stretches)])
    return HoldOut(tuple(picked.tolist()), "stretches", len(stretches), share, seed)


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


class RemainingImages:
    """The images that are not held out, as a data set to train on.

    Its identities are those whom one of its images shows, numbered anew from 0 in the order that they had: a network
    learns no class, and a look-up table has no row, for somebody whom training never shows. It has no queries.

    Args:
        dataset: the split.
        held_out: which of its images are left out.
        skip_bad: an image whose labels cannot be read counts as one without identities.

    Attributes:
        held_out: what is left out, for checkpoints and manifests.
        person_ids: ``(P,)`` who the identities are in the whole split.
        dropped_boxes: rows of the whole split that its reader could not use; none where it does not count them.

    Raises:
        InputError: a label cannot be read.
    """

    queries: tuple[Query, ...] = ()

    def __init__(self, dataset: SearchDataset, held_out: HoldOut, *, skip_bad: bool = False) -> None:
        self._dataset = dataset
        self.name, self.terms = dataset.name, dataset.terms
        self.dropped_boxes: int | None = getattr(dataset, "dropped_boxes", None)
        self.held_out = held_out_part(dataset, held_out)
        self._images = np.setdiff1d(np.arange(len(dataset)), held_out.images)
        samples, _ = _readable(dataset, skip_bad, self._images)
        shown = np.unique(np.concatenate([np.zeros(0, np.int64), *(sample.person_ids for sample in samples)]))
        self.person_ids: IntArray = shown[shown >= 0]
        self.person_count = len(self.person_ids)
        self._number = np.full(dataset.person_count, UNLABELLED, np.int64)
        self._number[self.person_ids] = np.arange(self.person_count)
        names = person_names_of(dataset)
        self.person_names = tuple(names[person] for person in self.person_ids.tolist()) if names else ()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[int(self._images[index])]
        ids = sample.person_ids.copy()
        ids[ids >= 0] = self._number[ids[ids >= 0]]
        return replace(sample, person_ids=ids)

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``; see `SearchDataset`."""
        return self._dataset.frame_bgr(int(self._images[index]))


def held_out_part(dataset: SearchDataset, held_out: HoldOut) -> HeldOutPart:
    """What a checkpoint says about the images held out; equal for equal images with equal labels.

    The digest holds for each image its file's name without folders, camera, number, size, boxes and identities: a
    data set that was moved, or whose other images were labelled anew, has the same.
    """
    digest = hashlib.sha256()
    for index in held_out.images:
        sample = dataset[index]
        name = "" if sample.image_path is None else sample.image_path.name
        numbers = (sample.camera_id, sample.frame_index, *sample.image_wh, len(sample.boxes_xyxy))
        digest.update(f"{name}\n{numbers}\n".encode())
        digest.update(sample.boxes_xyxy.astype("<f4").tobytes() + sample.person_ids.astype("<i8").tobytes())
    return HeldOutPart(
        share=held_out.share,
        seed=held_out.seed,
        unit=held_out.unit,
        groups=held_out.groups,
        images=len(held_out.images),
        sha256=digest.hexdigest(),
    )


def find_held_out(
    dataset: SearchDataset, stated: TrainingData, *, skip_bad: bool = False
) -> tuple[HoldOut, RemainingImages]:
    """The images of a split that a model was trained without, and those that it was trained on.

    Args:
        dataset: the split.
        stated: what the checkpoint or the manifest says about it; with ``held_out``.
        skip_bad: as in the model's recipe.

    Raises:
        InputError: the split is not what it was in training.
        ValueError: nothing was held out.
    """
    if stated.held_out is None:
        raise ValueError(f"nothing of {stated.name} was held out")
    held_out = hold_out(dataset, stated.held_out.share, stated.held_out.seed, skip_bad=skip_bad)
    rest = RemainingImages(dataset, held_out, skip_bad=skip_bad)
    if rest.held_out != stated.held_out or rest.person_count != stated.identities:
        raise InputError(
            f"{len(held_out.images)} images would be held out and {rest.person_count} identities left, other images or "
            f"labels than in training ({stated.held_out.images} images, {stated.identities} identities)",
            where=dataset.name,
            expected="the data set that the model was trained on, unchanged",
            remedy="restore it, or name a split for validation",
        )
    return held_out, rest


def count_shared_files(dataset: SearchDataset, images: Sequence[int], other: SearchDataset) -> int:
    """How many of ``images`` of a data set are also, as the same file or as a copy, images of ``other``.

    Files are compared byte by byte where their sizes are equal; a picture that was encoded anew is not recognised.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in _files(other, range(len(other))):
        by_size[path.stat().st_size].append(path)
    return sum(
        any(filecmp.cmp(path, candidate, shallow=False) for candidate in by_size[path.stat().st_size])
        for path in _files(dataset, images)
    )


def _files(dataset: SearchDataset, images: Sequence[int]) -> list[Path]:
    if isinstance(dataset, CompositeDataset | MixedDataset):
        return []  # a sample of it is rendered whole
    paths = (dataset[index].image_path for index in images)
    return [path for path in paths if path is not None and path.is_file()]


def _check_not_rendered(dataset: SearchDataset) -> None:
    if isinstance(dataset, CompositeDataset | MixedDataset):
        raise InputError(
            "frames are rendered, and anybody may stand in any of them: no part of them can be held out",
            where=dataset.name,
            remedy="its split `validation` shows people and backgrounds that `train` never does",
        )


def _readable(
    dataset: SearchDataset, skip_bad: bool, images: Sequence[int] | IntArray | None = None
) -> tuple[list[Sample], IntArray]:
    """Labels of the images, and which they are; all of them without ``skip_bad``."""
    samples, indices = [], []
    for index in range(len(dataset)) if images is None else images:
        try:
            samples.append(dataset[int(index)])
        except InputError:
            if not skip_bad:
                raise
        else:
            indices.append(int(index))
    return samples, np.array(indices, np.int64)


def _ways(samples: Sequence[Sample]) -> list[tuple[HeldOutUnit, NDArray[np.int64]]]:
    """Units to hold out whole, the best first, each with the ``(I,)`` group of every image."""
    cameras: NDArray[np.int64] = np.unique([sample.camera_id for sample in samples], return_inverse=True)[1]
    ways: list[tuple[HeldOutUnit, NDArray[np.int64]]] = [("cameras", cameras)]
    if any((sample.person_ids >= 0).any() for sample in samples):  # else every image would be a group
        ways.insert(0, ("identities", _linked(samples)))
    return ways


def _stretches(samples: Sequence[Sample], count: int, rng: np.random.Generator) -> list[IntArray]:
    """``count`` samples in all: of each camera its share of them, consecutive frames from a random one on."""
    order = np.array(sorted(range(len(samples)), key=lambda row: (samples[row].camera_id, samples[row].frame_index)))
    cameras = np.array([samples[row].camera_id for row in order])
    ends = np.append(np.flatnonzero(np.diff(cameras)) + 1, len(order))
    quotas = np.diff(np.round(ends * count / len(order)).astype(np.int64), prepend=0)  # add up to `count`
    found = []
    for end, size, quota in zip(ends, np.diff(ends, prepend=0), quotas, strict=True):
        first = end - size + int(rng.integers(size - quota + 1))
        if quota:
            found.append(order[first : first + quota])
    return found


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
