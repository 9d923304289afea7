"""What an export can be told: engine, precision, sizes, and how int8 is calibrated and rounded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from personsearch.core.gate_recipe import GateRecipe, Points
from personsearch.core.manifest import EngineName, GraphLayout, Int8Flavour, Pooling
from personsearch.core.model_recipes import Positive
from personsearch.core.recipe import StrictModel

Target = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
ENGINE_OF: dict[Target, EngineName] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}
LAST_LAYERS = ("*.class_logits.*", "*.box_deltas.*")
"""Patterns of the layers that end in scores and boxes."""
USUAL_FLOAT_LAYERS: dict[Int8Flavour, tuple[str, ...]] = {
    "u8s8": ("*.trunk.conv1.*", "*.spatial_*", "*.channel_*", *LAST_LAYERS),
    "s8s8": (
        "*.trunk.stem.*", "*.trunk.first_conv.*", "*.trunk.conv1.*", "*.spatial_*", "*.channel_*", *LAST_LAYERS,
    ),
}  # fmt: skip
"""Layers that int8 leaves alone: attention's gates, the last ones, and a first convolution where int8 wins nothing
(TensorRT) or was never measured (a ResNet's); see docs/adr/0022."""


class HalfRecipe(StrictModel):
    """float16: what stays float32 beside decoding, suppression and normalisation, which always do."""

    float_layers: tuple[str, ...] = Field(
        default=LAST_LAYERS, description="patterns of weight names (`.trunk.stem.0.weight`) whose layers stay float32"
    )


class SensitivityRecipe(StrictModel):
    """Which layers int8 hurts, measured on labelled images that are never of the test split."""

    measure: Literal["search_map", "cosine"] = Field(
        default="search_map",
        description="search_map: mean average precision of searches; cosine: mean cosine to the float graph's "
        "embeddings of the same boxes, for frames without identities",
    )
    by: Literal["block", "layer"] = Field(
        default="block", description="quantised one at a time: a block of the network, or a single convolution"
    )
    images: Positive = Field(default=60, description="at most, measured once for every block")
    max_drop: Points = Field(
        default=1.0, description="points of the measure that int8 may cost; blocks return to float until it costs less"
    )


class QuantiseRecipe(StrictModel):
    """Static int8 on calibration frames: int8 weights a channel, activations uint8 for CPUs, int8 for TensorRT."""

    frames: Positive = Field(default=64, description="calibration frames, from the training split or a video")
    min_frames: Positive = Field(default=16, description="fewer are refused: ranges of a handful fit that handful")
    method: Literal["minmax", "entropy", "percentile"] = Field(
        default="percentile", description="how ranges are found; minmax spends its steps on long tails"
    )
    percentile: float = Field(default=99.999, gt=50, le=100, description="of activations kept, for method percentile")
    rounding: Literal["nearest", "compensated"] = Field(
        default="compensated",
        description="of weights; compensated: each one's error is made up for by those not rounded yet",
    )
    equalise: bool = Field(
        default=False, description="cross-layer equalisation of consecutive convolutions before anything is rounded"
    )
    float_layers: tuple[str, ...] | Literal["usual", "auto"] = Field(
        default="usual",
        description="patterns of weight names (`.trunk.stem.0.weight`) whose convolutions stay float; usual: those of "
        "`USUAL_FLOAT_LAYERS`; auto: these, and what the sensitivity sweep adds",
    )
    sensitivity: SensitivityRecipe = SensitivityRecipe()

    def patterns(self, flavour: Int8Flavour) -> tuple[str, ...]:
        """The patterns of ``float_layers`` for a flavour; of auto those that it starts from."""
        return self.float_layers if isinstance(self.float_layers, tuple) else USUAL_FLOAT_LAYERS[flavour]


class SplitRecipe(StrictModel):
    """Layout split: a scene graph and a person graph joined by the host; see docs/adr/0020."""

    person_boxes: Annotated[int, Field(gt=0, le=64)] = Field(
        default=8, description="P, boxes of one run of the person graph"
    )
    floor: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="objectness from which a proposal is looked at; 0: every one, as in the joined graph. What a floor "
        "saves and costs is the network's own (docs/adr/0020): measure it",
    )


