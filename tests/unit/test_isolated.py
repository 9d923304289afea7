"""Tests that need a process of their own: a driver's stand-in, or a library that brings its own copy of another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted((TESTS / "isolated").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_in_a_process_of_its_own(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(file)],
        cwd=TESTS.parent,
        env={**os.environ, "PERSON_SEARCH_ISOLATED": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_there_are_some() -> None:
    assert FILES
