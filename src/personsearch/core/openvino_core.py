"""OpenVINO's ``Core``, one a process, kept until the process ends; and what it is told of a graph."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

from personsearch.core.manifest import Int8Flavour

_LOCK = Lock()
_CORES: dict[int, Any] = {}


def openvino_core() -> Any:
    """The process's only ``openvino.Core``.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers and, when it is unloaded, puts the
    one before it back. Two plugins that end in the order they began leave the thread with a stack that is no longer
    mapped, and the next signal with a handler of Python's (Ctrl-C; the end of a loader process) kills the process with
    a segmentation fault. Seen with OpenVINO 2026.4.1. So there is one, which never ends.

    A process that was forked gets its own: the parent's threads are not in it.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    import openvino

    with _LOCK:
        here = os.getpid()
        if here not in _CORES:
            _CORES[here] = openvino.Core()  # the parent's, if there is one, must not be destroyed here either
        return _CORES[here]


def cpu_options(int8_flavour: Int8Flavour | None = None) -> dict[str, Any]:
    """How a graph is compiled for the CPU: one frame at a time as fast as it can, in the arithmetic that it states.

    Args:
        int8_flavour: of an int8 graph. Those of ``s8s8``, made for TensorRT, run without integer kernels: OpenVINO
            2026.4.1 moves signed rounding through a concatenation of a split wrongly (ShuffleNet's units: of 157
            detections 9 were left, where ONNX Runtime had them all).
    """
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # On a CPU with bfloat16 or half arithmetic OpenVINO would round an fp32 graph to it by default, and the
        # artifact's parity figures would be those of another network.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if int8_flavour == "s8s8":
        options["LP_TRANSFORMS_MODE"] = "NO"
    return options
