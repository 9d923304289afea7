"""The running average of weights: against a slow twin, what is left out of it, what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import OimRecipe, TrainRecipe
from personsearch.data.loader import Batch
from personsearch.models import build_model
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.train.averaging import WeightAverage
from personsearch.train.checkpoint import RunIdentity, write_checkpoint
from personsearch.train.loop import open_fabric
from personsearch.train.memory import estimate_memory
from personsearch.train.step import StepTaker
from personsearch.train.task import SearchTask

MODEL = {
    "kind": "oim", "trunk": {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1,
    "person_channels": 8}, "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16,
    "anchors": {"kind": "person", "heights": [32, 56]}, "embedding_dim": 8, "queue_size": 3,
}  # fmt: skip


def recipe(**changes: Any) -> TrainRecipe:
    content = {
        "name": "averaged", "model": MODEL, "preprocess": {"input_wh": [64, 96]}, "data": {"root": "nowhere"},
        "optimiser": {"lr": 0.05}, "ema_decay": 0.3,
    }  # fmt: skip
    return validate(TrainRecipe, {**content, **changes}, where="test")


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 96, 64, 3), generator=generator, dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 20.0, 30.0, 70.0]]), torch.tensor([[30.0, 30.0, 52.0, 88.0]])]
    return Batch(images, boxes, [torch.tensor([seed % 3]), torch.tensor([-1])], ["a", "b"])


def taker(settings: TrainRecipe, content: dict[str, Any] | None = None) -> StepTaker:
    torch.manual_seed(0)
    model = build_model(settings.model, settings.preprocess, 3)
    made = StepTaker(SearchTask(model, {}), settings, open_fabric("32-true"), content=content)
    made.module.train()
    return made


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return {part: {name: value.clone() for name, value in state[part].items()} for part in ("model", "live")}


def test_average_equals_slow_twin() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(net, 0.25)
    expected = float(net[0].weight.detach()[0, 0])
    for step, value in enumerate([3.0, -1.0, 2.0, 8.0]):
        with torch.no_grad():
            net[0].weight[0, 0] = value
            net[1].running_mean[0] = value
            net[1].num_batches_tracked.add_(1)
        average.update(step)
        decay = min(0.25, (1 + step) / (10 + step))  # 0.1, 0.18, 0.25, 0.25
        expected = decay * expected + (1 - decay) * value
        assert float(average.state()["0.weight"][0, 0]) == pytest.approx(expected)
    assert float(average.state()["1.running_mean"][0]) == pytest.approx(expected, abs=0.01), "its own start was 0"
    assert int(average.state()["1.num_batches_tracked"]) == 4, "counters are not averaged"
    assert float(net[0].weight.detach()[0, 0]) == 8, "the weights are those that are trained"


def test_memories_are_the_trained_network_s_and_all_else_is_averaged() -> None:
    made = taker(recipe())
    for step in range(4):
        made.take([batch(step)], epoch=0, step=step, lr=0.05)
    state = made.state()
    same = {name for name, value in state["model"].items() if torch.equal(value, state["live"][name])}
    memories = {name for name in state["live"] if name.startswith("memory.")}
    assert memories == {"memory.table.rows", "memory.queue.rows", "memory.queue.pointer"}
    assert bool(state["model"]["memory.table.rows"].any())
    counters = {name for name in state["live"] if name.endswith("num_batches_tracked")}
    assert same >= memories | counters
    averaged = state["live"].keys() - same
    assert {name for name, _ in build_model(recipe().model, Preprocess(input_wh=(64, 96)), 3).named_parameters()} <= (
        averaged
    )
    assert any(name.endswith("running_mean") for name in averaged)


def test_training_is_not_changed_by_averaging_and_resumes_exactly(tmp_path: Path) -> None:
    whole, plain = taker(recipe()), taker(recipe(ema_decay=None))
    for step in range(2):
        for one in (whole, plain):
            one.take([batch(step)], epoch=0, step=step, lr=0.05)
    assert "live" not in plain.state()
    saved = whole.state()
    assert all(torch.equal(value, saved["live"][name]) for name, value in plain.state()["model"].items())

    path, settings = tmp_path / "checkpoint.pt", recipe()
    write_checkpoint(path, RunIdentity(settings, 3, ()), **saved, epoch=0, step=2)
    resumed = taker(settings, read_checkpoint(path).content)
    assert all(torch.equal(value, saved["live"][name]) for name, value in resumed.state()["live"].items())
    for step in range(2, 4):
        for one in (whole, resumed):
            one.take([batch(step)], epoch=0, step=step, lr=0.05)
    expected, found = copied(whole.state()), copied(resumed.state())
    for part, state in expected.items():
        assert all(torch.equal(found[part][name], value) for name, value in state.items()), part


def test_what_evaluates_a_checkpoint_gets_the_average(tmp_path: Path) -> None:
    made, path, settings = taker(recipe()), tmp_path / "checkpoint.pt", recipe()
    for step in range(3):
        made.take([batch(step)], epoch=0, step=step, lr=0.05)
    state = made.state()
    write_checkpoint(path, RunIdentity(settings, 3, ()), **state, epoch=1, step=3)
    model, _ = load_model(path)
    name = "trunk.stem.0.weight"
    loaded: Tensor = model.state_dict()[name]
    assert torch.equal(loaded, state["model"][name])
    assert not torch.equal(loaded, state["live"][name])


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1])
def test_an_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="`ema_decay` is"):
        recipe(ema_decay=decay)


def test_the_average_is_in_the_memory_estimate() -> None:
    with_average, without = estimate_memory(recipe(), 3), estimate_memory(recipe(ema_decay=None), 3)
    assert isinstance(recipe().model, OimRecipe)
    weights = sum(one.numel() for one in build_model(recipe().model, Preprocess(input_wh=(64, 96)), 3).parameters())
    assert with_average.fixed - without.fixed == 4 * weights
