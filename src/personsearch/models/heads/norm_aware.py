"""Norm-aware head: the embedding's length says whether it is a person, its direction says who (NAE, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from personsearch.models.heads.person_head import PersonOutput
from personsearch.models.norms import RowNorm

INIT_STD = 0.01


class NormAwareEmbedding(nn.Module):
    """Projections of several levels side by side; length and direction of the result are two answers.

    Chen et al., "Norm-aware embedding for efficient person search", CVPR 2020, section 3. Each level gets a linear
    layer and a batch norm, the parts are concatenated to ``e``. ``e / |e|`` is the re-ID feature;
    ``sigmoid(BN(|e|))`` is the person score, with a batch norm of one channel that learns where on the scale of
    lengths people begin. Weights of the projections and of their batch norms start at N(0, 0.01), as published, so
    lengths start small and the scale of one channel (1) and its shift (0) decide the first scores.

    Args:
        in_channels: width of each level's vector.
        dim: width of the embedding, split evenly; what does not divide goes to the last level.

    Raises:
        ValueError: fewer dimensions than levels.
    """

    def __init__(self, in_channels: Sequence[int], dim: int = 256) -> None:
        super().__init__()
        if not 0 < len(in_channels) <= dim:
            raise ValueError(f"{dim} dimensions for {len(in_channels)} levels")
        share = dim // len(in_channels)
        widths = [share] * (len(in_channels) - 1)
        widths.append(dim - sum(widths))
        self.dim = dim
        self.projections = nn.ModuleList(
            normalised_linear(channels, width) for channels, width in zip(in_channels, widths, strict=True)
        )
        self.rescale = RowNorm(1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Vectors ``(R, C_l)`` of each level to ``e`` ``(R, D)``, before normalisation."""
        if len(levels) != len(self.projections):
            raise ValueError(f"{len(levels)} levels for {len(self.projections)} projections")
        parts = [project(level) for project, level in zip(self.projections, levels, strict=True)]
        return torch.cat(parts, dim=1)

    def margin(self, raw_embedding: Tensor) -> Tensor:
        """The logit ``(R,)`` of the person score, of embeddings ``(R, D)`` before normalisation."""
        # Never in half precision: squares of small entries are lost in fp16, small differences of lengths in bf16.
        precise = torch.promote_types(raw_embedding.dtype, torch.float32)
        length = torch.linalg.vector_norm(raw_embedding, dim=1, keepdim=True, dtype=precise)
        margin: Tensor = self.rescale(length).squeeze(1)
        return margin


class NormAwareHead(nn.Module):
    """The per-person block with norm-aware embedding and box layer on top.

    Two levels are embedded: the maximum over the pooled crop (conv4) and over the block's output (conv5). The box
    layer, a linear layer with batch norm, reads the second. Differs from the published code: four deltas, not
    eight, as the background's four were never used there.

    The person logit m is returned as the pair (0, m): its softmax is ``sigmoid(m)`` and the cross-entropy of the pair
    is the binary cross-entropy of m, so that whatever reads two class logits reads these.

    Args:
        block: the per-person block, ``(R, C, h, w)`` to ``(R, c, h', w')``.
        in_channels: C.
        channels: c.
        embedding_dim: D, half from each level.
    """

    def __init__(self, block: nn.Module, in_channels: int, channels: int, *, embedding_dim: int = 256) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.block = block
        self.embedding = NormAwareEmbedding((in_channels, channels), embedding_dim)
        self.box_deltas = normalised_linear(channels, 4)

    def forward(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> PersonOutput:
        """``(R, C, h, w)`` pooled crops to a `PersonOutput`; notes the block's map in ``taps`` when given."""
        answers = self.person_map(pooled, taps)
        return PersonOutput(*self.refine(answers), self.embed(answers))

    def person_map(self, pooled: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """What `refine` and `embed` read, ``(R, D + 4)``: the embedding before normalisation, then the deltas.

        Both need the crop as well as the block's map, so there is no one map to hand on between them.
        """
        block_map = self.block(pooled)
        if taps is not None:
            taps["feature.person"] = block_map
        before, after = pooled.amax(dim=(2, 3)), block_map.amax(dim=(2, 3))
        raw_embedding = self.embedding((before, after))
        return torch.cat([raw_embedding, self.box_deltas(after)], dim=1)

    def refine(self, person_map: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits ``(R, 2)`` and box deltas ``(R, 4)`` of `person_map`'s output."""
        raw_embedding, deltas = torch.split(person_map, [self.embedding_dim, 4], dim=1)
        return two_way(self.embedding.margin(raw_embedding)), deltas

    def embed(self, person_map: Tensor) -> Tensor:
        """The embedding ``(R, D)`` before normalisation, of `person_map`'s output."""
        return person_map[:, : self.embedding_dim]


def normalised_linear(in_channels: int, out_channels: int) -> nn.Sequential:
    """A linear layer with batch norm, all weights N(0, 0.01) and shifts 0, as NAE and SeqNet initialise theirs."""
    linear, norm = nn.Linear(in_channels, out_channels), RowNorm(out_channels)
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=INIT_STD)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)


def two_way(margin: Tensor) -> Tensor:
    """Logits ``(R, 2)`` of background and person whose softmax is the sigmoid of ``margin`` ``(R,)``."""
    return torch.stack([torch.zeros_like(margin), margin], dim=1)
