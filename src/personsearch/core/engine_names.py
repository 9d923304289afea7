"""The engines by name, the library each needs, and how to get it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

from personsearch.core.errors import InputError
from personsearch.core.manifest import EngineName

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
TENSORRT_ENGINES: tuple[EngineName, ...] = ("tensorrt", "tensorrt-rtx")
"""Those that run compiled engine files, on NVIDIA GPUs alone."""

MODULES: dict[EngineName, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
INSTALL: dict[EngineName, str] = {
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install 'edge-person-search[openvino]'",
    "tensorrt": "pip install 'edge-person-search[tensorrt]'; on a Jetson the system's own, in an environment made with "
    "--system-site-packages",
    "tensorrt-rtx": "pip install 'edge-person-search[rtx]'",
}


def engine_name(text: str) -> EngineName:
    """``text`` as the name of an engine.

    Raises:
        InputError: there is none of that name.
    """
    for name in ENGINES:
        if text == name:
            return name
    raise InputError(f"engine `{text}` is unknown", expected=f"one of {', '.join(ENGINES)}")


def library_missing(name: EngineName) -> str:
    """What to do to get an engine's library, or nothing where its package is found; imports nothing."""
    try:
        found = find_spec(MODULES[name]) is not None
    except ImportError:  # an import hook that keeps it out says so this way
        found = False
    return "" if found else INSTALL[name]


def require_library(name: EngineName) -> None:
    """Raises an `InputError` with the install command where an engine's package is not installed."""
    remedy = library_missing(name)
    if remedy:
        raise InputError(f"engine {name} needs `{MODULES[name]}`, which is not installed", remedy=remedy)
