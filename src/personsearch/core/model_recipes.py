"""What a recipe's `model` can be: one class a kind of network, each with its paper's defaults.

`ModelRecipe` is their union by ``kind``; a recipe without ``kind`` is an `HdlRecipe`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from personsearch.core.recipe import ADDED_LATER, StrictModel
from personsearch.core.student_trunk import FamilyTrunk, NormKind

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
AttentionKind = Literal["none", "light", "full"]


class ResNetTrunk(StrictModel):
    """HDL's teacher trunk: ResNet conv1 to conv4, conv5 for each person (HDL, section 3.6)."""

    kind: Literal["resnet_c4"] = "resnet_c4"
    depth: Literal[10, 18, 26, 50] = Field(default=50, description="10 and 18 have basic blocks; 26 and 50 bottlenecks")
    stride: Literal[8, 16] = Field(default=16, description="of the scene feature, HDL's r; 8 leaves conv4 unstrided")
    width: Positive = Field(default=64, description="channels of the stem; the paper's is 64")
    pretrained: bool = Field(default=False, description="start from torchvision's ImageNet weights (width 64)")
    norm: NormKind = Field(
        default="batch",
        description="batch: trained; frozen: the trunk's batch norms keep statistics and scales that they start with, "
        "conv5's are trained (OIM); group: group norm in the trunk, conv5 and HDL's head, for batches of one or two",
    )
    frozen_stages: Annotated[int, Field(ge=0, le=3)] = Field(
        default=0, description="1: conv1 is not trained, 2: conv1 and conv2, 3: and conv3"
    )


class DepthwiseTrunk(StrictModel):
    """HDL's student trunk: 3x3 stem, blocks of three modules (HDL, figure 3 and section 3.6)."""

    kind: Literal["depthwise"] = "depthwise"
    stem_channels: Positive = 32
    channels: tuple[Positive, Positive, Positive] = Field(
        default=(128, 256, 384), description="output channels of blocks 0 to 2, at strides 4, 8, 16"
    )
    stride: Literal[8, 16] = Field(default=16, description="of the scene feature, HDL's r; 8 leaves block 2 unstrided")
    modules: Positive = Field(default=3, description="modules in a block; the last one has stride 2")
    person_channels: Positive = Field(default=512, description="output channels of the per-person block")
    norm: NormKind = Field(
        default="batch",
        json_schema_extra=ADDED_LATER,
        description="batch: trained; frozen: the trunk's batch norms keep what init_from brings, the person block's "
        "are trained; group: group norm in trunk, person block and HDL's head, for batches of one or two",
    )


class ShuffleTrunk(StrictModel):
    """ShuffleNetV2 x0.5 trunk with FastestDet's layout; its public COCO weights fit (BSD-3)."""

    kind: Literal["shufflenet"] = "shufflenet"
    stride: Literal[8, 16] = Field(default=16, description="stride of the scene feature; 8 merges stage 3 into 2")
    neck_channels: Positive = 96
    person_channels: Positive = 256
    weights: str | None = Field(default=None, description="path of FastestDet's backbone state dict, or none")
    norm: NormKind = Field(
        default="batch",
        json_schema_extra=ADDED_LATER,
        description="as of the other trunks; frozen: the stages' batch norms keep what `weights` or init_from brings, "
        "the neck's and the person block's are trained",
    )


TrunkRecipe = Annotated[ResNetTrunk | DepthwiseTrunk | ShuffleTrunk | FamilyTrunk, Field(discriminator="kind")]


class GridAnchors(StrictModel):
    """Every size in every ratio (Ren et al., section 3.1.1)."""

    kind: Literal["grid"] = "grid"
    sizes: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(128, 256, 512), min_length=1, description="square root of an anchor's area, input pixels"
    )
    ratios: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.5, 1, 2), min_length=1, description="height over width"
    )


class PersonAnchors(StrictModel):
    """Heights in one ratio (HDL, section 3.2)."""

    kind: Literal["person"] = "person"
    heights: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(42, 82, 93, 105, 126, 157, 184, 208, 241, 320, 800),
        min_length=1,
        description="anchor heights, input pixels; the default are PRW's deciles at 900x1500",
    )
    ratio: float = Field(default=2.44, gt=0, description="height over width")


AnchorRecipe = Annotated[GridAnchors | PersonAnchors, Field(discriminator="kind")]


PoolSize = Positive | tuple[Positive, Positive]


