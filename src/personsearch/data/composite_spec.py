"""The YAML file that says what composites are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from personsearch.core.files import expand_path
from personsearch.core.recipe import StrictModel, load_recipe
from personsearch.data.cache import default_cache

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class CompositeSpec(StrictModel):
    """People pasted on backgrounds, and how.

    Paths may hold environment variables (``${NAME}``); a relative path counts from the file's folder.
    """

    name: str
    terms: str = Field(description="under which the material may be used")
    crops: str = Field(description="folder or .zip of 128x64 crops named PPPP_cCsS_FFFFFF_NN.jpg")
    backgrounds: tuple[str, ...] = Field(
        min_length=1,
        description="folders of background images, searched below too; `*_labels.png` beside one is its map of"
        " classes, which the next three name",
    )
    ignore_labels: tuple[int, ...] = Field(default=(9, 10), description="people: CamVid's pedestrian and bicyclist")
    ground_labels: tuple[int, ...] = Field(default=(3, 4), description="where feet stand: CamVid's road and pavement")
    occluder_labels: tuple[int, ...] = Field(
        default=(2, 6, 7, 8), description="what people stand behind: CamVid's pole, sign, fence and car"
    )
    horizon: float = Field(
        default=0.45, gt=-2, lt=0.95, description="row of the horizon, as a share of the height, where nothing tells"
    )
    camera_height_m: tuple[float, float] = Field(
        default=(1.3, 2.6), description="height of the camera above the ground, from and to, where no people tell"
    )
    mot: str | None = Field(default=None, description="MOTChallenge sequences: real frames and further backgrounds")
    mot_share: Fraction = Field(default=0.0, description="share of samples that are whole real frames")
    mot_background_share: Fraction = Field(
        default=0.0, description="share of composites on a real frame with its people"
    )
    cache: str | None = Field(default=None, description="folder for cut-outs; none: the user's cache folder")
    image_wh: tuple[Positive, Positive] = Field(default=(640, 480), description="pixels of a composite")
    images: Positive = Field(default=200_000, description="composites of the training split")
    repeat_after: Positive | None = Field(
        default=None, description="training shows only so many composites, again and again; none: no two are alike"
    )
    validation_images: Positive = Field(default=400, description="composites of the validation split")
    people: tuple[int, int] = Field(default=(1, 8), description="people pasted on an image, from and to")
    height_px: tuple[float, float] = Field(default=(40, 220), description="their heights, from and to")
    decoy_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, description="share of all that is pasted which is no person, though blended as people are"
    )
    occluded_share: Fraction = Field(default=0.25, description="share of people behind something pasted before them")
    camera_colour: Fraction = Field(default=0.3, description="how much the colour responses of two cameras differ")
    recolour_share: Fraction = Field(
        default=0.0, description="share of training people whose clothes get other colours; they have no identity then"
    )
    crops_per_identity: Positive | None = Field(default=None, description="crops used of each identity; none: all")
    validation_identities: Annotated[int, Field(ge=0)] = Field(default=90, description="identities held out")
    validation_backgrounds: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.15, description="share of each camera's backgrounds held out, rounded down"
    )
    unlabelled_identities: Annotated[int, Field(ge=0)] = Field(
        default=50, description="training identities shown as passers-by without identity"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> CompositeSpec:
        if not 0 <= self.people[0] <= self.people[1]:
            raise ValueError("people must be from and to, 0 <= from <= to")
        if not 8 <= self.height_px[0] <= self.height_px[1]:
            raise ValueError("height_px must be from and to, 8 <= from <= to")
        if not 0.2 <= self.camera_height_m[0] <= self.camera_height_m[1]:
            raise ValueError("camera_height_m must be from and to, 0.2 <= from <= to")
        if (self.mot_share or self.mot_background_share) and self.mot is None:
            raise ValueError("mot_share and mot_background_share need `mot`")
        return self


def read_composite_spec(path: Path) -> CompositeSpec:
    """Reads a specification and resolves its paths.

    Raises:
        InputError: not readable, an unknown key or impossible value, or an environment variable is not set.
    """
    spec = load_recipe(path, CompositeSpec)

    def resolved(value: str) -> str:
        return str(path.parent / expand_path(value, where=str(path)))

    return spec.model_copy(
        update={
            "crops": resolved(spec.crops),
            "backgrounds": tuple(resolved(folder) for folder in spec.backgrounds),
            "mot": resolved(spec.mot) if spec.mot is not None else None,
            "cache": resolved(spec.cache) if spec.cache is not None else str(default_cache()),
        }
    )
