"""Two processes on the CPU (gloo): they take the steps of one, share one memory, and resume exactly.

The processes are made by this file run as a script: it imports torch once, then forks them with the variables that
``torchrun`` sets. Some are killed by SIGKILL while they train.
"""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import student_recipe, teacher_recipe, write_folder
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.distill import run_distillation
from personsearch.losses.memory import LookupTable
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train import run_training
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.loop import fit, open_fabric
from personsearch.train.run import open_training_set, start_model, training_batches, training_data
from personsearch.train.task import SearchTask, Task, TaskBatch

PROCESSES = 2
KILLED_AFTER_ROWS = 3
# Group norm and candidates that are all taken: nothing in it depends on how images are put together into batches.
OIM: dict[str, Any] = {
    "kind": "oim", "trunk": {"kind": "resnet_c4", "depth": 18, "width": 4, "norm": "group"}, "embedding_dim": 8,
    "anchors": {"kind": "person", "heights": [32, 56]}, "rpn_channels": 8, "pool_size": 4, "queue_size": 7,
}  # fmt: skip
SLOW: dict[str, Any] = {"name": "sgd", "lr": 1e-5, "schedule": "cosine"}
EVERYTHING: dict[str, Any] = {
    "accumulate": 2, "channels_last": True, "epochs": 3, "epoch_images": 20, "ema_decay": 0.9
}  # fmt: skip


class Colours(Task):
    """Embeds an image by its colours and its person by the table; every loss is a mean over images."""

    def __init__(self, person_count: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6))
        self.net.add_module("table", LookupTable(person_count, 6))
        self.pending: list[tuple[Tensor, Tensor]] = []

    @property
    def trained(self) -> nn.Module:
        return self.net

    @property
    def table(self) -> LookupTable:
        table = self.net.get_submodule("table")
        assert isinstance(table, LookupTable)
        return table

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        embeddings = F.normalize(self.net[:3](batch.images.float().mean(dim=(1, 2)) / 255))
        ids = torch.stack([found.max() if len(found) else torch.tensor(-1) for found in batch.person_ids])
        self.pending.append((embeddings.detach(), ids))
        near = (1 - self.table(embeddings)).square().mean()
        spread = embeddings.std(dim=1).mean()
        return {"loss": near - spread, "near": near, "spread": spread}

    def after_step(self) -> None:
        embeddings, ids = (torch.cat(parts) for parts in zip(*self.pending, strict=True))
        self.table.update(embeddings, ids)
        self.pending = []


def train_colours(recipe: TrainRecipe, run_dir: Path) -> LookupTable:
    dataset = open_training_set(recipe)
    fabric = open_fabric(recipe.precision)
    task = Colours(dataset.person_count)
    loader = training_batches(recipe, dataset, fabric.global_rank, fabric.world_size)
    fit(task, loader, RunIdentity(recipe, dataset.person_count, training_data(dataset)), run_dir, fabric)
    return task.table


def train_oim(recipe: TrainRecipe, run_dir: Path) -> dict[str, Tensor]:
    """The memories at the end, of this process."""
    dataset = open_training_set(recipe)
    fabric = open_fabric(recipe.precision)
    model, _ = start_model(recipe, dataset, run_dir, None)
    loader = training_batches(recipe, dataset, fabric.global_rank, fabric.world_size)
    identity = RunIdentity(recipe, dataset.person_count, training_data(dataset))
    fit(SearchTask(model, recipe.loss_weights), loader, identity, run_dir, fabric)
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith("memory.")}


