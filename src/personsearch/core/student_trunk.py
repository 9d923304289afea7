"""How a recipe names a trunk of the student family: by its size, any width or count replaced where wanted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from personsearch.core.recipe import ADDED_LATER, StrictModel

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
BlockKind = Literal["separable", "branched", "dense"]
"""`personsearch.models.backbones.family` says what each is."""
NormKind = Literal["batch", "frozen", "group"]


class FamilyTrunk(StrictModel):
    """A trunk of the student family; what is none comes from the table in `personsearch.models.students`."""

    kind: Literal["family"] = "family"
    size: Literal["tiny", "small", "medium", "base"] = Field(default="small", description="row of the table")
    block: BlockKind | None = Field(default=None, description="what a unit of the trunk's stages is")
    stride: Literal[8, 16] = Field(default=8, description="of the scene feature, HDL's r; both cost little here")
    stem_channels: Positive | None = Field(default=None, description="of the first convolution, at stride 2")
    channels: tuple[Positive, Positive, Positive, Positive] | None = Field(
        default=None, description="of the stages at strides 4, 8, 16 and 32; multiples of 16 run best"
    )
    blocks: tuple[Count, Positive, Positive, Count] | None = Field(
        default=None, description="units in these stages; 0 in the first: the stem alone, in the last: no stride 32"
    )
    neck_channels: Positive | None = Field(default=None, description="of the scene feature")
    person_channels: Positive | None = Field(default=None, description="of the per-person block")
    person_blocks: Positive | None = Field(default=None, description="units in it")
    norm: NormKind = Field(
        default="batch",
        json_schema_extra=ADDED_LATER,
        description="as of the other trunks; group: one norm of the branches' sum, which still merge at export",
    )
