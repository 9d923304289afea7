"""A CUDA driver without a GPU, compiled from ``fake_libcuda.c``, for tests of what is called of a real one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from personsearch.core import cuda_driver

SOURCE = Path(__file__).with_name("fake_libcuda.c")


def compile_driver(folder: Path) -> Path:
    """The library, in ``folder``; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


class FakeDriver:
    """The library in use.

    Args:
        library: from `compile_driver`.
        monkeypatch: puts it in the real driver's place.
    """

    def __init__(self, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = library
        self._library = ctypes.CDLL(str(library))
        monkeypatch.setattr(cuda_driver, "library_name", lambda: str(library))

    @property
    def live(self) -> int:
        """Allocations, contexts, streams and graphs that were not freed."""
        return int(self._library.fake_live())

    @property
    def pushed(self) -> int:
        """Contexts that are current in the calling thread."""
        return int(self._library.fake_pushed())
