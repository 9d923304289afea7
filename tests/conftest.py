"""Shared by all tests; its place puts ``tests/`` on the import path, so that a stub can be imported by name."""

from __future__ import annotations

from personsearch.runtime.opencv_log import silence_opencv

# FFmpeg reads its log level once a process: a test that writes a video first would make every later one noisy.
silence_opencv()
