"""Re-ID networks as teachers, crop by crop: the student's embedding of a person follows theirs.

A look-up table (KD_reid) knows one direction an identity. The network that made it knows more: how this picture of the
person looks, and how people look who have no identity. So it is asked about every true box of the frames that the
student sees, as the student sees them, and the student learns to give the same answer from its own feature maps. In
neither paper; the criterion is plain regression of a normalised embedding, as in Romero et al., "FitNets", ICLR 2015,
on the last layer in place of a hidden one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, clip_boxes
from personsearch.core.preprocess import Frame
from personsearch.core.similarity import l2_normalise
from personsearch.data.sample import IGNORE, SearchDataset
from personsearch.distill.relation import relation_loss
from personsearch.distill.task import Criteria, Knowledge
from personsearch.distill.teachers import Teacher
from personsearch.models import SearchModel
from personsearch.models.boxes import decode
from personsearch.models.detectors.sampling import REFINE_WEIGHTS
from personsearch.models.search_model import TrainOutput
from personsearch.train.task import TaskBatch

TAP = "crop_embedding"
_MIN_SIDE_PX = 4
"""Of what is visible of a person: less tells a re-ID network nothing."""


class CropNetwork(Protocol):
    """A network on crops, such as `personsearch.distill.sources.crop_embedder.CropEmbedder`."""

    embedding_dim: int

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised embeddings of ``(N, 4)`` boxes in pixels of ``frame``."""


