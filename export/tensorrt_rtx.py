"""NVIDIA's own parser and builder on a machine without a GPU: does a graph become an engine?

TensorRT for RTX builds ahead of time for named GPU generations and shares parser and API with TensorRT, so a graph
that it refuses would be refused on the device too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.core.engine_builder import compile_graph
from personsearch.core.engine_tensorrt import load_tensorrt
from personsearch.core.errors import InputError

COMPUTE_CAPABILITIES = ("8.6", "8.9")
"""Ampere and Ada, the RTX generations met in cameras' companions."""


@dataclass(frozen=True)
class BuildReport:
    """What parser and builder said.

    Attributes:
        version: of TensorRT for RTX.
        layers: of the parsed network; 0 where there is no engine.
        engine_bytes: size of the engine; 0 where there is none.
        seconds: parsing and building.
        errors: in the tool's words; empty where an engine was built.
        warnings: as ``errors``.
    """

    version: str
    layers: int
    engine_bytes: int
    seconds: float
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def built(self) -> bool:
        """Whether there is an engine."""
        return self.engine_bytes > 0


def builds_with_tensorrt_rtx(path: Path, compute_capabilities: Sequence[str] = COMPUTE_CAPABILITIES) -> BuildReport:
    """Parses and builds one ONNX file, strongly typed, for the given GPU generations; keeps and runs nothing.

    Args:
        path: the graph.
        compute_capabilities: as ``8.6``.

    Raises:
        InputError: ``tensorrt_rtx`` is not installed (``pip install 'edge-person-search[rtx]'``).
    """
    api = load_tensorrt("tensorrt-rtx")
    try:
        compiled = compile_graph(api, path.read_bytes(), graph=path.name, targets=compute_capabilities)
    except InputError as refusal:
        errors, warnings = api.take_messages()
        return BuildReport(api.version, 0, 0, 0.0, (str(refusal), *errors), warnings)
    return BuildReport(api.version, compiled.layers, len(compiled.engine), compiled.seconds, warnings=compiled.warnings)
