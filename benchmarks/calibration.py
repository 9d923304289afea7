"""The cosine from which on a detection is reported as the query: chosen on training people, never on test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.similarity import cosine_similarity
from personsearch.data import UNLABELLED, SearchDataset


class Embedder(Protocol):
    """Anything that describes given boxes."""

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised descriptors."""


class Calibration(StrictModel):
    """A match threshold and what it does on the pairs it was chosen on."""

    threshold: float = Field(description="cosine from which on two boxes count as one person")
    false_match_rate: float = Field(description="share of pairs of different people at or above it")
    true_match_rate: float = Field(description="share of pairs of one person in two cameras at or above it")
    different_pairs: int
    same_pairs: int


def calibrate_threshold(
    embedder: Embedder,
    dataset: SearchDataset,
    *,
    false_match_rate: float = 0.01,
    images: int = 160,
    among: Sequence[int] | None = None,
) -> Calibration:
    """The lowest threshold that lets at most ``false_match_rate`` of different people pass as one.

    Embeds the true boxes of evenly spaced images. A pair is different when one of the two has an identity and the
    other has another one or none: people without identity were never told apart in training, so they stand for
    the strangers that a stream will show. A pair is the same person when both have one identity and two cameras.

    Args:
        embedder: what will be used, the engine of the artifact for a stream.
        dataset: the training split. In it a person without identity must not be one of the identities.
        false_match_rate: in (0, 1), a pair at a time.
        images: at most so many images are used, evenly spaced.
        among: indices of the images to choose from; none for all.

    Raises:
        InputError: the images hold no pair of one kind.
        ValueError: the rate is not in (0, 1).
    """
    if not 0 < false_match_rate < 1:
        raise ValueError(f"false_match_rate is {false_match_rate}, expected a share between 0 and 1")
    embeddings, person_ids, cameras = _embed_people(
        embedder, dataset, images, range(len(dataset)) if among is None else among
    )
    first, second = np.triu_indices(len(person_ids), 1)
    named = np.maximum(person_ids[first], person_ids[second]) > UNLABELLED
    equal = person_ids[first] == person_ids[second]
    cosines = cosine_similarity(embeddings, embeddings)[first, second]
    different = np.sort(cosines[named & ~equal])
    same = cosines[named & equal & (cameras[first] != cameras[second])]
    for pairs, kind in ((different, "two people"), (same, "one person in two cameras")):
        if not len(pairs):
            raise InputError(f"no pair of {kind} in {images} images", where=dataset.name, remedy="use another data set")
    threshold = _above_all_but(different, int(false_match_rate * len(different)))
    return Calibration(
        threshold=threshold,
        false_match_rate=float((different >= threshold).mean()),
        true_match_rate=float((same >= threshold).mean()),
        different_pairs=len(different),
        same_pairs=len(same),
    )


def _embed_people(
    embedder: Embedder, dataset: SearchDataset, images: int, among: Sequence[int]
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    places = np.unique(np.linspace(0, len(among) - 1, min(images, len(among))).round().astype(int))
    indices = np.asarray(among)[places]
    embeddings, person_ids, cameras = [], [], []
    with StageProgress("calibrate threshold", len(indices)) as progress:
        for index in indices.tolist():
            sample = dataset[index]
            people = sample.person_ids >= UNLABELLED
            if people.any():
                embeddings.append(embedder.embed(dataset.frame_bgr(index), sample.boxes_xyxy[people]))
                person_ids.append(sample.person_ids[people])
                cameras.append(np.full(people.sum(), sample.camera_id, np.int64))
            progress.advance()
    if not embeddings:
        raise InputError("shows nobody", where=dataset.name, expected="labelled people")
    return np.concatenate(embeddings), np.concatenate(person_ids), np.concatenate(cameras)


def _above_all_but(ascending: FloatArray, allowed: int) -> float:
    """The lowest threshold that at most ``allowed`` of the values reach, at most 1."""
    highest_refused = ascending[len(ascending) - 1 - allowed]
    return min(1.0, float(np.nextafter(highest_refused, np.float32(2))))
