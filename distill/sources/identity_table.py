"""The embeddings of a training set's people, averaged into one unit vector an identity.

Distilling re-identification hands a student its teacher's look-up table (Munjal, Amin and Galasso, "Knowledge
distillation for end-to-end person search"); this makes such a table of a network that was trained without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, clip_boxes
from personsearch.core.preprocess import Frame
from personsearch.core.similarity import l2_normalise
from personsearch.data.sample import SearchDataset


class Embedder(Protocol):
    """Anything that describes given boxes."""

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised descriptors."""


@dataclass(frozen=True, eq=False)
class CropEmbeddings:
    """Labelled crops of a data set, described.

    Attributes:
        person_count: identities of the data set, shown or not.
        person_ids: ``(N,)`` int64, 0..P-1.
        camera_ids: ``(N,)`` int64.
        embeddings: ``(N, D)`` float32, L2-normalised.
    """

    person_count: int
    person_ids: NDArray[np.int64]
    camera_ids: NDArray[np.int64]
    embeddings: FloatArray


def embed_people(
    embedders: Mapping[str, Embedder],
    dataset: SearchDataset,
    images: Sequence[int],
    *,
    min_height_px: float = 0.0,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, CropEmbeddings]:
    """Describes every true box with an identity, by several embedders in one pass over the frames.

    Args:
        embedders: by name.
        dataset: whose boxes.
        images: numbers of the frames to read.
        min_height_px: smaller boxes are left out, they blur an average.
        on_image: called after each frame.

    Raises:
        InputError: a frame cannot be read, or none of them shows an identity.
    """
    person_ids: list[NDArray[np.int64]] = []
    camera_ids: list[NDArray[np.int64]] = []
    rows: dict[str, list[FloatArray]] = {name: [] for name in embedders}
    for image in images:
        sample = dataset[image]
        inside = clip_boxes(sample.boxes_xyxy, sample.image_wh)
        sides = inside[:, 2:] - inside[:, :2]
        used = (sample.person_ids >= 0) & (sides > 0).all(axis=1) & (sides[:, 1] >= min_height_px)
        if used.any():
            frame = dataset.frame_bgr(image)
            for name, embedder in embedders.items():
                rows[name].append(embedder.embed(frame, sample.boxes_xyxy[used]))
            person_ids.append(sample.person_ids[used])
            camera_ids.append(np.full(int(used.sum()), sample.camera_id, np.int64))
        on_image()
    if not person_ids:
        raise InputError(
            f"{len(images)} images show nobody with an identity",
            where=dataset.name,
            expected="boxes with a person_id from 0" + (f", {min_height_px:g} px high" if min_height_px else ""),
        )
    people, cameras = np.concatenate(person_ids), np.concatenate(camera_ids)
    return {
        name: CropEmbeddings(dataset.person_count, people, cameras, np.concatenate(found))
        for name, found in rows.items()
    }


def centred(crops: CropEmbeddings) -> CropEmbeddings:
    """The embeddings without what all of them share: less their mean, scaled to length 1 again.

    Networks whose last layer is not negative (OSNet) give everybody much the same direction; rows of a table that a
    loss learnt itself are nearly orthogonal. An embedding that is the mean stays zero.
    """
    rows = crops.embeddings - crops.embeddings.mean(axis=0, dtype=np.float64)
    return replace(crops, embeddings=l2_normalise(rows.astype(np.float32)))


def average_identities(crops: CropEmbeddings) -> tuple[FloatArray, NDArray[np.int64]]:
    """The table ``(P, D)`` and from how many crops each row was made, ``(P,)``.

    A row is the mean of its unit vectors scaled to length 1; zero for an identity without a crop.
    """
    sums = _sums(crops.embeddings, crops.person_ids, crops.person_count)
    counts = np.bincount(crops.person_ids, minlength=crops.person_count).astype(np.int64)
    return l2_normalise(sums.astype(np.float32)), counts


