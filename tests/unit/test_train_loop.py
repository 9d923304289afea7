"""The loop on a task of its own: what it writes, what stops it, what a checkpoint holds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import TrainingData
from personsearch.core.recipe import validate
from personsearch.core.recipes import TrainRecipe
from personsearch.data.loader import Batch
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train.checkpoint import RunIdentity, load_matching_weights
from personsearch.train.divergence import TrainingDiverged
from personsearch.train.loop import fit, open_fabric
from personsearch.train.task import Task, TaskBatch, weighted_sum


class Regression(Task):
    """Predicts the mean of a box from an image's mean; uses torch's randomness, as RoI sampling does."""

    def __init__(self, spoil: Callable[[TaskBatch, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.helper = nn.Linear(2, 2).requires_grad_(False)
        self._spoil = spoil
        self.seen_boxes: list[Tensor] = []

    @property
    def trained(self) -> nn.Module:
        return self.net

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        self.seen_boxes += batch.boxes
        colours = batch.images.float().mean(dim=(1, 2)) / 255
        target = torch.stack([boxes.mean() / 800 for boxes in batch.boxes])
        fit_loss = (self.net(colours)[:, 0] - target).square().mean()
        if self._spoil is not None:
            fit_loss = self._spoil(batch, fit_loss)
        size = self.net[0].weight.square().mean()
        return {"loss": fit_loss + size, "fit": fit_loss, "size": size}


class Numbers:
    """Batches that depend on (epoch, position) alone."""

    def __init__(self, steps: int = 3) -> None:
        self._steps, self._epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self._steps):
            generator = torch.Generator().manual_seed(100 * self._epoch + step)
            images = torch.randint(0, 256, (4, 5, 6, 3), generator=generator, dtype=torch.uint8)
            boxes = [torch.rand(2, 4, generator=generator) * 800 for _ in range(4)]
            names = [f"frame {self._epoch}/{step}/{index}" for index in range(4)]
            yield Batch(images, boxes, [torch.full((2,), -1) for _ in range(4)], names)


def recipe(**changes: object) -> TrainRecipe:
    content = {
        "name": "numbers",
        "model": {"trunk": {"kind": "depthwise"}},
        "preprocess": {"input_wh": [64, 64]},
        "data": {"root": "nowhere"},
        "optimiser": {"lr": 0.05, "milestones": [2]},
        "epochs": 3,
    }
    return validate(TrainRecipe, {**content, **changes}, where="test")


def run(run_dir: Path, task: Task | None = None, **changes: object) -> Path:
    settings = recipe(**changes)
    identity = RunIdentity(settings, 7, (TrainingData(name="numbers", terms="none", identities=7),))
    return fit(task or Regression(), Numbers(), identity, run_dir, open_fabric(settings.precision))


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_run_folder_holds(tmp_path: Path) -> None:
    path = run(tmp_path / "run")
    checkpoint = read_checkpoint(path)
    assert checkpoint.recipe == recipe()
    assert checkpoint.content["kind"] == "train"
    assert checkpoint.content["progress"] == {"epoch": 3, "step": 9}
    assert (checkpoint.person_count, checkpoint.data[0].name) == (7, "numbers")
    assert set(checkpoint.model_state) == set(Regression().net.state_dict()), "only what is trained is saved"

    log = rows(tmp_path / "run")
    assert list(log[0]) == ["step", "epoch", "lr", "loss", "fit", "size", "images_per_s"]
    assert [int(row["step"]) for row in log] == list(range(1, 10))
    assert [int(row["epoch"]) for row in log] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [float(row["lr"]) for row in log] == pytest.approx([0.05] * 6 + [0.005] * 3)
    assert all(float(row["loss"]) == pytest.approx(float(row["fit"]) + float(row["size"])) for row in log)

    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["epochs_done"], record["steps_done"], record["seed"]) == (3, 9, 0)
    assert record["machine"]["torch_threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert not torch.are_deterministic_algorithms_enabled(), "the caller's setting comes back"


def test_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    torch.randn(3)  # the caller's own use of torch's randomness does not matter
    third, other = run(tmp_path / "c"), run(tmp_path / "d", seed=1)
    assert sha256_file(first) == sha256_file(second) == sha256_file(third)
    assert not torch.equal(
        read_checkpoint(first).model_state["0.weight"], read_checkpoint(other).model_state["0.weight"]
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, value: float) -> None:
    def spoil(batch: TaskBatch, loss: Tensor) -> Tensor:
        return loss * value if batch.names[0] == "frame 1/1/0" else loss

    with pytest.raises(TrainingDiverged, match=r"`fit` became (nan|inf) in epoch 2, step 5; images: frame 1/1/0, "):
        run(tmp_path, Regression(spoil))
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    assert saved.content["progress"] == {"epoch": 1, "step": 3}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.model_state.values())
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"], (
        "every step taken is logged, the broken is not"
    )


@pytest.mark.parametrize("clip_norm", [None, 10.0])
def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path, clip_norm: float | None) -> None:
    def spoil(batch: TaskBatch, loss: Tensor) -> Tensor:
        return loss + (loss * 0).sqrt()  # value 0, slope infinite

    with pytest.raises(TrainingDiverged, match=r"`gradient` became .* in epoch 1, step 1; images: frame 0/0/0"):
        run(tmp_path, Regression(spoil), optimiser={"clip_norm": clip_norm})
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_leave_the_numbers_in_an_epochs_last_step_are_not_saved(tmp_path: Path) -> None:
    def spoil(batch: TaskBatch, loss: Tensor) -> Tensor:
        return loss * (1e15 if batch.names[0].startswith("frame 0/2/") else 0.0)

    optimiser = {"lr": 1e30, "clip_norm": None, "weight_decay": 0.0}
    with pytest.raises(TrainingDiverged, match=r"`weights` became -?(inf|nan) in epoch 1, step 3"):
        run(tmp_path, Unregularised(spoil), optimiser=optimiser)
    assert not (tmp_path / "checkpoint.pt").exists()


class Unregularised(Regression):
    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        parts = super().forward(batch)
        return {"loss": parts["fit"], "fit": parts["fit"], "size": parts["size"]}


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    optimiser = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 1e-3}
    before = Regression().net.state_dict()
    after = read_checkpoint(run(tmp_path, optimiser=optimiser, epochs=1)).model_state
    names = [name for name, _ in Regression().net.named_parameters()]
    moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in names))
    assert 0 < moved <= 3 * 1e-3 * 1.001, "three steps of length 1e-3 at most"


def test_boxes_keep_float32_under_mixed_precision(tmp_path: Path) -> None:
    # bfloat16 has eight bits of mantissa: 797.3 px would become 796 px.
    task = Regression()
    run(tmp_path, task, precision="bf16-mixed", epochs=1)
    expected = [boxes for batch in Numbers() for boxes in batch.boxes]
    assert [boxes.dtype for boxes in task.seen_boxes] == [torch.float32] * len(expected)
    assert all(torch.equal(found, wanted) for found, wanted in zip(task.seen_boxes, expected, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 works on a GPU")
def test_float16_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError, match="16-mixed; expected a GPU"):
        open_fabric("16-mixed")


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_continuing_from_the_file_alone_ends_the_same(tmp_path: Path, killed_after: int) -> None:
    """In-process twin of the kill test: stop in each epoch, continue from the file alone."""

    def stop(batch: TaskBatch, loss: Tensor) -> Tensor:
        if batch.names[0] == f"frame {killed_after}/1/0":
            raise KeyboardInterrupt
        return loss

    whole = read_checkpoint(run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Regression(stop))
    (tmp_path / "cut" / ".checkpoint.1234abcd.part.pt").write_bytes(b"half a checkpoint")
    with (tmp_path / "cut" / "metrics.csv").open("a") as file:
        file.write("99,4,0.05,0.1")
    path = tmp_path / "cut" / "checkpoint.pt"
    identity = RunIdentity(recipe(), 7, whole.data)
    content = read_checkpoint(path).content if path.exists() else None
    assert (content is None) == (killed_after == 0)
    resumed = read_checkpoint(
        fit(Regression(), Numbers(), identity, tmp_path / "cut", open_fabric("32-true"), content=content)
    )
    for name, tensor in whole.model_state.items():
        assert torch.equal(resumed.model_state[name], tensor), name
    without_speed = [[{**row, "images_per_s": ""} for row in rows(tmp_path / part)] for part in ("whole", "cut")]
    assert without_speed[0] == without_speed[1]
    assert not list((tmp_path / "cut").glob(".*")), "what the killed run left half-written is gone"


def test_parts_that_change_their_names_are_refused(tmp_path: Path) -> None:
    class Fickle(Regression):
        def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
            parts = super().forward(batch)
            return parts if len(self.seen_boxes) <= 4 else {"loss": parts["loss"]}

    with pytest.raises(ValueError, match=r"columns step, epoch, lr, loss, images_per_s, but .*metrics\.csv has step"):
        run(tmp_path, Fickle())


def test_matching_weights_are_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    path = run(tmp_path, epochs=1)
    other = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 5, bias=False), nn.PReLU())
    untouched = other[3].weight.detach().clone()
    transfer = load_matching_weights(other, path)
    assert transfer.other_shape == ("3.weight",)
    assert transfer.missing == ("4.weight",)
    assert transfer.unused == ("3.bias",)
    assert transfer.describe() == "of another shape: 3.weight; not in it: 4.weight; not used: 3.bias"
    assert torch.equal(other[0].weight, read_checkpoint(path).model_state["0.weight"])
    assert torch.equal(other[3].weight, untouched)


def test_weights_of_an_unrelated_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weight of it fits the model"):
        load_matching_weights(nn.Conv2d(3, 3, 3), run(tmp_path, epochs=1))


@pytest.mark.parametrize(("weights", "expected"), [({}, 6.0), ({"b": 0.5}, 5.0), ({"a": 0.0, "c": 2.0}, 8.0)])
def test_weighted_sum(weights: dict[str, float], expected: float) -> None:
    losses = {name: torch.tensor(value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    assert float(weighted_sum(losses, weights)) == expected


def test_a_weight_of_no_loss_is_refused() -> None:
    with pytest.raises(InputError, match="loss_weights: `identiy` is no loss of this model; expected one of identity"):
        weighted_sum({"identity": torch.tensor(1.0)}, {"identiy": 2.0})
