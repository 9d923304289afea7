"""Finding people who come back: re-identification and detection on a tracking sequence.

Built for PETS09 S2L1, where actors leave and return under a new track id. A *visit* is one track; a person map joins
visits into persons. Every true box of a returning person's first visit (by time) is a query; the gallery holds the
true boxes of all other visits, the single visits of people who never return included, as distractors.
"""

from __future__ import annotations

import configparser
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.benchmarks.collecting import Embedder
from personsearch.benchmarks.systems import SearchSystem
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.evaluation import chance_scores, detection_scores, search_scores


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """One frame of a sequence: boxes in source pixels, and for each its track and its person."""

    path: Path
    boxes_xyxy: FloatArray
    track_ids: NDArray[np.int64]
    person_ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Visit:
    """A query of the protocol: the embedding row it uses and who is searched, in `search_scores`' words."""

    image_index: int
    person_id: int
    gallery: NDArray[np.int64] | None
    answers_xyxy: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class _Crop:
    boxes_xyxy: FloatArray
    person_ids: NDArray[np.int64]


class ReentryResult(StrictModel):
    """What one system reaches on one sequence. Shares in [0, 1]."""

    system: str
    sha256: str
    sequence: str
    frames: int
    queries: int
    gallery_boxes: int
    rank_1: float
    mean_ap: float
    chance_rank_1: float
    chance_mean_ap: float
    detection_recall: float | None = Field(description="at IoU 0.5; none for a system that only embeds")
    detection_precision: float | None
    score_threshold: float | None


def read_sequence(folder: Path) -> list[SequenceFrame]:
    """Reads a sequence in the MOT layout with a person map: ``seqinfo.ini``, ``gt/gt.txt``, ``person_map.json``.

    Frames are the images of ``imDir``; a file's number is its frame number in ``gt.txt``.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    info = configparser.ConfigParser()
    path = folder / "seqinfo.ini"
    try:
        read = info.read(path, encoding="utf-8")
        image_folder = folder / info["Sequence"].get("imDir", "img1")
        suffix = info["Sequence"].get("imExt", ".jpg")
    except (configparser.Error, KeyError) as error:
        read, image_folder, suffix = [], folder, str(error)
    if not read:
        raise InputError("is not a sequence", where=str(folder), expected="seqinfo.ini with a [Sequence] section")
    images = {int(p.stem): p for p in sorted(image_folder.glob(f"*{suffix}")) if p.stem.isdigit()}
    if not images:
        raise InputError("holds no numbered image", where=str(image_folder), expected=f"000001{suffix} and so on")
    person_of = _read_person_map(folder / "person_map.json")
    tracks = _read_tracks(folder / "gt" / "gt.txt")
    missing = sorted({track for rows in tracks.values() for track, _ in rows} - person_of.keys())
    if missing:
        raise InputError(
            f"track {missing[0]} belongs to no person",
            where=str(folder / "person_map.json"),
            expected="every track of gt.txt",
        )
    frames = []
    for number, image in images.items():
        rows = tracks.get(number, [])
        boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
        ids = np.array([track for track, _ in rows], np.int64)
        people = np.array([person_of[track] for track, _ in rows], np.int64)
        frames.append(SequenceFrame(image, boxes, ids, people))
    return frames


def measure_reentry(
    embedder: Embedder, frames: Sequence[SequenceFrame], *, name: str, sequence: str, detector: SearchSystem | None
) -> ReentryResult:
    """Embeds every true box, searches each returning person's first visit in all other visits; detects, too.

    Args:
        embedder: describes boxes.
        frames: see `read_sequence`.
        name: what the result calls the system.
        sequence: what the result calls the sequence.
        detector: the same system where it detects; none for one that only embeds.

    Raises:
        InputError: an image cannot be read, or nobody in the sequence comes back.
    """
    queries, gallery = split_visits(frames)
    if not queries.any():
        raise InputError("nobody comes back", where=sequence, expected="a person with two tracks in the person map")
    embeddings, found = [], []
    with StageProgress("re-entry", len(frames)) as progress:
        for frame in frames:
            pixels = _read_image(frame.path)
            embeddings.append(embedder.embed(pixels, frame.boxes_xyxy))
            if detector is not None:
                found += detector.infer([pixels])
            progress.advance()
    rows = np.concatenate(embeddings)
    people = np.concatenate([frame.person_ids for frame in frames])
    rank_1, mean_ap, chance_rank_1, chance_map = _rank(rows, people, queries, gallery)
    scores = None
    if detector is not None:
        scores = detection_scores(found, frames, score_threshold=detector.score_threshold)
    return ReentryResult(
        system=name,
        sha256=detector.sha256 if detector else "",
        sequence=sequence,
        frames=len(frames),
        queries=int(queries.sum()),
        gallery_boxes=int(gallery.sum()),
        rank_1=rank_1,
        mean_ap=mean_ap,
        chance_rank_1=chance_rank_1,
        chance_mean_ap=chance_map,
        detection_recall=scores.recall if scores else None,
        detection_precision=scores.precision if scores else None,
        score_threshold=detector.score_threshold if detector else None,
    )


def split_visits(frames: Sequence[SequenceFrame]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which boxes are queries and which the gallery, two masks over all boxes in frame order.

    A box of a returning person's first visit is a query; every other box is in the gallery.
    """
    tracks = np.concatenate([frame.track_ids for frame in frames])
    people = np.concatenate([frame.person_ids for frame in frames])
    queries = np.zeros(len(tracks), bool)
    for person in np.unique(people):
        own = tracks[people == person]  # in order of time, so that the first row is of the first visit
        if len(np.unique(own)) > 1:
            queries |= (people == person) & (tracks == own[0])
    return queries, ~queries


