"""From a recipe's model part to a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import NaeRecipe, QeepsRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import (
    AttentionKind,
    DepthwiseTrunk,
    FasterRCNNRecipe,
    HdlRecipe,
    ModelRecipe,
    OimRecipe,
    ResNetTrunk,
)
from personsearch.core.student_trunk import FamilyTrunk
from personsearch.models.backbones.depthwise import DepthwiseSeparable
from personsearch.models.backbones.family import StudentTrunk
from personsearch.models.backbones.resnet_c4 import ResNetC4
from personsearch.models.backbones.shufflenet import ShuffleNet
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.boxes import person_shapes
from personsearch.models.detectors.two_stage import TwoStageSearch
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonHead
from personsearch.models.norm_aware_models import build_nae, build_seqnet
from personsearch.models.query_guided_models import build_qeeps, build_siamese_trunk
from personsearch.models.region_models import build_faster_rcnn, build_oim, region_settings
from personsearch.models.search_model import SearchModel
from personsearch.models.students import student_size


def without_start_weights(recipe: ModelRecipe) -> ModelRecipe:
    """The same network started at random: where its weights come from elsewhere, or only its shape is wanted.

    What it would have started from may not be at hand.
    """
    none = {name: value for name, value in (("pretrained", False), ("weights", None)) if hasattr(recipe.trunk, name)}
    return recipe.model_copy(update={"trunk": recipe.trunk.model_copy(update=none)})


def build_model(recipe: ModelRecipe, preprocess: Preprocess, person_count: int) -> SearchModel:
    """A new network of ``recipe`` for frames of ``preprocess`` and ``person_count`` training identities.

    Raises:
        InputError: the input size does not fit the trunk's stride, or pretrained weights cannot be had.
    """
    trunk: Trunk = build_siamese_trunk(recipe) if isinstance(recipe, QeepsRecipe) else _build_trunk(recipe)
    if any(side % trunk.stride for side in preprocess.input_wh):
        width, height = (max(1, round(side / trunk.stride)) * trunk.stride for side in preprocess.input_wh)
        raise InputError(
            f"preprocess.input_wh is {preprocess.input_wh}",
            expected=f"multiples of {trunk.stride}, the trunk's stride",
            remedy=f"the nearest that works is {width}x{height}",
        )
    if isinstance(recipe, HdlRecipe):
        return _build_hdl(recipe, trunk, preprocess, person_count)
    if isinstance(recipe, FasterRCNNRecipe):
        return build_faster_rcnn(recipe, trunk, preprocess, person_count)
    if isinstance(recipe, OimRecipe):
        return build_oim(recipe, trunk, preprocess, person_count)
    if isinstance(recipe, NaeRecipe):
        return build_nae(recipe, trunk, preprocess, person_count)
    if isinstance(recipe, QeepsRecipe):
        return build_qeeps(recipe, trunk, preprocess, person_count)
    return build_seqnet(recipe, trunk, preprocess, person_count)


def _build_hdl(recipe: HdlRecipe, trunk: Trunk, preprocess: Preprocess, person_count: int) -> TwoStageSearch:
    subnet = DetectionSubnet(
        trunk.out_channels,
        recipe.rpn_channels,
        len(recipe.anchor_heights),
        separable=recipe.rpn_separable,
        kernel=recipe.rpn_kernel,
    )
    settings, block = region_settings(recipe), trunk.person_block()
    _check_cells(recipe, block, trunk.out_channels, settings.pool_hw)
    head = PersonHead(
        block,
        trunk.out_channels,
        trunk.person_channels,
        person_count,
        attention=recipe.attention,
        stripes=recipe.stripes,
        refine_bins=recipe.refine_bins,
        dropout=recipe.dropout,
        identity_scale=recipe.identity_scale,
        embedding_dim=recipe.embedding_dim,
        norm=recipe.trunk.norm,
    )
    return TwoStageSearch(
        preprocess=preprocess,
        trunk=trunk,
        subnet=subnet,
        head=head,
        person_count=person_count,
        anchor_shapes=person_shapes(recipe.anchor_heights, recipe.anchor_ratio),
        settings=settings,
    )


def _check_cells(recipe: HdlRecipe, block: nn.Module, channels: int, pool_hw: tuple[int, int]) -> None:
    """Refuses averages over parts that a person's map cannot be cut into."""
    with torch.no_grad():
        rows, columns = block.eval()(torch.zeros(1, channels, *pool_hw)).shape[2:]
    block.train()
    for name, parts, sides in (
        ("stripes", recipe.stripes, [rows]),
        ("refine_bins", recipe.refine_bins, [rows, columns]),
    ):
        if any(side % parts for side in sides):
            raise InputError(
                f"`model.{name}` is {parts}, and a person's map has {rows}x{columns} cells",
                where="recipe",
                expected=f"a divisor of {' and '.join(str(side) for side in dict.fromkeys(sides))}",
                remedy=f"model.pool_size, {pool_hw[0]}x{pool_hw[1]}, decides how many there are",
            )


def _build_trunk(recipe: ModelRecipe) -> Trunk:
    trunk = recipe.trunk
    attention: AttentionKind = recipe.attention if isinstance(recipe, HdlRecipe) else "none"
    if isinstance(trunk, ResNetTrunk):
        return ResNetC4(
            depth=trunk.depth,
            width=trunk.width,
            stride=trunk.stride,
            attention=attention,
            pretrained=trunk.pretrained,
            norm=trunk.norm,
            frozen_stages=trunk.frozen_stages,
        )
    if isinstance(trunk, DepthwiseTrunk):
        return DepthwiseSeparable(
            stem_channels=trunk.stem_channels,
            channels=trunk.channels,
            stride=trunk.stride,
            modules=trunk.modules,
            person_channels=trunk.person_channels,
            attention=attention,
            norm=trunk.norm,
        )
    if isinstance(trunk, FamilyTrunk):
        size = asdict(student_size(trunk))
        return StudentTrunk(**size, stride=trunk.stride, attention=attention, norm=trunk.norm)
    return ShuffleNet(
        stride=trunk.stride,
        neck_channels=trunk.neck_channels,
        person_channels=trunk.person_channels,
        attention=attention,
        weights=None if trunk.weights is None else Path(trunk.weights),
        norm=trunk.norm,
    )
