"""Labels proposed for somebody to correct: who is where in a video, found by an artifact and followed by the tracker.

Frames that are labelled become images. The proposal is written in one of two layouts: ``coco``, this project's own
data set folder (docs/conventions.md), or ``mot``, a MOTChallenge sequence with a zip for CVAT.

CVAT reads "MOT 1.1" from a zip with ``gt/gt.txt`` and ``gt/labels.txt``, the names of the classes from 1 on, and takes
frame n for the n-th image of its task. So images are numbered from 1 without gaps whichever frames they are of. CVAT's
reader is Datumaro; ``seqinfo.ini`` stays out of the zip, as early ones made a frame 0 of it, which no task has, and
1.13 refuses a frame rate that is not whole.

Boxes and numbers are written, pictures of people only as parts of frames, embeddings never.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.core.geometry import xyxy_to_xywh
from personsearch.core.preprocess import Frame
from personsearch.runtime.engine import Engine
from personsearch.runtime.frames import Source, VideoFrame
from personsearch.runtime.tracking import Tracker

LabelFormat = Literal["coco", "mot"]
CVAT_ZIP = "cvat.zip"
SPLIT = "train"
_PERSON = "person"
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class LabelSettings:
    """What is proposed, and how it is written.

    Attributes:
        format: layout of the folder.
        every: each n-th frame becomes an image with labels; people are followed through all frames.
        min_score: detections below are not used, or none for the artifact's own threshold.
        min_track_s: tracks that last less, from their first detection to their last, are left out and counted.
        max_frames: frames to read at most.
        camera_id: of all images (``coco``).
    """

    format: LabelFormat = "mot"
    every: int = 1
    min_score: float | None = None
    min_track_s: float = 0.5
    max_frames: int | None = None
    camera_id: int = 0


@dataclass(frozen=True)
class LabelSummary:
    """What was proposed.

    Attributes:
        frames: read and searched.
        images: written.
        people: tracks with a box in one of the images.
        boxes: in the images.
        short_tracks: left out, as they last less than ``min_track_s``.
        short_boxes: of these, in the images.
        min_score: that was used.
        notes: of the source, one line each.
    """

    frames: int
    images: int
    people: int
    boxes: int
    short_tracks: int
    short_boxes: int
    min_score: float
    notes: tuple[str, ...]


@dataclass
class _Image:
    name: str
    wh: tuple[int, int]
    frame_index: int
    boxes_xyxy: FloatArray
    scores: FloatArray
    track_ids: NDArray[np.int64]


@dataclass
class _Proposal:
    images: list[_Image] = field(default_factory=list)
    start_s: dict[int, float] = field(default_factory=dict)
    last_s: dict[int, float] = field(default_factory=dict)
    frames: int = 0

    def leave_out_short(self, min_track_s: float) -> tuple[int, int]:
        """Removes short tracks and numbers the others from 1 by their first image; returns tracks and boxes removed."""
        short = {track for track, start in self.start_s.items() if self.last_s[track] - start < min_track_s}
        numbers: dict[int, int] = {}
        boxes = 0
        for image in self.images:
            kept = np.array([track not in short for track in image.track_ids.tolist()], bool)
            boxes += int((~kept).sum())
            image.boxes_xyxy, image.scores = image.boxes_xyxy[kept], image.scores[kept]
            image.track_ids = np.array(
                [numbers.setdefault(track, len(numbers) + 1) for track in image.track_ids[kept].tolist()], np.int64
            )
        return len(short), boxes


def propose_labels(
    engine: Engine,
    source: Source,
    out: Path,
    settings: LabelSettings,
    *,
    on_frame: Callable[[Detections], None] = lambda detections: None,
) -> LabelSummary:
    """Follows the people of ``source`` and publishes the proposal as the folder ``out``, whole or not at all.

    Args:
        engine: finds people; stays open.
        source: is read to its end, or to ``max_frames``, and closed.
        out: a folder that is new or empty, see `check_label_output`.
        settings: what to propose, and how to write it.
        on_frame: called with the detections of each frame.

    Raises:
        InputError: a setting is wrong, the source gives no frame, is cut short or has no end, or something cannot be
            written.
    """
    try:
        min_score = _check(engine, source, settings)
        check_label_output(out)
        target = out.expanduser().resolve()
        with atomic_dir(target) as folder:
            proposal = _follow(engine, source, folder, settings, min_score, on_frame)
            if not proposal.images:
                raise InputError("gives no frame", where=source.label, expected="at least one that can be decoded")
            short_tracks, short_boxes = proposal.leave_out_short(settings.min_track_s)
            if settings.format == "coco":
                _write_coco(folder, proposal.images, target.name, settings.camera_id)
            else:
                _write_mot(folder, proposal.images, target.name, source.rate_hz / settings.every)
    finally:
        source.close()
    return LabelSummary(
        frames=proposal.frames,
        images=len(proposal.images),
        people=max((int(image.track_ids.max(initial=0)) for image in proposal.images), default=0),
        boxes=sum(len(image.scores) for image in proposal.images),
        short_tracks=short_tracks,
        short_boxes=short_boxes,
        min_score=min_score,
        notes=tuple(source.notes),
    )


def check_label_output(out: Path) -> None:
    """Refuses a folder with something in it: it may be labels that somebody has corrected.

    Raises:
        InputError: there is a file, or a folder that is not empty.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            "exists and is not empty", where=str(out), expected="a new or empty folder", remedy="name another one"
        )


