"""The gate's own way into ONNX Runtime; needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.core.onnx_file import require_self_contained
from personsearch.core.preprocess import Frame
from personsearch.export.rows import Rows


class OnnxGraphs:
    """`Graphs` of two ONNX files under ONNX Runtime on the CPU.

    Args:
        folder: holds ``search.onnx`` and, but for a detector without embeddings, ``query.onnx``.
        optimised: with ONNX Runtime's default optimisations; without them it is another correct implementation of
            the same graphs, which tells rounding from faults.
    """

    def __init__(self, folder: Path, *, optimised: bool = True) -> None:
        self._search = open_session(folder / "search.onnx", optimised=optimised)
        query = folder / "query.onnx"
        self._query = open_session(query, optimised=optimised) if query.is_file() else None

    def search(self, frame: Frame) -> Rows:
        boxes, scores, *rest = run(self._search, frames=frame[None])
        return Rows(boxes[0], scores[0], rest[0][0] if rest else np.zeros((len(scores[0]), 0), np.float32))

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        if self._query is None:
            return np.zeros((len(boxes), 0), np.float32)
        embeddings: FloatArray = run(self._query, frames=frame[None], boxes=boxes[None])[0][0]
        return embeddings


def open_session(path: Path, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, with its default optimisations or with none."""
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    # The bytes, once it is known that they are all: a graph could name weights in any file of the machine.
    content = path.read_bytes()
    require_self_contained(content, path)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, **inputs: NDArray[np.generic]) -> list[FloatArray]:
    """Every output of ``session``, in order."""
    outputs: list[FloatArray] = session.run(None, inputs)
    return outputs
