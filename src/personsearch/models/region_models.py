"""From recipes of the Faster R-CNN family to networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from personsearch.core.model_recipes import (
    AnchorRecipe,
    GridAnchors,
    HdlRecipe,
    MemoryRecipe,
    OimRecipe,
    RegionRecipe,
)
from personsearch.core.preprocess import Preprocess
from personsearch.losses.oim import IdentityMemory
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.boxes import grid_shapes, person_shapes
from personsearch.models.detectors.faster_rcnn import FasterRCNN
from personsearch.models.detectors.oim import OIMSearch
from personsearch.models.detectors.regions import RegionSettings
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.region_head import RegionHead

PROPOSAL_BETA = 1 / 9
"""Where smooth L1 of the proposals turns into a line, and in HDL's network that of the second stage."""
REFINE_BETA = 1.0
"""Faster R-CNN's for the second stage."""


def build_faster_rcnn(recipe: RegionRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> FasterRCNN:
    """A detector without embeddings."""
    head = RegionHead(trunk.person_block(), trunk.person_channels)
    return FasterRCNN(head=head, embedding_dim=0, **region_parts(recipe, trunk, preprocess, person_count))


def build_oim(recipe: OimRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> OIMSearch:
    """OIM's network."""
    return OIMSearch(
        head=RegionHead(
            trunk.person_block(),
            trunk.person_channels,
            recipe.embedding_dim,
            norm_embedding=recipe.embedding_norm == "batch",
        ),
        embedding_dim=recipe.embedding_dim,
        memory=build_memory(recipe, person_count),
        **region_parts(recipe, trunk, preprocess, person_count),
    )


def build_memory(recipe: MemoryRecipe, person_count: int) -> IdentityMemory:
    """The look-up table and queue of a recipe."""
    return IdentityMemory(
        person_count,
        recipe.embedding_dim,
        scale=recipe.scale,
        momentum=recipe.momentum,
        renormalise=recipe.renormalise,
        queue_size=recipe.queue_size,
        queue_dims=recipe.queue_dims,
    )


def region_parts(recipe: RegionRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> dict[str, Any]:
    """The arguments that every `RegionSearch` of the family has, but for head and embedding."""
    shapes = anchor_shapes(recipe.anchors)
    return {
        "preprocess": preprocess,
        "trunk": trunk,
        "subnet": DetectionSubnet(
            trunk.out_channels,
            recipe.rpn_channels,
            len(shapes),
            separable=recipe.rpn_separable,
            kernel=recipe.rpn_kernel,
        ),
        "person_count": person_count,
        "anchor_shapes": shapes,
        "settings": region_settings(recipe),
    }


def anchor_shapes(anchors: AnchorRecipe) -> Tensor:
    """Width and height ``(A, 2)`` of a recipe's anchors, input pixels."""
    if isinstance(anchors, GridAnchors):
        return grid_shapes(anchors.sizes, anchors.ratios)
    return person_shapes(anchors.heights, anchors.ratio)


def region_settings(recipe: RegionRecipe | HdlRecipe) -> RegionSettings:
    """Counts and thresholds of a recipe. HDL's exported graph has those of its test.

    No graph looks at more proposals than its network does at test: it would find other people than the checkpoint.
    """
    if isinstance(recipe, HdlRecipe):
        own = {
            "graph_pre_nms": recipe.pre_nms,
            "graph_proposals": recipe.proposals,
            "train_pre_nms": 4 * recipe.train_proposals,
        }
        beta, embed_refined = PROPOSAL_BETA, recipe.embed_refined
    else:
        own = {
            "graph_pre_nms": min(recipe.graph_pre_nms, recipe.pre_nms),
            "graph_proposals": min(recipe.graph_proposals, recipe.proposals),
            "train_pre_nms": recipe.train_pre_nms,
        }
        beta, embed_refined = REFINE_BETA, False
    return RegionSettings(
        pool_hw=_both(recipe.pool_size),
        pre_nms=recipe.pre_nms,
        proposals=recipe.proposals,
        proposal_peaks=recipe.proposal_peaks,
        rpn_nms_iou=recipe.rpn_nms_iou,
        nms_iou=recipe.nms_iou,
        score_threshold=recipe.score_threshold,
        train_proposals=recipe.train_proposals,
        rois_per_image=recipe.rois_per_image,
        positive_fraction=recipe.positive_fraction,
        roi_negative_iou=recipe.roi_negative_iou,
        refine_beta=beta,
        embed_refined=embed_refined,
        **own,
    )


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a side, or of the two."""
    return (size, size) if isinstance(size, int) else size
