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
"""As far as two correct float32 implementations drift apart over fifty layers."""
HALF_DRIFT = 5e-4
"""What float16 rounds off: half a step of its eleven bits, 2**-11 of a value."""
DRIFTED_COPIES = 2


def drifted(module: nn.Module, seed: int, drift: float = DRIFT) -> nn.Module:
    """A copy of ``module`` whose every weight is off by about ``drift`` of itself."""
    changed = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1 + drift * torch.randn(parameter.shape, generator=generator))
    return changed


def references(search: nn.Module, query: nn.Module | None, *, copies: int = DRIFTED_COPIES) -> list[Graphs]:
    """The reference and, after it, ``copies`` drifted ones that tell which of its decisions are ties."""
    return [TorchGraphs(search, query), *drifted_graphs(search, query, DRIFT, copies=copies)]


def drifted_graphs(
    search: nn.Module, query: nn.Module | None, drift: float, *, copies: int = DRIFTED_COPIES
) -> list[Graphs]:
    """Copies of a network, drifted apart; see `drifted`."""
    return [TorchGraphs(drifted(search, seed, drift), query) for seed in range(copies)]


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
        """Embeddings of any number of boxes; of width 0 for a detector."""
        if not self._model.embedding_dim:
            return np.zeros((len(boxes), 0), np.float32)
        embeddings: FloatArray = self._model.embed(
            torch.from_numpy(frame)[None], [torch.from_numpy(np.ascontiguousarray(boxes, dtype=np.float32))]
        )[0].numpy()
        return embeddings
