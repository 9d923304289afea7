"""Counting operations by one convention, on the traced network and on the exported graph.

Convention: one multiply-accumulate (MAC) is two FLOPs, and both are printed. Counted are convolutions and matrix
products (fully connected layers); normalisation, activations, pooling, resizing and top-k are not. Three parts are
kept apart: the *scene* (once a frame: trunk and person detection subnet), one *person* (the work on one RoI), of
which a frame has K, and *selection* (the exported graph's products of two activations: NMS and RoI pooling).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from personsearch.benchmarks.systems import checkpoint_file, system_name
from personsearch.core.errors import InputError
from personsearch.core.manifest import load_artifact
from personsearch.core.recipe import StrictModel, load_recipe
from personsearch.core.recipes import TrainRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from personsearch.models.search_model import SearchModel

CONVENTION = "1 MAC = 2 FLOPs; convolutions and matrix products only"
Part = Literal["scene", "person", "selection"]


class FlopsResult(StrictModel):
    """Operations of one frame of ``input_wh`` pixels with ``persons`` RoIs."""

    subject: str
    source: Literal["traced module", "ONNX graph"]
    convention: str = CONVENTION
    input_wh: tuple[int, int]
    persons: int = Field(description="K, RoIs a frame")
    scene_macs: int = Field(description="once a frame")
    person_macs: int = Field(description="for each person")
    selection_macs: int = Field(description="NMS and RoI pooling as matrix products; 0 where they are operators")
    parameters: int = Field(
        description="of what runs: no identity layer of training, branches and batch norms folded into convolutions"
    )

    @property
    def total_macs(self) -> int:
        """The whole frame: scene, K persons, selection."""
        return self.scene_macs + self.persons * self.person_macs + self.selection_macs


def count_path(path: Path) -> FlopsResult:
    """Counts a recipe (.yaml), a checkpoint or an artifact; an artifact's count is that of its search graph.

    Raises:
        InputError: none of these, or what is there is damaged.
    """
    if path.suffix in (".yaml", ".yml"):
        from personsearch.models.build import build_model, without_start_weights

        recipe = _train_recipe(path)
        model = build_model(without_start_weights(recipe.model), recipe.preprocess, person_count=1)
        return count_model(model, subject=path.stem)
    checkpoint = checkpoint_file(path)
    if checkpoint is None:
        manifest = load_artifact(path)
        return count_graph(path / manifest.graphs["search"].file, subject=system_name(path))
    from personsearch.models.checkpoint import load_model

    return count_model(load_model(checkpoint)[0], subject=system_name(path))


def count_model(model: SearchModel, *, subject: str) -> FlopsResult:
    """Counts a network's scene and person modules by tracing them, without computing anything."""
    import torch

    from personsearch.models.fold import folded

    width, height = model.preprocess.input_wh
    # What runs: a trunk that trains as several branches runs as one.
    scene, person = folded(model.scene_module()), folded(model.person_module())
    frames = torch.empty((1, height, width, 3), dtype=torch.uint8, device="meta")
    crop = torch.empty(model.person_input_shape, device="meta")
    return FlopsResult(
        subject=subject,
        source="traced module",
        input_wh=(width, height),
        persons=model.max_detections,
        scene_macs=module_macs(scene, frames),
        person_macs=module_macs(person, crop),
        selection_macs=0,
        parameters=_running_parameters(model, scene, person),
    )


def module_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of one forward pass; ``inputs`` lie on the meta device, nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shadow = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(*inputs)
    return int(counter.get_total_flops()) // 2


def count_graph(path: Path, *, subject: str) -> FlopsResult:
    """Counts an exported search graph from its static shapes; its batch is one frame.

    A matrix product of two activations belongs to selection (NMS, RoI pooling); of what has weights, a node whose
    output has K rows belongs to the person part, any other to the scene.

    Raises:
        InputError: not a search graph of one frame, or a shape cannot be inferred.
    """
    model = _load_graph(path)
    shapes = {info.name: _shape(info) for info in (*model.graph.input, *model.graph.output, *model.graph.value_info)}
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer})
    parts: dict[Part, int] = {"scene": 0, "person": 0, "selection": 0}
    rows: set[int] = set()
    weights = set(_weights(model))
    sources = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise InputError(f"holds a `{node.op_type}` with a graph inside", where=str(path), expected="static shapes")
        macs = _node_macs(node, shapes, path)
        if macs is None:
            continue
        output = shapes[node.output[0]]
        layer = any(_origin(name, sources) in weights for name in node.input[:2])
        part: Part = "selection" if not layer else "scene" if output[0] == 1 else "person"
        parts[part] += macs
        if part == "person":
            rows.add(output[0])
    if len(rows) > 1:
        raise InputError(f"person work in batches of {sorted(rows)}", where=str(path), expected="one number of RoIs")
    persons = rows.pop() if rows else 0
    _, height, width, _ = shapes["frames"]
    return FlopsResult(
        subject=subject,
        source="ONNX graph",
        input_wh=(width, height),
        persons=persons,
        scene_macs=parts["scene"],
        person_macs=parts["person"] // persons if persons else 0,
        selection_macs=parts["selection"],
        parameters=sum(math.prod(shapes[name]) for name in _weights(model)),
    )


def _train_recipe(path: Path) -> TrainRecipe:
    from personsearch.core.recipes import DistillRecipe

    if not path.is_file():
        raise InputError("does not exist", where=str(path), expected="a recipe, a checkpoint or an artifact")
    text = path.read_text(encoding="utf-8", errors="replace")
    is_student = any(line.startswith("teacher:") for line in text.splitlines())
    return load_recipe(path, DistillRecipe if is_student else TrainRecipe)


def _running_parameters(model: SearchModel, *modules: nn.Module) -> int:
    # The identity layer only serves training; exported graphs do not hold it.
    return sum(
        parameter.numel()
        for module in modules
        for name, parameter in module.named_parameters()
        if "identity." not in name
    )


def _load_graph(path: Path) -> Any:
    import onnx

    try:
        model = onnx.load(str(path))
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:
        raise InputError("cannot be read as an ONNX graph", where=str(path), remedy=str(error)[:160]) from None
    inputs = {value.name: _shape(value) for value in model.graph.input}
    frames = inputs.get("frames", ())
    if len(inputs) != 1 or len(frames) != 4 or frames[0] != 1 or 0 in frames:
        raise InputError(
            f"inputs are {inputs}", where=str(path), expected="a search graph: `frames` of fixed shape (1, H, W, 3)"
        )
    return model


def _shape(info: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _node_macs(node: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> int | None:
    """Multiply-accumulates of a node, or none for an operator that is not counted."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    first, second, output = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if not (first and second and output) or 0 in (*first, *second, *output):
        raise InputError(f"shape of `{node.name}` is not known", where=str(path), expected="static shapes")
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(second[1:])  # weights (out, in / groups, kh, kw)
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * (first[0] if transposed else first[-1])


def _origin(name: str, sources: dict[str, Any]) -> str:
    """The tensor that ``name`` is a dequantised or transposed form of."""
    while name in sources and sources[name].op_type in ("DequantizeLinear", "Transpose"):
        name = sources[name].input[0]
    return name


def _weights(model: Any) -> Iterator[str]:
    """Names of the weights and biases, float or quantised, of convolutions and matrix products, each once."""
    constants = {tensor.name for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    seen = set()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        for name in node.input[1:]:
            name = _origin(name, made_by)
            if name in constants and name not in seen:
                seen.add(name)
                yield name