class ExportRecipe(StrictModel):
    """How a checkpoint becomes an artifact."""

    target: Target = Field(default="onnx", description="engine that the artifact is for; any other may run it too")
    max_detections: Positive | None = Field(
        default=None, description="K, rows of the outputs; none: the model's proposals"
    )
    input_wh: tuple[Positive, Positive] | None = Field(
        default=None, description="network input of the artifact, pixels; none: the training's. Anchors keep their size"
    )
    batches: tuple[Annotated[int, Field(gt=0, le=64)], ...] = Field(
        default=(1,), description="frames a search graph takes; a graph of fixed shape for each. 1 is always among them"
    )
    layout: GraphLayout = Field(
        default="joined", description="joined: one search graph; split: scene and person graph, joined by the host"
    )
    split: SplitRecipe = SplitRecipe()
    pooling: Literal["auto", "matrix", "roi_align"] = Field(
        default="auto",
        description="matrix: products that every engine has; roi_align: one operator, a plugin in TensorRT; auto: "
        "roi_align for onnx and openvino in layout joined, where it is faster (docs/adr/0022), else matrix",
    )
    suppression_steps: Positive | None = Field(
        default=31,
        description="of each non-maximum suppression, at most, odd; none: one less than its boxes, which is greedy "
        "suppression for every input. Around people it took up to 12 (docs/adr/0023)",
    )
    query_boxes: Positive = Field(default=8, description="boxes the query graph takes at once")
    opset: Annotated[int, Field(ge=18, le=20)] = Field(default=18, description="TensorRT 10.0's parser ends at 20")
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    half: HalfRecipe = HalfRecipe()
    quantise: QuantiseRecipe = QuantiseRecipe()
    gate: GateRecipe = GateRecipe()

    @field_validator("batches")
    @classmethod
    def _one_first(cls, batches: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({1, *batches}))

    @model_validator(mode="after")
    def _check(self) -> ExportRecipe:
        if self.max_detections is not None and self.max_detections > 3840:
            raise ValueError("TensorRT's TopK takes at most 3840")
        if self.layout == "split" and self.batches != (1,):
            raise ValueError("layout split takes one frame at a time: leave batches out, or take layout joined")
        if self.layout == "split" and (self.quantise.equalise or self.quantise.float_layers == "auto"):
            raise ValueError(
                "layout split has neither equalisation nor a sensitivity sweep: sweep an export of layout joined, and "
                "name what it keeps float in quantise.float_layers"
            )
        if self.suppression_steps is not None and self.suppression_steps % 2 == 0:
            raise ValueError("an even number of suppression_steps may keep a person twice: take an odd one, or null")
        if self.pooling == "roi_align" and (self.for_tensorrt or self.layout == "split"):
            what = f"target {self.target}" if self.for_tensorrt else "layout split"
            raise ValueError(f"{what} pools by matrix products: leave pooling out")
        return self

    @property
    def for_tensorrt(self) -> bool:
        """Whether the target is one of NVIDIA's engines."""
        return self.target in ("tensorrt", "tensorrt-rtx")

    @property
    def graph_pooling(self) -> Pooling:
        """How the graphs pool; see ``pooling``."""
        if self.pooling == "auto":
            return "matrix" if self.for_tensorrt or self.layout == "split" else "roi_align"
        return self.pooling

    @property
    def engine(self) -> EngineName:
        """The engine that the target means."""
        return ENGINE_OF[self.target]

    @property
    def int8_flavour(self) -> Int8Flavour | None:
        """Of an int8 graph for the target; none at other precisions."""
        if self.precision != "int8":
            return None
        return "s8s8" if self.for_tensorrt else "u8s8"
