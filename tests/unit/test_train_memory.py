"""The estimate of a run's memory: by hand, against a real step, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.recipe import validate
from personsearch.core.recipes import TrainRecipe
from personsearch.models import build_model
from personsearch.train.free_memory import free_ram
from personsearch.train.memory import GIB, MemoryNeed, check_memory, estimate_memory, kept_bytes

STUDENT = {"kind": "depthwise", "stem_channels": 8, "channels": [16, 24, 32], "modules": 1, "person_channels": 32}
TEACHER = {"kind": "resnet_c4", "depth": 18, "width": 8}
MODEL = {"anchor_heights": [32, 56], "rpn_channels": 16, "rois_per_image": 16, "train_proposals": 64}


def recipe(trunk: dict[str, Any] = STUDENT, **changes: Any) -> TrainRecipe:
    content = {
        "name": "memory", "model": {"trunk": trunk, **MODEL}, "preprocess": {"input_wh": [192, 128]},
        "data": {"root": "nowhere"}, "batch_images": 4,
    }  # fmt: skip
    return validate(TrainRecipe, {**content, **changes}, where="test")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_kept_for_backward_by_hand(device: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2)).to(device)
    frame = torch.zeros(1, 3, 4, 4, device=device)
    # The convolution's input, and once the ReLU's output, which is also what the linear layer sees flattened.
    assert kept_bytes(lambda: net(frame), net) == 4 * (3 * 16 + 8 * 16)
    assert kept_bytes(lambda: net.requires_grad_(False)(frame), net) == 0


@pytest.mark.parametrize("trunk", [STUDENT, TEACHER], ids=["student", "teacher"])
def test_the_estimate_is_near_what_a_real_step_keeps(trunk: dict[str, Any]) -> None:
    settings = recipe(trunk)
    torch.manual_seed(0)
    model = build_model(settings.model, settings.preprocess, 50).train()
    width, height = settings.preprocess.input_wh

    def step() -> Tensor:
        low = torch.rand(4, 3, 2) * torch.tensor([width * 0.7, height * 0.5])
        boxes = list(torch.cat([low, low + torch.tensor([20.0, 50.0])], dim=2))
        frames = torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8)
        losses = model(frames, boxes, [torch.arange(3)] * 4).losses
        return torch.stack(list(losses.values())).sum()

    kept = kept_bytes(step, model)
    need = estimate_memory(settings, 50)
    assert 0.75 <= need.per_image * need.images / kept <= 1.35


def test_weights_gradients_and_states_by_hand() -> None:
    settings = recipe()
    model = build_model(settings.model, settings.preprocess, 50)
    count = sum(parameter.numel() for parameter in model.parameters())
    fixed = estimate_memory(settings, 50).fixed
    assert estimate_memory(recipe(optimiser={"name": "adamw"}), 50).fixed - fixed == 4 * count
    assert estimate_memory(settings, 50, several=True).fixed - fixed == 4 * count
    assert estimate_memory(recipe(precision="bf16-mixed"), 50).fixed - fixed == 2 * count
    assert fixed - 12 * count < 70 * 2**20, "what is left are buffers and libraries"


def test_more_pixels_and_people_need_more_and_half_precision_less() -> None:
    def per_image(**changes: Any) -> int:
        return estimate_memory(recipe(**changes), 50).per_image

    base = per_image()
    double = per_image(preprocess={"input_wh": [384, 128]})
    assert base < double < 2 * base, "the scene doubles, the people do not"
    assert per_image(data={"root": "", "input_sizes": [[96, 64], [384, 128]]}) == double, "the largest size counts"
    assert per_image(model={"trunk": STUDENT, **MODEL, "rois_per_image": 64}) > base
    assert 0.6 * base < per_image(precision="bf16-mixed") < 0.8 * base
    assert estimate_memory(recipe(batch_images=40), 50).total > 5 * estimate_memory(recipe(), 50).total / 4


def test_a_teacher_adds_its_weights_and_maps_but_no_gradients() -> None:
    teacher_recipe = recipe(TEACHER)
    teacher = build_model(teacher_recipe.model, teacher_recipe.preprocess, 50)
    alone, taught = estimate_memory(recipe(), 50), estimate_memory(recipe(), 50, [teacher])
    own = sum(tensor.numel() * tensor.element_size() for tensor in (*teacher.parameters(), *teacher.buffers()))
    assert taught.fixed - alone.fixed == own
    trained = estimate_memory(teacher_recipe, 50)
    assert 0 < taught.per_image - alone.per_image < trained.per_image


def test_the_estimate_needs_no_weights_to_start_from() -> None:
    trunk = {"kind": "resnet_c4", "depth": 50, "pretrained": True}
    need = estimate_memory(recipe(trunk, preprocess={"input_wh": [1504, 896]}), 5532)
    assert 2 * GIB < need.per_image < 4 * GIB


NEED = MemoryNeed(fixed=2 * GIB, per_image=GIB, images=8)


@pytest.mark.parametrize(
    ("free", "processes", "message"),
    [
        (7.0, 1, r"^memory: training needs about 10\.0 GiB \(2\.0 for weights, gradients and optimiser, 8\.0 for "
                 r"batches of 8 images\), 7\.0 GiB are free; set batch_images=5, and accumulate=2 for about as many"),
        (2.5, 1, r"2\.5 GiB are free; choose a smaller preprocess\.input_wh or a narrower network$"),
        (14.0, 2, r"in each of 2 processes, 14\.0 GiB are free; set batch_images=5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_what_it_needs(free: float, processes: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_memory(NEED, int(free * GIB), processes=processes)


@pytest.mark.parametrize("free", [None, 7 * GIB + GIB // 2, 100 * GIB])
def test_what_may_fit_passes(free: int | None) -> None:
    check_memory(NEED, free)


def test_a_gpu_is_named() -> None:
    with pytest.raises(InputError, match=r"^GPU memory: training needs"):
        check_memory(NEED, GIB, device="cuda")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, 3000 * 1024),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 3000 * 1024),
        ({"memory.max": "1000000\n", "memory.current": "300000\n"}, 700000),
        ({"memory.max": "1000000\n", "memory.current": "300000\n", "memory.stat": "anon 9\ninactive_file 1\n"}, 700001),
        ({"memory.max": "1000\n", "memory.current": "2000\n"}, 0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n"}, 3072000),
        ({"memory/memory.limit_in_bytes": "2000\n", "memory/memory.usage_in_bytes": "500\n"}, 1500),
    ],
)  # fmt: skip
def test_free_memory_of_linux_and_of_a_container(tmp_path: Path, groups: dict[str, str], expected: int) -> None:
    proc = write(tmp_path / "proc", {"meminfo": "MemTotal:  9000 kB\nMemFree: 1000 kB\nMemAvailable:    3000 kB\n"})
    assert free_ram(proc, write(tmp_path / "groups", groups)) == expected


@pytest.mark.parametrize("files", [{}, {"meminfo": "MemTotal: 9000 kB\n"}])
def test_free_memory_is_unknown_elsewhere(tmp_path: Path, files: dict[str, str]) -> None:
    assert free_ram(write(tmp_path / "proc", files), tmp_path) is None
