"""What a demo is made of: the recipes under ``recipes/demo``, placed in one output folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.recipe import StrictModel, load_recipe
from personsearch.core.recipes import DistillRecipe, ExportRecipe, TrainRecipe
from personsearch.data.synthetic.settings import SyntheticSettings

RecipeT = TypeVar("RecipeT", bound=StrictModel)


@dataclass(frozen=True)
class DemoSettings:
    """Sizes and recipes of one demo.

    Attributes:
        data: the generated data set and video.
        teacher: the network that is too heavy for a camera.
        student: the small one, distilled; its ``teacher`` path is set by the demo.
        control: the student's network and schedule without a teacher.
        export: precision is set by the demo, once each.
        false_match_rate: share of pairs of different training people that the match threshold may let pass.
        calibration_images: training images the threshold is chosen on.
        latency_rounds: frames timed for each system.
        in_view_px: the stream's query counts as in view where its box is at least this high, video pixels.
        rankings: queries shown in the report.
        frames_shown: annotated frames shown in the report.
    """

    data: SyntheticSettings
    teacher: TrainRecipe
    student: DistillRecipe
    control: TrainRecipe
    export: ExportRecipe = field(default_factory=ExportRecipe)
    false_match_rate: float = 0.01
    calibration_images: int = 160
    latency_rounds: int = 40
    in_view_px: float = 64.0
    rankings: int = 6
    frames_shown: int = 4

    @property
    def seed(self) -> int:
        """The one seed of the demo."""
        return self.data.seed


def standard_settings(seed: int) -> DemoSettings:
    """The demo as it ships: the recipes under ``recipes/demo`` with ``seed`` everywhere."""
    return DemoSettings(
        data=_shipped("data", SyntheticSettings).model_copy(update={"seed": seed}),
        teacher=_shipped("teacher", TrainRecipe).model_copy(update={"seed": seed}),
        student=_shipped("student", DistillRecipe).model_copy(update={"seed": seed}),
        control=_shipped("control", TrainRecipe).model_copy(update={"seed": seed}),
        # End figures on a third of the gate's usual images: the table that follows measures them on all.
        export=ExportRecipe(gate=GateRecipe(images=40)),
    )


@dataclass(frozen=True)
class DemoFolders:
    """Where each stage leaves its outcome."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "1-data"

    @property
    def teacher(self) -> Path:
        return self.root / "2-teacher"

    @property
    def student(self) -> Path:
        return self.root / "3-student"

    @property
    def control(self) -> Path:
        return self.root / "3-control"

    @property
    def engines(self) -> Path:
        return self.root / "4-engines"

    @property
    def evaluation(self) -> Path:
        return self.root / "5-evaluation"

    @property
    def stream(self) -> Path:
        return self.root / "6-stream"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def figures(self) -> Path:
        return self.root / "figures.json"


def _shipped(name: str, model: type[RecipeT]) -> RecipeT:
    with as_file(files("personsearch.recipes") / "demo" / f"{name}.yaml") as path:
        return load_recipe(path, model)
