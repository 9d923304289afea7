"""The two graphs of an artifact, runnable: in torch as the reference, in ONNX Runtime as what is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame
from personsearch.export.rows import Graphs, Rows

__all__ = ["Graphs", "OnnxGraphs", "Rows", "TorchGraphs", "open_session", "run"]


class TorchGraphs:
    """`Graphs` of the deployable modules, before export."""

    def __init__(self, search: nn.Module, query: nn.Module) -> None:
        self._search, self._query = search.eval(), query.eval()

    @torch.no_grad()
    def search(self, frame: Frame) -> Rows:
        boxes, scores, embeddings = self._search(torch.from_numpy(frame)[None])
        return Rows(boxes[0].numpy(), scores[0].numpy(), embeddings[0].numpy())

    @torch.no_grad()
    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        embeddings: FloatArray = self._query(torch.from_numpy(frame)[None], torch.from_numpy(boxes)[None])[0].numpy()
        return embeddings


class OnnxGraphs:
    """`Graphs` of two ONNX files under ONNX Runtime on the CPU.

    Args:
        folder: holds ``search.onnx`` and ``query.onnx``.
    """

    def __init__(self, folder: Path) -> None:
        self._search, self._query = (open_session(folder / f"{name}.onnx") for name in ("search", "query"))

    def search(self, frame: Frame) -> Rows:
        boxes, scores, embeddings = run(self._search, frames=frame[None])
        return Rows(boxes[0], scores[0], embeddings[0])

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        embeddings: FloatArray = run(self._query, frames=frame[None], boxes=boxes[None])[0][0]
        return embeddings


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with its default optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, **inputs: NDArray[np.generic]) -> list[FloatArray]:
    """Every output of ``session``, in order."""
    outputs: list[FloatArray] = session.run(None, inputs)
    return outputs