def _check(engine: Engine, source: Source, settings: LabelSettings) -> float:
    """The score to use; raises where a setting does not fit the engine or the source."""
    lowest = engine.spec.score_threshold
    min_score = lowest if settings.min_score is None else settings.min_score
    if not lowest <= min_score <= 1:
        raise InputError(
            f"min_score is {min_score:g}",
            expected=f"{lowest:g} to 1, as the artifact `{engine.spec.name}` reports nobody below {lowest:g}",
            remedy="export it with a lower threshold to see more",
        )
    if settings.every < 1 or not settings.min_track_s >= 0:
        raise InputError(
            f"every is {settings.every} and min_track_s {settings.min_track_s:g}",
            expected="each 1st frame or more, and 0 seconds or more",
        )
    if source.live and settings.max_frames is None:
        raise InputError("has no end", where=source.label, expected="`--max-frames` with a live source")
    return min_score


def _follow(
    engine: Engine,
    source: Source,
    folder: Path,
    settings: LabelSettings,
    min_score: float,
    on_frame: Callable[[Detections], None],
) -> _Proposal:
    """Searches every frame, and writes the images."""
    proposal, tracker = _Proposal(), Tracker()
    images = folder / ("frames" if settings.format == "coco" else "img1")
    images.mkdir()
    while settings.max_frames is None or proposal.frames < settings.max_frames:
        frame = source.read()
        if frame is None:
            break
        detections = engine.infer([frame.image])[0].above(min_score)
        tracks = tracker.update(detections, frame.timestamp_s)
        for track in tracks:
            proposal.start_s[track.id], proposal.last_s[track.id] = track.start_s, track.last_s
        if proposal.frames % settings.every == 0:
            image = _Image(
                f"{len(proposal.images) + 1:06d}.jpg",
                (frame.image.shape[1], frame.image.shape[0]),
                frame.index,
                detections.boxes_xyxy,
                detections.scores,
                np.array([track.id for track in tracks], np.int64),
            )
            _check_size(image, proposal, frame, settings.format)
            _write_image(images / image.name, frame.image)
            proposal.images.append(image)
        proposal.frames += 1
        on_frame(detections)
    return proposal


def _check_size(image: _Image, proposal: _Proposal, frame: VideoFrame, layout: LabelFormat) -> None:
    if layout == "mot" and proposal.images and proposal.images[0].wh != image.wh:
        first = proposal.images[0].wh
        raise InputError(
            f"is {image.wh[0]}x{image.wh[1]} where the first is {first[0]}x{first[1]}",
            where=frame.name or f"frame {frame.index}",
            expected="frames of one size in a MOT sequence",
            remedy="`--format coco` has no such limit",
        )


def _write_image(path: Path, image: Frame) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise InputError("cannot be written", where=path.name, remedy="is the disk full?")


def _write_coco(folder: Path, images: list[_Image], name: str, camera_id: int) -> None:
    """A data set folder with one split; the identity of a track's boxes is its number less 1."""
    annotations = [
        {
            "image_id": number,
            "category_id": 1,
            "bbox": [round(side, 2) for side in box],
            "area": round(box[2] * box[3], 2),
            "person_id": track - 1,
            "score": round(score, 4),
            "iscrowd": 0,
        }
        for number, image in enumerate(images, start=1)
        for box, track, score in zip(_boxes_xywh(image), image.track_ids.tolist(), image.scores.tolist(), strict=True)
    ]
    path = f"annotations/{SPLIT}.json"
    (folder / path).parent.mkdir()
    write_json(
        folder / path,
        {
            "person_count": max((int(image.track_ids.max(initial=0)) for image in images), default=0),
            "images": [
                {
                    "id": number,
                    "file_name": f"frames/{image.name}",
                    "width": image.wh[0],
                    "height": image.wh[1],
                    "camera_id": camera_id,
                    "frame_index": image.frame_index,
                }
                for number, image in enumerate(images, start=1)
            ],
            "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
            "categories": [{"id": 1, "name": _PERSON}],
        },
    )
    description = {"format": "personsearch/1", "name": name, "terms": "unknown", "splits": {SPLIT: path}}
    write_json(folder / "dataset.json", {**description, "videos": {}, "generator": None})


def _write_mot(folder: Path, images: list[_Image], name: str, rate_hz: float) -> None:
    """``gt.txt`` with nine columns, every box of the one class, to be considered and wholly visible."""
    rows = [
        f"{number},{track},{','.join(f'{side:.2f}' for side in box)},1,1,1"
        for number, image in enumerate(images, start=1)
        for box, track in zip(_boxes_xywh(image), image.track_ids.tolist(), strict=True)
    ]
    files = {"gt/gt.txt": "".join(f"{row}\n" for row in rows), "gt/labels.txt": f"{_PERSON}\n"}
    (folder / "gt").mkdir()
    for path, text in files.items():
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
    with zipfile.ZipFile(folder / CVAT_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    width, height = images[0].wh
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate={rate_hz:g}\nseqLength={len(images)}\n"
        f"imWidth={width}\nimHeight={height}\nimExt=.jpg\n",
        encoding="utf-8",
        newline="\n",
    )


def _boxes_xywh(image: _Image) -> list[list[float]]:
    boxes: list[list[float]] = xyxy_to_xywh(image.boxes_xyxy).astype(np.float64).tolist()
    return boxes