def _rank(
    embeddings: FloatArray, people: NDArray[np.int64], queries: NDArray[np.bool_], gallery: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """Rank-1 and mAP, and their values at chance: every gallery box is an image of its own, found for certain."""
    whole = np.array([[0, 0, 100, 100]], np.float32)
    crops = [_Crop(whole, people[i : i + 1]) for i in np.flatnonzero(gallery)]
    boxes = [Detections(whole, np.ones(1, np.float32), embeddings[i : i + 1]) for i in np.flatnonzero(gallery)]
    everywhere = np.arange(len(crops))
    # The queries' own boxes are in no gallery; an extra empty image stands for where they come from.
    crops.append(_Crop(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)))
    boxes.append(Detections.empty(embeddings.shape[1]))
    searches = [Visit(len(crops) - 1, int(person), everywhere) for person in people[queries]]
    scores = search_scores(embeddings[queries], searches, boxes, crops, top_k=(1,))
    chance = chance_scores(searches, boxes, crops, top_k=(1,), rounds=5)
    return scores.top[1], scores.mean_ap, chance.top[1], chance.mean_ap


def _read_image(path: Path) -> Frame:
    pixels: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError("cannot be read as an image", where=str(path))
    frame: Frame = pixels
    return frame


def _read_person_map(path: Path) -> dict[int, int]:
    """Person numbers by track id, from ``{"persons": [{"L1": [track ids]}]}``."""
    try:
        persons = json.loads(path.read_text(encoding="utf-8"))["persons"]
        return {int(track): number for number, person in enumerate(persons) for track in person["L1"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            "cannot be read as a person map",
            where=str(path),
            expected='{"persons": [{"person": name, "L1": [track ids]}, ...]}',
        ) from None


def _read_tracks(path: Path) -> dict[int, list[tuple[int, tuple[float, ...]]]]:
    """Track id and xyxy box of every row, by frame number."""
    tracks: dict[int, list[tuple[int, tuple[float, ...]]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                left, top, width, height = (float(text) for text in row[2:6])
                box = (left, top, left + width, top + height)
                tracks.setdefault(int(row[0]), []).append((int(row[1]), box))
    except (OSError, ValueError) as error:
        raise InputError(
            "cannot be read as ground truth",
            where=str(path),
            expected="rows of frame, track, left, top, width, height",
            remedy=str(error),
        ) from None
    return tracks
