"""What the parity gate asks of an engine at each precision; a block of the export recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personsearch.core.recipe import StrictModel

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Points = Annotated[float, Field(ge=0, le=100)]
Precision = Literal["fp32", "fp16", "int8"]


class ParityLimits(StrictModel):
    """What one engine at one precision is held to.

    Differences are against the network in torch, drops of the end figures against the checkpoint, in points (hundredths
    of the figure). Nothing but a drop counts: a figure that happens to rise is no failure.
    """

    score_tolerance: Fraction = Field(
        description="a detection so close to the threshold may be missing on the other side"
    )
    min_matched: Fraction = Field(description="share of the settled detections that the engine must have")
    max_box_difference_px: float | None = Field(
        gt=0, description="largest difference of a coordinate, input pixels; none: not held to one"
    )
    max_score_difference: Fraction = Field(description="largest difference of a matched detection's score")
    min_cosine: Cosine = Field(description="of every embedding to its reference; -1: not held to one")
    min_mean_cosine: Cosine = Field(description="mean over the embeddings")
    max_query_drop: Fraction = Field(
        description="how far the mean cosine of the same people's search and query embeddings may fall"
    )
    min_top_1_agreement: Fraction = Field(description="share of queries that find the same person first")
    min_top_k_overlap: Fraction = Field(description="mean share of the first k that stay the same")
    min_rank_correlation: Cosine = Field(description="mean Kendall's tau of whole galleries")
    max_detection_ap_drop: Points = Field(description="points of detection AP")
    max_search_map_drop: Points = Field(description="points of search mAP")
    max_top_1_drop: Points = Field(description="points of search top-1")


FP32 = ParityLimits(
    score_tolerance=0.01,
    min_matched=1.0,
    max_box_difference_px=1.0,
    max_score_difference=0.01,
    min_cosine=0.999,
    min_mean_cosine=0.999,
    max_query_drop=0.001,
    min_top_1_agreement=0.99,
    min_top_k_overlap=0.99,
    min_rank_correlation=0.99,
    max_detection_ap_drop=0.2,
    max_search_map_drop=0.2,
    max_top_1_drop=0.5,
)
FP16 = ParityLimits(
    score_tolerance=0.03,
    min_matched=0.98,
    max_box_difference_px=None,
    max_score_difference=0.05,
    min_cosine=0.98,
    min_mean_cosine=0.998,
    max_query_drop=0.005,
    min_top_1_agreement=0.9,
    min_top_k_overlap=0.9,
    min_rank_correlation=0.9,
    max_detection_ap_drop=0.5,
    max_search_map_drop=0.5,
    max_top_1_drop=1.0,
)
INT8 = ParityLimits(
    score_tolerance=0.1,
    min_matched=0.85,
    max_box_difference_px=None,
    max_score_difference=1.0,
    min_cosine=-1.0,
    min_mean_cosine=0.9,
    max_query_drop=0.1,
    min_top_1_agreement=0.5,
    min_top_k_overlap=0.5,
    min_rank_correlation=0.4,
    max_detection_ap_drop=2.0,
    max_search_map_drop=2.0,
    max_top_1_drop=4.0,
)


class GateRecipe(StrictModel):
    """The parity gate: what it looks at, and what it lets pass."""

    frames: Positive = Field(default=16, description="frames compared detection by detection, of several scenes")
    images: Positive = Field(default=120, description="labelled images, at most, on which the end figures are measured")
    top_k: Positive = Field(default=10, description="first ranks whose overlap counts; fewer in a small gallery")
    fp32: ParityLimits = FP32
    fp16: ParityLimits = FP16
    int8: ParityLimits = INT8

    @model_validator(mode="before")
    @classmethod
    def _keep_the_other_limits(cls, values: Any) -> Any:
        # A recipe that changes one limit of a precision keeps that precision's others.
        if not isinstance(values, dict):
            return values
        defaults = {"fp32": FP32, "fp16": FP16, "int8": INT8}
        changed = {name: limits for name, limits in values.items() if name in defaults and isinstance(limits, dict)}
        return {**values, **{name: {**defaults[name].model_dump(), **limits} for name, limits in changed.items()}}

    def limits(self, precision: Precision) -> ParityLimits:
        """Those of one precision."""
        return {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8}[precision]
