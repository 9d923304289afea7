"""From recipes of NAE and SeqNet to networks."""

from __future__ import annotations

import copy

from personsearch.core.model_recipes import MemoryRecipe, NaeRecipe, SeqNetRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.detectors.nae import NAESearch
from personsearch.models.detectors.seqnet import MaxRegionHead, SeqNet
from personsearch.models.heads.norm_aware import NormAwareHead
from personsearch.models.region_models import build_memory, region_parts


def build_nae(recipe: NaeRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> NAESearch:
    """NAE's network."""
    head = norm_aware_head(recipe, trunk)
    return NAESearch(
        head=head,
        embedding_dim=head.embedding_dim,
        memory=build_memory(recipe, person_count),
        **region_parts(recipe, trunk, preprocess, person_count),
    )


def build_seqnet(recipe: SeqNetRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> SeqNet:
    """SeqNet's network."""
    second = norm_aware_head(recipe, trunk)
    return SeqNet(
        first=MaxRegionHead(copy.deepcopy(second.block), trunk.person_channels),
        second_nms_iou=recipe.second_nms_iou,
        head=second,
        embedding_dim=second.embedding_dim,
        memory=build_memory(recipe, person_count),
        **region_parts(recipe, trunk, preprocess, person_count),
    )


def norm_aware_head(recipe: MemoryRecipe, trunk: Trunk) -> NormAwareHead:
    """The head of both on a trunk's map."""
    return NormAwareHead(
        trunk.person_block(), trunk.out_channels, trunk.person_channels, embedding_dim=recipe.embedding_dim
    )
