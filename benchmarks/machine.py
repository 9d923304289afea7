"""What a figure was measured on, without names of hosts or places."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from pydantic import Field

from personsearch.core.recipe import StrictModel

LIBRARIES = (
    "numpy",
    "opencv-python",
    "onnxruntime",
    "openvino",
    "onnx",
    "torch",
    "torchvision",
    "tensorrt",
    "tensorrt-rtx",
    "faiss-cpu",
    "usearch",
)


class Machine(StrictModel):
    """The hardware and software beside a figure."""

    cpu: str
    cores: int = Field(description="CPUs this process may use")
    memory_gib: float | None = Field(description="total; none where the system does not tell")
    system: str
    python: str
    libraries: dict[str, str] = Field(description="versions of those that are installed")


def describe_machine() -> Machine:
    """Reads what the operating system tells about itself."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries={name: version for name in LIBRARIES if (version := _version(name))},
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            # ARM kernels have no "model name"; the device tree names the board instead.
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
