"""What an ablation recipe can say, and reading one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, model_validator

from personsearch.core.errors import InputError
from personsearch.core.recipe import StrictModel, apply_overrides, validate
from personsearch.data.synthetic.settings import SyntheticSettings

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0)]
TeacherKey = Literal["teacher", "detection.teacher", "lookup_table.teacher"]
_EXTENDS = "extends"


class PaperFigures(StrictModel):
    """What the paper prints for a row, percent; none where it prints nothing."""

    search_map: Percent | None = None
    search_top1: Percent | None = None
    detection_ap: Percent | None = None
    detection_recall: Percent | None = None


class RunSpec(StrictModel):
    """One training run: a base recipe and what is different in it."""

    base: str = Field(description="name of a base recipe")
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of the recipe with their values; a group is changed key by key, one with `kind` as a whole",
    )
    teachers: dict[TeacherKey, str] = Field(
        default_factory=dict,
        description="for each key of the recipe the teacher or row whose checkpoint it is; empty: trained from labels "
        "alone, without the base's blocks of knowledge",
    )
    starts_from: str | None = Field(
        default=None,
        description="the teacher or row whose checkpoint the weights start from; none: as the base and its changes say",
    )

    @model_validator(mode="after")
    def _main_teacher(self) -> RunSpec:
        if self.teachers and "teacher" not in self.teachers:
            raise ValueError("`teacher` is missing in `teachers`; the other keys are for a second one")
        return self


class TeacherFile(StrictModel):
    """A teacher that is there already."""

    file: str = Field(
        description="checkpoint, look-up table (.npz) or re-ID network (.onnx, .xml); may hold ${VARIABLES}"
    )


def _kind_of(value: Any) -> str:
    given = value if isinstance(value, dict) else {"file": ""} if isinstance(value, TeacherFile) else {}
    return "file" if "file" in given else "run"


Teacher = Annotated[Annotated[TeacherFile, Tag("file")] | Annotated[RunSpec, Tag("run")], Discriminator(_kind_of)]


class Row(RunSpec):
    """One row of the table."""

    name: Name
    title: str = Field(default="", description="as the table shows it; empty: the name")
    paper: PaperFigures = PaperFigures()

    @property
    def shown(self) -> str:
        """What the table calls the row."""
        return self.title or self.name


class ScaleData(StrictModel):
    """What the runs learn from and are measured on."""

    root: str | None = Field(default=None, description="data set, in any format; none: `scale.generate` makes one")
    train: str = Field(default="train", description="split")
    test: str = Field(default="test", description="split of other people, with queries")
    protocol: str | None = Field(default=None, description="search protocol of the test split; none for its first")
    reentry: str | None = Field(
        default=None,
        description="sequence on which rows are measured besides, as `bench reentry` does: a folder in the MOT layout "
        "with a person_map.json; may hold ${VARIABLES}",
    )


class Scale(StrictModel):
    """The size of the whole table: data, image size, widths, epochs."""

    data: ScaleData = ScaleData()
    generate: SyntheticSettings | None = Field(default=None, description="the data set, where `data.root` is none")
    every: dict[str, Any] = Field(default_factory=dict, description="changes of every run")
    of: dict[str, dict[str, Any]] = Field(default_factory=dict, description="changes of the runs of a base recipe")
    starts: dict[str, str] = Field(
        default_factory=dict,
        description="the teacher or row whose weights the runs of a base recipe start from, unless a run says it; "
        "in the place of ImageNet's, where a trunk is too narrow for them",
    )

    @model_validator(mode="after")
    def _some_data(self) -> Scale:
        if (self.data.root is None) == (self.generate is None):
            raise ValueError("one of data.root and generate")
        return self


class AblationRecipe(StrictModel):
    """One table."""

    name: Name
    title: str
    source: str = Field(description="paper, table, and the setting of its figures")
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2), min_length=1, description="of the rows; the table has their mean"
    )
    teacher_seed: Seed = Field(default=0, description="of every teacher; it is trained once for all rows and seeds")
    bases: dict[Name, str] = Field(min_length=1, description="base recipes; paths relative to the file that names them")
    teachers: dict[Name, Teacher] = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)
    scale: Scale

    @model_validator(mode="after")
    def _check_names(self) -> AblationRecipe:
        names = [*self.teachers, *(row.name for row in self.rows)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`{twice[0]}` is there twice among teachers and rows")
        for group, named in (("of", self.scale.of), ("starts", self.scale.starts)):
            for base in named:
                if base not in self.bases:
                    raise ValueError(
                        f"scale.{group} names `{base}`, which is not one of bases ({', '.join(self.bases)})"
                    )
        return self


def load_ablation(path: Path, overrides: Sequence[str] = ()) -> AblationRecipe:
    """Reads an ablation recipe; ``extends: FILE`` takes another one's content and changes it, as rows change a base.

    Args:
        path: the recipe.
        overrides: ``a.b=value``, such as ``scale.every.epochs=2``.

    Raises:
        InputError: it, or what it extends, is missing, is not YAML, or has an unknown key or impossible value.
    """
    return validate(AblationRecipe, apply_overrides(_content(path, ()), overrides), where=str(path))


def merged(base: Any, changes: Any) -> Any:
    """``base`` with ``changes`` in it: groups key by key, but a group with ``kind`` replaces what was there."""
    if not isinstance(base, dict) or not isinstance(changes, dict) or "kind" in changes:
        return changes
    return {**base, **{key: merged(base[key], value) if key in base else value for key, value in changes.items()}}


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping.

    Raises:
        InputError: there is none.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("cannot be read", where=str(path), expected="a YAML recipe", remedy=str(error)) from None
    if not isinstance(content, dict):
        raise InputError("holds no mapping", where=str(path), expected="`key: value` lines at the top level")
    return content


def _content(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in below:
        raise InputError("extends itself", where=str(path), expected="another recipe under `extends`")
    content = read_mapping(path)
    bases = content.get("bases")
    if isinstance(bases, dict):
        # A file says where its own bases lie; who extends it may lie elsewhere.
        content["bases"] = {
            name: str(path.parent / base) if isinstance(base, str) else base for name, base in bases.items()
        }
    if _EXTENDS not in content:
        return content
    other = path.parent / str(content.pop(_EXTENDS))
    whole: dict[str, Any] = merged(_content(other, (*below, path.resolve())), content)
    return whole
