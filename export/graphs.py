"""The two graphs of an artifact, runnable: in torch as the reference, in ONNX Runtime as what is shipped."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame
from personsearch.export.onnx_graphs import OnnxGraphs, open_session, run
from personsearch.export.rows import Graphs, Rows

__all__ = ["Graphs", "OnnxGraphs", "Rows", "TorchGraphs", "open_session", "run"]


class TorchGraphs:
    """`Graphs` of the deployable modules, before export; a detector has no query module."""

    def __init__(self, search: nn.Module, query: nn.Module | None) -> None:
        self._search, self._query = search.eval(), None if query is None else query.eval()

    @torch.no_grad()
    def search(self, frame: Frame) -> Rows:
        boxes, scores, *rest = self._search(torch.from_numpy(frame)[None])
        embeddings = rest[0][0] if rest else torch.zeros(scores.shape[1], 0)
        return Rows(boxes[0].numpy(), scores[0].numpy(), embeddings.numpy())

    @torch.no_grad()
    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        if self._query is None:
            return np.zeros((len(boxes), 0), np.float32)
        embeddings: FloatArray = self._query(torch.from_numpy(frame)[None], torch.from_numpy(boxes)[None])[0].numpy()
        return embeddings
