"""ONNX Runtime behind the engine protocol: runs everywhere, and the reference for every other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from personsearch.core.errors import InputError
from personsearch.runtime.artifact_engine import ArtifactEngine
from personsearch.runtime.engine import Device
from personsearch.runtime.graph import Array, Graph, TensorSpec

_PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxEngine(ArtifactEngine):
    """An artifact run by ONNX Runtime.

    Args:
        artifact: the folder.
        threads: intra-op threads, or none for ONNX Runtime's choice (one a physical core).
        device: the execution provider; the CPU's is the only one that every installation has.
        score_threshold: in place of the manifest's; ``spec`` then says so.

    Raises:
        InputError: see `personsearch.runtime.open_engine`.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        threads: int | None = None,
        device: Device = "cpu",
        score_threshold: float | None = None,
    ) -> None:
        provider = _PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise _no_provider(device)

        def open_graph(name: str, path: Path, content: bytes) -> Graph:
            return OnnxGraph(path, content, threads, device)

        label = f"onnxruntime {ort.__version__}, {device}" + (f", {threads} threads" if threads else "")
        super().__init__(artifact, open_graph, label=label, score_threshold=score_threshold)


class OnnxGraph:
    """A `Graph` in an ONNX Runtime session.

    Args:
        path: for messages.
        content: the ONNX file's bytes. Not the path: a graph that points at weights in another file would escape the
            hash.
        threads: as `OnnxEngine`.
        device: as `OnnxEngine`.

    Raises:
        InputError: ONNX Runtime refuses the graph, or does not use the device.
    """

    max_batch: int | None = None

    def __init__(self, path: Path, content: bytes, threads: int | None, device: Device) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only: ONNX Runtime's warnings are not for a user of the stream
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session: Any = ort.InferenceSession(content, options, providers=[_PROVIDERS[device]])
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError("ONNX Runtime cannot load the graph", where=str(path), remedy=reason) from None
        if self._session.get_providers()[0] != _PROVIDERS[device]:
            raise _no_provider(device)
        self.inputs = {node.name: _spec(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self._session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def close(self) -> None:
        self._session = None


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(_DTYPES.get(node.type, node.type), shape)


def _no_provider(device: Device) -> InputError:
    return InputError(
        f"ONNX Runtime {ort.__version__} has no working {_PROVIDERS[device]}",
        where=f"device {device}",
        remedy="install onnxruntime-gpu with a matching CUDA driver, or use `--device cpu`; "
        "`personsearch doctor` says what is here",
    )
