"""Frames for a benchmark, one after the other without end, decoding timed."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for
from personsearch.runtime.frames import Source
from personsearch.runtime.sources import open_source

_QUALITY = 90
_VIDEO_RATE_HZ = 25.0


class FrameSupply(StrictModel):
    """Where a benchmark's frames come from, and what is known of them."""

    source: str
    frame_wh: tuple[int, int]
    distinct: int | None
    note: str


class FrameFeed:
    """A source read in a circle: after its last frame comes its first.

    Args:
        source: as `personsearch.runtime.sources.open_source` takes it, and no camera: it must be readable again.

    Raises:
        InputError: nothing there, nothing readable, or a live source.
    """

    def __init__(self, source: str) -> None:
        self._text = source
        self._source = self._open()
        self._wh: tuple[int, int] | None = None
        self._read = 0

    @property
    def label(self) -> str:
        """Of the source; holds no credentials."""
        return self._source.label

    @property
    def frame_count(self) -> int | None:
        """Frames before the first comes again, where the source knows."""
        return self._source.frame_count

    def take(self, count: int) -> tuple[list[Frame], float]:
        """The next ``count`` frames, uint8 BGR ``(H, W, 3)``, and the milliseconds that decoding them took.

        Raises:
            InputError: frames of different sizes, or none at all.
        """
        frames: list[Frame] = []
        decoding = 0.0
        while len(frames) < count:
            started = time.perf_counter()
            frame = self._source.read()
            if frame is None:
                if not self._read:
                    raise InputError("gives no frame", where=self._source.label, expected="one that can be decoded")
                self.rewind()
                continue
            decoding += (time.perf_counter() - started) * 1e3
            self._read += 1
            frames.append(frame.image)
            self._check(frame.image)
        return frames, decoding

    def rewind(self) -> None:
        """The next frame is the source's first again."""
        self._source.close()
        self._source = self._open()

    def close(self) -> None:
        """Frees the decoder."""
        self._source.close()

    def _open(self) -> Source:
        source = open_source(self._text)
        if source.live:
            source.close()
            raise InputError("is a live source", where=source.label, expected="a video or a folder of images")
        return source

    def _check(self, image: Frame) -> None:
        wh = image.shape[1], image.shape[0]
        self._wh = self._wh or wh
        if wh != self._wh:
            raise InputError(
                f"holds frames of {self._wh[0]}x{self._wh[1]} and of {wh[0]}x{wh[1]}",
                where=self._source.label,
                expected="one size: fitting a frame into the network costs by its size",
            )


def given_frames(source: str, people: int | None) -> FrameSupply:
    """Describes a source of the user's own.

    Args:
        source: as `FrameFeed` takes it.
        people: how many are in view, as the user states, or none where that is not stated.
    """
    feed = FrameFeed(source)
    try:
        (frame,), _ = feed.take(1)
        count, label = feed.frame_count, Path(feed.label).name
    finally:
        feed.close()
    height, width = frame.shape[:2]
    stated = "people in view not stated" if people is None else f"{people} people in view as stated"
    known = "frames" if count is None else f"{count} frames"
    return FrameSupply(
        source=source, frame_wh=(width, height), distinct=count, note=f"{known} of {label}, {width}x{height}, {stated}"
    )


def made_frames(
    folder: Path, count: int, frame_wh: tuple[int, int], people: int | None, *, video_length: int = 0
) -> FrameSupply:
    """Generates frames into ``folder``: JPEG images, or a video.

    Args:
        folder: empty, and there as long as the frames are read.
        count: of distinct frames.
        frame_wh: their size.
        people: in view in every one; none for smooth colour noise with nobody.
        video_length: frames of one MPEG-4 file at 25 a second, the distinct ones in a circle; 0 for images.

    Raises:
        InputError: no room for so many people, or no codec to write a video.
    """
    if people is None:
        frames = generated_frames(count, frame_wh)
    else:
        # Imported here: the processes that only read frames start faster without the generator.
        from personsearch.benchmarks.people_frames import people_frames

        frames = people_frames(count, frame_wh, people)
    path = folder / "frames.mp4" if video_length else folder
    if video_length:
        _write_video(path, [frames[number % count] for number in range(video_length)])
    else:
        for number, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{number:06d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    width, height = frame_wh
    what = "of colour noise, nobody in view" if people is None else f"with {people} people in view in each"
    kind = f"JPEG of quality {_QUALITY}"
    if video_length:
        kind = f"video of {video_length} frames at {_VIDEO_RATE_HZ:g} a second"
    return FrameSupply(
        source=str(path),
        frame_wh=frame_wh,
        distinct=count,
        note=f"{count} distinct generated frames of {width}x{height}, {what}, {kind}",
    )


def _write_video(path: Path, frames: list[Frame]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), _VIDEO_RATE_HZ, (width, height))
    if not writer.isOpened():
        raise InputError("OpenCV can write no MPEG-4 video here", remedy="give a video of your own with `--source`")
    for frame in frames:
        writer.write(frame)
    writer.release()


def generated_frames(count: int, frame_wh: tuple[int, int], seed: int = 0) -> list[Frame]:
    """Distinct frames of smooth colour noise, ``(H, W, 3)`` uint8: for timing where there is no footage."""
    frames = []
    for number in range(count):
        small = rng_for(seed, "latency", number).integers(0, 256, (18, 32, 3), dtype=np.uint8)
        frame: Frame = np.asarray(cv2.resize(small, frame_wh, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        frames.append(frame)
    return frames
