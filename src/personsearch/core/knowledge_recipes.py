"""What a student can be told about the knowledge it takes from teachers: the blocks of a distillation recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from personsearch.core.recipe import StrictModel

Fraction = Annotated[float, Field(ge=0, le=1)]


class DetectionTransferRecipe(StrictModel):
    """KD_det (Munjal, Galasso, Amin, section 4.1): a detector teaches the student's two detection stages."""

    teacher: str | None = Field(
        default=None, description="checkpoint of the detector; none: the recipe's `teacher`. No identities needed"
    )
    hint: bool = Field(default=True, description="the scene feature follows the teacher's (equation 1)")
    proposals: bool = Field(default=True, description="classes and boxes of the region proposal network (equation 2)")
    refinement: bool = Field(default=True, description="classes and boxes of the second stage (equation 2)")
    lambda_hint: float = Field(default=0.5, ge=0, description="weight of the hint loss")
    hint_reduction: Literal["relative", "mean"] = Field(
        default="relative",
        description="mean: of the squared difference over the map, of the size of the teacher's squared activations; "
        "relative: that over their mean, which is near 1 at first under any teacher (docs/adr/0014)",
    )
    hint_taps: tuple[str, str] = Field(
        default=("feature.2", "feature.2"), description="student's and teacher's map of the hint; conv4 in the paper"
    )
    mu: Fraction = Field(
        default=0.5, description="share of the labels' class losses; the teacher's soft ones have the rest"
    )
    temperature: float = Field(default=10.0, gt=0, description="divides both networks' class logits")
    squared_temperature: bool = Field(
        default=True,
        description="times temperature squared, as Hinton does; the paper does not say so, and without it the soft "
        "loss of temperature 10 hardly moves a student (docs/adr/0014)",
    )
    background_weight: float = Field(
        default=1.0, gt=0, description="of the background's term in the soft loss; Chen et al. take 1.5"
    )
    gamma: float = Field(default=0.5, ge=0, description="weight of the teacher-bounded box losses")
    margin: float = Field(
        default=0.0, ge=0, description="m of Chen et al.: the student must beat the teacher by it; the paper is silent"
    )


class LookupTableRecipe(StrictModel):
    """KD_reid (Munjal, Galasso, Amin, section 4.2): the teacher's look-up table, copied and frozen."""

    teacher: str | None = Field(
        default=None, description="checkpoint, or look-up table file (.npz); none: the recipe's `teacher`"
    )
    lambda_oim: float = Field(
        default=0.1,
        ge=0,
        description="weight of the identity loss against the frozen table, times loss_weights.identity where the "
        "student's own look-up table is frozen",
    )
    scale: float | None = Field(
        default=None,
        gt=0,
        description="of the cosines, where the loss is not the student's own; none: the student's, 10 without one",
    )
    projection: Literal["none", "orthogonal", "linear"] = Field(
        default="none",
        description="none: a table of another width is refused; else a trained layer from the student's width to the "
        "table's, in the loss only: people are matched in the student's own space. orthogonal keeps every cosine",
    )


class CropNetworkRecipe(StrictModel):
    """A re-ID network on crops and its input, by preset or stated whole."""

    file: str | None = Field(default=None, description=".onnx, or OpenVINO's .xml; none: the recipe's `teacher`")
    preset: str | None = Field(default=None, description="input of a known network: osnet or retail-0288")
    order: Literal["rgb", "bgr"] | None = Field(default=None, description="channels; this and the rest as PixelInput")
    scale: float | None = Field(default=None, gt=0, description="pixels of 0..255 are divided by it first")
    mean: tuple[float, float, float] | None = Field(default=None, description="subtracted after that")
    std: tuple[float, float, float] | None = Field(default=None, description="divided by at last")
    input_wh: tuple[int, int] | None = Field(default=None, description="pixels; none: the graph's own")
    output: str | None = Field(default=None, description="name of the embedding; none: the only output")


class CropTeacherRecipe(StrictModel):
    """Re-ID networks on the crops of the people in a batch (`personsearch.distill.crop_teacher`); in neither paper."""

    networks: tuple[CropNetworkRecipe, ...] = Field(
        min_length=1, description="their embeddings are centred, normalised and concatenated"
    )
    lambda_embedding: float = Field(
        default=10.0, ge=0, description="weight of 1 - cosine to the networks' embedding, a mean over people"
    )
    lambda_relation: float = Field(
        default=0.0, ge=0, description="weight of the squared difference of cosines between people; any width"
    )
    centre_images: Annotated[int, Field(ge=1)] = Field(
        default=200, description="frames whose people give each network's mean embedding"
    )

    @model_validator(mode="after")
    def _something(self) -> CropTeacherRecipe:
        if not self.lambda_embedding and not self.lambda_relation:
            raise ValueError("lambda_embedding and lambda_relation are both 0: leave the block out")
        return self
