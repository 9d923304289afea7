"""The contract between a network and everything that trains, distils, exports or measures it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from personsearch.core.detections import Detections
from personsearch.core.preprocess import Preprocess
from personsearch.core.split import SplitSettings


@dataclass(frozen=True)
class TrainOutput:
    """What one training forward yields.

    Attributes:
        losses: one scalar a task, under names that are never summed away.
        taps: named maps for distillation: ``feature.<level>`` and ``attention.<level>`` of shape (B, C, h, w)
            for scene levels and (R, C, h, w) for level ``person``, ``embedding`` (R, D) before normalisation, and
            ``identity_logits`` (R, P).
        rois: for each image ``(N_i, 4)`` xyxy input pixels, the sampled RoIs; R is their total.
        roi_person_ids: ``(R,)`` int64, the identity of RoIs that lie on a labelled person, -1 elsewhere.
        anchors: for each image the indices of the sampled anchors, positive ones first; none where the network
            exposes no taps of them (``rpn_logits`` (S, 2), ``rpn_deltas`` (S, 4), S their total).
        targets: what the labels say of the sampled anchors and RoIs, rows as in the taps: ``rpn_positive`` (S,) and
            ``rcn_positive`` (R,) bool, ``rpn_deltas`` (S, 4) and ``rcn_deltas`` (R, 4), 0 where not positive.
    """

    losses: dict[str, Tensor]
    taps: dict[str, Tensor]
    rois: list[Tensor]
    roi_person_ids: Tensor
    anchors: list[Tensor] | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SplitParts:
    """A network as two graphs that the host joins.

    Attributes:
        scene: frames (1, H, W, 3) to proposals (1, N, 4), objectness (1, N) and feature (1, h, w, C).
        person: feature and boxes (1, P, 4) to margins (1, P), refined (1, P, 4) and, but for a detector, embeddings
            (1, P, D).
        settings: what the host needs to join them.
    """

    scene: nn.Module
    person: nn.Module
    settings: SplitSettings


class SearchModel(nn.Module, ABC):
    """A network that detects people in frames and embeds each of them.

    Frames are uint8 ``(B, H, W, 3)`` BGR, letterboxed by ``preprocess``; boxes are xyxy in input pixels.
    """

    preprocess: Preprocess
    embedding_dim: int
    person_count: int
    max_detections: int
    score_threshold: float
    training_frames: int = 1
    """Frames that go through the trunk for one image of a training batch."""

    @abstractmethod
    def forward(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> TrainOutput:
        """A training step's losses and taps.

        Args:
            images: ``(B, H, W, 3)`` uint8.
            boxes: for each image ``(N, 4)``.
            person_ids: for each image ``(N,)``: identity, -1 without identity, -2 to ignore.
        """

    def losses(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> dict[str, Tensor]:
        """One scalar a task; arguments as `forward`."""
        output: TrainOutput = self(images, boxes, person_ids)
        return output.losses

    def update_memories(self) -> None:
        """Writes what the training forwards since the last call have left for the network's memories.

        Called once an optimiser step, after backward, on every process; a network without memories does nothing.
        """

    @abstractmethod
    def taps(self, images: Tensor, rois: list[Tensor], anchors: list[Tensor] | None = None) -> dict[str, Tensor]:
        """The maps of `TrainOutput.taps` at the given RoIs, and anchors where they are given, rows in their order."""

    @abstractmethod
    def detect(self, images: Tensor) -> list[Detections]:
        """The people in each image above ``score_threshold``, in input pixels."""

    @abstractmethod
    def embed(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        """For each image the embeddings ``(N, D)``, L2-normalised, of the given boxes."""

    @abstractmethod
    def deployable(self, max_detections: int | None = None) -> nn.Module:
        """The fixed-shape search graph: frames in; boxes (B, K, 4), scores (B, K), embeddings (B, K, D) out."""

    @abstractmethod
    def deployable_query(self, query_boxes: int) -> nn.Module:
        """The fixed-shape query graph: frames (1, H, W, 3), boxes (1, Q, 4) in; embeddings (1, Q, D) out."""

    @abstractmethod
    def deployable_split(self, person_boxes: int, floor: float) -> SplitParts:
        """The search graph as a scene graph and a person graph for ``person_boxes`` boxes, joined by the host.

        Raises:
            InputError: the network cannot be split so.
        """

    @abstractmethod
    def scene_module(self) -> nn.Module:
        """What runs once a frame, as a module over frames: trunk and person detection subnet."""

    @abstractmethod
    def person_module(self) -> nn.Module:
        """What runs once a person, as a module over a pooled crop of ``person_input_shape``."""

    @property
    @abstractmethod
    def person_input_shape(self) -> tuple[int, int, int, int]:
        """``(1, C, h, w)`` of one person's pooled crop."""


class FrameNormaliser(nn.Module):
    """uint8 ``(B, H, W, 3)`` BGR frames to float ``(B, 3, H, W)``, ``(pixel - mean) / std``.

    The cast comes before the transpose: TensorRT refuses to permute uint8.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean_bgr).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / torch.tensor(preprocess.std_bgr).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        images = frames.to(self.mean.dtype).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return (images - self.mean) * self.inverse_std
