"""Person re-ID subnet with detection refinement (HDL, section 3.2 III)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.model_recipes import AttentionKind
from personsearch.core.student_trunk import NormKind
from personsearch.models.attention import attend, build_attention
from personsearch.models.norms import map_norm, row_norm


@dataclass(frozen=True)
class PersonOutput:
    """For each RoI: two class logits, four deltas, and the embedding before normalisation ``(R, D)``."""

    class_logits: Tensor
    box_deltas: Tensor
    raw_embedding: Tensor


class PersonHead(nn.Module):
    """Batch norm, the trunk's last block, pooling, batch norm; identity, class and box layers on top.

    Differs from the paper in two options, each 1 there. ``stripes`` averages horizontal stripes apart and
    concatenates them for the embedding, which keeps what is worn where. ``refine_bins`` gives the class and box
    layers a grid of averages instead of one: from a global average a box's error can hardly be read. Class and
    box layers get a batch norm of their own: on averages of ReLU outputs, all positive, one step of a fresh layer
    shifts every box at once and training from scratch oscillates.

    Args:
        block: the per-person block, ``(R, C, h, w)`` to ``(R, c, h', w')``.
        in_channels: C.
        channels: c.
        person_count: identities of the training set.
        attention: attention residual module after the block.
        stripes: horizontal parts of the embedding; must divide h'.
        refine_bins: side of the refinement's grid; must divide h' and w'.
        dropout: on the embedding before the identity layer.
        identity_scale: none for HDL's linear layer, a number for cosine logits times it.
        embedding_dim: D after a linear layer on the averages; none for HDL's, which has no such layer.
        norm: ``group`` for group norm of the crops and layer norm of the rows in place of batch norm.
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
        refine_bins: int = 1,
        dropout: float = 0.0,
        identity_scale: float | None = None,
        embedding_dim: int | None = None,
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        averaged = channels * stripes
        self.embedding_dim = embedding_dim or averaged
        self._stripes, self._bins, self._scale = stripes, refine_bins, identity_scale
        self.norm_in = map_norm(norm)(in_channels)
        self.block = block
        self.attention = build_attention(attention, channels)
        self.project = None if embedding_dim is None else nn.Linear(averaged, embedding_dim, bias=False)
        self.norm_out = row_norm(norm)(self.embedding_dim)
        self.norm_cells = row_norm(norm)(channels * refine_bins**2)
        self.class_logits = nn.Linear(channels * refine_bins**2, 2)
        self.box_deltas = nn.Linear(channels * refine_bins**2, 4)
        self.dropout = nn.Dropout(dropout)
        self.identity = nn.Linear(self.embedding_dim, person_count, bias=identity_scale is None)
        for layer, std in ((self.class_logits, 0.01), (self.box_deltas, 0.001), (self.identity, 0.01)):
            nn.init.normal_(layer.weight, std=std)

    def forward(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> PersonOutput:
        """``(R, C, h, w)`` pooled crops to a `PersonOutput`; notes level ``person`` in ``taps`` when given."""
        x = self.person_map(pooled, taps)
        return PersonOutput(*self.refine(x), self.embed(x))

    def person_map(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """The last block's map ``(R, c, h', w')`` after attention."""
        x = self.block(self.norm_in(pooled))
        return attend(self.attention, "person", x, {} if taps is None else taps)

    def refine(self, person_map: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(R, 2)`` and box deltas ``(R, 4)`` of `person_map`'s output."""
        cells = self.norm_cells(_averages(person_map, self._bins, self._bins))
        return self.class_logits(cells), self.box_deltas(cells)

    def embed(self, person_map: Tensor) -> Tensor:
        """The embedding ``(R, D)`` before normalisation, of `person_map`'s output."""
        averages = _averages(person_map, self._stripes, 1)
        embedding: Tensor = self.norm_out(averages if self.project is None else self.project(averages))
        return embedding

    def identity_logits(self, raw_embedding: Tensor) -> Tensor:
        """``(R, P)`` logits of the training identities."""
        raw_embedding = self.dropout(raw_embedding)
        if self._scale is None:
            logits: Tensor = self.identity(raw_embedding)
            return logits
        return self._scale * F.linear(F.normalize(raw_embedding), F.normalize(self.identity.weight))


def _averages(x: Tensor, rows: int, columns: int) -> Tensor:
    """Averages of ``(R, C, h, w)`` over a grid of cells, as ``(R, C * rows * columns)``."""
    if rows == columns == 1:
        return x.mean(dim=(2, 3))
    count, channels, height, width = x.shape
    if torch.compiler.is_exporting():
        # The same averages; OpenVINO runs a mean over two of six sides as reference code (docs/adr/0021).
        return F.avg_pool2d(x, (height // rows, width // columns)).flatten(1)
    grid = x.reshape(count, channels, rows, height // rows, columns, width // columns)
    return grid.mean(dim=(3, 5)).flatten(1)
