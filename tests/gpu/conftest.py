"""Every test here needs a CUDA device; elsewhere each is skipped with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from personsearch.core.cuda_driver import probe_cuda
from personsearch.core.engine_names import library_missing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests, and skips them where there is no GPU."""
    problem = probe_cuda().problem
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if problem:
                item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {problem}"))


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each TensorRT that is installed, with an empty engine cache."""
    missing = library_missing(request.param)
    if missing:
        pytest.skip(f"{request.param} is not installed: {missing}")
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    return str(request.param)
