"""The training stages as a user meets them: commands, messages, exit codes, what lies in the run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
import yaml
from tiny_runs import PERSON_COUNT, student_recipe, teacher_recipe, write_folder
from typer.testing import CliRunner, Result

from personsearch.cli.distill import distill
from personsearch.cli.train import train
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.recipe import dump_recipe, load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.train import TrainingDiverged, run_training


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def teacher(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training(teacher_recipe(root, epochs=1), tmp_path_factory.mktemp("teacher"))


def command(name: str, *arguments: object) -> Result:
    app = typer.Typer()
    app.command("train")(train)
    app.command("distill")(distill)
    return CliRunner().invoke(app, [name, *map(str, arguments)])


def write_recipe(path: Path, recipe: TrainRecipe) -> Path:
    path.write_text(dump_recipe(recipe))
    return path


def test_teacher_then_student_by_command(root: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "teacher.yaml", teacher_recipe(root))
    trained = command("train", recipe, "epochs=1", "--out", tmp_path / "teacher")
    assert trained.exit_code == 0, trained.output
    assert trained.stdout.startswith(f"{tmp_path / 'teacher' / 'checkpoint.pt'}: 1 epochs, 5 steps, ")

    recipe = write_recipe(tmp_path / "student.yaml", student_recipe(root, tmp_path / "teacher" / "checkpoint.pt"))
    distilled = command("distill", recipe, "epochs=2", "--out", tmp_path / "student", "--json")
    assert distilled.exit_code == 0, distilled.output
    record = json.loads(distilled.stdout)
    assert (record["kind"], record["epochs_done"], record["person_count"]) == ("distill", 2, PERSON_COUNT)
    assert record["data"] == [{"name": "tiny", "terms": "made by a test", "identities": PERSON_COUNT}]
    assert record["teacher"]["checkpoint_sha256"] == sha256_file(tmp_path / "teacher" / "checkpoint.pt")

    model, checkpoint = load_model(Path(record["checkpoint"]))
    assert isinstance(checkpoint.recipe, DistillRecipe)
    assert record["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert not [name for name in checkpoint.model_state if "teacher" in name]
    assert load_recipe(tmp_path / "student" / "recipe.yaml", DistillRecipe) == checkpoint.recipe
    header = (tmp_path / "student" / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "step,epoch,lr,loss,rpn_class,rpn_box,refine_class,refine_box,identity,"
        "feature,attention,prediction,images_per_s"
    )


def test_a_finished_run_is_left_as_it_is(root: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "teacher.yaml", teacher_recipe(root, epochs=1))
    assert command("train", recipe, "--out", tmp_path / "run").exit_code == 0
    before = sha256_file(tmp_path / "run" / "checkpoint.pt"), (tmp_path / "run" / "metrics.csv").read_text()
    again = command("train", recipe, "--out", tmp_path / "run")
    assert isinstance(again.exception, InputError)
    assert "1 of 1 epochs done; continue it with --resume" in str(again.exception)
    assert command("train", recipe, "--out", tmp_path / "run", "--resume").exit_code == 0
    assert (sha256_file(tmp_path / "run" / "checkpoint.pt"), (tmp_path / "run" / "metrics.csv").read_text()) == before


def test_divergence_is_one_line_and_exit_code_1(root: Path, teacher: Path, tmp_path: Path) -> None:
    wild = {"lr": 1e20, "clip_norm": None, "schedule": "step", "milestones": []}
    for name, recipe in (
        ("train", teacher_recipe(root, optimiser=wild)),
        ("distill", student_recipe(root, teacher, optimiser=wild)),
    ):
        result = command(name, write_recipe(tmp_path / f"{name}.yaml", recipe), "--out", tmp_path / name)
        assert result.exit_code == 1
        message = result.stderr.splitlines()[-1]
        assert message.startswith("personsearch: training diverged: `")
        assert "frames/" in message
        assert "Traceback" not in result.stderr
        assert not (tmp_path / name / "checkpoint.pt").exists()


def test_the_same_student_whatever_ran_before(root: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = student_recipe(root, teacher, epochs=1)
    first = run_distillation(recipe, tmp_path / "a")
    torch.manual_seed(99)
    assert sha256_file(run_distillation(recipe, tmp_path / "b")) == sha256_file(first)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_processes_do_not_change_the_weights(root: Path, tmp_path: Path, workers: int) -> None:
    states = []
    for count in (0, workers):
        recipe = teacher_recipe(root, epochs=2, data={"root": str(root), "workers": count})
        states.append(read_checkpoint(run_training(recipe, tmp_path / str(count))).model_state)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_teacher_of_other_people_is_refused(root: Path, teacher: Path, tmp_path: Path) -> None:
    for folder, changes in (("more", {"person_count": PERSON_COUNT + 1}), ("renamed", {"name": "other"})):
        other = write_folder(tmp_path / folder, **changes)
        with pytest.raises(
            InputError, match=r"was trained on tiny \(train, 4 identities\); expected the student's data"
        ):
            run_distillation(student_recipe(other, teacher), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_data_set_start_a_run(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_folder(tmp_path / "more", person_count=PERSON_COUNT + 2, images=8)
    recipe = teacher_recipe(other, epochs=1, init_from=str(teacher), optimiser={"lr": 1e-12, "warmup_steps": 2})
    run_training(recipe, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "run.json").read_text())["init_from"]
    assert told.startswith("of another shape: ")
    assert "identity" in told
    assert f"weights from {teacher}: {told}" in capsys.readouterr().err
    given, found = read_checkpoint(teacher).model_state, read_checkpoint(tmp_path / "run" / "checkpoint.pt").model_state
    weight = next(name for name, tensor in given.items() if tensor.ndim == 4)
    torch.testing.assert_close(found[weight], given[weight], rtol=1e-5, atol=1e-7)


def test_a_batch_without_people_trains(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", images=3)
    annotations = root / "annotations" / "train.json"
    content = json.loads(annotations.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] == 2]
    annotations.write_text(json.dumps(content))
    path = run_training(teacher_recipe(root, batch_images=1, epochs=1), tmp_path / "run")
    state = read_checkpoint(path).model_state
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values() if tensor.is_floating_point())


def test_mixed_precision_trains(root: Path, teacher: Path, tmp_path: Path) -> None:
    path = run_distillation(student_recipe(root, teacher, precision="bf16-mixed", epochs=1), tmp_path / "run")
    assert {tensor.dtype for tensor in read_checkpoint(path).model_state.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "nowhere.pt"}, r"nowhere\.pt: no such checkpoint"),
        ({"data": {"root": "nowhere"}}, "nowhere"),
        ({"loss_weights": {"identiy": 2}}, "`identiy` is no loss of this model"),
        ({"optimiser": {"warmup_steps": 1000}}, "warmup_steps"),
        ({"hierarchical": {"levels": ["0", "7"]}}, r"no tap `feature\.7`"),
        ({"hierarchical": {"feature": False, "attention": False, "prediction": False}}, "all off"),
    ],
)
def test_bad_recipes_are_one_line(
    root: Path, teacher: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    content = {**yaml.safe_load(dump_recipe(student_recipe(root, teacher))), **changes}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    result = command("distill", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_people_without_identity_cannot_teach(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", images=2, person_count=0)
    with pytest.raises(InputError, match="labels no identity"):
        run_training(teacher_recipe(root), tmp_path / "run")


def test_diverged_error_names_its_parts() -> None:
    error = TrainingDiverged("identity", float("nan"), epoch=3, step=41, names=["a.png", "b.png"])
    assert (error.part, error.epoch, error.step, error.names) == ("identity", 3, 41, ("a.png", "b.png"))
    assert "`identity` became nan in epoch 3, step 41; images: a.png, b.png" in str(error)
