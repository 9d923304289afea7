"""Shared by all tests; its place puts ``tests/`` on the import path, so that a stub can be imported by name."""

from __future__ import annotations

import os

from personsearch.runtime.opencv_log import silence_opencv

# Native libraries that do not get along with those of other tests: `test_isolated` runs each file in a process.
collect_ignore = [] if os.environ.get("PERSON_SEARCH_ISOLATED") else ["isolated"]

# FFmpeg reads its log level once a process: a test that writes a video first would make every later one noisy.
silence_opencv()
