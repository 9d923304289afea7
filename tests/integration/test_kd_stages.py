"""KD_det and KD_reid as a user meets them: commands, chains of teachers, resuming, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from interrupted import Stopping
from tiny_runs import STUDENT_TRUNK, TEACHER_TRUNK, teacher_recipe, write_folder
from typer.testing import CliRunner, Result

from personsearch.cli.distill import distill
from personsearch.cli.table import table
from personsearch.cli.train import train
from personsearch.core.errors import InputError
from personsearch.core.lookup_table_file import LookupTableFile, read_lookup_table, write_lookup_table
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.distill import run, run_distillation
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.train import run_training
from personsearch.train.loop import Batches

NAMES = ("0", "1", "2", "3")
REGION = {
    "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16, "train_pre_nms": 64,
    "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.4},
}  # fmt: skip
MEMORY = {"kind": "oim", "embedding_dim": 8, "queue_size": 6}
DETECTOR = {"kind": "faster_rcnn", "trunk": TEACHER_TRUNK, **REGION}
OIM_TEACHER = {**MEMORY, "trunk": TEACHER_TRUNK, **REGION}
OIM_STUDENT = {**MEMORY, "trunk": STUDENT_TRUNK, **REGION}


pytestmark = pytest.mark.usefixtures("one_thread")


def content(root: Path, model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny", "seed": 7, "model": model, "preprocess": {"input_wh": [96, 64]},
        "data": {"root": str(root), "workers": 0}, "optimiser": {"name": "adamw", "lr": 0.003, "milestones": []},
        "epochs": 1, "batch_images": 5, **changes,
    }  # fmt: skip


def student(root: Path, teacher: Path | str, model: dict[str, Any] | None = None, **changes: Any) -> DistillRecipe:
    settings = content(root, model or OIM_STUDENT, teacher=str(teacher), **changes)
    return validate(DistillRecipe, settings, where="test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


def trained(root: Path, model: dict[str, Any], folder: Path) -> Path:
    return run_training(validate(TrainRecipe, content(root, model, name="teacher"), where="test"), folder)


@pytest.fixture(scope="module")
def detector(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, DETECTOR, tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def oim(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, OIM_TEACHER, tmp_path_factory.mktemp("oim"))


def command(name: str, *arguments: object) -> Result:
    app = typer.Typer()
    for stage in (train, distill, table):
        app.command(stage.__name__)(stage)
    return CliRunner().invoke(app, [name, *map(str, arguments)])


def rows(path: Path) -> torch.Tensor:
    return read_checkpoint(path).model_state["memory.table.rows"]


def test_both_kinds_of_knowledge_by_command(root: Path, detector: Path, oim: Path, tmp_path: Path) -> None:
    blocks = {"detection": {"teacher": str(detector)}, "lookup_table": {}}
    recipe = content(root, OIM_STUDENT, teacher=str(oim), teacher_precision="bfloat16", **blocks)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = command("distill", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["detection_teacher"]["name"] == "teacher"
    assert record["lookup_table"]["width"] == 8
    assert record["lookup_table"]["identities_without_row"] == int((~rows(oim).any(dim=1)).sum())
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "step,epoch,lr,loss,rpn_class,rpn_box,refine_class,refine_box,identity,"
        "hint,rpn_soft,rpn_bounded,rcn_soft,rcn_bounded,images_per_s"
    )
    _, checkpoint = load_model(tmp_path / "run" / "checkpoint.pt")
    known = rows(oim).any(dim=1)
    torch.testing.assert_close(rows(tmp_path / "run" / "checkpoint.pt")[known], rows(oim)[known])
    assert not [name for name in checkpoint.model_state if "teacher" in name or "adaptation" in name]
    (adaptation,) = [value for name, value in checkpoint.content["task"].items() if name.endswith("weight")]
    assert adaptation.shape == (16, 8, 1, 1), "from the student's channels to the teacher's"


def test_a_table_of_a_softmax_teacher_teaches_any_student(root: Path, tmp_path: Path) -> None:
    teacher = run_training(teacher_recipe(root, epochs=1), tmp_path / "hdl")
    refused = command_distill(student(root, teacher, lookup_table={}), tmp_path)
    assert "`hdl` has no look-up table; expected a network trained with OIM" in refused
    assert "`personsearch table" in refused

    told = command("table", teacher, root, "--preset", "osnet", "--out", tmp_path / "table.npz")
    assert "a checkpoint says itself how pixels become its input" in str(told.exception)
    made = command("table", teacher, root, "--out", tmp_path / "table.npz", "--min-crops", 1)
    assert made.exit_code == 0, made.output
    content_of_file = read_lookup_table(tmp_path / "table.npz")
    assert content_of_file.names == NAMES
    width = content_of_file.table.shape[1]
    assert width == load_model(teacher)[0].embedding_dim
    for model, projection, precision in (
        (OIM_STUDENT, "orthogonal", "bf16-mixed"), ({"trunk": STUDENT_TRUNK, **hdl_model(root)}, "linear", "32-true"),
    ):  # fmt: skip
        block = {"projection": projection}
        recipe = student(root, tmp_path / "table.npz", model, lookup_table=block, precision=precision)
        path = run_distillation(recipe, tmp_path / projection)
        assert "lookup_table" in (tmp_path / projection / "metrics.csv").read_text().splitlines()[0]
        weights = read_checkpoint(path).content["task"]
        assert any(tensor.shape == (width, 8) for tensor in weights.values())
        assert json.loads((tmp_path / projection / "run.json").read_text())["lookup_table"]["source"].startswith(
            "tiny-t"
        )


def hdl_model(root: Path) -> dict[str, Any]:
    model = teacher_recipe(root).model.model_dump()
    return {name: value for name, value in model.items() if name != "trunk"}


def command_distill(recipe: DistillRecipe, folder: Path) -> str:
    """The one line that a refused recipe gets."""
    (folder / "refused.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    result = command("distill", folder / "refused.yaml", "--out", folder / "refused")
    assert isinstance(result.exception, InputError), result.output
    assert not (folder / "refused").exists(), "nothing is left behind"
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_chains_and_self_distillation_by_recipe_fields_alone(root: Path, oim: Path, tmp_path: Path) -> None:
    # large -> middle -> small, every kind of knowledge; the middle one is a student's checkpoint.
    hierarchical = {"attention": False, "relation": True, "levels": ["0", "1", "2"]}
    blocks = {"hierarchical": hierarchical, "detection": {}, "lookup_table": {}}
    middle_model = {**OIM_STUDENT, "trunk": {**TEACHER_TRUNK, "width": 3}}
    middle = run_distillation(student(root, oim, middle_model, **blocks), tmp_path / "middle")
    small = run_distillation(student(root, middle, OIM_STUDENT, **blocks), tmp_path / "small")
    oneself = run_distillation(student(root, small, OIM_STUDENT, **blocks), tmp_path / "self")
    known = rows(oim).any(dim=1)
    for path in (middle, small, oneself):
        torch.testing.assert_close(rows(path)[known], rows(oim)[known], msg=str(path))
        assert all(bool(torch.isfinite(value).all()) for value in read_checkpoint(path).model_state.values())
    parameters = [json.loads((path.parent / "run.json").read_text())["parameters"] for path in (middle, small)]
    assert parameters[0] > parameters[1]
    record = json.loads((small.parent / "run.json").read_text())
    assert record["teacher"]["checkpoint_sha256"] == record["detection_teacher"]["checkpoint_sha256"]


def test_adaptation_and_projection_go_on_after_an_interruption(
    root: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table_rows = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0][:4].astype(np.float32)
    write_lookup_table(tmp_path / "t.npz", LookupTableFile(NAMES, table_rows, np.ones(4, np.int64), "test"))
    blocks = {"detection": {"teacher": str(detector)}, "lookup_table": {"projection": "orthogonal"}}
    recipe = student(root, tmp_path / "t.npz", epochs=2, **blocks)
    whole = read_checkpoint(run_distillation(recipe, tmp_path / "whole")).content
    with monkeypatch.context() as patched:
        opened = run.training_batches

        def stopping(*arguments: Any) -> Batches:
            return Stopping(opened(*arguments))

        patched.setattr(run, "training_batches", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_distillation(recipe, tmp_path / "stopped")
    assert read_checkpoint(tmp_path / "stopped" / "checkpoint.pt").content["progress"]["epoch"] == 1
    resumed = read_checkpoint(run_distillation(recipe, tmp_path / "stopped", resume=True)).content
    assert len(whole["task"]) > 2
    for part in ("model", "task"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items()), part


def test_maps_from_disk_teach_the_same(root: Path, detector: Path, tmp_path: Path) -> None:
    fixed = {"root": str(root), "workers": 0, "photometric": 0, "zoom": [1, 1], "flip": 0}
    plain = student(root, detector, data=fixed, epochs=3, detection={})
    cached = student(root, detector, data=fixed, epochs=3, detection={}, teacher_cache=str(tmp_path / "maps"))
    expected = read_checkpoint(run_distillation(plain, tmp_path / "plain")).model_state
    found = read_checkpoint(run_distillation(cached, tmp_path / "cached")).model_state
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    (counts,) = json.loads((tmp_path / "cached" / "run.json").read_text())["teacher_cache"].values()
    assert counts == {"found": 20, "computed": 10}, "ten frames, three epochs"
    assert "`data.photometric` shows a frame differently" in command_distill(
        student(root, detector, detection={}, teacher_cache="maps"), tmp_path
    )


def test_tables_of_other_people_are_one_line(root: Path, tmp_path: Path) -> None:
    unit = np.eye(8, dtype=np.float32)
    for name, names, count, message in (
        ("swapped", ("0", "2", "1", "3"), 4, "identity 1 of the look-up table is `2`, of the data set `1`"),
        ("short", ("0", "1", "2"), 3, "identity 3 of the look-up table is missing, of the data set `3`"),
        ("nameless", (), 4, "identity 0 of the look-up table is missing"),
    ):
        path = tmp_path / f"{name}.npz"
        write_lookup_table(path, LookupTableFile(names, unit[:count], np.ones(count, np.int64), "test"))
        refused = command_distill(student(root, path, lookup_table={}), tmp_path)
        assert message in refused
        assert str(path) in refused
    write_lookup_table(tmp_path / "wide.npz", LookupTableFile(NAMES, unit[:4, :5], np.ones(4, np.int64), "test"))
    refused = command_distill(student(root, tmp_path / "wide.npz", lookup_table={}), tmp_path)
    assert "rows of the look-up table are 5 wide, the student's embeddings 8" in refused


def test_teachers_of_another_kind_are_one_line(root: Path, detector: Path, oim: Path, tmp_path: Path) -> None:
    assert "no look-up table" in command_distill(student(root, detector, lookup_table={}), tmp_path)
    other = write_folder(tmp_path / "other", name="other")
    assert "was trained on tiny" in command_distill(student(other, oim, lookup_table={}), tmp_path)
    heights = {**REGION, "anchors": {"kind": "person", "heights": [32, 60], "ratio": 2.4}}
    refused = command_distill(student(root, detector, {**OIM_STUDENT, **heights}, detection={}), tmp_path)
    assert "the teacher's anchors are 2 (13.33 x 32, 23.33 x 56) every 16 px; expected the student's" in refused
    # Where only boxes are taught, the detector may have learnt from anything.
    run_distillation(student(other, detector, detection={}), tmp_path / "run")


def test_a_recipe_without_knowledge_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="at least one of crops, detection, hierarchical, lookup_table"):
        student(root, "t.pt", hierarchical=None)
    assert student(root, "t.pt").hierarchical is not None, "HDL, as before the other blocks came"
    assert student(root, "t.pt", detection={}).hierarchical is None
