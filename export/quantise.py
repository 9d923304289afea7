"""Static int8: Q/DQ pairs round the convolutions, int8 weights a channel, in the two flavours that engines want.

Only convolutions are quantised, and those not all: a ResNet's first one, the gates of the attention and the layers
that end in boxes and scores stay float (`QuantiseRecipe.float_layers`). Decoding, suppression, pooling, batch norm and
the norm of the embedding are no convolutions and stay float too. One calibration, of the search graph, serves every
graph and both flavours: where graphs share a convolution they share its ranges and its weights, so that an embedding
of the query graph compares with those of the search graph.

``u8s8`` is for CPUs: activations uint8 with a zero point, int32 biases, answers rounded too, so that a convolution and
its ReLU are one integer kernel. ``s8s8`` is what TensorRT's parser takes: int8 with zero point 0, float biases, and
only what a convolution reads is rounded, so that the ReLU behind it merges into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from personsearch.core.export_recipes import QuantiseRecipe
from personsearch.core.manifest import Int8Flavour
from personsearch.core.preprocess import Frame
from personsearch.export.rounding import rounded_weights, steps_of

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
        weight: name of its weight, the same in every graph of a model.
        nodes: names of its one or two nodes.
        tensors: its input, its output, and the ReLU's output.
        initializer: name of its weight in this graph.
    """

    weight: str
    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    initializer: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the frames said, by the names of the weights; good for any flavour and every graph of the model.

    Attributes:
        method: how ranges were found.
        ranges: of a convolution's tensors, in the order of `Convolution.tensors`.
        weights: int8 weights; those that are missing are rounded to nearest.
    """

    method: CalibrationMethod
    ranges: Mapping[str, tuple[Any, ...]]
    weights: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Tells whether two artifacts were made from one calibration."""
        digest = hashlib.sha256()
        for name in sorted(self.ranges):
            digest.update(name.encode())
            for entry in self.ranges[name]:
                digest.update(np.array([entry.lowest, entry.highest], np.float32).tobytes())
            if name in self.weights:
                digest.update(self.weights[name].tobytes())
        return digest.hexdigest()


def calibrate(
    search: Path,
    frames: Sequence[Frame],
    recipe: QuantiseRecipe,
    *,
    advance: Callable[[], object] = lambda: None,
) -> Calibration:
    """Ranges of every tensor round a convolution of the search graph, and its weights rounded, over the given frames.

    Args:
        search: the float32 search graph of a batch of one.
        frames: letterboxed, ``(H, W, 3)`` uint8 BGR.
        recipe: method and rounding; its ``float_layers`` are calibrated too, for whoever tries them in int8.
        advance: called `calibration_steps` times.

    Raises:
        ValueError: there are no frames.
    """
    if not frames:
        raise ValueError("calibration needs at least one frame")
    found = convolutions(onnx.load(str(search), load_external_data=False), ())
    ranges = _ranges(search, frames, recipe, advance)
    weights: Mapping[str, NDArray[np.int8]] = {}
    if recipe.rounding == "compensated":
        own = {item.initializer: item.weight for item in found}
        rounded = rounded_weights(search, list(own), frames, advance=advance)
        weights = {own[name]: values for name, values in rounded.items()}
    known = {item.weight: item.tensors for item in found if all(tensor in ranges for tensor in item.tensors)}
    by_weight = {weight: tuple(ranges[tensor] for tensor in tensors) for weight, tensors in known.items()}
    return Calibration(METHODS[recipe.method], by_weight, weights)


def calibration_steps(frames: int, recipe: QuantiseRecipe) -> int:
    """How often `calibrate` calls ``advance``."""
    return frames * (2 if recipe.rounding == "compensated" else 1)