@dataclass(frozen=True)
class Separation:
    """How well a table tells its identities apart, asked with the crops that it was made from.

    A crop's own identity is represented without the crop itself (leave one out), or without any crop of its camera
    (leave the camera out), so that a crop is never compared with itself. Near copies, such as neighbouring frames of
    one recording, make the first figure easy; the second needs identities that several cameras saw.

    Attributes:
        rank_1: share of the crops whose own row is the most similar one.
        own_cosine: mean cosine to the own row.
        other_cosine: mean cosine to the most similar other row.
        crops: that could be asked: their identity has another one.
        identities: with a row.
        row_cosine: mean cosine between two rows; near 0 where the table uses the space it has.
        cross_camera_rank_1: as ``rank_1`` with the camera left out; none where no identity has two cameras.
        cross_camera_crops: that could be asked.
    """

    rank_1: float
    own_cosine: float
    other_cosine: float
    crops: int
    identities: int
    row_cosine: float
    cross_camera_rank_1: float | None
    cross_camera_crops: int

    @property
    def chance(self) -> float:
        """Rank-1 of a guess."""
        return 1 / self.identities


def measure_separation(crops: CropEmbeddings) -> Separation:
    """Asks every crop for its row.

    Raises:
        InputError: fewer than two identities have a crop, or none has two.
    """
    table, counts = average_identities(crops)
    if (counts > 0).sum() < 2 or counts.max() < 2:
        raise InputError(
            f"{int((counts > 0).sum())} identities with at most {int(counts.max())} crops each",
            where="separation of the table",
            expected="two identities, one of them with two crops",
            remedy="use more images",
        )
    own_sums = _sums(crops.embeddings, crops.person_ids, crops.person_count)[crops.person_ids]
    places = np.unique(np.stack([crops.person_ids, crops.camera_ids]), axis=1, return_inverse=True)[1].reshape(-1)
    camera_sums = _sums(crops.embeddings, places, int(places.max()) + 1)[places]
    camera_counts = np.bincount(places)[places]
    others = _best_other(crops, table, counts > 0)
    own = _cosines(crops.embeddings, own_sums - crops.embeddings)
    across = _cosines(crops.embeddings, own_sums - camera_sums)
    asked = counts[crops.person_ids] > 1
    asked_across = counts[crops.person_ids] > camera_counts
    return Separation(
        rank_1=float((own > others)[asked].mean()),
        own_cosine=float(own[asked].mean()),
        other_cosine=float(others[asked].mean()),
        crops=int(asked.sum()),
        identities=int((counts > 0).sum()),
        row_cosine=_mean_cosine(table[counts > 0]),
        cross_camera_rank_1=float((across > others)[asked_across].mean()) if asked_across.any() else None,
        cross_camera_crops=int(asked_across.sum()),
    )


def _sums(rows: FloatArray, groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sums = np.zeros((count, rows.shape[1]), np.float64)
    np.add.at(sums, groups, rows)
    return sums


def _cosines(unit_rows: FloatArray, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each unit row with its vector; 0 with a vector of zeros."""
    lengths = np.linalg.norm(vectors, axis=1)
    dots = (unit_rows * vectors).sum(axis=1)
    found: NDArray[np.float64] = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 1e-9)
    return found


def _mean_cosine(rows: FloatArray) -> float:
    """Of every pair of different unit rows."""
    total = float(np.square(rows.sum(axis=0, dtype=np.float64)).sum() - np.square(rows, dtype=np.float64).sum())
    return total / (len(rows) * (len(rows) - 1))


def _best_other(crops: CropEmbeddings, table: FloatArray, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(N,)`` the highest cosine of each crop to a row of somebody else."""
    best = np.zeros(len(crops.embeddings))
    for first in range(0, len(best), 4096):
        part = slice(first, first + 4096)
        cosines = crops.embeddings[part] @ table.T  # (n, P)
        cosines[:, ~seen] = -np.inf
        cosines[np.arange(len(cosines)), crops.person_ids[part]] = -np.inf
        best[part] = cosines.max(axis=1)
    return best
