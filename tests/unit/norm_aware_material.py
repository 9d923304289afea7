"""Small NAE and SeqNet networks, frames and labels, shared by their tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor, nn

from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.models import SearchModel, build_model

INPUT_WH = (128, 96)
PERSON_COUNT = 5
BOXES = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [100, 5, 120, 50]]), torch.zeros((0, 4))]
IDS = [torch.tensor([3, -1, -2]), torch.zeros(0, dtype=torch.int64)]


def small_recipe(kind: str, **fields: object) -> ModelRecipe:
    content = {
        "kind": kind,
        "trunk": {"kind": "resnet_c4", "depth": 18, "width": 8},
        "anchors": {"kind": "person", "heights": [30, 50, 70]},
        "rpn_channels": 16, "pool_size": 6, "embedding_dim": 12, "queue_size": 6,
        "rois_per_image": 8, "train_pre_nms": 64, "train_proposals": 16,
        "pre_nms": 24, "proposals": 8, "graph_pre_nms": 24, "graph_proposals": 8,
    }  # fmt: skip
    recipe: ModelRecipe = TypeAdapter(ModelRecipe).validate_python({**content, **fields})
    return recipe


def small_model(kind: str, **fields: object) -> SearchModel:
    torch.manual_seed(1)
    return build_model(small_recipe(kind, **fields), Preprocess(input_wh=INPUT_WH), PERSON_COUNT)


def frames(count: int = 2, seed: int = 0) -> Tensor:
    """Coarse patches under noise: white noise alone averages out in the trunk and leaves every anchor alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 7, 9, generator=generator)
    patches = F.interpolate(coarse, size=(INPUT_WH[1], INPUT_WH[0]), mode="bilinear")
    noise = torch.rand(patches.shape, generator=generator)
    return (255 * (0.7 * patches + 0.3 * noise)).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def warmed(model: SearchModel) -> SearchModel:
    """In evaluation mode, with batch statistics of some frames, and answers that differ between anchors and RoIs."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # plain averages: three batches are enough for running statistics
    for seed in range(3):
        model(frames(seed=seed), BOXES, IDS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("subnet.class_logits.w", "subnet.box_deltas.w", "first.class_logits.w")):
                parameter.mul_(20)
            elif "box_deltas.1.weight" in name or "first.box_deltas.weight" in name:
                parameter.mul_(10)
    model.score_threshold = 0.0
    return model.eval()
