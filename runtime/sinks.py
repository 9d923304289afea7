"""Where results go: JSON lines, embeddings, pictures of matches, the annotated video."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.runtime.drawing import Annotator, Caption
from personsearch.runtime.matching import Match
from personsearch.runtime.query import PersonQuery
from personsearch.runtime.timings import StageTimings
from personsearch.runtime.video_writer import VideoFile

MATCHES, DETECTIONS, EMBEDDINGS = "matches.jsonl", "detections.jsonl", "embeddings.npy"
VIDEO, CROPS = "annotated.mp4", "crops"
# A live source that stalls does not fill the disk with one still picture.
_MAX_STILL_S = 5.0


@dataclass(frozen=True)
class FrameResult:
    """Everything known of one processed frame.

    Attributes:
        index: of the frame in the source.
        time_s: since the source's first frame.
        name: file name of an image, or empty.
        image: the frame, or none where the writers had fallen behind a live source.
        detections: in pixels of the frame.
        similarities: ``(Q, N)``.
        matches: of the detections.
        compute_ms: measured, preprocessing to matching.
        captured_at: `time.perf_counter` when the frame had been grabbed.
    """

    index: int
    time_s: float
    name: str
    image: Frame | None
    detections: Detections
    similarities: FloatArray
    matches: tuple[Match, ...]
    compute_ms: float
    captured_at: float


class Sink(Protocol):
    """Takes results in order, in one thread of its own."""

    def write(self, result: FrameResult) -> None:
        """Takes one result."""

    def close(self) -> None:
        """Completes what was written; called once, also after a failure elsewhere."""


def place_of(result: FrameResult) -> dict[str, Any]:
    """Frame, time and file name, as every record gives them."""
    place: dict[str, Any] = {"frame": result.index, "time_s": round(result.time_s, 3)}
    return {**place, "name": result.name} if result.name else place


def figures_of(result: FrameResult, row: int) -> dict[str, Any]:
    """Score and box of a detection, as every record gives them."""
    return {
        "score": round(float(result.detections.scores[row]), 4),
        "box_xyxy": [round(float(value), 1) for value in result.detections.boxes_xyxy[row]],
    }


class MatchLines:
    """``matches.jsonl``: a line for each match of a frame, the query's best one flagged."""

    def __init__(self, folder: Path, queries: Sequence[PersonQuery]) -> None:
        self._file = (folder / MATCHES).open("w", encoding="utf-8")
        self._names = [query.name for query in queries]

    def write(self, result: FrameResult) -> None:
        """Writes the frame's matches."""
        for match in result.matches:
            line = {
                **place_of(result),
                "query": self._names[match.query],
                "similarity": round(match.similarity, 4),
                **figures_of(result, match.row),
                "is_best": match.is_best,
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class DetectionLines:
    """``detections.jsonl``: a line for each detection, with the query it is most similar to.

    With ``embeddings`` also ``embeddings.npy``, ``(lines, D)`` float32, row by row. Embeddings can single people
    out: they are written only when asked for.
    """

    def __init__(self, folder: Path, queries: Sequence[PersonQuery], *, embedding_dim: int, embeddings: bool) -> None:
        self._file = (folder / DETECTIONS).open("w", encoding="utf-8")
        self._names = [query.name for query in queries]
        self._dim, self._npy = embedding_dim, folder / EMBEDDINGS
        self._raw_path = folder / f"{EMBEDDINGS}.raw"
        self._raw = self._raw_path.open("wb") if embeddings else None

    def write(self, result: FrameResult) -> None:
        """Writes the frame's detections."""
        for row in range(len(result.detections)):
            nearest = int(np.argmax(result.similarities[:, row]))
            line = {
                **place_of(result),
                **figures_of(result, row),
                "nearest_query": self._names[nearest],
                "similarity": round(float(result.similarities[nearest, row]), 4),
            }
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._raw is not None:
            self._raw.write(np.ascontiguousarray(result.detections.embeddings).tobytes())

    def close(self) -> None:
        """Closes the lines and turns the raw rows, whose number is known only now, into an array file."""
        self._file.close()
        if self._raw is None:
            return
        self._raw.close()
        # A map of an empty file is an error, an empty array is not.
        rows = (
            np.memmap(self._raw_path, dtype=np.float32, mode="r").reshape(-1, self._dim)
            if self._raw_path.stat().st_size
            else np.zeros((0, self._dim), dtype=np.float32)
        )
        np.save(self._npy, rows)
        del rows
        self._raw_path.unlink()


class CropPictures:
    """``crops/<query>/<frame>.jpg``: the best match of each frame, cut out."""

    def __init__(self, folder: Path, queries: Sequence[PersonQuery]) -> None:
        names = [re.sub(r"[^\w.-]+", "_", query.name).strip(".") or "query" for query in queries]
        self._folders = [
            folder / CROPS / (name if names.count(name) == 1 else f"{name}-{position + 1}")
            for position, name in enumerate(names)
        ]
        for path in self._folders:
            path.mkdir(parents=True)

    def write(self, result: FrameResult) -> None:
        """Writes the frame's best match of each query."""
        if result.image is None:
            return
        for match in result.matches:
            if match.is_best:
                x1, y1, x2, y2 = result.detections.boxes_xyxy[match.row]
                crop = result.image[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
                path = self._folders[match.query] / f"{result.index:06d}.jpg"
                if not cv2.imwrite(str(path), crop):
                    raise InputError("cannot be written", where=str(path), remedy="is the disk full?")

    def close(self) -> None:
        """Nothing is held open."""


class AnnotatedVideo:
    """``annotated.mp4``.

    A file's frames follow each other at ``rate_hz``. Frames of a live source are shown for as long as they were
    the newest one, so that the video plays at the speed of life.
    """

    def __init__(
        self, folder: Path, queries: Sequence[PersonQuery], *, rate_hz: float, real_time: bool, timings: StageTimings
    ) -> None:
        self._path, self._queries, self._timings = folder / VIDEO, queries, timings
        self.rate_hz, self._real_time = rate_hz, real_time
        self._first_s = 0.0
        self._annotator: Annotator | None = None
        self._annotator_wh = (0, 0)
        self.video: VideoFile | None = None

    def write(self, result: FrameResult) -> None:
        """Draws and encodes one frame."""
        if result.image is None:
            return
        frame_wh = (result.image.shape[1], result.image.shape[0])
        if self._annotator is None or self._annotator_wh != frame_wh:
            self._annotator, self._annotator_wh = Annotator(frame_wh, self._queries), frame_wh
        if self.video is None:
            self.video = VideoFile(self._path, frame_wh, self.rate_hz)
            self._first_s = result.time_s
        with self._timings.measure("draw"):
            caption = Caption(result.time_s, result.index, result.compute_ms)
            picture = self._annotator.draw(result.image, result.detections, result.matches, caption)
        times = 1
        if self._real_time:
            due = round((result.time_s - self._first_s) * self.rate_hz) + 1 - self.video.count
            times = max(0, min(due, round(_MAX_STILL_S * self.rate_hz)))
            self._first_s += max(0, due - times) / self.rate_hz
        with self._timings.measure("write"):
            self.video.write(picture, times)

    def close(self) -> None:
        """Finishes the file and checks that it can be read back."""
        if self.video is not None:
            self.video.close()
