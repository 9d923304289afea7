"""One tiny network of every kind, exported once a process, for the tests that put all of them through every engine."""

from __future__ import annotations

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter
from torch import nn

from personsearch.core.export_recipes import QuantiseRecipe
from personsearch.core.manifest import Pooling
from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.export.frames import drawn_frames
from personsearch.export.half import halve_graph
from personsearch.export.quantise import calibrate, quantise_graph
from personsearch.export.to_onnx import DETECTION_OUTPUTS, SEARCH_OUTPUTS, write_query_graph, write_search_graph
from personsearch.models import SearchModel, build_model
from personsearch.models.deployable import pool_by

PREPROCESS = Preprocess(input_wh=(96, 64))
QUERY_BOXES = 2
RESNET = {"kind": "resnet_c4", "depth": 18, "width": 8}
COMMON = {"rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 8, "proposals": 4, "pre_nms": 8}
HDL = {"kind": "hdl", "anchor_heights": [24, 40], **COMMON}
REGION = {
    **COMMON, "trunk": RESNET, "anchors": {"kind": "person", "heights": [24, 40]}, "train_pre_nms": 32,
    "graph_pre_nms": 8, "graph_proposals": 4,
}  # fmt: skip
MEMORY = {**REGION, "embedding_dim": 12, "queue_size": 4}
MODELS: dict[str, dict[str, object]] = {
    "hdl resnet_c4": {**HDL, "trunk": RESNET, "attention": "full"},
    "hdl depthwise": {
        **HDL, "attention": "light",
        "trunk": {
            "kind": "depthwise", "stem_channels": 8, "channels": [8, 12, 16], "modules": 1, "person_channels": 32
        },
    },
    "hdl shufflenet": {
        **HDL, "attention": "none",
        "trunk": {"kind": "shufflenet", "stride": 8, "neck_channels": 16, "person_channels": 16}, "proposal_peaks": 3,
    },
    "hdl family": {**HDL, "attention": "none", "trunk": {"kind": "family", "size": "tiny"}, "proposal_peaks": 3},
    "faster_rcnn": {"kind": "faster_rcnn", **REGION},
    "oim": {"kind": "oim", **MEMORY},
    "nae": {"kind": "nae", **MEMORY},
    "seqnet": {"kind": "seqnet", **MEMORY},
    "qeeps": {"kind": "qeeps", **MEMORY},
}  # fmt: skip
KINDS = sorted(MODELS)
Flavour = Literal["fp16", "u8s8", "s8s8"]

_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # removed when the test process ends


def frames(count: int) -> list[Frame]:
    """Letterboxed frames of `PREPROCESS`."""
    return drawn_frames(PREPROCESS, count)


@lru_cache
def settled_model(kind: str) -> SearchModel:
    """In evaluation mode; batch norm has seen drawn frames, and anchors and RoIs differ in score, as after training."""
    torch.manual_seed(0)
    recipe: ModelRecipe = TypeAdapter(ModelRecipe).validate_python(MODELS[kind])
    model = build_model(recipe, PREPROCESS, person_count=3)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    images = torch.stack([torch.from_numpy(frame) for frame in frames(3)])
    boxes = [torch.tensor([[10.0, 10, 26, 50], [50, 12, 66, 52]])] * len(images)
    with torch.no_grad():
        model(images, boxes, [torch.tensor([0, 1])] * len(images))
        for name, parameter in model.named_parameters():
            if name.endswith(("class_logits.weight", "box_deltas.weight")):
                parameter.mul_(20 if name.startswith("subnet") else 4)
    return model.eval()


@lru_cache
def exported(kind: str, pooling: Pooling = "matrix") -> Path:
    """A folder with ``search.onnx`` and, but for a detector, ``query.onnx``; read it, change copies."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="every-model-"))
    folder, model = Path(_FOLDERS[-1].name), settled_model(kind)
    input_wh = PREPROCESS.input_wh
    outputs = SEARCH_OUTPUTS if model.embedding_dim else DETECTION_OUTPUTS
    search = model.deployable()
    pool_by(search, pooling)
    write_search_graph(search, folder / "search.onnx", input_wh=input_wh, opset=18, outputs=outputs)
    if model.embedding_dim:
        query = model.deployable_query(QUERY_BOXES)
        pool_by(query, pooling)
        write_query_graph(query, folder / "query.onnx", input_wh=input_wh, query_boxes=QUERY_BOXES, opset=18)
    return folder


@lru_cache
def rounded(kind: str, flavour: Flavour, pooling: Pooling = "matrix") -> Path:
    """`exported`, in float16 or in one of int8's flavours."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="every-model-"))
    folder = Path(shutil.copytree(exported(kind, pooling), Path(_FOLDERS[-1].name) / flavour))
    if flavour == "fp16":
        for path in folder.glob("*.onnx"):
            halve_graph(path)
        return folder
    recipe = QuantiseRecipe(frames=3, method="minmax", rounding="nearest")
    calibration = calibrate(folder / "search.onnx", frames(3), recipe)
    for path in folder.glob("*.onnx"):
        quantise_graph(path, path, calibration, float_layers=recipe.patterns(flavour), flavour=flavour)
    return folder