class CropTeacher(Teacher):
    """Re-ID networks on the people of a batch; its one tap is ``crop_embedding`` ``(R, D)``.

    A row is that of the person on whom a RoI was found to lie, whatever the RoI's own box: the networks see the true
    box. Rows of RoIs on nobody are zero. Several networks are concatenated, each centred and of length 1, so that a
    cosine is the mean of theirs.

    What they say depends on the labels alone, so `begin` lets them run in a thread beside the student's forward pass:
    on one core they take a quarter of the street student's step.

    Args:
        networks: at least one.
        centres: for each network ``(D_i,)``, subtracted before its rows are scaled to length 1; see `centres_of`.
    """

    def __init__(self, networks: Sequence[CropNetwork], centres: Sequence[FloatArray]) -> None:
        super().__init__()
        if not networks or [len(centre) for centre in centres] != [one.embedding_dim for one in networks]:
            raise ValueError(f"{len(networks)} networks and {len(centres)} centres: expected one of its width for each")
        self._networks, self._centres = tuple(networks), tuple(centres)
        self.embedding_dim = sum(one.embedding_dim for one in networks)
        self._thread: ThreadPoolExecutor | None = None
        self._begun: tuple[TaskBatch, Future[list[FloatArray]]] | None = None

    def begin(self, batch: TaskBatch) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="crop-teacher")
        self._begun = batch, self._thread.submit(self._describe, batch)

    def taps(self, batch: TaskBatch, output: TrainOutput, wanted: Collection[str]) -> dict[str, Tensor]:
        begun, self._begun = self._begun, None
        known = self._describe(batch) if begun is None or begun[0] is not batch else begun[1].result()
        positive = output.targets["rcn_positive"].cpu().numpy()
        rois = torch.cat(output.rois)
        people = decode(output.targets["rcn_deltas"].to(rois.dtype), rois, REFINE_WEIGHTS).detach().cpu().numpy()
        rows = np.zeros((len(positive), self.embedding_dim), np.float32)
        first = 0
        for boxes, described, true_boxes in zip(output.rois, known, _true_boxes(batch), strict=True):
            own = first + np.flatnonzero(positive[first : first + len(boxes)])
            first += len(boxes)
            if len(own):
                # Targets went through the box code and back: they differ from the labels in the last bits.
                away = np.abs(people[own, None] - true_boxes[None]).max(axis=2)
                rows[own] = described[away.argmin(axis=1)]
        return {TAP: torch.from_numpy(rows).to(rois.device)}

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` rows of length 1 for boxes ``(N, 4)``; 0 where nothing of a box is seen."""
        height, width = frame.shape[:2]
        inside = clip_boxes(np.asarray(boxes_xyxy, np.float64), (width, height))
        seen = (inside[:, 2:] - inside[:, :2] >= _MIN_SIDE_PX).all(axis=1)
        rows = np.zeros((len(inside), self.embedding_dim), np.float32)
        if seen.any():
            parts = [one.embed(frame, inside[seen]) for one in self._networks]
            centred = [l2_normalise(part - centre) for part, centre in zip(parts, self._centres, strict=True)]
            rows[seen] = l2_normalise(np.concatenate(centred, axis=1))
        return rows

    def _describe(self, batch: TaskBatch) -> list[FloatArray]:
        """For each image the rows ``(G, D)`` of its people."""
        images = batch.images.cpu().numpy()
        return [self.embed(image, boxes) for image, boxes in zip(images, _true_boxes(batch), strict=True)]


def _true_boxes(batch: TaskBatch) -> list[FloatArray]:
    """For each image ``(G, 4)``: its people, without regions to ignore."""
    pairs = zip(batch.boxes, batch.person_ids, strict=True)
    return [boxes[ids != IGNORE].cpu().numpy() for boxes, ids in pairs]


def centres_of(networks: Sequence[CropNetwork], dataset: SearchDataset, images: int) -> list[FloatArray]:
    """Each network's mean embedding ``(D,)`` over the true boxes of ``images`` frames, spread over the data set.

    Networks whose last layer is not negative give everybody much the same direction; without it cosines use the
    whole range, and a student does not spend itself on what all people share.

    Raises:
        InputError: nobody stands in these frames.
    """
    picked = np.unique(np.linspace(0, len(dataset) - 1, min(images, len(dataset))).astype(int))
    sums, count = [np.zeros(one.embedding_dim) for one in networks], 0
    for index in picked.tolist():
        sample = dataset[index]
        inside = clip_boxes(sample.boxes_xyxy, sample.image_wh)
        used = (sample.person_ids > -2) & (inside[:, 2:] - inside[:, :2] >= _MIN_SIDE_PX).all(axis=1)
        if used.any():
            frame = dataset.frame_bgr(index)
            for total, one in zip(sums, networks, strict=True):
                total += one.embed(frame, inside[used]).sum(axis=0, dtype=np.float64)
            count += int(used.sum())
    if not count:
        raise InputError(
            f"{len(picked)} images show nobody", where=dataset.name, expected="people, to centre a teacher on"
        )
    return [(total / count).astype(np.float32) for total in sums]


def crop_knowledge(
    student: SearchModel, teacher: CropTeacher, *, lambda_embedding: float, lambda_relation: float
) -> Knowledge:
    """Embeddings, and cosines between people, as re-ID networks see them.

    Args:
        student: learns.
        teacher: knows.
        lambda_embedding: weight of `embedding_loss`; 0 leaves it out, and the widths may then differ.
        lambda_relation: weight of `relation_loss` over all people of the batch, with an identity or without.

    Raises:
        InputError: the student's embedding has another width than the teacher's and is to equal it.
        ValueError: both weights are 0.
    """
    criteria: dict[str, Criteria] = {}
    if lambda_embedding:
        if student.embedding_dim != teacher.embedding_dim:
            raise InputError(
                f"the student's embeddings are {student.embedding_dim} wide, those of its crop teachers "
                f"{teacher.embedding_dim} together",
                where="crops",
                expected="equal widths, as one is to equal the other",
                remedy=f"set model.embedding_dim={teacher.embedding_dim}, or crops.lambda_embedding=0",
            )
        criteria["crop_embedding"] = Criteria(lambda_embedding, {("embedding", TAP): _on_embeddings})
    if lambda_relation:
        criteria["crop_relation"] = Criteria(lambda_relation, {("embedding", TAP): _on_relations})
    if not criteria:
        raise ValueError("lambda_embedding or lambda_relation must be above 0")
    return Knowledge(teacher, criteria)


def embedding_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Mean of 1 - cosine over the rows that the teacher describes.

    Args:
        student_embedding: ``(R, D)``, before normalisation.
        teacher_embedding: ``(R, D)``, of the same people; rows of zeros do not count.

    Returns:
        A scalar in [0, 2]; exactly 0, with a gradient path, where no row counts.

    Raises:
        ValueError: the shapes differ.
    """
    if student_embedding.shape != teacher_embedding.shape:
        raise ValueError(f"student {tuple(student_embedding.shape)}, teacher {tuple(teacher_embedding.shape)}")
    counted = teacher_embedding.any(dim=1)
    if not counted.any():
        return student_embedding.sum() * 0
    wide = torch.promote_types(student_embedding.dtype, torch.float32)
    cosines = F.cosine_similarity(student_embedding[counted].to(wide), teacher_embedding[counted].to(wide))
    return (1 - cosines).mean()


def _on_embeddings(student: Tensor, teacher: Tensor, output: TrainOutput) -> Tensor:
    return embedding_loss(student, teacher)


def _on_relations(student: Tensor, teacher: Tensor, output: TrainOutput) -> Tensor:
    # Whoever the teacher describes takes part, also people without an identity.
    return relation_loss(student, teacher, torch.where(teacher.any(dim=1), 0, -1))
