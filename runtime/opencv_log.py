"""OpenCV and FFmpeg print to standard error on their own; the project says one clear line instead."""

from __future__ import annotations

import os

import cv2


def silence_opencv() -> None:
    """Quietens OpenCV's and FFmpeg's own messages, which may hold addresses with passwords.

    Call before the first video is opened: FFmpeg's level is read once. ``OPENCV_FFMPEG_LOGLEVEL`` set by the
    user wins, for those who look for a fault in a camera.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
