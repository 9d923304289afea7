"""The rate of every step, and what is decayed."""

from __future__ import annotations

import math

import pytest
from torch import nn

from personsearch.core.errors import InputError
from personsearch.core.recipes import OptimiserRecipe
from personsearch.train.optimiser import build_optimiser, check_schedule, learning_rate


def rates(recipe: OptimiserRecipe, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        learning_rate(recipe, step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(steps_per_epoch * epochs)
    ]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"milestones": [1]}, [1, 1, 0.1, 0.1, 0.1, 0.1]),
        ({"milestones": [1, 2], "decay": 5}, [1, 1, 0.2, 0.2, 0.04, 0.04]),
        ({"warmup_steps": 3}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"warmup_steps": 3, "milestones": [1]}, [0.25, 0.5, 0.075, 0.1, 0.1, 0.1]),
        ({"schedule": "cosine"}, [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]),
        (
            {"schedule": "cosine", "warmup_steps": 2},
            [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4))],
        ),
    ],
)
def test_rate_of_each_step(recipe: dict[str, object], expected: list[float]) -> None:
    settings = OptimiserRecipe.model_validate({"milestones": [], "lr": 0.4, **recipe})
    assert rates(settings, steps_per_epoch=2, epochs=3) == pytest.approx([0.4 * factor for factor in expected])


def test_the_papers_teacher_and_student() -> None:
    teacher = OptimiserRecipe(milestones=(50,), decay=10)
    assert learning_rate(teacher, 49 * 7 + 6, steps_per_epoch=7, epochs=60) == pytest.approx(5e-3)
    assert learning_rate(teacher, 50 * 7, steps_per_epoch=7, epochs=60) == pytest.approx(5e-4)
    student = OptimiserRecipe(milestones=(50, 100), decay=5)
    assert learning_rate(student, 149 * 7, steps_per_epoch=7, epochs=150) == pytest.approx(5e-3 / 25)


@pytest.mark.parametrize("warmup_steps", [6, 100])
def test_a_warm_up_as_long_as_the_run_is_refused(warmup_steps: int) -> None:
    with pytest.raises(InputError, match=f"warmup_steps` is {warmup_steps}; expected fewer than the run's 6 steps"):
        check_schedule(OptimiserRecipe(warmup_steps=warmup_steps), steps_per_epoch=2, epochs=3)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_are_not_decayed(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    module[0].weight.requires_grad_(False)
    recipe = OptimiserRecipe.model_validate({"name": name, "weight_decay": 0.1})
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimiser(module, recipe).param_groups
        for parameter in group["params"]
    }
    found = {key: decays.get(id(parameter)) for key, parameter in module.named_parameters()}
    assert found == {
        "0.weight": None, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "3.weight": 0.1, "3.bias": 0.0
    }  # fmt: skip


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter is trainable"):
        build_optimiser(nn.Linear(2, 2).requires_grad_(False), OptimiserRecipe())
