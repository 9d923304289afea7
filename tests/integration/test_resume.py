"""A run killed at any moment and resumed ends like one that was not: same weights, same rows of metrics.csv.

The killed runs are made by this file run as a script: it imports torch once, then forks a child for each moment,
which dies by SIGKILL, from outside while it trains or by its own hand at a place that time cannot hit.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import student_recipe, teacher_recipe, write_folder

from personsearch.core.recipes import DistillRecipe
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train import run_training

# Rows of metrics.csv after which the run is killed; an epoch has five steps, three epochs make a run.
AFTER_ROWS = {"in the first epoch": 2, "in the second epoch": 7, "in the last epoch": 13}
BY_ITS_OWN_HAND = ("in the middle of writing the checkpoint", "between the last checkpoint and its record")
MOMENTS = (*AFTER_ROWS, *BY_ITS_OWN_HAND)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> DistillRecipe:
    base = tmp_path_factory.mktemp("base")
    root = write_folder(base / "data")
    return student_recipe(root, run_training(teacher_recipe(root, epochs=1), base / "teacher"), ema_decay=0.9)


@pytest.fixture(scope="module")
def whole(recipe: DistillRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole")
    run_distillation(recipe, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def killed(recipe: DistillRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("killed")
    (base / "recipe.json").write_text(recipe.model_dump_json())
    script = subprocess.run(
        [sys.executable, __file__, str(base)], capture_output=True, text=True, timeout=120, check=False
    )
    assert script.returncode == 0, script.stderr
    return base


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_ends_the_same(recipe: DistillRecipe, whole: Path, killed: Path, moment: str) -> None:
    run_dir = killed / moment
    path = run_dir / "checkpoint.pt"
    done = read_checkpoint(path).content["progress"]["epoch"] if path.exists() else 0
    if moment in BY_ITS_OWN_HAND:
        assert done == (1 if "middle" in moment else 3)
        assert bool(list(run_dir.glob(".checkpoint.*.part.pt"))) == ("middle" in moment)
    else:
        assert done <= 2, "the run was killed before its end"
    assert run_distillation(recipe, run_dir, resume=True) == path

    expected, found = read_checkpoint(whole / "checkpoint.pt").content, read_checkpoint(path).content
    assert_equal(found, expected, "checkpoint")
    assert rows(run_dir) == rows(whole)
    assert json.loads((run_dir / "run.json").read_text())["epochs_done"] == 3
    assert sorted(entry.name for entry in run_dir.iterdir()) == sorted(entry.name for entry in whole.iterdir())


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "images_per_s"} for row in csv.DictReader(file)]


def assert_equal(found: Any, expected: Any, where: str) -> None:
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_equal(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{where}[{index}]")
    else:
        assert found == expected, where


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(recipe: DistillRecipe, run_dir: Path, moment: str) -> None:
    """Trains in this process, which does not survive it."""
    from personsearch.train import record

    saves, save, write = 0, torch.save, record.write_json

    def save_half(content: object, file: Any) -> None:
        nonlocal saves
        saves += 1
        save(content, file)
        if saves == 2:
            file.flush()
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size // 2)
            die()

    def write_unless_last(path: Path, value: Any) -> None:
        if value["epochs_done"] == 3:
            die()
        write(path, value)

    if "middle of writing" in moment:
        torch.save = save_half
    elif "between" in moment:
        record.write_json = write_unless_last
    run_distillation(recipe, run_dir)


def kill_after(pid: int, metrics: Path, row_count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") > row_count:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.001)


def main(base: Path) -> None:
    torch.set_num_threads(1)
    recipe = DistillRecipe.model_validate_json((base / "recipe.json").read_text())
    for moment in MOMENTS:
        pid = os.fork()
        if pid == 0:
            run_until_killed(recipe, base / moment, moment)
            os._exit(0)
        if moment in AFTER_ROWS:
            kill_after(pid, base / moment / "metrics.csv", AFTER_ROWS[moment])
        _, status = os.waitpid(pid, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(f"the run that was to be killed {moment} ended by itself")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
