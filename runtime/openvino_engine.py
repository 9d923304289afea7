"""OpenVINO behind the engine protocol: reads the same ONNX graphs, on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personsearch.core.engine_names import require_library
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.core.openvino_core import cpu_options, openvino_core
from personsearch.runtime.artifact_engine import ArtifactEngine
from personsearch.runtime.graph import Array, Graph, TensorSpec

_DTYPES = {"u8": "uint8", "f32": "float32", "f16": "float16"}


class OpenVinoEngine(ArtifactEngine):
    """An artifact run by OpenVINO on the CPU, one frame at a time as fast as it can.

    Args:
        artifact: the folder.
        threads: of one inference, or none for OpenVINO's choice (one a physical core).
        score_threshold: in place of the manifest's; ``spec`` then says so.

    Raises:
        InputError: see `personsearch.runtime.open_engine`.
    """

    def __init__(self, artifact: Path, *, threads: int | None = None, score_threshold: float | None = None) -> None:
        require_library("openvino")
        import openvino

        core = openvino_core()
        options = cpu_options(read_manifest(artifact).int8_flavour)
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads

        def open_graph(name: str, path: Path, content: bytes) -> Graph:
            return OpenVinoGraph(core, path, content, options)

        version = openvino.__version__.split("-")[0]
        label = f"openvino {version}, cpu" + (f", {threads} threads" if threads else "")
        super().__init__(artifact, open_graph, label=label, score_threshold=score_threshold)


class OpenVinoGraph:
    """A `Graph` compiled for the CPU.

    Args:
        core: see `openvino_core`.
        path: for messages.
        content: the ONNX file's bytes; see `OnnxGraph`.
        options: of the compilation.

    Raises:
        InputError: OpenVINO refuses the graph.
    """

    max_batch: int | None = None

    def __init__(self, core: Any, path: Path, content: bytes, options: Mapping[str, Any]) -> None:
        try:
            compiled = core.compile_model(core.read_model(content), "CPU", dict(options))
        except RuntimeError as error:
            raise InputError("OpenVINO cannot load the graph", where=str(path), remedy=_reason(error)) from None
        self.inputs = {port.get_any_name(): _spec(port) for port in compiled.inputs}
        self.outputs = {port.get_any_name(): _spec(port) for port in compiled.outputs}
        self._request: Any = compiled.create_infer_request()

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        results = self._request.infer(dict(feeds), share_inputs=True)
        return {port.get_any_name(): values for port, values in results.items()}

    def close(self) -> None:
        self._request = None


def _spec(port: Any) -> TensorSpec:
    kind = port.get_element_type().get_type_name()
    shape = tuple(None if side.is_dynamic else side.get_length() for side in port.get_partial_shape())
    return TensorSpec(_DTYPES.get(kind, kind), shape)


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says is wrong, without the places in its sources where it was found, in at most 200 letters."""
    # Of a graph it cannot translate OpenVINO prints what follows from what; the summary at the end names the cause.
    lines = [line.strip() for line in str(error).split("Summary:")[-1].splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said or lines)[:200]
