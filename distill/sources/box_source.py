"""Boxes on unlabelled frames, as a data set to train on: found by a detector, each with its score as its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

import numpy as np

from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.core.preprocess import Frame
from personsearch.data.coco_writer import write_coco
from personsearch.data.conversion import check_target, place_file
from personsearch.data.folder import DESCRIPTION, FORMAT
from personsearch.data.index import IndexedDataset, LabelIndex
from personsearch.data.sample import UNLABELLED, SearchDataset
from personsearch.data.video_frames import ImageEncoding
from personsearch.runtime.frames import Source

SPLIT = "train"


class PeopleDetector(Protocol):
    """Finds people: a `BoxDetector`, or an artifact's engine."""

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """The people in each frame, source pixels."""


@dataclass(frozen=True, eq=False)
class UnlabelledFrame:
    """A frame on its way to a data set.

    Attributes:
        image_bgr: ``(H, W, 3)`` uint8.
        path: for it in the data set, relative, ``/`` between folders.
        camera_id: frames of one camera share it.
        frame_index: number of the frame in its recording.
        file: that holds these pixels and can be used as it is; none for a frame that is to be encoded.
    """

    image_bgr: Frame
    path: str
    camera_id: int
    frame_index: int
    file: Path | None = None


@dataclass(frozen=True)
class BoxSummary:
    """What was written.

    Attributes:
        images: frames.
        empty_images: of these, without a box.
        boxes: people found.
        weight: sum of their scores, which is how many people an epoch shows on average.
    """

    images: int
    empty_images: int
    boxes: int
    weight: float


def source_frames(
    source: Source, *, every: int, max_frames: int | None, camera_id: int, encoding: ImageEncoding
) -> Iterator[UnlabelledFrame]:
    """Each ``every``-th frame of a video, of images or of a camera, at most ``max_frames`` of them.

    Raises:
        InputError: the source cannot be read, or has no end and ``max_frames`` is none.
    """
    if source.live and max_frames is None:
        raise InputError("has no end", where=source.label, expected="`--max-frames` with a live source")
    number, given = 0, 0
    while (max_frames is None or given < max_frames) and (frame := source.read()) is not None:
        if number % every == 0:
            given += 1
            yield UnlabelledFrame(frame.image, encoding.path(f"frames/{given:06d}.jpg"), camera_id, frame.index)
        number += 1


def dataset_frames(
    dataset: SearchDataset, *, every: int, max_frames: int | None, encoding: ImageEncoding
) -> Iterator[UnlabelledFrame]:
    """Each ``every``-th frame of a data set, at most ``max_frames``; its labels are not looked at.

    Raises:
        InputError: a frame cannot be read.
    """
    for number in range(0, len(dataset), every)[:max_frames]:
        sample = dataset[number]
        path, file = encoding.path(f"frames/{number:06d}.jpg"), sample.image_path
        if isinstance(dataset, IndexedDataset):
            path = dataset.index.image_paths[number]
        elif file is not None:
            path = PurePosixPath(path).with_suffix(file.suffix).as_posix()
        yield UnlabelledFrame(dataset.frame_bgr(number), path, sample.camera_id, sample.frame_index, file)


def write_boxes(
    detector: PeopleDetector,
    frames: Iterable[UnlabelledFrame],
    out: Path,
    *,
    name: str,
    terms: str,
    labelled_by: str,
    images: Literal["link", "copy"] = "link",
    encoding: ImageEncoding | None = None,
    on_frame: Callable[[Detections], None] = lambda detections: None,
) -> BoxSummary:
    """Finds the people of every frame and publishes them as the data set folder ``out``, whole or not at all.

    Boxes are people without identity, and their score is their weight (docs/conventions.md).

    Args:
        detector: its threshold decides what becomes a box.
        frames: taken one at a time.
        out: new, or empty.
        name: of the data set.
        terms: of its images.
        labelled_by: the detector in one line, for the record.
        images: whether image files are linked or copied.
        encoding: of frames that are no files; JPEG of quality 95 for none.
        on_frame: called with the detections of each frame.

    Raises:
        InputError: there is no frame, one cannot be read or written, or ``out`` is not empty.
    """
    check_target(out)
    encoding = encoding or ImageEncoding()
    rows: list[tuple[str, tuple[int, int], int, int]] = []
    found: list[Detections] = []
    with atomic_dir(out.expanduser().resolve()) as folder:
        for frame in frames:
            detections = detector.infer([frame.image_bgr])[0]
            if frame.file is None:
                encoding.write(folder / frame.path, frame.image_bgr)
            else:
                place_file(frame.file, folder / frame.path, images)
            size_wh = (frame.image_bgr.shape[1], frame.image_bgr.shape[0])
            rows.append((frame.path, size_wh, frame.camera_id, frame.frame_index))
            found.append(detections)
            on_frame(detections)
        if not rows:
            raise InputError("gives no frame", where=name, expected="at least one")
        write_coco(folder / f"annotations/{SPLIT}.json", _index(rows, found, name, terms))
        splits = {SPLIT: f"annotations/{SPLIT}.json"}
        description = {"format": FORMAT, "name": name, "terms": terms, "splits": splits, "generator": None}
        write_json(folder / DESCRIPTION, {**description, "labelled_by": labelled_by})
    return BoxSummary(
        images=len(rows),
        empty_images=sum(len(one) == 0 for one in found),
        boxes=sum(len(one) for one in found),
        weight=float(sum(one.scores.sum() for one in found)),
    )


def _index(
    rows: list[tuple[str, tuple[int, int], int, int]], found: list[Detections], name: str, terms: str
) -> LabelIndex:
    paths, sizes, cameras, numbers = zip(*rows, strict=True)
    boxes = np.concatenate([one.boxes_xyxy for one in found])
    return LabelIndex(
        name=name,
        terms=terms,
        image_paths=paths,
        image_wh=np.array(sizes, np.int64),
        camera_ids=np.array(cameras, np.int64),
        frame_indices=np.array(numbers, np.int64),
        offsets=np.cumsum([0, *(len(one) for one in found)]).astype(np.int64),
        boxes_xyxy=boxes,
        person_ids=np.full(len(boxes), UNLABELLED, np.int64),
        person_names=(),
        protocols={},
        problems=(),
        weights=np.concatenate([one.scores for one in found]),
    )
