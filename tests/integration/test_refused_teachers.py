"""Checkpoints that are no teacher for this student: one line and exit code 2, before anything trains."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_runs import STUDENT_TRUNK, TEACHER_TRUNK, student_recipe, teacher_recipe, write_folder

from personsearch.cli import main
from personsearch.core.manifest import TrainingData
from personsearch.core.recipes import TrainRecipe
from personsearch.models import build_model
from personsearch.train.checkpoint import RunIdentity, write_checkpoint

NAMES = ("ann", "bob", "cid", "dan")
DETECTOR = {
    "kind": "faster_rcnn", "trunk": TEACHER_TRUNK, "rpn_channels": 8, "pool_size": 4,
    "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.44},
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_folder(tmp_path_factory.mktemp("data") / "tiny")
    labels = root / "annotations" / "train.json"
    labels.write_text(json.dumps({**json.loads(labels.read_text()), "person_names": NAMES}))
    return root


def checkpoint(
    path: Path, recipe: TrainRecipe, weights_of: TrainRecipe | None = None, names: tuple[str, ...] = NAMES
) -> Path:
    """A checkpoint of ``recipe`` with random weights, of another recipe's network where one is given."""
    torch.manual_seed(0)
    made = weights_of or recipe
    model = build_model(made.model, made.preprocess, len(names))
    data = (TrainingData(name="tiny", terms="made by a test", identities=len(names)),)
    identity = RunIdentity(recipe, len(names), data, names)
    write_checkpoint(path, identity, model=model.state_dict(), task={}, optimiser={}, precision={}, epoch=1, step=5)
    return path


def refused(recipe: Any, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What ``personsearch distill`` says, on its one line."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setattr(
        sys, "argv", ["personsearch", "distill", str(folder / "recipe.yaml"), "--out", str(folder / "run")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert not (folder / "run").exists(), "nothing is left behind"
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_weights_of_another_architecture(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    student_net = {**teacher_recipe(root).model_dump(mode="json", exclude_unset=True)}
    student_net["model"] = {**student_net["model"], "trunk": STUDENT_TRUNK}
    path = checkpoint(tmp_path / "t.pt", teacher_recipe(root), TrainRecipe.model_validate(student_net))
    line = refused(student_recipe(root, path), tmp_path, capsys, monkeypatch)
    assert f"{path}: the weights do not fit the recipe inside; expected a checkpoint of this model" in line


def test_a_network_that_lacks_what_is_taught(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain detector has neither attention nor identities: the first missing tap is named beside those it has."""
    path = checkpoint(tmp_path / "t.pt", teacher_recipe(root, model=DETECTOR))
    line = refused(student_recipe(root, path), tmp_path, capsys, monkeypatch)
    assert "the teacher has no tap `attention.0`; expected one of feature.0, feature.1, feature.2" in line
    levels = {"attention": False, "feature": False}
    line = refused(student_recipe(root, path, hierarchical=levels), tmp_path, capsys, monkeypatch)
    assert "the teacher has no tap `identity_logits`; expected one of feature.0" in line


def test_the_same_number_of_people_in_another_order(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "t.pt", teacher_recipe(root), names=("ann", "cid", "bob", "dan"))
    line = refused(student_recipe(root, path), tmp_path, capsys, monkeypatch)
    assert "identity 1 of the teacher is `cid`, of the data set `bob`" in line


def test_a_file_of_another_kind(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.pt").write_bytes(b"not a checkpoint")
    line = refused(student_recipe(root, tmp_path / "t.pt"), tmp_path, capsys, monkeypatch)
    assert "t.pt: cannot be read as a checkpoint; expected a file written by `personsearch train`" in line
    torch.save({"weights": torch.zeros(2)}, tmp_path / "t.pt")
    line = refused(student_recipe(root, tmp_path / "t.pt"), tmp_path, capsys, monkeypatch)
    assert "t.pt: is not a checkpoint of this project" in line
