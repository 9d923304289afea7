"""The loader's options in a whole run: every one of them at once, what the record says, and a resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import teacher_recipe, write_folder

from personsearch.core.errors import InputError
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train import run_training

OPTIONS: dict[str, Any] = {
    "workers": 0, "images_per_identity": 2, "input_sizes": [[96, 64], [128, 96]], "erase": 0.5,
    "erase_in": "people", "decode": "reduced",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "data")
    (folder / "frames" / "8.png").write_bytes(b"cut short")
    return folder


def test_an_unreadable_image_ends_a_run_unless_it_may_be_skipped(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"8\.png: is not an image"):
        run_training(teacher_recipe(root, data={"root": str(root), **OPTIONS}), tmp_path / "strict")
    recipe = teacher_recipe(root, data={"root": str(root), **OPTIONS, "skip_bad": True}, epochs=2)
    run_training(recipe, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())["loader"]
    assert record["boxes_outside"] == record["dropped_boxes"] == 0
    ((message, times),) = record["skipped_images"].items()
    assert message.startswith(str(root / "frames" / "8.png"))
    assert times == 2


def test_a_run_that_an_unreadable_image_ended_resumes_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    recipe = teacher_recipe(root, data={"root": str(root), **OPTIONS}, epochs=3, epoch_images=4)
    with pytest.raises(InputError, match=r"8\.png"):
        run_training(recipe, tmp_path / "cut")
    done = read_checkpoint(tmp_path / "cut" / "checkpoint.pt").content["progress"]["epoch"]
    assert 1 <= done <= 2, "the image is met in the middle of the run"
    shutil.copy(root / "frames" / "6.png", root / "frames" / "8.png")
    cut = run_training(recipe, tmp_path / "cut", resume=True)
    whole = run_training(recipe, tmp_path / "whole")
    first, second = (read_checkpoint(path).model_state for path in (whole, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