def quantise_graph(
    source: Path, path: Path, calibration: Calibration, *, float_layers: Sequence[str], flavour: Int8Flavour
) -> None:
    """Writes the int8 version of a float32 graph.

    Args:
        source: a graph of the model that was calibrated, of any batch.
        path: to write to; may be ``source``.
        calibration: of that model.
        float_layers: patterns of weight names (``.trunk.stem.0.weight``) whose convolutions stay float.
        flavour: see the module.

    Raises:
        ValueError: no convolution is left to quantise, or one has not been calibrated.
    """
    model = onnx.load(str(source), load_external_data=False)
    chosen = convolutions(model, float_layers)
    if not chosen:
        raise ValueError(f"`float_layers` {tuple(float_layers)} leaves no convolution to quantise")
    missing = [item.weight for item in chosen if item.weight not in calibration.ranges]
    if missing:
        raise ValueError(f"`{missing[0]}` of {source.name} was not calibrated")
    ranges: dict[str, Any] = {}
    for item in chosen:
        for tensor, found in zip(item.tensors, calibration.ranges[item.weight], strict=True):
            ranges.setdefault(tensor, found)
    overrides = _settle_weights(model, chosen, calibration)
    _write(model, path, TensorsData(calibration.method, ranges), chosen, overrides, flavour)


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
        found.append(Convolution(weight, tuple(nodes), tuple(tensors), node.input[1]))
    return found


def _ranges(
    graph: Path, frames: Sequence[Frame], recipe: QuantiseRecipe, advance: Callable[[], object]
) -> Mapping[str, Any]:
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
        ranges: Mapping[str, Any] = calibrator.compute_data().data
    return ranges


class _OneFrame(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, frame: Frame) -> None:
        self._inputs: list[dict[str, NDArray[np.uint8]]] = [{"frames": frame[None]}]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return self._inputs.pop() if self._inputs else None


def _settle_weights(
    model: onnx.ModelProto, chosen: Sequence[Convolution], calibration: Calibration
) -> dict[str, list[dict[str, Any]]]:
    """Puts the rounded weights into the float graph, and returns the scales that give exactly these steps again."""
    stored = {item.name: item for item in model.graph.initializer}
    overrides: dict[str, list[dict[str, Any]]] = {}
    for item in chosen:
        values = np.asarray(numpy_helper.to_array(stored[item.initializer]), dtype=np.float32)
        steps = steps_of(values)
        rounded = calibration.weights.get(item.weight)
        if rounded is not None:
            exact = rounded.astype(np.float32) * steps.reshape(-1, *(1 for _ in values.shape[1:]))
            stored[item.initializer].CopyFrom(numpy_helper.from_array(exact, item.initializer))
        overrides[item.initializer] = [
            {"axis": 0, "quant_type": QuantType.QInt8, "scale": step, "zero_point": np.int8(0)} for step in steps
        ]
    return overrides


def _write(
    model: onnx.ModelProto,
    path: Path,
    ranges: TensorsData,
    chosen: Sequence[Convolution],
    overrides: dict[str, list[dict[str, Any]]],
    flavour: Int8Flavour,
) -> None:
    symmetric = flavour == "s8s8"
    options: dict[str, Any] = {"TensorQuantOverrides": overrides}
    if symmetric:
        options |= {
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        }
    operators = ["Conv"] if symmetric else QUANTISED_OPERATORS
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[name for item in chosen for name in (item.nodes[:1] if symmetric else item.nodes)],
        nodes_to_exclude=[],
        op_types_to_quantize=operators,
        extra_options=options,
    )
    with _quiet():
        quantizer.quantize_model()
        if symmetric:
            _free_other_readers(quantizer.model.model.graph)
        quantizer.model.topological_sort()
    onnx.save(onnx.shape_inference.infer_shapes(quantizer.model.model, data_prop=True), str(path))


def _free_other_readers(graph: onnx.GraphProto) -> None:
    """Lets whatever is no convolution read the tensor itself: pooling of the map that a convolution reads too."""
    by_output = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            back = by_output.get(name)
            if node.op_type != "Conv" and back is not None and back.op_type == "DequantizeLinear":
                forth = by_output.get(back.input[0])
                if forth is not None and forth.op_type == "QuantizeLinear":
                    node.input[index] = forth.input[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The quantiser logs on the root logger, one line for each tensor it leaves alone.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # and the histogram methods print
            yield
    finally:
        logging.disable(logging.NOTSET)
