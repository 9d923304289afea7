"""The gate's own way into OpenVINO: what it judges must not depend on the runtime stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.manifest import Int8Flavour
from personsearch.core.onnx_file import require_self_contained
from personsearch.core.openvino_core import cpu_options, openvino_core
from personsearch.core.preprocess import Frame
from personsearch.export.rows import Rows


class OpenVinoGraphs:
    """`Graphs` of an artifact's two ONNX files under OpenVINO on the CPU.

    Args:
        folder: holds ``search.onnx`` and, but for a detector without embeddings, ``query.onnx``.
        int8_flavour: of int8 graphs.

    Raises:
        RuntimeError: OpenVINO refuses a graph.
    """

    def __init__(self, folder: Path, int8_flavour: Int8Flavour | None = None) -> None:
        self._search = compile_graph(folder / "search.onnx", int8_flavour)
        query = folder / "query.onnx"
        self._query = compile_graph(query, int8_flavour) if query.is_file() else None

    def search(self, frame: Frame) -> Rows:
        outputs = run_graph(self._search, frames=frame[None])
        boxes, scores = outputs["boxes"][0], outputs["scores"][0]
        embeddings = outputs["embeddings"][0] if "embeddings" in outputs else np.zeros((len(scores), 0), np.float32)
        return Rows(boxes, scores, embeddings)

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        if self._query is None:
            return np.zeros((len(boxes), 0), np.float32)
        embeddings: FloatArray = run_graph(self._query, frames=frame[None], boxes=boxes[None])["embeddings"][0]
        return embeddings


def compile_graph(path: Path, int8_flavour: Int8Flavour | None = None) -> Any:
    """An inference request of a graph on the CPU."""
    content = path.read_bytes()
    require_self_contained(content, path)
    core = openvino_core()
    return core.compile_model(core.read_model(content), "CPU", cpu_options(int8_flavour)).create_infer_request()


def run_graph(request: Any, **inputs: Any) -> dict[str, FloatArray]:
    """Copies of every output by name: the request's own memory is written again by its next inference."""
    results = request.infer(inputs)
    return {port.get_any_name(): np.array(values, dtype=np.float32) for port, values in results.items()}
