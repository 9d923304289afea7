"""A network's file, run on the CPU: ONNX by ONNX Runtime, OpenVINO's IR by OpenVINO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.openvino_core import openvino_core

Shape = tuple[int | None, ...]
Tensors = dict[str, NDArray[Any]]
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class ImageNetwork(ABC):
    """A network of one image input ``(B, 3, H, W)`` or ``(B, H, W, 3)``.

    Attributes:
        path: its file.
        sha256: of the file; of an OpenVINO IR, those of its two files joined by ``+``.
        input_shape: of the graph; none for a side that is left open.
        output_names: in the graph's order.
    """

    path: Path
    sha256: str
    input_shape: Shape
    output_names: tuple[str, ...]

    @abstractmethod
    def run(self, images: NDArray[np.float32]) -> Tensors:
        """Outputs by name for one batch, already in the input's layout.

        Raises:
            InputError: the network cannot take the batch.
        """

    @property
    def channels_first(self) -> bool:
        """Whether the colour channels come before the rows.

        Raises:
            InputError: the input is no image of three channels.
        """
        shape = self.input_shape
        if len(shape) == 4 and (shape[1] == 3) != (shape[3] == 3):
            return shape[1] == 3
        shown = "x".join("?" if side is None else str(side) for side in shape)
        raise InputError(
            f"the input has shape {shown}", where=str(self.path), expected="Bx3xHxW or BxHxWx3, a colour image"
        )

    @property
    def input_wh(self) -> tuple[int | None, int | None]:
        """Width and height of the input; none for a side that the graph leaves open."""
        rows = 2 if self.channels_first else 1
        return self.input_shape[rows + 1], self.input_shape[rows]

    @property
    def batch(self) -> int | None:
        """Images that the graph takes at a time; none for any number."""
        return self.input_shape[0]


def open_network(path: Path, threads: int | None = None) -> ImageNetwork:
    """Opens a network by the ending of its file: ``.onnx``, or ``.xml`` with its ``.bin`` beside it.

    Args:
        path: the file.
        threads: of the CPU inside one run; none for the library's choice.

    Raises:
        InputError: no such file, another kind of file, damaged, not of one image input, or OpenVINO is not installed.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path), expected="a network: .onnx, or OpenVINO's .xml")
    if path.suffix.lower() == ".onnx":
        return _OnnxNetwork(path, threads)
    if path.suffix.lower() == ".xml":
        return _OpenVinoNetwork(path, threads)
    raise InputError(
        f"ends in `{path.suffix}`",
        where=str(path),
        expected="a network: .onnx, or OpenVINO's .xml",
        remedy="export it to ONNX",
    )


class _OnnxNetwork(ImageNetwork):
    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only: what it says about foreign exporters is not for the user
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many undocumented types
            raise _not_loaded(path, "ONNX Runtime", error) from None
        node = _only_input(path, self._session.get_inputs())
        if node.type not in _FLOATS and node.type != "tensor(uint8)":
            raise InputError(f"the input is a {node.type}", where=str(path), expected="floating point or uint8 pixels")
        self._input, self._dtype = node.name, _FLOATS.get(node.type, np.uint8)
        self.path, self.sha256 = path, sha256_file(path)
        self.input_shape = tuple(side if isinstance(side, int) and side > 0 else None for side in node.shape)
        self.output_names = tuple(output.name for output in self._session.get_outputs())

    def run(self, images: NDArray[np.float32]) -> Tensors:
        try:
            outputs = self._session.run(None, {self._input: images.astype(self._dtype)})
        except Exception as error:  # of many undocumented types
            raise _not_run(self.path, images, error) from None
        return dict(zip(self.output_names, outputs, strict=True))


class _OpenVinoNetwork(ImageNetwork):
    def __init__(self, path: Path, threads: int | None) -> None:
        if find_spec("openvino") is None:
            raise InputError(
                "running an OpenVINO network needs `openvino`, which is not installed",
                where=str(path),
                remedy="pip install 'edge-person-search[openvino]', or convert the network to ONNX",
            )
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise InputError("no such file", where=str(weights), expected=f"the weights of {path.name} beside it")
        try:
            core = openvino_core()
            # Half precision is OpenVINO's own choice on some processors; tables should not depend on the machine.
            settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
            if threads is not None:
                settings["INFERENCE_NUM_THREADS"] = threads
            self._compiled = core.compile_model(core.read_model(str(path), str(weights)), "CPU", settings)
        except Exception as error:  # of many undocumented types
            raise _not_loaded(path, "OpenVINO", error) from None
        port = _only_input(path, self._compiled.inputs)
        self._dtype = port.get_element_type().to_dtype()
        self.path, self.sha256 = path, f"{sha256_file(path)}+{sha256_file(weights)}"
        self.input_shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
        outputs = self._compiled.outputs
        self.output_names = tuple(
            sorted(output.get_names())[0] if output.get_names() else f"output_{number}"
            for number, output in enumerate(outputs)
        )

    def run(self, images: NDArray[np.float32]) -> Tensors:
        try:
            outputs = self._compiled([images.astype(self._dtype)])
        except Exception as error:  # of many undocumented types
            raise _not_run(self.path, images, error) from None
        return {name: np.asarray(outputs[number]) for number, name in enumerate(self.output_names)}


def _only_input(path: Path, inputs: Sequence[Any]) -> Any:
    if len(inputs) != 1:
        raise InputError(f"has {len(inputs)} inputs", where=str(path), expected="one, the image")
    return inputs[0]


def _not_loaded(path: Path, library: str, error: Exception) -> InputError:
    return InputError(
        f"{library} cannot load the network", where=str(path), expected="a whole file", remedy=_first_line(error)
    )


def _not_run(path: Path, images: NDArray[np.float32], error: Exception) -> InputError:
    shape = "x".join(str(side) for side in images.shape)
    return InputError(f"the network cannot take a batch of {shape}", where=str(path), remedy=_first_line(error))


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
