"""Learning from a frozen look-up table: the loss against it, at any width, and a table of a network of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.losses.memory import RingQueue, full_precision
from personsearch.models import SearchModel
from personsearch.models.checkpoint import load_model
from personsearch.models.search_model import TrainOutput

Projection = Literal["orthogonal", "linear"]


def frozen_table_loss(
    embeddings: Tensor, person_ids: Tensor, table: Tensor, queue: Tensor | None = None, *, scale: float
) -> Tensor:
    """OIM's cross-entropy against rows that nobody writes, mean over the people that the table knows.

    Munjal et al., section 4.2, where ``table`` is V. An identity whose row is zero was never seen by the teacher:
    there is nothing to pull its people to, they do not count.

    Args:
        embeddings: ``(R, D)`` unit rows.
        person_ids: ``(R,)`` int64; negative rows do not count.
        table: ``(P, D)``, L2-normalised rows.
        queue: ``(Q, D)`` embeddings of people without identity, further negatives; none without them.
        scale: of the cosines, 1 / temperature.

    Returns:
        A scalar; 0, with a gradient path, where nobody counts.

    Raises:
        ValueError: shapes do not fit, or an id is not below P.
    """
    rows = table if queue is None else torch.cat([table, queue])
    if embeddings.ndim != 2 or rows.shape[1:] != embeddings.shape[1:] or person_ids.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)}, person ids {tuple(person_ids.shape)} and rows "
            f"{tuple(rows.shape)}: expected (R, D), (R,) and (P + Q, D)"
        )
    if len(person_ids) and int(person_ids.max()) >= len(table):
        raise ValueError(f"person id {int(person_ids.max())} with only {len(table)} identities")
    counted = (person_ids >= 0) & table.any(dim=1)[person_ids.clamp(min=0)]
    ids = person_ids[counted]
    with full_precision(embeddings.device):
        logits = scale * (embeddings[counted].float() @ rows.float().T)  # (counted, P + Q)
    return F.cross_entropy(logits, ids, reduction="sum") / max(1, len(ids))


class FrozenTableLoss(nn.Module):
    """`frozen_table_loss` of raw embeddings, behind a trained projection where the table has another width.

    The projection W belongs to the loss. It is thrown away with the teacher: **people are matched in the student's
    own space**, so that neither embedding nor graph grows. ``orthogonal`` keeps W's columns orthonormal, which makes
    that exact: ``cos(Wx, Wy) = cos(x, y)``, what is learnt in the table's space holds in the student's. It needs a
    student no wider than the table. ``linear`` is free; it may stretch directions, and the cosines of the student's
    space are then not those that were trained.

    Args:
        student_width: of the student's embedding.
        table_width: of a row; the student's width needs no projection.
        projection: see above; none only where the widths are equal.
        scale: of the cosines.
        queue: the student's own memory of people without identity, read only; none without one.

    Raises:
        ValueError: the widths do not allow the projection.
    """

    def __init__(
        self,
        student_width: int,
        table_width: int,
        *,
        projection: Projection | None,
        scale: float,
        queue: RingQueue | None = None,
    ) -> None:
        super().__init__()
        if projection is None and student_width != table_width:
            raise ValueError(f"embeddings are {student_width} wide, the table's rows {table_width}")
        if projection == "orthogonal" and student_width > table_width:
            raise ValueError(f"embeddings of width {student_width} do not fit into {table_width} without loss")
        self.projection: nn.Module | None = None
        if student_width != table_width:
            layer = nn.Linear(student_width, table_width, bias=False)
            nn.init.orthogonal_(layer.weight)
            self.projection = orthogonal(layer) if projection == "orthogonal" else layer
        self._scale = scale
        # Held without being registered: it is the student's, and is saved with it.
        self._queue = (queue,)

    def forward(self, embedding: Tensor, table: Tensor, output: TrainOutput) -> Tensor:
        """``(R, D_s)`` before normalisation and ``(P, D_t)`` to a scalar; ids are those of the student's RoIs."""
        queue = self._queue[0]
        with full_precision(embedding.device):
            negatives = None if queue is None else self._projected(queue.rows)
            rows = F.normalize(self._projected(embedding.float()))
            return frozen_table_loss(rows, output.roi_person_ids, table, negatives, scale=self._scale)

    def _projected(self, rows: Tensor) -> Tensor:
        # Scaled to length 1 again: only an orthogonal layer keeps lengths. A row of zeros stays one.
        return rows if self.projection is None else F.normalize(self.projection(rows))


class ModelEmbedder:
    """Describes boxes of a frame with a network of this project, for a table of its mean embeddings.

    Networks that learnt identities by softmax have no look-up table; one row an identity, the mean of its embeddings,
    is what Munjal et al. (section 6.1) would give a student in its place.

    Args:
        model: in evaluation mode.
        source: what it is, for records.

    Attributes:
        embedding_dim: width of an embedding.
    """

    def __init__(self, model: SearchModel, source: str) -> None:
        self._model, self.source = model.eval(), source
        self.embedding_dim = model.embedding_dim

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised embeddings of ``(N, 4)`` boxes in pixels of ``frame``."""
        image, place = self._model.preprocess.letterbox(frame)
        device = next(self._model.parameters()).device
        boxes = torch.from_numpy(np.asarray(place.to_input(boxes_xyxy), np.float32)).to(device)
        (found,) = self._model.embed(torch.from_numpy(image).to(device)[None], [boxes])
        return np.asarray(found.float().cpu().numpy(), np.float32)


def open_embedder(path: Path) -> ModelEmbedder:
    """The network of a checkpoint as an embedder.

    Raises:
        InputError: no checkpoint, or its network has no embeddings.
    """
    model, checkpoint = load_model(path)
    if model.embedding_dim == 0:
        raise InputError(
            f"`{checkpoint.recipe.model.kind}` has no embeddings", where=str(path), expected="a network of identities"
        )
    return ModelEmbedder(model, f"{checkpoint.recipe.name} (sha256 {sha256_file(path)})")
