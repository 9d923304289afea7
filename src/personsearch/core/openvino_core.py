"""OpenVINO's ``Core``: one a process, kept until the process ends."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

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
