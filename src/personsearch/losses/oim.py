"""Online instance matching: cross-entropy against memories (Xiao et al., CVPR 2017, equations 1 to 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.losses.memory import LookupTable, RingQueue, gather_rows_of_all


def oim_loss(
    embeddings: Tensor, person_ids: Tensor, table: LookupTable, queue: RingQueue, *, scale: float = 10.0
) -> Tensor:
    """Softmax cross-entropy of labelled people over the rows of table and queue, mean over the labelled.

    People without identity have no loss of their own; in the queue they are the labelled people's negatives. Table
    and queue are constants here and are not written: that is `LookupTable.update` and `RingQueue.update`.

    Args:
        embeddings: ``(R, D)`` unit rows.
        person_ids: ``(R,)`` int64; negative rows do not count.
        table: P rows.
        queue: Q rows.
        scale: of the cosines; 10 in OIM, 30 in NAE and later.

    Returns:
        A scalar; 0 with a gradient path, not NaN, where nobody is labelled.

    Raises:
        ValueError: shapes do not fit, or an id is not below P.
    """
    if embeddings.ndim != 2 or person_ids.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} and person ids {tuple(person_ids.shape)} do not fit")
    labelled = person_ids >= 0
    rows, ids = embeddings[labelled], person_ids[labelled]
    if len(ids) and int(ids.max()) >= len(table.rows):
        raise ValueError(f"person id {int(ids.max())} with only {len(table.rows)} identities")
    logits = scale * torch.cat([table(rows), queue(rows)], dim=1)  # (labelled, P + Q)
    return F.cross_entropy(logits, ids, reduction="sum") / max(1, len(ids))


class IdentityMemory(nn.Module):
    """Table, queue and the rows that wait to be written to them.

    Forward and backward may run several times an optimiser step (accumulated gradients, a repeated backward) and
    leave the memories as they are; `update` writes the rows of all of them once.

    Args:
        person_count: identities, P.
        dim: width of an embedding.
        scale: of the cosines.
        momentum: of `LookupTable`.
        renormalise: of `LookupTable`.
        queue_size: of `RingQueue`.
        queue_dims: ``write_dims`` of `RingQueue`.
    """

    def __init__(
        self,
        person_count: int,
        dim: int,
        *,
        scale: float = 10.0,
        momentum: float = 0.5,
        renormalise: bool = True,
        queue_size: int = 5000,
        queue_dims: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.table = LookupTable(person_count, dim, momentum=momentum, renormalise=renormalise)
        self.queue = RingQueue(queue_size, dim, write_dims=queue_dims)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def forward(self, embeddings: Tensor, person_ids: Tensor) -> Tensor:
        """`oim_loss` of unit embeddings ``(R, D)``."""
        return oim_loss(embeddings, person_ids, self.table, self.queue, scale=self.scale)

    def identity_logits(self, embeddings: Tensor) -> Tensor:
        """Scaled cosines ``(R, P)`` of unit embeddings ``(R, D)`` with the table's rows."""
        products: Tensor = self.table(embeddings)
        return self.scale * products

    def remember(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """Leaves unit embeddings ``(R, D)`` and ids ``(R,)`` (-1 without identity, -2 neither) for `update`."""
        self._waiting.append((embeddings.detach(), person_ids))

    @torch.no_grad()
    def update(self) -> None:
        """Writes what waits on this and every other process, in the order of ranks; all have to call it."""
        rows = self.table.rows
        embeddings = torch.cat([rows.new_zeros((0, rows.shape[1])), *(one.to(rows.dtype) for one, _ in self._waiting)])
        person_ids = torch.cat([rows.new_zeros(0, dtype=torch.int64), *(ids for _, ids in self._waiting)])
        self._waiting.clear()
        embeddings, person_ids = gather_rows_of_all(embeddings, person_ids)
        self.table.write(embeddings, person_ids)
        self.queue.write(embeddings, person_ids)
