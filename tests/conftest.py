"""Shared by all tests; its place puts ``tests/`` on the import path, so that a stub can be imported by name."""

from __future__ import annotations

import os

from hypothesis import settings

from personsearch.runtime.opencv_log import silence_opencv

# Native libraries that do not get along with those of other tests: `test_isolated` runs each file in a process.
collect_ignore = [] if os.environ.get("PERSON_SEARCH_ISOLATED") else ["isolated"]

# FFmpeg reads its log level once a process: a test that writes a video first would make every later one noisy.
silence_opencv()

# A test asserts no times: a busy machine, or torch's first call in a process, is no failure.
settings.register_profile("untimed")
settings.load_profile("untimed")
