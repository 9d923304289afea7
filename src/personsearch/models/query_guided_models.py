"""From QEEPS's recipe to its network."""

from __future__ import annotations

from personsearch.core.model_recipes import QeepsRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.models.backbones.siamese import SiameseTrunk
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.detectors.qeeps import QEEPS
from personsearch.models.heads.query_proposals import QueryProposalNet
from personsearch.models.heads.query_similarity import QuerySimilarityNet
from personsearch.models.heads.region_head import RegionHead
from personsearch.models.region_models import build_memory, region_parts


def build_siamese_trunk(recipe: QeepsRecipe) -> SiameseTrunk:
    """The trunk of a recipe."""
    trunk = recipe.trunk
    return SiameseTrunk(
        depth=trunk.depth,
        width=trunk.width,
        stride=trunk.stride,
        pretrained=trunk.pretrained,
        norm=trunk.norm,
        frozen_stages=trunk.frozen_stages,
        reduction=recipe.query_reduction,
        gate=recipe.query_gate,
        levels=recipe.query_levels,
    )


def build_qeeps(recipe: QeepsRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> QEEPS:
    """QEEPS's network."""
    parts = region_parts(recipe, trunk, preprocess, person_count)
    return QEEPS(
        query_proposals=QueryProposalNet(
            trunk.out_channels,
            recipe.rpn_channels,
            len(parts["anchor_shapes"]),
            reduction=recipe.query_reduction,
            gate=recipe.query_gate,
        ),
        similarity=QuerySimilarityNet(recipe.embedding_dim),
        identity_rows=recipe.identity_rows,
        similarity_rois=recipe.similarity_rois,
        head=RegionHead(
            trunk.person_block(),
            trunk.person_channels,
            recipe.embedding_dim,
            norm_embedding=recipe.embedding_norm == "batch",
        ),
        embedding_dim=recipe.embedding_dim,
        memory=build_memory(recipe, person_count),
        **parts,
    )
