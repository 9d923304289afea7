"""What every data set yields: labelled frames, and the searches that are asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Frame = NDArray[np.uint8]

UNLABELLED = -1
"""Person id of a person without identity."""
IGNORE = -2
"""Person id of a region that is neither person nor background."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame's labels.

    Attributes:
        image_path: the file, or none where the frame is rendered.
        boxes_xyxy: ``(N, 4)`` float32 source pixels, x1 < x2 and y1 < y2.
        person_ids: ``(N,)`` int64: 0..P-1 an identity, -1 a person without one, -2 a region to ignore.
        camera_id: frames of one camera share it.
        frame_index: number of the frame in its recording.
        image_wh: the frame's width and height in pixels.
        weights: ``(N,)`` float32 in [0, 1]: how much each box counts in training, the score of the detector that
            proposed it; none where every box counts 1.

    Raises:
        ValueError: shapes disagree, a box is degenerate or not finite, an id is below -2, a weight is not in [0, 1].
    """

    image_path: Path | None
    boxes_xyxy: FloatArray
    person_ids: IntArray
    camera_id: int
    frame_index: int
    image_wh: tuple[int, int]
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xyxy, dtype=np.float32)
        ids = np.asarray(self.person_ids, dtype=np.int64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or ids.shape != (len(boxes),):
            raise ValueError(f"boxes_xyxy {boxes.shape} and person_ids {ids.shape}, expected (N, 4) and (N,)")
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError("boxes_xyxy holds a box that is degenerate or not finite")
        if (ids < IGNORE).any():
            raise ValueError(f"person_ids holds {ids.min()}, the lowest is {IGNORE}")
        if min(self.image_wh) <= 0:
            raise ValueError(f"image_wh is {self.image_wh}, expected positive pixels")
        if self.weights is not None:
            check_weights(self.weights, len(boxes))
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "person_ids", ids)


@dataclass(frozen=True, eq=False)
class Query:
    """One search: a person in one image, and the images searched.

    Attributes:
        image_index: index of the query's image in its data set.
        box_xyxy: ``(4,)`` float32 source pixels.
        person_id: who is searched.
        gallery: ``(G,)`` int64 indices of the images searched, repeated where the publisher repeats them; none for
            every image but the query's own.
        answers_xyxy: ``(A, 4)`` float32 boxes of the person that the protocol itself states for the first A images
            of ``gallery``; none where the labels are to be asked.

    Raises:
        ValueError: there are more answers than images in the gallery.
    """

    image_index: int
    box_xyxy: FloatArray
    person_id: int
    gallery: IntArray | None = None
    answers_xyxy: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.answers_xyxy is not None and (self.gallery is None or len(self.answers_xyxy) > len(self.gallery)):
            raise ValueError(f"{len(self.answers_xyxy)} answers do not fit the gallery")


def check_weights(weights: FloatArray, count: int) -> None:
    """`ValueError` unless there is one weight in [0, 1] for each of ``count`` boxes."""
    if weights.shape != (count,):
        raise ValueError(f"weights has shape {weights.shape}, expected ({count},)")
    if not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError("weights holds one that is not in [0, 1]")


def person_names_of(dataset: SearchDataset) -> tuple[str, ...]:
    """What the publisher calls each identity, by person id; empty where a data set names nobody.

    Names tell whether two networks learnt the same people in the same order; numbers from 0 do not.
    """
    return tuple(getattr(dataset, "person_names", ()))


class SearchDataset(Protocol):
    """Labelled frames, ``person_count`` identities and the searches asked of them.

    ``name`` and ``terms`` travel into checkpoints and manifests.
    """

    @property
    def name(self) -> str: ...

    @property
    def terms(self) -> str: ...

    @property
    def person_count(self) -> int: ...

    @property
    def queries(self) -> tuple[Query, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Labels of frame ``index``, 0 <= index < len."""
        ...

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR; `InputError` where its file cannot be read."""
        ...