# -- the tests --------------------------------------------------------------------------------------------------------


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the script has left its runs, and this process the same ones by itself."""
    base = tmp_path_factory.mktemp("base")
    root = write_folder(base / "data")
    colours = teacher_recipe(root, batch_images=2, epochs=2, ema_decay=0.9, data={"root": str(root), "workers": 1})
    (base / "colours.json").write_text(colours.model_dump_json())
    oim = teacher_recipe(root, model=OIM, batch_images=2, epochs=2, optimiser=SLOW)
    (base / "oim.json").write_text(oim.model_dump_json())
    teacher = run_training(teacher_recipe(root, epochs=1), base / "teacher")
    student = student_recipe(root, teacher, **EVERYTHING, data={"root": str(root), "workers": 1})
    (base / "student.json").write_text(student.model_dump_json())
    script = subprocess.run(
        [sys.executable, __file__, str(base)], capture_output=True, text=True, timeout=240, check=False
    )
    assert script.returncode == 0, script.stderr
    return base


def rows(run_dir: Path) -> list[dict[str, float]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if name != "images_per_s"}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 1), (2, 2), (1, 4)])
def test_two_processes_take_the_steps_of_one(base: Path, tmp_path: Path, batch: int, accumulate: int) -> None:
    """Two processes with batches of 2 are one with batches of 4, or with 4 images accumulated."""
    recipe = TrainRecipe.model_validate_json((base / "colours.json").read_text())
    table = train_colours(recipe.model_copy(update={"batch_images": batch, "accumulate": accumulate}), tmp_path)
    shared, alone = base / "colours", tmp_path
    expected, found = (read_checkpoint(path / "checkpoint.pt").content for path in (alone, shared))
    assert found["progress"] == expected["progress"] == {"epoch": 2, "step": 6}
    for part in ("model", "live"):  # averages and what they are of
        for name, tensor in expected[part].items():
            torch.testing.assert_close(found[part][name], tensor, rtol=1e-4, atol=1e-6)
    for first, second in zip(rows(alone), rows(shared), strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    tables = [torch.load(base / f"table-{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    assert torch.equal(tables[0], tables[1]), "every process holds the same look-up table"
    torch.testing.assert_close(tables[0], table.rows, rtol=1e-4, atol=1e-6)
    assert bool((table.rows.norm(dim=1) > 0.9).all()), "and everybody is in it"


def test_two_processes_share_the_memories_of_oim(base: Path, tmp_path: Path) -> None:
    recipe = TrainRecipe.model_validate_json((base / "oim.json").read_text())
    alone = train_oim(recipe.model_copy(update={"batch_images": 4}), tmp_path)
    found = [torch.load(base / f"oim-{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    assert set(alone) >= {"memory.table.rows", "memory.queue.rows", "memory.queue.pointer"}
    for name, tensor in alone.items():
        assert torch.equal(found[0][name], found[1][name]), f"{name} is the same in every process"
        torch.testing.assert_close(found[0][name], tensor, rtol=0.0, atol=0.01)
    assert bool((alone["memory.table.rows"].norm(dim=1) > 0.9).all()), "everybody has been seen"
    assert int(alone["memory.queue.pointer"]) != 0
    saved = read_checkpoint(base / "oim" / "checkpoint.pt").model_state
    assert torch.equal(saved["memory.table.rows"], found[1]["memory.table.rows"])
    # A mean over people is another where one process has nobody; the others are means over much the same anchors.
    for first, second in zip(rows(tmp_path), rows(base / "oim"), strict=True):
        detection = {name: value for name, value in first.items() if name.startswith(("rpn", "refine"))}
        assert len(detection) == 4
        assert {name: second[name] for name in detection} == pytest.approx(detection, rel=0.05, abs=0.01)
        assert 0 < second["identity"] <= first["identity"] * 1.05


def test_killed_processes_resume_to_the_same_end(base: Path) -> None:
    """With accumulation, loader processes and a teacher: same weights, optimiser and metrics, to the bit."""
    whole, killed = base / "whole", base / "killed"
    assert (base / "killed.epoch").read_text() in "12", "the processes were killed between the first save and the last"
    expected, found = (read_checkpoint(path / "checkpoint.pt").content for path in (whole, killed))
    assert expected["progress"] == {"epoch": 3, "step": 9}
    assert found["progress"] == expected["progress"]
    for part in ("model", "live"):
        for name, tensor in expected[part].items():
            assert torch.equal(found[part][name], tensor), f"{part}.{name}"
    for number, state in expected["optimiser"]["state"].items():
        assert all(torch.equal(found["optimiser"]["state"][number][name], value) for name, value in state.items())
    assert rows(killed) == rows(whole)


def test_another_number_of_processes_does_not_continue_the_run(base: Path) -> None:
    recipe = DistillRecipe.model_validate_json((base / "student.json").read_text())
    with pytest.raises(InputError, match=r"took 9 steps in 3 epochs, an epoch is 5 steps here"):
        run_distillation(recipe, base / "whole", resume=True)


# -- the script ------------------------------------------------------------------------------------------------------


def fork_processes(target: Callable[[int], None]) -> list[int]:
    """Forks the processes of one group, each with the variables that ``torchrun`` gives it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1, "MASTER_PORT": port}
            sizes = {"WORLD_SIZE": PROCESSES, "LOCAL_WORLD_SIZE": PROCESSES}
            os.environ.update({name: str(value) for name, value in (ranks | sizes).items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_RUN_ID="test")
            try:
                target(rank)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    return pids


def join(pids: list[int]) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status != 0:
            sys.exit(f"process {pid} ended with status {status}")


def kill_in_epoch_two(pids: list[int], run_dir: Path) -> None:
    deadline = time.monotonic() + 100
    metrics = run_dir / "metrics.csv"
    while time.monotonic() < deadline and not (
        metrics.exists() and metrics.read_text().count("\n") > KILLED_AFTER_ROWS + 1
    ):
        time.sleep(0.001)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def main(base: Path) -> None:
    torch.set_num_threads(1)
    colours = TrainRecipe.model_validate_json((base / "colours.json").read_text())
    student = DistillRecipe.model_validate_json((base / "student.json").read_text())

    def colours_of(rank: int) -> None:
        torch.save(train_colours(colours, base / "colours").rows, base / f"table-{rank}.pt")

    oim = TrainRecipe.model_validate_json((base / "oim.json").read_text())

    def oim_of(rank: int) -> None:
        torch.save(train_oim(oim, base / "oim"), base / f"oim-{rank}.pt")

    join(fork_processes(colours_of))
    join(fork_processes(oim_of))
    join(fork_processes(lambda rank: (None, run_distillation(student, base / "whole"))[0]))
    killed = base / "killed"
    kill_in_epoch_two(fork_processes(lambda rank: (None, run_distillation(student, killed))[0]), killed)
    done = read_checkpoint(killed / "checkpoint.pt").content["progress"]["epoch"]
    (base / "killed.epoch").write_text(str(done))
    join(fork_processes(lambda rank: (None, run_distillation(student, killed, resume=True))[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
