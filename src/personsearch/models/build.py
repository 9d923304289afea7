"""From a recipe's model part to a network."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DepthwiseTrunk, HdlRecipe, ModelRecipe, ResNetTrunk
from personsearch.models.backbones.depthwise import DepthwiseSeparable
from personsearch.models.backbones.resnet_c4 import ResNetC4
from personsearch.models.backbones.shufflenet import ShuffleNet
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.detectors.two_stage import TwoStageSearch
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonHead
from personsearch.models.search_model import SearchModel


def build_model(recipe: ModelRecipe, preprocess: Preprocess, person_count: int) -> SearchModel:
    """A new network of ``recipe`` for frames of ``preprocess`` and ``person_count`` training identities.

    Raises:
        InputError: the input size does not fit the trunk's stride, or pretrained weights cannot be had.
    """
    if not isinstance(recipe, HdlRecipe):
        raise InputError(f"`model.kind` is '{recipe.kind}'", expected="'hdl'")
    trunk = _build_trunk(recipe)
    for side in preprocess.input_wh:
        if side % trunk.stride:
            raise InputError(
                f"preprocess.input_wh is {preprocess.input_wh}",
                expected=f"multiples of {trunk.stride}, the trunk's stride",
            )
    subnet = DetectionSubnet(
        trunk.out_channels, recipe.rpn_channels, len(recipe.anchor_heights), separable=recipe.rpn_separable
    )
    head = PersonHead(
        trunk.person_block(),
        trunk.out_channels,
        trunk.person_channels,
        person_count,
        attention=recipe.attention,
        stripes=recipe.stripes,
        refine_bins=recipe.refine_bins,
        dropout=recipe.dropout,
        identity_scale=recipe.identity_scale,
    )
    return TwoStageSearch(
        preprocess=preprocess,
        trunk=trunk,
        subnet=subnet,
        head=head,
        person_count=person_count,
        anchor_heights=recipe.anchor_heights,
        anchor_ratio=recipe.anchor_ratio,
        pool_size=recipe.pool_size,
        pre_nms=recipe.pre_nms,
        proposals=recipe.proposals,
        rpn_nms_iou=recipe.rpn_nms_iou,
        nms_iou=recipe.nms_iou,
        score_threshold=recipe.score_threshold,
        train_proposals=recipe.train_proposals,
        rois_per_image=recipe.rois_per_image,
        positive_fraction=recipe.positive_fraction,
        roi_negative_iou=recipe.roi_negative_iou,
        embed_refined=recipe.embed_refined,
    )


def _build_trunk(recipe: HdlRecipe) -> Trunk:
    trunk = recipe.trunk
    if isinstance(trunk, ResNetTrunk):
        return ResNetC4(
            depth=trunk.depth,
            width=trunk.width,
            stride=trunk.stride,
            attention=recipe.attention,
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
            attention=recipe.attention,
        )
    return ShuffleNet(
        stride=trunk.stride,
        neck_channels=trunk.neck_channels,
        person_channels=trunk.person_channels,
        attention=recipe.attention,
        weights=None if trunk.weights is None else Path(trunk.weights),
    )
