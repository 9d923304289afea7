"""Who is who from frame to frame: detections of one camera become tracks.

Each track predicts where its person is now: a Kalman filter with constant velocity for the middle of the box (Kalman,
1960), whose noises are stated in heights of the person and in seconds, so that neither the size of the picture nor
the rate of the frames matters. A detection may continue a track when their boxes, grown by the prediction's
uncertainty, overlap (as in Yang et al., "Hard to track objects with irregular motions and similar appearances?", WACV
2023, where the growth is a constant), and, unless the boxes as they are overlap, when they look alike. Among all ways
to pair them the one with the greatest sum of overlap and likeness is taken; the idea of adding the two is that of
Wojke et al., "Simple online and realtime tracking with a deep association metric", ICIP 2017.

Everything stays in memory, and what a track knows ends with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import box_iou
from personsearch.core.similarity import cosine_similarity, l2_normalise
from personsearch.runtime.assignment import most_gaining_pairs

# In heights of the person: how far off a detected middle is; how fast somebody new may be, a second; and how much
# a velocity wanders in a second.
_POSITION_STD = 0.05
_SPEED_STD = 0.7
_WANDER_STD = 0.7
# Of a new width and height; the rest stays, as boxes breathe more than people do.
_SIZE_SHARE = 0.5
# A box grows by this many standard deviations of its predicted middle, but by no more than so many heights.
_GROWTH_STDS = 1.0
_MAX_GROWTH = 0.5


@dataclass(frozen=True, eq=False)
class Track:
    """One person as far as they could be followed, as known at the time of `Tracker.update`; it does not change later.

    Attributes:
        id: from 1 on, never used twice by one tracker.
        box_xyxy: ``(4,)`` float32, the last detection, source pixels.
        mean_embedding: ``(D,)`` float32, L2-normalised mean of the track's embeddings, each weighing less with its
            age by the tracker's ``memory_s``; zeros in the odd case that they cancel out.
        hits: detections so far.
        start_s: time of the first.
        last_s: time of the last.
    """

    id: int
    box_xyxy: FloatArray
    mean_embedding: FloatArray
    hits: int
    start_s: float
    last_s: float


@dataclass
class _Tracks:
    """All tracks alive, as columns.

    Attributes:
        ids, hits: ``(T,)``.
        start_s, last_s: ``(T,)`` seconds.
        boxes: ``(T, 4)`` float32, the last detections.
        sums: ``(T, D)`` float32, embeddings added up, fading since ``last_s``.
        centres, speeds: ``(T, 2)`` float64, pixels and pixels a second, at the time of the last prediction.
        sizes: ``(T, 2)`` float64, smoothed width and height in pixels.
        spread: ``(T, 3)`` float64, variance of the centre, its covariance with the speed, variance of the speed, in
            heights and seconds; x and y are alike.
    """

    ids: NDArray[np.int64]
    hits: NDArray[np.int64]
    start_s: NDArray[np.float64]
    last_s: NDArray[np.float64]
    boxes: FloatArray
    sums: FloatArray
    centres: NDArray[np.float64]
    speeds: NDArray[np.float64]
    sizes: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def begin(cls, detections: Detections, first_id: int, time_s: float) -> _Tracks:
        """A track from each detection."""
        count = len(detections)
        corners = detections.boxes_xyxy.astype(np.float64)
        return cls(
            ids=np.arange(first_id, first_id + count),
            hits=np.ones(count, np.int64),
            start_s=np.full(count, time_s),
            last_s=np.full(count, time_s),
            boxes=detections.boxes_xyxy,
            sums=detections.embeddings,
            centres=(corners[:, :2] + corners[:, 2:]) / 2,
            speeds=np.zeros((count, 2)),
            sizes=corners[:, 2:] - corners[:, :2],
            spread=np.tile([_POSITION_STD**2, 0.0, _SPEED_STD**2], (count, 1)),
        )

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> _Tracks:
        return _Tracks(**{name: column[rows] for name, column in vars(self).items()})

    def __add__(self, other: _Tracks) -> _Tracks:
        return _Tracks(**{name: np.concatenate([column, getattr(other, name)]) for name, column in vars(self).items()})

    def predict(self, step_s: float) -> None:
        """Moves centres ``step_s`` on; white noise on the acceleration widens the spread."""
        self.centres = self.centres + self.speeds * step_s
        position, both, speed = self.spread.T
        wander = _WANDER_STD**2
        self.spread = np.stack(
            [
                position + 2 * step_s * both + step_s**2 * speed + wander * step_s**3 / 3,
                both + step_s * speed + wander * step_s**2 / 2,
                speed + wander * step_s,
            ],
            axis=1,
        )

    def correct(self, rows: NDArray[np.int64], seen: _Tracks, memory_s: float) -> None:
        """Takes the detections ``seen``, given as new tracks, for those of ``rows``."""
        old = self[rows]
        position, both, speed = old.spread.T
        gain = np.stack([position, both], axis=1) / (position + _POSITION_STD**2)[:, None]  # (n, 2)
        off = seen.centres - old.centres
        self.centres[rows] += gain[:, :1] * off
        self.speeds[rows] += gain[:, 1:] * off
        self.spread[rows] = np.stack(
            [position * (1 - gain[:, 0]), both * (1 - gain[:, 0]), speed - gain[:, 1] * both], axis=1
        )
        self.sizes[rows] += _SIZE_SHARE * (seen.sizes - old.sizes)
        fading = np.exp((old.last_s - seen.last_s) / memory_s).astype(np.float32)
        self.sums[rows] = old.sums * fading[:, None] + seen.sums
        self.boxes[rows], self.last_s[rows] = seen.boxes, seen.last_s
        self.hits[rows] += 1

    def predicted_boxes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the people should be, ``(T, 4)``, and by how many pixels a box grows, ``(T, 1)``."""
        growth = np.minimum(_GROWTH_STDS * np.sqrt(self.spread[:, :1]), _MAX_GROWTH) * self.sizes[:, 1:]
        return np.concatenate([self.centres - self.sizes / 2, self.centres + self.sizes / 2], axis=1), growth


