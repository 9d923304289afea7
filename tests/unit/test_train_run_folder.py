"""What may be started in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from personsearch.core.errors import InputError
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.train.checkpoint import RunIdentity, write_checkpoint
from personsearch.train.run_folder import open_run_folder


def recipe(kind: type[TrainRecipe] = TrainRecipe, **changes: Any) -> TrainRecipe:
    content = {
        "name": "run", "model": {"trunk": {"kind": "depthwise"}}, "preprocess": {"input_wh": [64, 64]},
        "data": {"root": "there"}, "epochs": 8, **changes,
    }  # fmt: skip
    return validate(kind, content, where="test")


def save(run_dir: Path, settings: TrainRecipe, epoch: int = 3) -> None:
    identity = RunIdentity(settings, 4, ())
    path = run_dir / "checkpoint.pt"
    write_checkpoint(path, identity, model={}, task={}, optimiser={}, precision={}, epoch=epoch, step=10 * epoch)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path, resume: bool) -> None:
    assert open_run_folder(tmp_path / "new", recipe(), resume=resume) is None
    (tmp_path / "metrics.csv").write_text("step,epoch")
    assert open_run_folder(tmp_path, recipe(), resume=resume) is None


@pytest.mark.parametrize("kind", [TrainRecipe, DistillRecipe])
@pytest.mark.parametrize("epoch", [3, 8])
def test_the_same_recipe_continues(tmp_path: Path, epoch: int, kind: type[TrainRecipe]) -> None:
    settings = recipe(kind, **({"teacher": "t.pt"} if kind is DistillRecipe else {}))
    save(tmp_path, settings, epoch)
    saved = open_run_folder(tmp_path, settings, resume=True)
    assert saved is not None
    assert saved.content["progress"] == {"epoch": epoch, "step": 10 * epoch}
    assert saved.recipe == settings
    assert type(saved.recipe) is kind


@pytest.mark.parametrize("epoch", [3, 8])
def test_nothing_is_overwritten_without_resume(tmp_path: Path, epoch: int) -> None:
    save(tmp_path, recipe(), epoch)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(
        InputError, match=f"{epoch} of 8 epochs done; continue it with --resume or choose another --out"
    ):
        open_run_folder(tmp_path, recipe(), resume=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_another_recipe_is_refused_and_the_difference_named(tmp_path: Path, resume: bool) -> None:
    save(tmp_path, recipe())
    changed = recipe(seed=4, optimiser={"lr": 0.1})
    with pytest.raises(InputError, match=r"optimiser\.lr: 0\.005 there, 0\.1 here, seed: 0 there, 4 here"):
        open_run_folder(tmp_path, changed, resume=resume)


def test_a_distillation_does_not_continue_a_training(tmp_path: Path) -> None:
    save(tmp_path, recipe())
    with pytest.raises(InputError, match="holds a run of another recipe"):
        open_run_folder(tmp_path, recipe(DistillRecipe, teacher="t.pt"), resume=True)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        open_run_folder(tmp_path / "file", recipe(), resume=False)


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be read as a checkpoint"):
        open_run_folder(tmp_path, recipe(), resume=True)
