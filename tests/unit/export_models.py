"""Tiny networks with settled batch norm, each exported once for all tests of the export stage."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.recipes import HdlRecipe
from personsearch.export.frames import drawn_frames
from personsearch.export.to_onnx import write_query_graph, write_search_graph
from personsearch.models import SearchModel, build_model

PREPROCESS = Preprocess(input_wh=(128, 96))
QUERY_BOXES = 3
ROWS = 6
TRUNKS = {
    "resnet_c4": {"kind": "resnet_c4", "depth": 18, "width": 8},
    "depthwise": {
        "kind": "depthwise", "stem_channels": 8, "channels": [8, 12, 16], "modules": 1, "person_channels": 32
    },
    "shufflenet": {"kind": "shufflenet", "stride": 8, "neck_channels": 32, "person_channels": 32},
}  # fmt: skip
ATTENTION = {"resnet_c4": "full", "depthwise": "light", "shufflenet": "none"}


@lru_cache
def tiny_model(trunk: str) -> SearchModel:
    """In evaluation mode; batch norm has seen drawn frames and anchors differ in score, as after training."""
    torch.manual_seed(0)
    recipe = HdlRecipe.model_validate(
        {
            "trunk": TRUNKS[trunk], "attention": ATTENTION[trunk], "rpn_channels": 16,
            "anchor_heights": [30, 45, 60], "pre_nms": 16, "proposals": 8, "rois_per_image": 8, "train_proposals": 16,
        }
    )  # fmt: skip
    model = build_model(recipe, PREPROCESS, person_count=5)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    frames = torch.stack([torch.from_numpy(frame) for frame in drawn_frames(PREPROCESS, 4)])
    boxes = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80]])] * 4
    with torch.no_grad():
        model(frames, boxes, [torch.tensor([0, 1])] * 4)
        for name, parameter in model.named_parameters():
            if "class_logits.weight" in name or "box_deltas.weight" in name:
                # The head's layers stand behind a batch norm; as large a factor there only magnifies rounding.
                parameter.mul_(20 if name.startswith("subnet") else 4)
    return model.eval()


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # removed when the test process ends


@lru_cache
def exported(trunk: str) -> Path:
    """A folder with both graphs of `tiny_model`; read it, change copies."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="export-"))
    folder = Path(_FOLDERS[-1].name)
    export_graphs(tiny_model(trunk), folder)
    return folder


def export_graphs(model: SearchModel, folder: Path) -> None:
    """``search.onnx`` and ``query.onnx`` of ``model`` in ``folder``."""
    input_wh = model.preprocess.input_wh
    write_search_graph(model.deployable(ROWS), folder / "search.onnx", input_wh=input_wh, opset=18)
    query = model.deployable_query(QUERY_BOXES)
    write_query_graph(query, folder / "query.onnx", input_wh=input_wh, query_boxes=QUERY_BOXES, opset=18)


def scenes(count: int) -> list[Frame]:
    """Letterboxed frames of `PREPROCESS`."""
    return drawn_frames(PREPROCESS, count)