class TwoStageRecipe(StrictModel):
    """What every network of two stages has: a trunk, proposals, a head on each of them.

    The numbers are HDL's; what that paper leaves open is Faster R-CNN's.
    """

    trunk: TrunkRecipe
    rpn_channels: Positive = Field(default=512, description="width of the 3x3 detection convolution")
    rpn_separable: bool = Field(default=False, description="depthwise-separable detection convolution")
    rpn_kernel: Literal[1, 3, 5] = Field(
        default=3, description="side of the detection convolution; 1 leaves the mixing of neighbours to the trunk"
    )
    pool_size: PoolSize = Field(
        default=7, description="RoIAlign output: its side (HDL, section 3.2), or [height, width]; people are tall"
    )
    pre_nms: Positive = Field(default=128, description="proposals kept before the first NMS, test and export")
    proposals: Positive = Field(default=32, description="proposals kept after it: persons per frame at most")
    proposal_peaks: Literal[1, 3, 5] = Field(
        default=1,
        json_schema_extra=ADDED_LATER,
        description="side of the window, in cells, in which an anchor must score highest among those of its shape to "
        "propose at test and in graphs, so that few people do not take all of `pre_nms` (docs/adr/0024); 1: all "
        "anchors may, Faster R-CNN's, as they do in training anyway",
    )
    rpn_nms_iou: Fraction = 0.7
    nms_iou: Fraction = Field(default=0.4, description="NMS of the refined boxes (OIM's)")
    score_threshold: Fraction = Field(default=0.5, description="detections below it are not reported")
    train_proposals: Positive = Field(default=256, description="proposals kept after NMS in training")
    rois_per_image: Positive = Field(default=64, description="RoIs sampled an image in training")
    positive_fraction: Fraction = Field(default=0.5, description="at most this share of them is positive")
    roi_negative_iou: Fraction = Field(
        default=0.5, description="a RoI below it is background; OIM's 0.5 (NAE takes 0.1); between it and 0.5 left out"
    )


class HdlRecipe(TwoStageRecipe):
    """A two-stage person-search network in HDL's shape."""

    kind: Literal["hdl"] = "hdl"
    attention: AttentionKind = Field(
        default="full",
        description="attention residual modules: none, without (light) or with (full) the c x c convolution",
    )
    anchor_heights: tuple[float, ...] = Field(
        default=(42, 82, 93, 105, 126, 157, 184, 208, 241, 320, 800),
        min_length=1,
        description="anchor heights, input pixels; the default are PRW's deciles at 900x1500",
    )
    anchor_ratio: float = Field(default=2.44, gt=0, description="height over width (HDL, section 3.2)")
    dropout: Fraction = Field(default=0.0, description="on the embedding before the identity layer")
    embed_refined: bool = Field(
        default=False, description="embed each person from the refined box (a second pass); HDL embeds the proposal"
    )
    refine_bins: Positive = Field(
        default=1, description="side of the grid that class and box layers see; 1 is HDL's global average"
    )
    stripes: Positive = Field(
        default=1, description="horizontal stripes averaged apart in the embedding; 1 is HDL's global average"
    )
    embedding_dim: Positive | None = Field(
        default=None,
        description="linear layer from the averages to so many dimensions, such as 64 to 512; HDL has none",
    )
    identity_scale: float | None = Field(
        default=None, description="None: linear identity layer as in HDL; a number: cosine logits times it"
    )


class RegionRecipe(TwoStageRecipe):
    """Faster R-CNN's numbers as OIM uses them; base of the networks that grew from it."""

    anchors: AnchorRecipe = Field(default=GridAnchors(), description="OIM's nine: 128, 256, 512 px in three ratios")
    pool_size: PoolSize = Field(default=14, description="RoIAlign output: side or [height, width]; conv5 halves it")
    pre_nms: Positive = Field(default=6000, description="proposals kept before the first NMS at test")
    proposals: Positive = Field(default=300, description="proposals kept after it at test")
    graph_pre_nms: Positive = Field(
        default=256, description="`pre_nms` of the exported graph, if that is less: its NMS compares each with each"
    )
    graph_proposals: Positive = Field(
        default=64, description="`proposals` of it, if that is less; no more people are reported a frame anywhere"
    )
    train_pre_nms: Positive = Field(default=12000, description="proposals kept before NMS in training")
    train_proposals: Positive = Field(default=2000, description="and after it")
    rois_per_image: Positive = Field(default=128, description="RoIs sampled an image in training")
    positive_fraction: Fraction = Field(default=0.25, description="at most this share of them is positive")


class FasterRCNNRecipe(RegionRecipe):
    """A plain Faster R-CNN on C4 with the one class person (Ren et al.): KD_det's teacher. It has no embeddings."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"


class MemoryRecipe(RegionRecipe):
    """The fields of OIM's look-up table and queue, for the networks that learn against them.

    ``queue_dims: 64`` with ``renormalise: false`` is what OIM's published code computes, not what the paper says.
    """

    embedding_dim: Positive = Field(default=256, description="of the unit embedding")
    scale: float = Field(default=10.0, gt=0, description="of the cosines, 1 / temperature; NAE and later take 30")
    momentum: Fraction = Field(default=0.5, description="share of the old row when a look-up table's row is written")
    queue_size: Annotated[int, Field(ge=0)] = Field(default=5000, description="unlabelled people remembered; PRW 500")
    queue_dims: Positive | None = Field(
        default=None, description="write only so many dimensions of a queue row (published code: 64); none: all"
    )
    renormalise: bool = Field(
        default=True, description="scale a look-up table's row to length 1 after writing (published code: no)"
    )


FIFTEEN_ANCHORS = GridAnchors(sizes=(32, 64, 128, 256, 512))
"""torchvision's, which NAE and SeqNet took over."""


