"""QSimNet: how likely two people are one (Munjal et al., CVPR 2019, section 4.3)."""

from __future__ import annotations

from torch import Tensor, nn

from personsearch.models.norms import RowNorm


class QuerySimilarityNet(nn.Module):
    """Squared differences of two unit embeddings, batch norm, one layer with two logits (another, the same person).

    Args:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.norm = RowNorm(embedding_dim)
        self.logits = nn.Linear(embedding_dim, 2)

    def forward(self, query: Tensor, people: Tensor) -> Tensor:
        """Logits ``(R, 2)`` of unit embeddings ``(R, D)``; the softmax of the second is the search score."""
        logits: Tensor = self.logits(self.norm((query - people).square()))
        return logits
