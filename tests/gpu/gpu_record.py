"""What the GPU tests ran on, and what they measured, as one JSON file for the record."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from personsearch.core.cuda_driver import probe_cuda
from personsearch.core.files import write_json

VARIABLE = "PERSON_SEARCH_GPU_RECORD"
_PACKAGES = ("tensorrt", "tensorrt_rtx", "pycuda", "torch", "onnxruntime", "numpy")


def note(name: str, value: Any) -> None:
    """Adds a measurement to the file that ``PERSON_SEARCH_GPU_RECORD`` names; does nothing where it names none."""
    place = os.environ.get(VARIABLE)
    if not place:
        return
    path = Path(place)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else _machine()
    content["found"][name] = value
    write_json(path, content)


def _machine() -> dict[str, Any]:
    driver = probe_cuda()
    return {
        "gpus": list(driver.devices),
        "compute_capabilities": list(driver.compute_capabilities),
        "cuda_of_driver": driver.version,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "found": {},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