class Tracker:
    """Follows the people of one camera; the same detections give the same tracks.

    Args:
        max_age_s: a track that was not seen for longer has ended; whoever comes then is somebody new.
        min_iou: overlap from which on a detection may continue a track, in (0, 1].
        min_cosine: cosine with the track's mean embedding that is needed besides, where the boxes as they are overlap
            less than ``min_iou`` and only the prediction's uncertainty joins them.
        appearance: weight of the cosine against the overlap where several detections may continue a track, in [0, 1];
            0 looks at places only.
        memory_s: time after which an embedding weighs 1/e in its track's mean.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        max_age_s: float = 2.0,
        min_iou: float = 0.1,
        min_cosine: float = 0.5,
        appearance: float = 0.5,
        memory_s: float = 2.0,
    ) -> None:
        for name, value in (("max_age_s", max_age_s), ("memory_s", memory_s)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected seconds above 0")
        if not 0 < min_iou <= 1 or not -1 <= min_cosine <= 1 or not 0 <= appearance <= 1:
            raise ValueError(f"min_iou {min_iou}, min_cosine {min_cosine} or appearance {appearance} is out of range")
        self._max_age_s, self._memory_s = max_age_s, memory_s
        self._min_iou, self._min_cosine, self._appearance = min_iou, min_cosine, appearance
        self._tracks: _Tracks | None = None
        self._time_s = -math.inf
        self._next_id = 1

    def update(self, detections: Detections, time_s: float) -> list[Track]:
        """Takes the detections of the next frame.

        Args:
            detections: boxes in source pixels; of one embedding width for all frames.
            time_s: of the frame; gaps may be of any length.

        Returns:
            The track of each detection, row by row.

        Raises:
            ValueError: the time is not finite or before that of the last frame, or the embedding's width has changed.
        """
        if not math.isfinite(time_s) or time_s < self._time_s:
            raise ValueError(f"time is {time_s} after {self._time_s}, expected seconds that do not fall")
        seen = _Tracks.begin(detections, 0, time_s)
        if self._tracks is not None and seen.sums.shape[1] != self._tracks.sums.shape[1]:
            raise ValueError(f"embeddings have width {seen.sums.shape[1]}, earlier {self._tracks.sums.shape[1]}")
        tracks = seen[np.zeros(0, np.int64)] if self._tracks is None else self._tracks
        if len(tracks.ids):
            tracks.predict(time_s - self._time_s)
            tracks = tracks[time_s - tracks.last_s <= self._max_age_s]
        pairs = most_gaining_pairs(self._gains(tracks, seen))
        track_rows = np.array([pair[0] for pair in pairs], np.int64)
        rows = np.array([pair[1] for pair in pairs], np.int64)
        tracks.correct(track_rows, seen[rows], self._memory_s)
        new = np.setdiff1d(np.arange(len(detections)), rows)
        place = np.empty(len(detections), np.int64)
        place[rows], place[new] = track_rows, len(tracks.ids) + np.arange(len(new))
        self._tracks = tracks + _Tracks.begin(detections[new], self._next_id, time_s)
        self._next_id += len(new)
        self._time_s = time_s
        return self._snapshots(self._tracks[place])

    def _gains(self, tracks: _Tracks, seen: _Tracks) -> FloatArray:
        """``(T, N)``: above 0 where the detection may continue the track, and the more the better it fits."""
        predicted, growth = tracks.predicted_boxes()
        boxes = seen.boxes.astype(np.float64)
        near = _grown_iou(predicted, boxes, growth)
        cosines = cosine_similarity(l2_normalise(tracks.sums), seen.sums)
        alike = (cosines >= self._min_cosine) | (box_iou(predicted, boxes) >= self._min_iou)
        gains = (1 - self._appearance) * near + self._appearance * (1 + cosines) / 2
        allowed: FloatArray = np.where((near >= self._min_iou) & alike, gains, 0).astype(np.float32)
        return allowed

    @staticmethod
    def _snapshots(tracks: _Tracks) -> list[Track]:
        means = l2_normalise(tracks.sums)
        columns = zip(tracks.ids, tracks.boxes, means, tracks.hits, tracks.start_s, tracks.last_s, strict=True)
        return [
            Track(int(id_), box, mean, int(hits), float(start), float(last))
            for id_, box, mean, hits, start, last in columns
        ]


def _grown_iou(
    first_xyxy: NDArray[np.float64], second_xyxy: NDArray[np.float64], growth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(T, N)`` intersection over union of every pair, both boxes grown on all sides by the pixels of its row."""
    by = 2 * growth[:, :, None]  # (T, 1, 1)
    far = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    sides = np.clip(far - np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2]) + by, 0, None)
    overlap = sides.prod(axis=2)
    first = ((first_xyxy[:, 2:] - first_xyxy[:, :2])[:, None] + by).prod(axis=2)
    second = ((second_xyxy[:, 2:] - second_xyxy[:, :2])[None] + by).prod(axis=2)
    iou: NDArray[np.float64] = overlap / (first + second - overlap)
    return iou
