"""Where an export takes its frames from: a data set's training split, a video, or a folder of images; never test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2

from personsearch.core.errors import InputError
from personsearch.core.manifest import TrainingData
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.data import open_dataset
from personsearch.data.formats import all_formats
from personsearch.export.end_figures import LabelledImages, labelled_images
from personsearch.export.frames import DatasetFrames, spread
from personsearch.export.gate_frames import GateFrame, dataset_gate_frames, drawn_gate_frames, filmed_gate_frames

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
MOST_LOOKED_AT = 400
"""Frames of a video or folder among which the gate's are chosen."""


class FrameSource(Protocol):
    """Frames of one export; those of calibration and gate differ where there are enough."""

    @property
    def name(self) -> str:
        """What they are from, for the record."""
        ...

    def calibration(self, count: int) -> list[Frame]:
        """At most ``count`` letterboxed frames ``(H, W, 3)``."""
        ...

    def gate(self, count: int) -> list[GateFrame]:
        """``count`` frames of several scenes and sizes."""
        ...

    def labelled(self, images: int, training: Sequence[TrainingData]) -> LabelledImages | None:
        """At most so many labelled images, none of them of a test split; none where nobody is labelled."""
        ...


class DrawnSource:
    """Scenes drawn from code, for an export without any data; they calibrate nothing."""

    name = "drawn"

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess

    def calibration(self, count: int) -> list[Frame]:
        return []

    def gate(self, count: int) -> list[GateFrame]:
        return drawn_gate_frames(self._preprocess, count)

    def labelled(self, images: int, training: Sequence[TrainingData]) -> LabelledImages | None:
        return None


class DatasetSource:
    """A data set: its training split for calibration and gate, `labelled_images` for figures.

    Raises:
        InputError: not a data set, or one without a training split or with no frame in it.
    """

    def __init__(self, root: Path, preprocess: Preprocess) -> None:
        self._root, self._preprocess = root, preprocess
        self._frames = DatasetFrames(root, preprocess)

    @property
    def name(self) -> str:
        """The data set's."""
        return self._frames.name

    def calibration(self, count: int) -> list[Frame]:
        return self._frames.calibration(count)

    def gate(self, count: int) -> list[GateFrame]:
        return dataset_gate_frames(open_dataset(self._root, "train"), self._preprocess, count)

    def labelled(self, images: int, training: Sequence[TrainingData]) -> LabelledImages | None:
        return labelled_images(self._root, self._preprocess, images, training)


class FilmedSource:
    """A video file, or a folder of images in the order of their names; nobody in it is labelled.

    Raises:
        InputError: a file that is no video, a folder without images, or a part of a data set, whose test split it may
            be.
    """

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        _refuse_part_of_dataset(path)
        self.name, self._preprocess, self._path = path.name, preprocess, path
        self._images: list[Path] = []
        self._video: cv2.VideoCapture | None = None
        if path.is_dir():
            self._images = sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES)
            self._count = len(self._images)
        else:
            self._video = cv2.VideoCapture(str(path))
            self._count = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)) if self._video.isOpened() else 0
        if self._count <= 0:
            raise InputError(
                "holds no frames",
                where=str(path),
                expected="a data set, a video file, or a folder of images",
                remedy="see docs/export.md",
            )

    def calibration(self, count: int) -> list[Frame]:
        frames = (self._read(index) for index in spread(self._count, count, offset=0.25))
        return [self._preprocess.letterbox(frame)[0] for frame in frames]

    def gate(self, count: int) -> list[GateFrame]:
        chosen = spread(self._count, MOST_LOOKED_AT, offset=0.75)
        return filmed_gate_frames(
            lambda index: self._read(chosen[index]), [None] * len(chosen), self._preprocess, count
        )

    def labelled(self, images: int, training: Sequence[TrainingData]) -> LabelledImages | None:
        return None

    def _read(self, index: int) -> Frame:
        if self._video is not None:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, index)
            got, frame = self._video.read()
            found = frame if got else None
        else:
            found = cv2.imread(str(self._images[index]), cv2.IMREAD_COLOR)
        if found is None:
            what = f"frame {index} of {self._count}" if self._video is not None else self._images[index].name
            raise InputError(f"{what} cannot be read", where=str(self._path), remedy="leave it out, or repair it")
        image: Frame = found  # type: ignore[assignment]  # OpenCV's stubs promise no dtype
        return image


def open_source(path: Path | None, preprocess: Preprocess) -> FrameSource:
    """The frames of ``--calibration``.

    Args:
        path: a data set, a video file or a folder of images; none for drawn scenes.
        preprocess: the model's letterbox.

    Raises:
        InputError: nothing there, or nothing of these kinds.
    """
    if path is None:
        return DrawnSource(preprocess)
    if not path.exists():
        raise InputError("does not exist", where=str(path), expected="a data set, a video file, or a folder of images")
    known = any(one.matches(path) or one.matches_part(path) for one in all_formats())
    return DatasetSource(path, preprocess) if known else FilmedSource(path, preprocess)


def _refuse_part_of_dataset(path: Path) -> None:
    for folder in list(path.resolve().parents)[:3]:
        if any(one.matches(folder) for one in all_formats()):
            raise InputError(
                "is a part of a data set, and may be its test split",
                where=str(path),
                expected="frames that nothing is measured on",
                remedy=f"give the data set itself, {folder}: only its training split is used",
            )
