"""Person re-ID subnet with detection refinement (HDL, section 3.2 III)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.recipes import AttentionKind
from personsearch.models.attention import attend, build_attention


@dataclass(frozen=True)
class PersonOutput:
    """For each RoI: two class logits, four deltas, and the embedding before normalisation ``(R, D)``."""

    class_logits: Tensor
    box_deltas: Tensor
    raw_embedding: Tensor


class PersonHead(nn.Module):
    """Batch norm, the trunk's last block, pooling, batch norm; identity, class and box layers on top.

    Differs from the paper in one option: ``stripes`` above 1 averages horizontal stripes apart and concatenates
    them, which keeps what is worn where; 1 is the paper's global average.

    Args:
        block: the per-person block, ``(R, C, h, w)`` to ``(R, c, h', w')``.
        in_channels: C.
        channels: c.
        person_count: identities of the training set.
        attention: attention residual module after the block.
        stripes: horizontal parts of the embedding; must divide h'.
        dropout: on the embedding before the identity layer.
        identity_scale: none for HDL's linear layer, a number for cosine logits times it.
    """

    def __init__(
        self,
        block: nn.Module,
        in_channels: int,
        channels: int,
        person_count: int,
        *,
        attention: AttentionKind = "full",
        stripes: int = 1,
        dropout: float = 0.0,
        identity_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding_dim = channels * stripes
        self._stripes, self._scale = stripes, identity_scale
        self.norm_in = nn.BatchNorm2d(in_channels)
        self.block = block
        self.attention = build_attention(attention, channels)
        self.norm_out = nn.BatchNorm1d(self.embedding_dim)
        self.class_logits = nn.Linear(self.embedding_dim, 2)
        self.box_deltas = nn.Linear(self.embedding_dim, 4)
        self.dropout = nn.Dropout(dropout)
        self.identity = nn.Linear(self.embedding_dim, person_count, bias=identity_scale is None)
        for layer, std in ((self.class_logits, 0.01), (self.box_deltas, 0.001), (self.identity, 0.01)):
            nn.init.normal_(layer.weight, std=std)

    def forward(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> PersonOutput:
        """``(R, C, h, w)`` pooled crops to a `PersonOutput`; notes level ``person`` in ``taps`` when given."""
        x = self.block(self.norm_in(pooled))
        x = attend(self.attention, "person", x, {} if taps is None else taps)
        parts = x.mean(dim=3) if self._stripes > 1 else x.mean(dim=(2, 3))
        if self._stripes > 1:
            parts = parts.reshape(parts.shape[0], parts.shape[1], self._stripes, -1).mean(dim=3).flatten(1)
        return PersonOutput(self.class_logits(parts), self.box_deltas(parts), self.norm_out(parts))

    def identity_logits(self, raw_embedding: Tensor) -> Tensor:
        """``(R, P)`` logits of the training identities."""
        raw_embedding = self.dropout(raw_embedding)
        if self._scale is None:
            logits: Tensor = self.identity(raw_embedding)
            return logits
        return self._scale * F.linear(F.normalize(raw_embedding), F.normalize(self.identity.weight))
