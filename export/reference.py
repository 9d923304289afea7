"""What engines are compared with: the network in torch, and copies of it that tell which of its decisions are ties."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame
from personsearch.export.graphs import TorchGraphs
from personsearch.export.rows import Graphs, Rows
from personsearch.models import SearchModel

DRIFT = 1e-5
DRIFTED_COPIES = 2


def drifted(module: nn.Module, seed: int) -> nn.Module:
    """A copy of ``module`` whose every weight is off by about `DRIFT` of itself."""
    changed = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1 + DRIFT * torch.randn(parameter.shape, generator=generator))
    return changed


def references(search: nn.Module, query: nn.Module | None, *, copies: int = DRIFTED_COPIES) -> list[Graphs]:
    """The reference and, after it, ``copies`` drifted ones that tell which of its decisions are ties."""
    return [TorchGraphs(search, query), *(TorchGraphs(drifted(search, seed), query) for seed in range(copies))]


class CheckpointGraphs:
    """`Graphs` of the network as it is evaluated, before any of it was made a graph: the end figures' reference.

    Its proposals are those of the recipe's test, which may be more than a graph has.
    """

    def __init__(self, model: SearchModel) -> None:
        self._model = model.eval()

    @torch.no_grad()
    def search(self, frame: Frame) -> Rows:
        """The detections from the model's score threshold on."""
        found = self._model.detect(torch.from_numpy(frame)[None])[0]
        return Rows(found.boxes_xyxy, found.scores, found.embeddings)

    @torch.no_grad()
    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """Embeddings of any number of boxes."""
        embeddings: FloatArray = self._model.embed(
            torch.from_numpy(frame)[None], [torch.from_numpy(np.ascontiguousarray(boxes, dtype=np.float32))]
        )[0].numpy()
        return embeddings
