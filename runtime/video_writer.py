"""Writing an ``.mp4`` that can be read again."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import Letterbox
from personsearch.core.preprocess import Frame
from personsearch.runtime.opencv_log import silence_opencv

# By how many players show them: H.264 plays everywhere but few OpenCV builds may write it, MPEG-4 part 2 is in all.
CODECS = ("avc1", "mp4v")
_MAX_SIDE_PX = 1920
_PROBE_FRAMES = 5


def count_frames(path: Path) -> int:
    """Frames of a video that can really be decoded."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


@lru_cache(maxsize=8)
def choose_codec(frame_wh: tuple[int, int]) -> str | None:
    """The first of `CODECS` with which a few frames of this size can be written and read back, or none.

    An encoder that opens is no proof: hardware encoders open and then give an empty file.
    """
    silence_opencv()
    picture = np.zeros((frame_wh[1], frame_wh[0], 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            path = Path(folder) / f"{codec}.mp4"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, frame_wh)
            if writer.isOpened():
                for _ in range(_PROBE_FRAMES):
                    writer.write(picture)
                writer.release()
                if count_frames(path) == _PROBE_FRAMES:
                    return codec
    return None


def video_wh(frame_wh: tuple[int, int]) -> tuple[int, int]:
    """Size of the written video: the frame's, at most 1920 pixels along a side, both even as codecs want them."""
    scale = min(1.0, _MAX_SIDE_PX / max(frame_wh))
    return max(2, round(frame_wh[0] * scale) // 2 * 2), max(2, round(frame_wh[1] * scale) // 2 * 2)


class VideoFile:
    """An ``.mp4`` with frames at a constant rate.

    Args:
        path: where to write.
        frame_wh: size of the first frame; later frames of another size are fitted in with black edges.
        rate_hz: frames a second.

    Raises:
        InputError: this OpenCV can write no codec.
    """

    def __init__(self, path: Path, frame_wh: tuple[int, int], rate_hz: float) -> None:
        self._path, self._wh, self.count = path, video_wh(frame_wh), 0
        codec = choose_codec(self._wh)
        if codec is None:
            raise InputError(
                f"this OpenCV ({cv2.__version__}) can write no .mp4",
                where=path.name,
                expected=f"one of the codecs {', '.join(CODECS)}",
                remedy="go without the video with `--no-video`",
            )
        self.codec = codec
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate_hz, self._wh)

    def write(self, image: Frame, times: int = 1) -> None:
        """Appends a picture, ``times`` frames long."""
        fitted = self._fit(image)
        for _ in range(times):
            self._writer.write(fitted)
            self.count += 1

    def close(self) -> None:
        """Finishes the file.

        Raises:
            InputError: it cannot be read back, or does not hold what was written (a full disk, most of the time).
        """
        self._writer.release()
        if self.count == 0:
            self._path.unlink(missing_ok=True)
            return
        capture = cv2.VideoCapture(str(self._path))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.grab() else 0
        capture.release()
        if found != self.count:
            raise InputError(
                f"the video holds {found} of the {self.count} frames that were written",
                where=self._path.name,
                remedy="is the disk full? go without the video with `--no-video`",
            )

    def _fit(self, image: Frame) -> Frame:
        height, width = image.shape[:2]
        if (width, height) == self._wh:
            return image
        box = Letterbox.fit((width, height), self._wh)
        resized = cv2.resize(image, box.resized_wh, interpolation=cv2.INTER_AREA)
        if box.resized_wh == self._wh:
            return np.asarray(resized, dtype=np.uint8)
        canvas = np.zeros((self._wh[1], self._wh[0], 3), dtype=np.uint8)
        x, y = box.pad_xy
        canvas[y : y + box.resized_wh[1], x : x + box.resized_wh[0]] = resized
        return canvas