class OimRecipe(MemoryRecipe):
    """OIM: an embedding beside Faster R-CNN's class and box layers (Xiao et al., CVPR 2017)."""

    kind: Literal["oim"] = "oim"
    embedding_norm: Literal["none", "batch"] = Field(
        default="none",
        description="batch: norm after the embedding's layer, not in the paper; without it or pretrained weights every "
        "embedding may fall into one direction",
        json_schema_extra=ADDED_LATER,
    )


class NaeRecipe(MemoryRecipe):
    """NAE: the embedding's length is the person score, its direction the re-ID feature (Chen et al., CVPR 2020)."""

    kind: Literal["nae"] = "nae"
    embedding_dim: Annotated[int, Field(ge=2)] = Field(default=256, description="half from each of two levels")
    anchors: AnchorRecipe = Field(default=FIFTEEN_ANCHORS, description="32 to 512 px in three ratios")
    scale: float = Field(default=30.0, gt=0, description="of the cosines, 1 / temperature")
    positive_fraction: Fraction = Field(default=0.5, description="at most this share of the sampled RoIs is positive")
    roi_negative_iou: Fraction = Field(
        default=0.1, description="a RoI below it is background; between it and 0.5 left out, as in the published code"
    )


class SeqNetRecipe(MemoryRecipe):
    """SeqNet: Faster R-CNN's head refines the boxes that a norm-aware head reads (Li and Miao, AAAI 2021)."""

    kind: Literal["seqnet"] = "seqnet"
    embedding_dim: Annotated[int, Field(ge=2)] = Field(default=256, description="half from each of two levels")
    anchors: AnchorRecipe = Field(default=FIFTEEN_ANCHORS, description="32 to 512 px in three ratios")
    scale: float = Field(default=30.0, gt=0, description="of the cosines, 1 / temperature")
    positive_fraction: Fraction = Field(default=0.5, description="at most this share of either head's RoIs is positive")
    nms_iou: Fraction = Field(default=0.4, description="NMS of the first head's boxes")
    second_nms_iou: Fraction = Field(default=0.5, description="NMS of the second head's; they lie closer to the people")


class QeepsRecipe(MemoryRecipe):
    """QEEPS: OIM that is shown the query's image (Munjal et al., CVPR 2019).

    The blocks' sizes, the weights of the losses and how pairs are drawn are not published: see docs/adr/0013.
    """

    kind: Literal["qeeps"] = "qeeps"
    embedding_norm: Literal["none", "batch"] = Field(
        default="none",
        description="batch: norm after the embedding's layer, not in the paper; without it or pretrained weights every "
        "embedding may fall into one direction",
        json_schema_extra=ADDED_LATER,
    )
    trunk: ResNetTrunk
    query_reduction: Positive = Field(
        default=16, description="hidden layer of the gates (QSSE, QRPN): context over it, 4 at least; SE's 16"
    )
    query_gate: Literal["neutral", "sigmoid"] = Field(
        default="neutral",
        description="sigmoid: gates in (0, 1), as in SE; neutral: twice that, so that fresh gates start at about 1 and "
        "leave the OIM weights that training starts from as they were",
    )
    query_levels: tuple[Literal[0, 1, 2], ...] = Field(
        default=(0, 1, 2), min_length=1, description="stages that end with a QSSE gate: conv2, conv3, conv4"
    )
    identity_rows: Literal["both", "gallery", "query"] = Field(
        default="both", description="whose people the identity loss and the look-up table see; both share one ID net"
    )
    similarity_rois: Literal["people", "all"] = Field(
        default="people", description="RoIs that QSimNet learns from: on people, or background too"
    )

    @field_validator("query_levels")
    @classmethod
    def _check_levels(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(levels)) != len(levels):
            raise ValueError("a stage is there twice")
        return levels


def _kind_of(value: Any) -> str:
    kind = value.get("kind", "hdl") if isinstance(value, dict) else getattr(value, "kind", "hdl")
    return str(kind)


ModelRecipe = Annotated[
    Annotated[HdlRecipe, Tag("hdl")]
    | Annotated[FasterRCNNRecipe, Tag("faster_rcnn")]
    | Annotated[OimRecipe, Tag("oim")]
    | Annotated[NaeRecipe, Tag("nae")]
    | Annotated[SeqNetRecipe, Tag("seqnet")]
    | Annotated[QeepsRecipe, Tag("qeeps")],
    Discriminator(_kind_of),
]
"""The `model` of a recipe. ``kind`` may be left out for HDL's networks, which older recipes do."""
