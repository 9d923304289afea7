"""From a deployable module to one ONNX file: fixed shapes, standard operators, nothing beside it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from personsearch.core.split import PERSON_INPUTS, PERSON_OUTPUTS, SCENE_OUTPUTS
from personsearch.models.deployable import pooling_of
from personsearch.models.fold import folded
from personsearch.models.search_model import SplitParts

FORBIDDEN_OPERATORS = frozenset(
    {"NonMaxSuppression", "NonZero", "MaxRoiPool", "Loop", "If", "Scan", "Unique", "Compress", "Range"}
)
"""Operators whose shapes depend on data, or that hide control flow."""
PLUGINS = frozenset({"RoiAlign"})
"""Standard operators that are plugins in TensorRT; a graph has them only where it was told to (`pool_by`)."""

SEARCH_OUTPUTS = ("boxes", "scores", "embeddings")
DETECTION_OUTPUTS = ("boxes", "scores")
QUERY_OUTPUTS = ("embeddings",)


def write_search_graph(
    module: nn.Module,
    path: Path,
    *,
    input_wh: tuple[int, int],
    opset: int,
    outputs: Sequence[str] = SEARCH_OUTPUTS,
    batch: int = 1,
) -> None:
    """Writes ``SearchModel.deployable()`` for frames in batches of B: ``frames`` to ``boxes, scores, embeddings``.

    Args:
        module: uint8 ``(B, H, W, 3)`` to boxes ``(B, K, 4)``, scores ``(B, K)``, embeddings ``(B, K, D)``.
        path: the file to write.
        input_wh: W and H in pixels.
        opset: ONNX operator set.
        outputs: names of what the module returns; a detector without embeddings has `DETECTION_OUTPUTS`.
        batch: B, fixed in the graph.

    Raises:
        ValueError: the graph breaks a rule of `graph_problems`.
    """
    _write(module, (_example_frames(input_wh, batch),), path, ("frames",), outputs, opset)


def write_query_graph(
    module: nn.Module, path: Path, *, input_wh: tuple[int, int], query_boxes: int, opset: int
) -> None:
    """Writes ``SearchModel.deployable_query(Q)``: ``frames`` and ``boxes`` ``(1, Q, 4)`` to ``embeddings``.

    Arguments and errors as `write_search_graph`; ``query_boxes`` is Q.
    """
    width, height = input_wh
    boxes = torch.tensor([0.25 * width, 0.25 * height, 0.5 * width, 0.75 * height]).repeat(1, query_boxes, 1)
    _write(module, (_example_frames(input_wh, 1), boxes), path, ("frames", "boxes"), QUERY_OUTPUTS, opset)


def write_split_graphs(
    parts: SplitParts, folder: Path, *, input_wh: tuple[int, int], opset: int, embeds: bool = True
) -> None:
    """Writes ``SearchModel.deployable_split(P, ...)`` as ``scene.onnx`` and ``person.onnx``, for single frames.

    Args:
        parts: the two modules.
        folder: to write to.
        input_wh: W and H in pixels.
        opset: ONNX operator set.
        embeds: false for a detector, whose person graph has no embeddings.

    Raises:
        ValueError: a graph breaks a rule of `graph_problems`.
    """
    frames = _example_frames(input_wh, 1)
    with torch.no_grad():
        proposals, _, feature = parts.scene(frames)
    boxes = proposals[:, :1].repeat(1, parts.settings.person_boxes, 1)
    outputs = PERSON_OUTPUTS if embeds else PERSON_OUTPUTS[:2]
    _write(parts.scene, (frames,), folder / "scene.onnx", ("frames",), SCENE_OUTPUTS, opset)
    _write(parts.person, (feature, boxes), folder / "person.onnx", PERSON_INPUTS, outputs, opset)


def graph_problems(path: Path, *, plugins: bool = False) -> list[str]:
    """What keeps a graph from running everywhere; empty for a good one.

    Checked: ONNX's own checker with shape inference, no external data, only standard operators, none of
    `FORBIDDEN_OPERATORS` and, unless ``plugins``, of `PLUGINS`, every tensor's shape known and fixed.
    """
    model = onnx.load(str(path), load_external_data=False)
    problems = []
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return ["weights lie in another file"]
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        problems.append(str(error).splitlines()[0])
    domains = {opset.domain for opset in model.opset_import} - {"", "ai.onnx"}
    if domains:
        problems.append(f"operators of {', '.join(sorted(domains))}")
    forbidden = FORBIDDEN_OPERATORS if plugins else FORBIDDEN_OPERATORS | PLUGINS
    found = forbidden & {node.op_type for node in model.graph.node}
    if found:
        problems.append(f"forbidden operators {', '.join(sorted(found))}")
    problems += [f"`{name}` has no fixed shape" for name in _unfixed(model)]
    return problems


def operator_counts(path: Path) -> dict[str, int]:
    """Nodes of a graph by operator, most frequent first."""
    counts: dict[str, int] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _example_frames(input_wh: tuple[int, int], batch: int) -> Tensor:
    return torch.full((batch, input_wh[1], input_wh[0], 3), 128, dtype=torch.uint8)


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
) -> None:
    if module.training:
        raise ValueError("the module is in training mode; batch norm would follow the example frame")
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            folded(module),
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    model = program.model_proto
    _strip(model)
    _unshare_weights(model)
    # Dead weights and shapes that only the exporter's annotations knew would escape the checks below.
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.save(model, str(path))
    problems = graph_problems(path, plugins=pooling_of(module) == "roi_align")
    if problems:
        raise ValueError(f"{path.name} cannot be deployed: {'; '.join(problems[:3])}")


def _strip(model: onnx.ModelProto) -> None:
    """Drops what the exporter noted for debugging: stack traces with local paths, a third of a small file."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for item in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]


def _unshare_weights(model: onnx.ModelProto) -> None:
    """Gives every convolution a weight of its own name again, which int8's calibration knows it by.

    The exporter stores equal small tensors once. The copy of the person block that embeds refined boxes
    (`SearchGraph.embedder`) would then be called what the block is called, and the query graph, which has the copy
    alone, would look in vain for its ranges.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    used: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in stored:
            continue
        name = node.input[1]
        if name in used:
            own = onnx.TensorProto()
            own.CopyFrom(stored[name])
            own.name = name.replace("person.", "embedder.", 1)
            if own.name in used | stored.keys():
                own.name = f"{name}.{len(used)}"
            model.graph.initializer.append(own)
            node.input[1] = own.name
        used.add(node.input[1])


def _unfixed(model: onnx.ModelProto) -> Iterator[str]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {}
    for value in [*inferred.input, *inferred.output, *inferred.value_info]:
        kind = value.type.tensor_type
        known[value.name] = kind.HasField("shape") and all(side.HasField("dim_value") for side in kind.shape.dim)
    names = [value.name for value in inferred.input] + [name for node in inferred.node for name in node.output]
    for name in names:
        if name and not known.get(name, False):
            yield name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter prints its progress and logs notes on versions; the stage has its own progress.
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
