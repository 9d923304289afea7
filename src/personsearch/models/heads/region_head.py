"""Faster R-CNN's head on a C4 trunk, with or without OIM's embedding beside it."""

from __future__ import annotations

from torch import Tensor, nn

from personsearch.models.heads.person_head import PersonOutput
from personsearch.models.norms import RowNorm


class RegionHead(nn.Module):
    """conv5, global average, then layers for class and box, and one for the embedding (Xiao et al., section 3.2).

    Boxes are class-agnostic: four deltas where the Caffe network has eight, four of them for the background and
    never used.

    Args:
        block: conv5, ``(R, C, h, w)`` to ``(R, c, h', w')``.
        channels: c.
        embedding_dim: D; 0 for a detector without embeddings.
        norm_embedding: batch norm after the embedding's layer, which neither OIM nor QEEPS has. Averages of ReLU
            outputs are all positive, so that at first everybody's embedding has one direction; the look-up table then
            holds that direction for everybody, and a network from scratch stays there.
    """

    def __init__(
        self, block: nn.Module, channels: int, embedding_dim: int = 0, *, norm_embedding: bool = False
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.block = block
        self.class_logits = nn.Linear(channels, 2)
        self.box_deltas = nn.Linear(channels, 4)
        self.embedding = nn.Linear(channels, embedding_dim) if embedding_dim else None
        layers = ((self.class_logits, 0.01), (self.box_deltas, 0.001), (self.embedding, 0.01))
        for layer, std in layers:
            if layer is not None:
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
        self.norm_out = RowNorm(embedding_dim) if norm_embedding and embedding_dim else nn.Identity()

    def forward(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> PersonOutput:
        """``(R, C, h, w)`` pooled crops to a `PersonOutput`; notes ``feature.person`` in ``taps`` when given."""
        person_map = self.person_map(pooled)
        if taps is not None:
            taps["feature.person"] = person_map
        return PersonOutput(*self.refine(person_map), self.embed(person_map))

    def person_map(self, pooled: Tensor) -> Tensor:
        """conv5's map ``(R, c, h', w')``."""
        person_map: Tensor = self.block(pooled)
        return person_map

    def refine(self, person_map: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(R, 2)`` and box deltas ``(R, 4)`` of `person_map`'s output."""
        average = person_map.mean(dim=(2, 3))
        return self.class_logits(average), self.box_deltas(average)

    def embed(self, person_map: Tensor) -> Tensor:
        """The embedding ``(R, D)`` before normalisation, of `person_map`'s output."""
        if self.embedding is None:
            return person_map.new_zeros((len(person_map), 0))
        embedding: Tensor = self.norm_out(self.embedding(person_map.mean(dim=(2, 3))))
        return embedding
