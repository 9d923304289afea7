"""What a run can be told: teacher, student and export recipes; what a network can be is in `model_recipes`.

Every field has its unit and source. Below the command line nothing sees these classes: models and losses take
plain keyword arguments.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from personsearch.core.export_recipes import ExportRecipe, QuantiseRecipe
from personsearch.core.knowledge_recipes import CropTeacherRecipe, DetectionTransferRecipe, LookupTableRecipe
from personsearch.core.model_recipes import (
    AttentionKind,
    DepthwiseTrunk,
    FasterRCNNRecipe,
    Fraction,
    HdlRecipe,
    ModelRecipe,
    OimRecipe,
    Positive,
    QeepsRecipe,
    ResNetTrunk,
    ShuffleTrunk,
)
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import ADDED_LATER, StrictModel

__all__ = [
    "AttentionKind",
    "CropTeacherRecipe",
    "DataRecipe",
    "DepthwiseTrunk",
    "DetectionTransferRecipe",
    "DistillRecipe",
    "ExportRecipe",
    "FasterRCNNRecipe",
    "HdlRecipe",
    "HierarchicalRecipe",
    "LookupTableRecipe",
    "ModelRecipe",
    "OimRecipe",
    "OptimiserRecipe",
    "QuantiseRecipe",
    "ResNetTrunk",
    "ShuffleTrunk",
    "TrainRecipe",
]


class DataRecipe(StrictModel):
    """Where samples come from and how they are varied."""

    root: str = Field(description="data set folder (see docs/conventions.md) or a composite specification file")
    split: str = "train"
    hold_out: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        json_schema_extra=ADDED_LATER,
        description="share of the split's images that training leaves out: whole people where possible, else whole "
        "cameras, else a stretch of each camera's frames; `personsearch calibrate` chooses a threshold on them",
    )
    hold_out_seed: Annotated[int, Field(ge=0)] = Field(
        default=0,
        json_schema_extra=ADDED_LATER,
        description="of that choice: runs of any `seed` leave out the same images",
    )
    boxes: str | None = Field(
        default=None,
        description="data set folder mixed in for detection alone, such as `personsearch boxes` writes; nobody in it "
        "has an identity",
    )
    boxes_share: Fraction = Field(default=0.25, description="share of the training frames that come from `boxes`")
    flip: Fraction = 0.5
    photometric: Fraction = Field(
        default=0.5, description="strength of brightness, contrast, saturation, hue and colour-cast jitter"
    )
    zoom: tuple[float, float] = Field(
        default=(0.8, 1.25), description="random scale range before the crop to the input"
    )
    blur: Fraction = Field(default=0.0, description="probability of blur, noise and JPEG artefacts")
    erase: Fraction = Field(
        default=0.0, description="probability that a rectangle of the image, or of each person, becomes noise"
    )
    erase_in: Literal["background", "people"] = Field(
        default="background", description="background: never over a person's box; people: inside boxes, as in re-ID"
    )
    input_sizes: tuple[tuple[Positive, Positive], ...] = Field(
        default=(),
        description="multi-scale training: width and height of a batch's input, drawn for each batch from this list, "
        "multiples of 16; empty: preprocess.input_wh. Anchors keep their size in pixels",
    )
    images_per_identity: Positive = Field(
        default=1,
        description="identity-aware sampling: batches of batch_images / K groups of K images that share an identity; "
        "1: every image on its own",
    )
    decode: Literal["full", "reduced"] = Field(
        default="full", description="reduced: JPEGs that are shrunk to half or less are decoded at 1/2, 1/4 or 1/8"
    )
    skip_bad: bool = Field(
        default=False, description="show the next image in place of one that cannot be read, and say so, not stop"
    )
    workers: Annotated[int, Field(ge=0)] = Field(default=1, description="loader processes")

    @field_validator("input_sizes")
    @classmethod
    def _check_sizes(cls, sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if any(side % 16 for size in sizes for side in size):
            raise ValueError("multiples of 16, as the input of every model")
        return sizes


class OptimiserRecipe(StrictModel):
    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.005, gt=0)
    momentum: Fraction = 0.9
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = Field(default=(50,), description="epochs at which the rate is divided")
    decay: float = Field(default=10.0, gt=0, description="what it is divided by")
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: float | None = Field(default=10.0, gt=0, description="gradient norm is cut to this; none for no cut")


class TrainRecipe(StrictModel):
    """One training run of a teacher, or of a student alone (the control)."""

    name: str
    seed: int = 0
    model: ModelRecipe
    preprocess: Preprocess
    data: DataRecipe
    optimiser: OptimiserRecipe = OptimiserRecipe()
    epochs: Positive = 60
    epoch_images: Positive | None = Field(default=None, description="images an epoch; none: the whole set once")
    batch_images: Positive = Field(default=8, description="in each process; memory grows with it")
    accumulate: Positive = Field(
        default=1,
        description="batches whose gradients add up to one optimiser step; batch norm still sees one batch at a time",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = Field(default=False, description="lay weights out with channels last, as frames are")
    compile: bool = Field(default=False, description="compile the trunk (torch.compile); needs a C++ compiler")
    init_from: str | None = Field(default=None, description="checkpoint whose weights start the model, or none")
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        json_schema_extra=ADDED_LATER,
        description="the checkpoint's network is a running average of the weights with this decay a step, such as "
        "0.999: about 1 / (1 - decay) steps; memories are not averaged; none: the last weights",
    )
    loss_weights: dict[str, float] = Field(
        default_factory=dict,
        description="weight of a named loss (rpn_class, rpn_box, refine_class, refine_box, identity; those of every "
        "network: docs/conventions.md); 1 where absent",
    )

    @model_validator(mode="after")
    def _check_frozen_norm(self) -> TrainRecipe:
        trunk = self.model.trunk
        own = {"pretrained": getattr(trunk, "pretrained", None), "weights": getattr(trunk, "weights", None)}
        if trunk.norm == "frozen" and self.init_from is None and not any(own.values()):
            where = [f"model.trunk.{name}, or " for name, value in own.items() if hasattr(trunk, name)]
            raise ValueError(f"model.trunk.norm is frozen: set {''.join(where)}init_from to start from")
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> TrainRecipe:
        if isinstance(self.model, QeepsRecipe) and self.data.images_per_identity < 2:
            raise ValueError("model.kind is qeeps: set data.images_per_identity to 2 or more, queries are of the batch")
        return self


class HierarchicalRecipe(StrictModel):
    """HDL's three levels of knowledge (equations 5 to 10), and relations between people, which it does not have."""

    feature: bool = True
    attention: bool = True
    prediction: bool = True
    relation: bool = Field(default=False, description="cosines between people, see personsearch.distill.relation")
    levels: tuple[str, ...] = Field(
        default=("0", "1", "2", "person"), description="blocks that take part in feature and attention distillation"
    )
    lambda_prediction: Fraction = Field(
        default=0.9, description="lambda_0: share of the prediction loss against the identity loss"
    )
    lambda_attention: float = Field(
        default=0.5, ge=0, description="lambda_1; where it is not given: 0.5 with `norm`, the printed 2e4 with `mean`"
    )
    lambda_feature: float = Field(
        default=1.25, ge=0, description="lambda_2; where it is not given: 1.25 with `norm`, the printed 2e3 with `mean`"
    )
    lambda_relation: float = Field(default=20.0, ge=0, description="weight of the relation loss")
    temperature: float = Field(default=4.0, gt=0)
    reduction: Literal["mean", "norm"] = Field(
        default="norm",
        description="attention transfer: distance of the unit vectors, as printed, or their mean squared difference",
    )
    kl_direction: Literal["teacher_first", "student_first"] = Field(
        default="teacher_first",
        description="teacher_first is Hinton's KL(teacher || student), student_first is equation 7 as printed",
    )

    @model_validator(mode="before")
    @classmethod
    def _weights_of_the_reduction(cls, values: Any) -> Any:
        # The two reductions differ by a factor of about h * w (see `attention_transfer_loss`): no weight suits both.
        if isinstance(values, dict) and values.get("reduction") == "mean":
            return {"lambda_attention": 2e4, "lambda_feature": 2e3, **values}
        return values


