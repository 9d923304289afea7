"""Online instance matching: cross-entropy against memories (Xiao et al., CVPR 2017, equations 1 to 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from personsearch.losses.memory import LookupTable, RingQueue


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
