"""How much memory a training run needs, worked out before anything of its size is made.

The network is built on torch's meta device, which has shapes but no storage. One frame is traced through what runs
once a frame and two people through what runs for each person, and every tensor that backward will want is counted;
frames and people add up linearly. The peak of real steps on a CPU was 0.99 to 1.11 times the estimate, less where
an image has fewer than its full number of RoIs (docs/training.md). What a GPU's libraries take is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call

from personsearch.core.errors import InputError
from personsearch.core.recipes import TrainRecipe
from personsearch.models import SearchModel, build_model
from personsearch.models.build import without_start_weights
from personsearch.train.free_memory import free_memory

TOLERANCE = 0.25
"""A run is refused where the estimate less this share does not fit."""
GIB = 2**30
_STATES = {"sgd": 1, "adamw": 2}  # tensors of an optimiser for each parameter
_TEMPORARIES = 1.15  # gradients of activations and workspaces, measured
_LIBRARIES = 64 * 2**20  # what a first step makes torch load and keep, measured
_HALF = 0.7  # autocast keeps part in 2 bytes; 0.8 measured on a CPU, where more of it stays in 4 than on a GPU


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one process wants on its device.

    Attributes:
        fixed: weights, their average, gradients, optimiser states, memories and teachers' weights.
        per_image: what is kept for the backward pass, the frame and a teacher's maps.
        images: in a batch.
    """

    fixed: int
    per_image: int
    images: int

    @property
    def total(self) -> int:
        """Bytes."""
        return self.fixed + self.per_image * self.images

    def describe(self) -> str:
        """One clause, in GiB."""
        return (
            f"about {self.total / GIB:.1f} GiB ({self.fixed / GIB:.1f} for weights, gradients and optimiser, "
            f"{self.per_image * self.images / GIB:.1f} for batches of {self.images} images)"
        )


def check_run_memory(
    recipe: TrainRecipe, person_count: int, fabric: Fabric, teachers: Iterable[nn.Module] = ()
) -> None:
    """Refuses a run that will not fit the device, before its network is made.

    Args:
        recipe: the run.
        person_count: identities of the data set.
        fabric: device and processes.
        teachers: run beside the network, without gradients.

    Raises:
        InputError: as `check_memory`.
    """
    shared = fabric.device.type == "cpu"  # the processes of a machine share its memory, but have a GPU each
    need = estimate_memory(recipe, person_count, teachers, several=fabric.world_size > 1)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if shared else 1
    check_memory(need, free_memory(fabric.device), device=fabric.device.type, processes=processes)


def check_memory(need: MemoryNeed, free: int | None, *, device: str = "cpu", processes: int = 1) -> None:
    """Refuses what will not fit.

    Args:
        need: of one process.
        free: bytes, see `free_memory`; where the system does not tell, everything passes.
        device: ``cuda`` or ``cpu``, for the message.
        processes: that share the memory.

    Raises:
        InputError: even three quarters of the need are more than is free.
    """
    if free is None or need.total * processes * (1 - TOLERANCE) <= free:
        return
    fitting = int((free / processes - need.fixed) / need.per_image)
    if fitting >= 1:
        times = -(-need.images // fitting)
        remedy = f"set batch_images={fitting}, and accumulate={times} for about as many images a step"
    else:
        remedy = "choose a smaller preprocess.input_wh or a narrower network"
    several = f" in each of {processes} processes" if processes > 1 else ""
    raise InputError(
        f"training needs {need.describe()}{several}, {free / GIB:.1f} GiB are free",
        where="GPU memory" if device == "cuda" else "memory",
        remedy=remedy,
    )


def estimate_memory(
    recipe: TrainRecipe, person_count: int, teachers: Iterable[nn.Module] = (), *, several: bool = False
) -> MemoryNeed:
    """What training by ``recipe`` needs in one process; arguments as `check_run_memory`.

    Args:
        recipe: the run.
        person_count: identities of the data set.
        teachers: run beside the network, without gradients.
        several: processes exchange gradients, which takes a copy of them.
    """
    half = recipe.precision != "32-true"
    with torch.device("meta"):
        model = build_model(without_start_weights(recipe.model), recipe.preprocess, person_count).train()
    weights = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    fixed = 4 * weights + 4 * trained * (1 + several + _STATES[recipe.optimiser.name]) + (2 * weights if half else 0)
    fixed += sum(_bytes(buffer) for buffer in model.buffers())
    if recipe.ema_decay is not None:
        fixed += 4 * weights
    sizes = recipe.data.input_sizes or (recipe.preprocess.input_wh,)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    people = recipe.model.rois_per_image
    columns = person_count + getattr(recipe.model, "queue_size", 0)
    scene, person = _kept_for_backward(model, (width, height))
    kept = (model.training_frames * scene + people * person) * (_HALF if half else 1)
    kept += 2 * 4 * people * columns  # logits and their softmax
    frame = 3 * width * height * (1 + 4) * model.training_frames  # as it comes and as float
    for teacher in teachers:
        fixed += sum(_bytes(tensor) for tensor in (*teacher.parameters(), *teacher.buffers()))
        for part in teacher.modules():
            if isinstance(part, SearchModel):
                kept += _maps_of(part, (width, height), people)
    return MemoryNeed(fixed + _LIBRARIES, int(kept * _TEMPORARIES) + frame, recipe.batch_images)


def _kept_for_backward(model: SearchModel, input_wh: tuple[int, int]) -> tuple[int, int]:
    """Bytes for a frame and for a person."""
    scene, person = model.scene_module().train(), model.person_module().train()
    frames = torch.empty((1, input_wh[1], input_wh[0], 3), dtype=torch.uint8, device="meta")
    crops = torch.empty((2, *model.person_input_shape[1:]), device="meta")  # two: one alone has no batch statistics
    return kept_bytes(lambda: scene(frames), model), kept_bytes(lambda: person(crops), model) // 2


def kept_bytes(run: Callable[[], Any], model: nn.Module) -> int:
    """Bytes of the distinct tensors that ``run`` keeps for its backward pass, the network's own aside."""
    kept: dict[int, torch.UntypedStorage] = {}  # by storage: a view keeps no bytes of its own

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own)


class _Taps(nn.Module):
    """`SearchModel.taps` as a forward."""

    def __init__(self, model: SearchModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, rois: list[Tensor]) -> dict[str, Tensor]:
        return self.model.taps(frames, rois)


def _maps_of(teacher: SearchModel, input_wh: tuple[int, int], people: int) -> int:
    """Bytes of a frame's maps that a teacher returns, and of three of the largest kind while it computes them."""
    module = _Taps(teacher)
    tensors = {name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    frames = torch.empty((1, input_wh[1], input_wh[0], 3), dtype=torch.uint8, device="meta")
    with torch.no_grad():
        taps = functional_call(module, tensors, (frames, [torch.empty((people, 4), device="meta")]))
    sizes = [_bytes(tap) for tap in taps.values()]
    return sum(sizes) + 3 * max(sizes, default=0)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
