"""Moving images through OpenCV: files, cameras and network addresses."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.runtime.address import redact
from personsearch.runtime.container import missing_bytes
from personsearch.runtime.frames import VideoFrame
from personsearch.runtime.opencv_log import silence_opencv

_FALLBACK_RATE_HZ = 25.0
_MAX_RATE_HZ = 240.0
# Grabbed but not decodable, in a row, before the rest counts as unreadable.
_MAX_BROKEN = 100


def _rate_of(capture: cv2.VideoCapture, given_hz: float | None) -> float:
    if given_hz is not None:
        return given_hz
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= _MAX_RATE_HZ else _FALLBACK_RATE_HZ


class _Capture:
    """Grab, retrieve, and count: what files and live sources share."""

    def __init__(self, capture: cv2.VideoCapture, rate_hz: float | None) -> None:
        self._capture = capture
        self.rate_hz = _rate_of(capture, rate_hz)
        self.notes: list[str] = []
        self.read_count = 0
        self.broken_count = 0

    def _grab(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
        for _ in range(_MAX_BROKEN):
            if not self._capture.grab():
                return None
            ok, image = self._capture.retrieve()
            if ok and image is not None and image.size:
                self.read_count += 1
                if image.ndim == 2:
                    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
                return np.asarray(image, dtype=np.uint8)
            self.broken_count += 1
        return None

    def interrupt(self) -> None:
        """A driver cannot be interrupted: a read takes as long as its time-out."""

    def close(self) -> None:
        """Frees the decoder."""
        self._capture.release()


class FileSource(_Capture):
    """A video file, every frame of it, with a check at the end that it was all there.

    Args:
        path: the file.
        rate_hz: overrides the container's rate, or none.
        keep_going: a file that is cut short ends where it ends, with a note.

    Raises:
        InputError: missing, not a video, or cut short.
    """

    live = False

    def __init__(self, path: Path, *, rate_hz: float | None, keep_going: bool) -> None:
        silence_opencv()
        self.label, self._path, self._keep_going = str(path), path, keep_going
        try:
            missing = missing_bytes(path)
        except OSError as error:
            raise InputError("cannot be read", where=str(path), remedy=error.strerror or "") from None
        if missing and not keep_going:
            raise self._cut_short(f"its container announces {missing} bytes more than the file has")
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise InputError(
                "cannot be opened as a video",
                where=str(path),
                expected="a whole video file with a codec of FFmpeg's",
                remedy="is it cut short, or of another kind? `personsearch doctor` lists what can be decoded",
            )
        super().__init__(capture, rate_hz)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and 0 < count < 1e9 else None
        self._own_rate_hz = _rate_of(capture, None)
        self._announced_s = (self.frame_count or 0) / self._own_rate_hz
        self._rate_given = rate_hz is not None
        self._last_s = -1.0
        if missing:
            self.notes.append(f"the file is cut short: {missing} bytes are missing")

    def read(self) -> VideoFrame | None:
        """The next frame, or none at the end of a whole file."""
        image = self._grab()
        if image is None:
            self._check_end()
            return None
        index = self.read_count - 1
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if not math.isfinite(seconds) or seconds <= self._last_s:
            # Some containers carry no times, and some carry times that stand still.
            seconds = max(0.0, self._last_s + 1 / self._own_rate_hz)
        self._last_s = seconds
        return VideoFrame(index, index / self.rate_hz if self._rate_given else seconds, image)

    def _check_end(self) -> None:
        """Compares what was read with what was announced.

        The announced number of frames is an estimate in many containers (their length times their rate) and the
        length is that of the longest track, so both must fall short, by two seconds or two per cent.
        """
        if self.broken_count:
            self.notes.append(f"{self.broken_count} frames could not be decoded")
        if self.frame_count is None or self.read_count == 0:
            return
        slack_s = max(2.0, 0.02 * self._announced_s)
        missing_s = min((self.frame_count - self.read_count) / self._own_rate_hz, self._announced_s - self._last_s)
        if missing_s > slack_s:
            reason = f"decoding ended after {self.read_count} of {self.frame_count} frames"
            if not self._keep_going:
                raise self._cut_short(reason)
            self.notes.append(reason)

    def _cut_short(self, reason: str) -> InputError:
        return InputError(
            f"the video is cut short: {reason}",
            where=self.label,
            expected="a whole file",
            remedy="copy it again, or use what there is with `--keep-going`",
        )


class LiveSource(_Capture):
    """A camera by index, or an address (RTSP, HTTP and whatever else FFmpeg opens).

    The address stays inside: messages, files and the object's own text show it redacted.

    Args:
        address: index of a camera, or an address with its scheme.
        rate_hz: overrides the stream's rate, or none.
        timeout_s: for opening and for each read; an address only, a camera's driver has its own.

    Raises:
        InputError: it does not open.
    """

    def __init__(self, address: int | str, *, rate_hz: float | None, timeout_s: float = 10.0) -> None:
        silence_opencv()
        if isinstance(address, int):
            self.label = f"camera {address}"
            capture = cv2.VideoCapture(address)
            remedy = "is it plugged in, and free? on Linux `ls /dev/video*` lists cameras"
        else:
            self.label = redact(address)
            # TCP: over UDP lost packets become smeared pictures, and some OpenCV builds no longer choose TCP.
            if address.lower().startswith(("rtsp://", "rtsps://")):
                os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
            timeout_ms = max(1, round(timeout_s * 1e3))
            # The timeouts are ignored unless FFmpeg is named.
            capture = cv2.VideoCapture(
                address,
                cv2.CAP_FFMPEG,
                [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                    timeout_ms,
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                    timeout_ms,
                ],
            )
            remedy = f"check address, user, password and network; gave up after at most {timeout_s:g} s"
        if not capture.isOpened():
            raise InputError("cannot be opened", where=self.label, expected="a source of video", remedy=remedy)
        super().__init__(capture, rate_hz)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if isinstance(address, str) else 0.0
        # A file behind http:// has a length, and waits for its reader; a camera has none and does not.
        self.frame_count = int(count) if math.isfinite(count) and 0 < count < 1e9 else None
        self.live = self.frame_count is None
        self._started: float | None = None

    def __repr__(self) -> str:
        return f"LiveSource({self.label})"

    def read(self) -> VideoFrame | None:
        """The next frame, or none when the stream ends or stalls beyond its timeout."""
        image = self._grab()
        if image is None:
            if self.live and self.read_count:
                self.notes.append("the live source ended or stalled")
            elif self.read_count < 0.98 * (self.frame_count or 0):
                self.notes.append(f"the connection gave {self.read_count} of {self.frame_count} frames")
            return None
        if not self.live:
            return VideoFrame(self.read_count - 1, (self.read_count - 1) / self.rate_hz, image)
        now = time.monotonic()
        if self._started is None:
            self._started = now
        return VideoFrame(self.read_count - 1, now - self._started, image)
