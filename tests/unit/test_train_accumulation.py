"""Several batches, one step: the same gradient as all images at once, one write of the memories, one row of metrics."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.manifest import TrainingData
from personsearch.core.recipe import validate
from personsearch.core.recipes import TrainRecipe
from personsearch.data.loader import Batch
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.divergence import TrainingDiverged
from personsearch.train.loop import fit, open_fabric
from personsearch.train.task import Task, TaskBatch

IMAGES = 10


class Remembering(Task):
    """Predicts a box's mean from an image's mean, and remembers what it predicted; every loss is a mean over images."""

    def __init__(self, *, norm: bool = False, spoilt: str = "") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Tanh(), nn.Linear(8, 1))
        self.net.register_buffer("memory", torch.zeros(0))
        self.scale = nn.Linear(1, 1)
        self.pending: list[Tensor] = []
        self.written: list[list[float]] = []
        self._spoilt = spoilt

    @property
    def trained(self) -> nn.Module:
        return self.net

    @property
    def auxiliary(self) -> nn.Module:
        return self.scale

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        colours = batch.images.float().mean(dim=(1, 2)) / 255
        target = torch.stack([boxes.mean() / 800 for boxes in batch.boxes])
        predicted = self.net(colours)
        self.pending.append(target)
        near = (self.scale(predicted)[:, 0] - target).square().mean()
        if self._spoilt in batch.names:
            near = near * math.nan
        far = (predicted[:, 0] - target).abs().mean()
        return {"loss": near + 0.5 * far, "near": near, "far": far}

    def after_step(self) -> None:
        self.written.append(torch.cat(self.pending).tolist())
        self.pending = []


class Numbers:
    """The images of an epoch, ``batch`` at a time; they depend on (epoch, position) alone."""

    def __init__(self, batch: int) -> None:
        self._batch, self._epoch = batch, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(IMAGES / self._batch)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(100 + self._epoch)
        images = torch.randint(0, 256, (IMAGES, 5, 6, 3), generator=generator, dtype=torch.uint8)
        boxes = list(torch.rand(IMAGES, 2, 4, generator=generator) * 800)
        for first in range(0, IMAGES, self._batch):
            part = slice(first, first + self._batch)
            names = [f"{self._epoch}/{number}" for number in range(IMAGES)[part]]
            yield Batch(images[part], boxes[part], [torch.zeros(2, dtype=torch.int64)] * len(names), names)


def train(run_dir: Path, task: Task, *, batch: int, accumulate: int, **changes: Any) -> Path:
    content = {
        "name": "numbers", "model": {"trunk": {"kind": "depthwise"}}, "preprocess": {"input_wh": [64, 64]},
        "data": {"root": "nowhere"}, "optimiser": {"lr": 0.1, "milestones": [1]}, "epochs": 2,
        "batch_images": batch, "accumulate": accumulate,
    }  # fmt: skip
    recipe = validate(TrainRecipe, {**content, **changes}, where="test")
    identity = RunIdentity(recipe, 1, (TrainingData(name="numbers", terms="none", identities=1),))
    resumed = read_checkpoint(run_dir / "checkpoint.pt").content if (run_dir / "checkpoint.pt").exists() else None
    return fit(task, Numbers(batch), identity, run_dir, open_fabric(recipe.precision), content=resumed)


def rows(run_dir: Path) -> list[dict[str, float]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if name != "images_per_s"}
            for row in csv.DictReader(file)
        ]


# (whole batch, batch, accumulated): the last step of an epoch has fewer batches, or a smaller one, or both.
@pytest.mark.parametrize(("whole", "batch", "accumulate"), [(10, 5, 2), (4, 2, 2), (10, 4, 3), (6, 3, 2), (9, 3, 3)])
def test_accumulated_batches_take_the_step_of_one_large_batch(
    tmp_path: Path, whole: int, batch: int, accumulate: int
) -> None:
    tasks = Remembering(), Remembering()
    expected = read_checkpoint(train(tmp_path / "whole", tasks[0], batch=whole, accumulate=1)).content
    found = read_checkpoint(train(tmp_path / "parts", tasks[1], batch=batch, accumulate=accumulate)).content
    assert found["progress"] == expected["progress"]
    for part in ("model", "task"):
        for name, tensor in expected[part].items():
            torch.testing.assert_close(found[part][name], tensor, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["model"]["0.weight"], Remembering().net[0].weight), "it has learnt something"
    for first, second in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert second == pytest.approx(first, rel=1e-5)
    assert tasks[1].written == tasks[0].written, "once a step, with the rows of all its batches, in their order"
    assert len(tasks[0].written) == expected["progress"]["step"]


def test_the_rate_falls_by_optimiser_steps(tmp_path: Path) -> None:
    train(tmp_path, Remembering(), batch=2, accumulate=2)
    assert [(row["epoch"], row["lr"]) for row in rows(tmp_path)] == [(1, 0.1)] * 3 + [(2, pytest.approx(0.01))] * 3


def test_batch_norm_sees_one_batch_at_a_time(tmp_path: Path) -> None:
    """The documented difference: statistics are those of each batch, and the running ones move once a batch."""
    whole = read_checkpoint(train(tmp_path / "a", Remembering(norm=True), batch=10, accumulate=1)).model_state
    parts = read_checkpoint(train(tmp_path / "b", Remembering(norm=True), batch=5, accumulate=2)).model_state
    assert (int(whole["1.num_batches_tracked"]), int(parts["1.num_batches_tracked"])) == (2, 4)
    assert not torch.allclose(whole["0.weight"], parts["0.weight"], rtol=1e-3)


def test_accumulation_in_half_precision_stays_near_full(tmp_path: Path) -> None:
    full = read_checkpoint(train(tmp_path / "a", Remembering(), batch=5, accumulate=2)).model_state
    half = read_checkpoint(train(tmp_path / "b", Remembering(), batch=5, accumulate=2, precision="bf16-mixed"))
    assert half.model_state["0.weight"].dtype == torch.float32
    torch.testing.assert_close(half.model_state["0.weight"], full["0.weight"], rtol=0.05, atol=0.01)
    assert not torch.equal(half.model_state["0.weight"], full["0.weight"])


def test_a_broken_loss_names_the_images_of_its_batch_and_moves_nothing(tmp_path: Path) -> None:
    task = Remembering(spoilt="1/7")
    with pytest.raises(TrainingDiverged, match=r"`near` became nan in epoch 2, step 3; images: 1/6, 1/7, 1/8; the"):
        train(tmp_path, task, batch=3, accumulate=3)
    saved = read_checkpoint(tmp_path / "checkpoint.pt").content
    assert saved["progress"] == {"epoch": 1, "step": 2}
    assert len(task.written) == 2, "the broken step writes no memory"
    resumed = read_checkpoint(train(tmp_path, Remembering(), batch=3, accumulate=3)).content
    whole = read_checkpoint(train(tmp_path / "whole", Remembering(), batch=3, accumulate=3)).content
    for part in ("model", "task"):
        assert all(torch.equal(resumed[part][name], tensor) for name, tensor in whole[part].items())
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_run_is_not_continued_with_epochs_of_another_length(tmp_path: Path) -> None:
    train(tmp_path, Remembering(), batch=5, accumulate=1, epochs=1)
    with pytest.raises(InputError, match=r"took 2 steps in 1 epochs, an epoch is 4 steps here; .* processes"):
        train(tmp_path, Remembering(), batch=3, accumulate=1)


def test_losses_that_change_their_names_within_a_step_are_refused(tmp_path: Path) -> None:
    class Fickle(Remembering):
        def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
            parts = super().forward(batch)
            return parts if "0/0" in batch.names else {"loss": parts["loss"]}

    with pytest.raises(ValueError, match="losses loss after loss, near, far in one step"):
        train(tmp_path, Fickle(), batch=5, accumulate=2)
