"""Is the query found where the ground truth says it is?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.geometry import box_iou

MIN_IOU = 0.5


@dataclass(frozen=True)
class VideoTruth:
    """The labels of a video (docs/conventions.md) as far as one query is concerned.

    Attributes:
        fps: frames a second.
        query_image: the query's picture.
        query_box_xyxy: where in it the person stands, pixels.
        boxes: for each frame the query's box ``(4,)`` in pixels of the video, or none where it is not in view.
    """

    fps: float
    query_image: Path
    query_box_xyxy: tuple[float, float, float, float]
    boxes: tuple[FloatArray | None, ...]

    def in_view(self, min_height_px: float) -> tuple[bool, ...]:
        """For each frame whether the query's box is at least ``min_height_px`` high."""
        return tuple(box is not None and bool(box[3] - box[1] >= min_height_px) for box in self.boxes)


@dataclass(frozen=True)
class StreamScores:
    """How the best matches of a video compare with its ground truth.

    Attributes:
        frames: all frames.
        in_view: frames in which the query is to be found.
        found: of those, frames whose best match lies on the query.
        matched: frames with a best match.
        right: of those, frames in which it lies on the query, in view by the same measure or not.
        visits: stretches of time with the query in view; as in a stream's summary, a pause of up to ``visit_gap_s``
            (somebody passes behind a tree) does not end one.
        visits_found: of those, visits with at least half of their frames in view found.
    """

    frames: int
    in_view: int
    found: int
    matched: int
    right: int
    visits: int
    visits_found: int

    @property
    def recall(self) -> float:
        """Share of the frames in view in which the query was found."""
        return self.found / self.in_view if self.in_view else 0.0

    @property
    def precision(self) -> float:
        """Share of the reported best matches that lie on the query; 0 without a match."""
        return self.right / self.matched if self.matched else 0.0


def read_truth(root: Path, annotations: str) -> VideoTruth:
    """Reads the ground truth of a generated video; ``annotations`` is relative to the data set folder ``root``."""
    content = json.loads((root / annotations).read_text(encoding="utf-8"))
    query = content["query"]
    boxes: list[FloatArray | None] = [None] * len(content["frames"])
    for frame in content["frames"]:
        for box, person_id in zip(frame["boxes"], frame["person_ids"], strict=True):
            if person_id == query["person_id"]:
                boxes[frame["index"]] = np.array(box, np.float32)
    x1, y1, x2, y2 = query["box"]
    return VideoTruth(content["fps"], root / query["image"], (x1, y1, x2, y2), tuple(boxes))


def score_stream(
    truth: VideoTruth, best: Mapping[int, FloatArray], min_height_px: float, *, visit_gap_s: float
) -> StreamScores:
    """Compares the best match of each frame with the query's box at IoU 0.5.

    Args:
        truth: the labels.
        best: frame index to the box ``(4,)`` of the query's best match in that frame; no entry without a match.
        min_height_px: frames with the query at least this high, in pixels of the video, count as in view.
        visit_gap_s: a longer pause ends a visit.
    """
    right = [
        index in best and box is not None and bool(box_iou(best[index][None], box[None])[0, 0] >= MIN_IOU)
        for index, box in enumerate(truth.boxes)
    ]
    in_view = truth.in_view(min_height_px)
    found = [there and hit for there, hit in zip(in_view, right, strict=True)]
    visits = _visits(in_view, visit_gap_s * truth.fps)
    return StreamScores(
        frames=len(truth.boxes),
        in_view=sum(in_view),
        found=sum(found),
        matched=len(best),
        right=sum(right),
        visits=len(visits),
        visits_found=sum(2 * sum(found[frame] for frame in visit) >= len(visit) for visit in visits),
    )


def _visits(in_view: Sequence[bool], gap_frames: float) -> list[list[int]]:
    """The frames in view, divided where more than ``gap_frames`` lie between one and the next."""
    visits: list[list[int]] = []
    for frame in np.flatnonzero(in_view).tolist():
        if visits and frame - visits[-1][-1] <= gap_frames:
            visits[-1].append(frame)
        else:
            visits.append([frame])
    return visits
