"""Static int8 for CPUs: Q/DQ pairs round the convolutions, per-channel int8 weights, uint8 activations.

Only convolutions are quantised, and those not all: the first one, the gates of the attention and the layers that end
in boxes and scores stay float (`QuantiseRecipe.float_layers`). Decoding, suppression, pooling, batch norm and the norm
of the embedding are no convolutions and stay float too. One calibration, of the search graph, serves both graphs:
where they share a convolution they share its ranges, so that an embedding of the query graph compares with those of
the search graph.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from personsearch.core.preprocess import Frame
from personsearch.core.recipes import QuantiseRecipe

QUANTISED_OPERATORS = ["Conv", "Relu"]
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class Convolution:
    """A convolution that becomes int8, and the ReLU that is merged into it.

    Attributes:
        weight: name of its weight, the same in both graphs.
        nodes: names of its one or two nodes.
        tensors: its input, its output, and the ReLU's output.
    """

    weight: str
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]


def quantise_graphs(
    search: Path,
    query: Path,
    frames: Sequence[Frame],
    recipe: QuantiseRecipe,
    *,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Replaces two float graphs by their int8 versions.

    Args:
        search: the search graph, float in, int8 out.
        query: the query graph, likewise.
        frames: letterboxed calibration frames, ``(H, W, 3)`` uint8 BGR.
        recipe: method and what stays float.
        advance: called after each frame.

    Raises:
        ValueError: there are no frames, or no convolution is left to quantise.
    """
    if not frames:
        raise ValueError("calibration needs at least one frame")
    models = {path: onnx.load(str(path)) for path in (search, query)}
    chosen = {path: convolutions(model, recipe.float_layers) for path, model in models.items()}
    if not chosen[search]:
        raise ValueError(f"`float_layers` {recipe.float_layers} leaves no convolution to quantise")
    ranges = calibrate(search, frames, recipe, advance=advance)
    by_weight = {item.weight: item.tensors for item in chosen[search]}
    for path, model in models.items():
        own: dict[str, Any] = {}
        for item in chosen[path]:
            for tensor, shared in zip(item.tensors, by_weight[item.weight], strict=True):
                own.setdefault(tensor, ranges[shared])
        nodes = [name for item in chosen[path] for name in item.nodes]
        _write(model, path, TensorsData(METHODS[recipe.method], own), nodes)


def convolutions(model: onnx.ModelProto, float_layers: Sequence[str]) -> list[Convolution]:
    """The convolutions of a graph that become int8, in order: those whose weight matches none of ``float_layers``."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        # The search graph holds the trunk as a part of `scene`, the query graph holds it alone.
        weight = node.input[1].removeprefix("scene.") if node.op_type == "Conv" else ""
        if not weight or any(fnmatchcase(f".{weight}", pattern) for pattern in float_layers):
            continue
        nodes, tensors = [node.name], [node.input[0], node.output[0]]
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Relu":
            nodes.append(after[0].name)
            tensors.append(after[0].output[0])
        found.append(Convolution(weight, tuple(nodes), tuple(tensors)))
    return found


def calibrate(
    graph: Path, frames: Sequence[Frame], recipe: QuantiseRecipe, *, advance: Callable[[], object] = lambda: None
) -> TensorsData:
    """Ranges of every tensor round a convolution, over the given frames."""
    options = {"percentile": recipe.percentile} if recipe.method == "percentile" else {}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        calibrator = create_calibrator(
            graph,
            QUANTISED_OPERATORS,
            augmented_model_path=str(Path(folder) / "calibration.onnx"),
            calibrate_method=METHODS[recipe.method],
            extra_options=options,
        )
        for frame in frames:  # one at a time: the histogram methods hold every activation of what they are given
            calibrator.collect_data(_OneFrame(frame))
            advance()
        ranges: TensorsData = calibrator.compute_data()
    return ranges


class _OneFrame(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, frame: Frame) -> None:
        self._inputs: list[dict[str, NDArray[np.uint8]]] = [{"frames": frame[None]}]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return self._inputs.pop() if self._inputs else None


def _write(model: onnx.ModelProto, path: Path, ranges: TensorsData, nodes: list[str]) -> None:
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=QUANTISED_OPERATORS,
        extra_options={},
    )
    with _quiet():
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    onnx.save(onnx.shape_inference.infer_shapes(quantizer.model.model, data_prop=True), str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The quantiser logs on the root logger, one line for each tensor it leaves alone.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # and the histogram methods print
            yield
    finally:
        logging.disable(logging.NOTSET)
