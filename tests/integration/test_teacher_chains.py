"""A student teaches the next one, or a network of its own kind, by the recipe fields that any distillation has."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from tiny_runs import SMALL, STUDENT_TRUNK, TEACHER_TRUNK, student_recipe, teacher_recipe, write_folder
from typer.testing import CliRunner

from personsearch.cli.distill import distill
from personsearch.cli.train import train
from personsearch.core.files import sha256_file
from personsearch.models.checkpoint import load_model, read_checkpoint

MIDDLE_TRUNK = {**TEACHER_TRUNK, "depth": 10}
OIM: dict[str, Any] = {
    "kind": "oim", "embedding_dim": 8, "queue_size": 6, "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8,
    "train_proposals": 16, "train_pre_nms": 64, "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.4},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


def command(stage: str, recipe: Path, out: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Checkpoint and record of ``personsearch STAGE RECIPE --out OUT OVERRIDES``."""
    app = typer.Typer()
    for one in (train, distill):
        app.command(one.__name__)(one)
    result = CliRunner().invoke(app, [stage, str(recipe), "--out", str(out), *overrides])
    assert result.exit_code == 0, (result.output, result.exception)
    return out / "checkpoint.pt", json.loads((out / "run.json").read_text())


def written(path: Path, recipe: Any) -> Path:
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    return path


def logged(checkpoint: Path, name: str) -> list[float]:
    with (checkpoint.parent / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_large_teaches_middle_teaches_small_and_each_taught_network_teaches_itself(root: Path, tmp_path: Path) -> None:
    """One student recipe, `teacher` and the trunk replaced: a chain; the trunk of the teacher: self-distillation."""
    student = written(tmp_path / "student.yaml", student_recipe(root, Path("nobody"), epochs=2))
    large, _ = command("train", written(tmp_path / "teacher.yaml", teacher_recipe(root, epochs=2)), tmp_path / "large")
    trunks = {"middle": MIDDLE_TRUNK, "small": STUDENT_TRUNK, "small-again": STUDENT_TRUNK}
    teacher = large
    for name, trunk in trunks.items():
        before = sha256_file(teacher)
        overrides = [f"name={name}", f"teacher={teacher}", f"model.trunk={json.dumps(trunk)}"]
        taught, record = command("distill", student, tmp_path / name, *overrides)
        assert record["teacher"]["checkpoint_sha256"] == before == sha256_file(teacher), "the teacher is as it was"
        for kind in ("feature", "attention", "prediction"):
            assert max(logged(taught, kind)) > 0, f"{name} is taught by {kind}"  # a batch without people has none
        assert not [key for key in read_checkpoint(taught).model_state if "teacher" in key]
        teacher = taught
    small, again = (load_model(tmp_path / name / "checkpoint.pt")[0] for name in ("small", "small-again"))
    assert {name: value.shape for name, value in small.state_dict().items()} == {
        name: value.shape for name, value in again.state_dict().items()
    }
    assert not torch.equal(small.state_dict()["trunk.stem.0.weight"], again.state_dict()["trunk.stem.0.weight"])


def test_a_network_of_the_teacher_s_own_recipe_learns_from_it(root: Path, tmp_path: Path) -> None:
    """Self-distillation is a teacher's recipe with `teacher` set; `init_from` starts where the teacher ended."""
    # Group norm and no dropout: a network in training answers as it does as a teacher.
    model = {**SMALL, "trunk": {**TEACHER_TRUNK, "norm": "group"}}
    recipe = written(tmp_path / "teacher.yaml", teacher_recipe(root, epochs=1, model=model))
    teacher, _ = command("train", recipe, tmp_path / "first")
    fresh, _ = command("distill", recipe, tmp_path / "second", f"teacher={teacher}", "name=second")
    going_on, record = command(
        "distill", recipe, tmp_path / "third", f"teacher={teacher}", f"init_from={teacher}", "name=third"
    )
    assert record["init_from"] == "every weight taken"
    assert read_checkpoint(fresh).recipe.model == read_checkpoint(teacher).recipe.model
    for kind in ("feature", "attention", "prediction"):
        of_copy, of_fresh = logged(going_on, kind), logged(fresh, kind)
        assert max(of_copy[0], 0) < 1e-5, "a copy agrees with its teacher"
        assert max(of_copy[1:]) > 1e-5, "until the labels move it"
        assert max(of_fresh) > 1e-3


def test_a_look_up_table_is_handed_down_a_chain(root: Path, tmp_path: Path) -> None:
    """KD_reid twice: the third network has the first one's rows, which the second one froze."""
    large = teacher_recipe(root, epochs=1, model={**OIM, "trunk": TEACHER_TRUNK})
    first, _ = command("train", written(tmp_path / "large.yaml", large), tmp_path / "large")
    content = {**large.model_dump(mode="json", exclude_unset=True), "teacher": "nobody", "lookup_table": {}}
    (tmp_path / "student.yaml").write_text(yaml.safe_dump(content))
    tables, teacher = [read_checkpoint(first).model_state["memory.table.rows"]], first
    for name, trunk in (("middle", MIDDLE_TRUNK), ("small", STUDENT_TRUNK)):
        overrides = [f"name={name}", f"teacher={teacher}", f"model.trunk={json.dumps(trunk)}"]
        teacher, record = command("distill", tmp_path / "student.yaml", tmp_path / name, *overrides)
        assert record["lookup_table"]["width"] == 8
        tables.append(read_checkpoint(teacher).model_state["memory.table.rows"])
    known = tables[0].any(dim=1)
    assert bool(known.any())
    for table in tables[1:]:
        torch.testing.assert_close(table[known], tables[0][known], rtol=0, atol=1e-6)
