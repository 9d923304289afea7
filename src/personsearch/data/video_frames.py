"""The labelled frames of a video, written as images.

Labels name frames by number: COCO exports of video tools count from 0, MOT from 1. Numbers here are those of decoding:
the first frame that the decoder gives is number ``first_frame``, whatever its time stamp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.data.frame_edges import cut_at_frames
from personsearch.data.index import LabelIndex, Problem
from personsearch.data.sample import Frame


@dataclass(frozen=True)
class ImageEncoding:
    """How frames are written.

    Attributes:
        suffix: ``.png``, without loss, or ``.jpg``.
        quality: of JPEG, 1 to 100.
    """

    suffix: str = ".jpg"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.suffix not in (".png", ".jpg") or not 1 <= self.quality <= 100:
            raise ValueError(f"suffix {self.suffix}, quality {self.quality}")

    def path(self, image_path: str) -> str:
        """An image path of a data set with the suffix of this encoding."""
        return PurePosixPath(image_path).with_suffix(self.suffix).as_posix()

    def write(self, path: Path, frame: Frame) -> None:
        """Writes one frame, and the folders it needs.

        Raises:
            InputError: the disk takes no more.
        """
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.suffix == ".jpg" else []
        _, content = cv2.imencode(self.suffix, frame, options)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
        except OSError as error:
            raise InputError("cannot be written", where=str(path), remedy=error.strerror or "") from None


def extract_frames(
    index: LabelIndex,
    frames: Iterable[Frame],
    folder: Path,
    *,
    video: str,
    first_frame: int,
    encoding: ImageEncoding,
    on_frame: Callable[[], None] = lambda: None,
) -> LabelIndex:
    """Writes the frames that labels name, in one pass through a video.

    Args:
        index: labels of one camera; a size that they state must be the video's.
        frames: every frame of the video in the order of decoding, BGR.
        folder: to write to; images keep their paths, with the suffix of ``encoding``.
        video: name for messages.
        first_frame: number that the labels give to the video's first frame.
        encoding: of the images.
        on_frame: called for every frame decoded.

    Returns:
        The labels with the paths and sizes of what was written. Boxes are cut at the frame where its size was unknown.

    Raises:
        InputError: the labels have several cameras or a frame twice, the video ends too early or has another size.
    """
    if len(np.unique(index.camera_ids)) > 1:
        raise InputError(
            f"the labels have {len(np.unique(index.camera_ids))} cameras",
            where=index.name,
            expected="one, as a video is one camera",
            remedy="convert the labels of each video by themselves",
        )
    wanted = {number: image for image, number in enumerate((index.frame_indices - first_frame).tolist())}
    if len(wanted) < len(index.frame_indices):
        raise InputError("two images have one frame number", where=index.name, expected="numbers that differ")
    if wanted and min(wanted) < 0:
        raise InputError(
            f"the labels have a frame {min(wanted) + first_frame}",
            where=index.name,
            expected=f"{first_frame} or more, the number of the video's first frame",
            remedy="set it with `--first-frame`",
        )
    last, count = max(wanted, default=-1), 0
    video_wh = (0, 0)
    paths = tuple(encoding.path(path) for path in index.image_paths)
    for number, frame in enumerate(frames):
        if number > last:
            break
        count = number + 1
        if number in wanted:
            image = wanted[number]
            video_wh = frame.shape[1], frame.shape[0]
            _check_size(index, image, video_wh, video)
            encoding.write(folder / paths[image], frame)
        on_frame()
    if count <= last:
        raise InputError(
            f"ends after {count} frames",
            where=video,
            expected=f"{last + 1} or more, as the labels name frame {last + first_frame}",
            remedy="is it the video that was labelled, and does it start at the number of `--first-frame`?",
        )
    return _cut(replace(index, image_paths=paths), video_wh)


def _check_size(index: LabelIndex, image: int, video_wh: tuple[int, int], video: str) -> None:
    stated = tuple(index.image_wh[image].tolist())
    if stated not in ((0, 0), video_wh):
        raise InputError(
            f"frames are {video_wh[0]}x{video_wh[1]}",
            where=video,
            expected=f"{stated[0]}x{stated[1]} as the labels say",
            remedy="label the video itself, or convert it to the size that was labelled",
        )


def _cut(index: LabelIndex, video_wh: tuple[int, int]) -> LabelIndex:
    """The labels once the size of all frames is known."""
    sizes = np.tile(np.array(video_wh, np.int64), (len(index.image_paths), 1))
    images = np.repeat(np.arange(len(sizes)), np.diff(index.offsets))
    boxes, kept = cut_at_frames(index.boxes_xyxy, sizes[images])
    problems = [problem for problem in index.problems if problem.kind != "missing"]
    if not kept.all():
        row = int(np.argmin(kept))
        what = f"boxes outside the video's frame: {index.boxes_xyxy[row].tolist()} in {index.image_paths[images[row]]}"
        problems.append(Problem("dropped", "labels", what, "correct them", int((~kept).sum())))
    counts = np.bincount(images[kept], minlength=len(sizes))
    return replace(
        index,
        image_wh=sizes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xyxy=boxes[kept],
        person_ids=index.person_ids[kept],
        weights=None if index.weights is None else index.weights[kept],
        problems=tuple(problems),
    )