_KNOWLEDGE = frozenset({"hierarchical", "detection", "lookup_table", "crops"})
"""Blocks of a `DistillRecipe` that say what is learnt."""


class DistillRecipe(TrainRecipe):
    """One student run under a teacher, or several: every block that is there adds up.

    A recipe that names none of these blocks has HDL's, ``hierarchical``, with its defaults.
    """

    teacher: str = Field(
        description="teacher checkpoint, of every block that names no other; a look-up table file where only "
        "`lookup_table` is there, a re-ID network where only `crops` is"
    )
    teacher_precision: Literal["same", "float32", "bfloat16", "float16"] = Field(
        default="same", description="of the teachers' forward pass: as the student's, or a type of its own"
    )
    teacher_cache: str | None = Field(
        default=None,
        description="folder that keeps the teachers' maps from epoch to epoch; needs augmentation fixed but for "
        "the mirror; none: every teacher runs whole on every batch",
    )
    hierarchical: HierarchicalRecipe | None = None
    detection: DetectionTransferRecipe | None = None
    lookup_table: LookupTableRecipe | None = None
    crops: CropTeacherRecipe | None = Field(default=None, json_schema_extra=ADDED_LATER)

    @model_validator(mode="before")
    @classmethod
    def _hierarchical_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and not _KNOWLEDGE & set(values):
            return {**values, "hierarchical": {}}
        return values

    @model_validator(mode="after")
    def _some_knowledge(self) -> DistillRecipe:
        if all(getattr(self, block) is None for block in _KNOWLEDGE):
            raise ValueError(f"at least one of {', '.join(sorted(_KNOWLEDGE))}")
        return self
