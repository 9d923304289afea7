"""All seven stages in miniature: the code of the demo, only smaller. Too small to learn, so checks may fail."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any, TypeVar

import cv2
import pytest

from personsearch.benchmarks.demo import DemoOutcome, DemoSettings, run_demo, standard_settings
from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.manifest import load_artifact
from personsearch.core.recipes import ExportRecipe, QuantiseRecipe, TrainRecipe
from personsearch.data.synthetic.settings import SyntheticSettings

RecipeT = TypeVar("RecipeT", bound=TrainRecipe)
pytestmark = pytest.mark.slow

DATA = SyntheticSettings(
    frame_wh=(192, 112),
    train_identities=6,
    test_identities=4,
    passers_by=4,
    train_cameras=2,
    test_cameras=2,
    cameras_per_identity=2,
    days=1,
    train_frames=24,
    test_frames=16,
    video_wh=(256, 144),
    video_frames=24,
)


def miniature() -> DemoSettings:
    """The shipped recipes with less of everything."""
    standard = standard_settings(3)
    size = {"preprocess": standard.teacher.preprocess.model_copy(update={"input_wh": (192, 112)}), "epochs": 2}
    model: dict[str, Any] = {
        "anchor_heights": (24.0, 40.0, 64.0),
        "proposals": 8,
        "train_proposals": 32,
        "rois_per_image": 8,
    }
    model["score_threshold"] = 0.05  # two epochs make nobody sure

    def smaller(recipe: RecipeT) -> RecipeT:
        network = recipe.model.model_copy(update=model)
        optimiser = recipe.optimiser.model_copy(update={"warmup_steps": 2})
        return recipe.model_copy(update={**size, "model": network, "optimiser": optimiser, "seed": 3})

    return replace(
        standard,
        data=DATA.model_copy(update={"seed": 3}),
        teacher=smaller(standard.teacher),
        student=smaller(standard.student),
        control=smaller(standard.control),
        export=ExportRecipe(gate=GateRecipe(frames=4), quantise=QuantiseRecipe(frames=4, min_frames=4)),
        latency_rounds=4,
        in_view_px=24.0,
        rankings=2,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoOutcome:
    return run_demo(miniature(), tmp_path_factory.mktemp("demo") / "out")


def test_every_stage_leaves_its_outcome(demo: DemoOutcome) -> None:
    root = demo.report.parent
    names = {"1-data", "2-teacher", "3-student", "3-control", "4-engines", "5-evaluation", "6-stream"}
    assert {path.name for path in root.iterdir()} == names | {
        "report.html",
        "figures.json",
        "demo.json",
        "3-control.log",
        "results",
    }
    assert json.loads((root / "demo.json").read_text())["complete"] is True
    for run in ("2-teacher", "3-student", "3-control"):
        assert (root / run / "checkpoint.pt").is_file()


def test_both_artifacts_hold_a_calibrated_threshold(demo: DemoOutcome) -> None:
    figures = json.loads(demo.figures.read_text())
    for precision in ("fp32", "int8"):
        manifest = load_artifact(demo.report.parent / "4-engines" / precision)
        assert manifest.precision == precision
        assert manifest.match_threshold == figures["match_threshold"][precision]["threshold"]
        assert figures["match_threshold"][precision]["false_match_rate"] <= miniature().false_match_rate


def test_video_was_searched_to_its_end(demo: DemoOutcome) -> None:
    stream = demo.report.parent / "6-stream"
    video = cv2.VideoCapture(str(stream / "annotated.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == DATA.video_frames
    assert (stream / "matches.jsonl").is_file()


def test_report_says_what_figures_say(demo: DemoOutcome) -> None:
    page = demo.report.read_text(encoding="utf-8")
    figures = json.loads(demo.figures.read_text())
    passed = sum(check["passed"] for check in figures["checks"])
    assert f"{passed} of {len(figures['checks'])} checks passed" in page
    assert f"{100 * figures['accuracy']['teacher']['search']['mean_ap']:.1f}" in page
    assert demo.passed == (passed == len(figures["checks"]))
    for heading in ("Figures", "Checks", "Learning", "Ranked matches", "How it was made"):
        assert f"<h2>{heading}</h2>" in page


def test_figures_hold_no_timing_and_no_place(demo: DemoOutcome) -> None:
    text = demo.figures.read_text()
    assert "_ms" not in text
    assert os.fspath(demo.report.parent.parent) not in text
