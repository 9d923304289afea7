"""NVIDIA's own parser and builder on a machine without a GPU: does a graph become an engine?

TensorRT for RTX builds ahead of time for named GPU generations and shares parser and API with TensorRT, so a graph
that it refuses would be refused on the device too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

COMPUTE_CAPABILITIES = ("SM86", "SM89")
"""Ampere and Ada, the RTX generations met in cameras' companions."""
WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class BuildReport:
    """What parser and builder said.

    Attributes:
        version: of TensorRT for RTX.
        layers: of the parsed network; 0 where parsing failed.
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
    """Parses and builds one ONNX file, strongly typed, for the given GPU generations; runs nothing.

    Args:
        path: the graph.
        compute_capabilities: names of ``tensorrt_rtx.ComputeCapability``.

    Raises:
        ImportError: ``tensorrt_rtx`` is not installed (``pip install 'edge-person-search[rtx]'``).
    """
    import tensorrt_rtx

    log = _log()
    log.errors.clear()
    log.warnings.clear()
    started = time.monotonic()
    builder = tensorrt_rtx.Builder(log)
    network = builder.create_network(1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt_rtx.OnnxParser(network, log)
    layers = engine_bytes = 0
    if parser.parse_from_file(str(path)):
        layers = network.num_layers
        config = builder.create_builder_config()
        config.set_memory_pool_limit(tensorrt_rtx.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.num_compute_capabilities = len(compute_capabilities)
        for index, name in enumerate(compute_capabilities):
            config.set_compute_capability(getattr(tensorrt_rtx.ComputeCapability, name), index)
        engine = builder.build_serialized_network(network, config)
        engine_bytes = 0 if engine is None else engine.nbytes
    else:
        log.errors += [str(parser.get_error(index)) for index in range(parser.num_errors)]
    if not engine_bytes and not log.errors:
        log.errors.append("no engine and no reason given")
    seconds = time.monotonic() - started
    errors = tuple(log.errors) if not engine_bytes else ()
    return BuildReport(tensorrt_rtx.__version__, layers, engine_bytes, seconds, errors, tuple(log.warnings))


@lru_cache(maxsize=1)
def _log() -> Any:
    """The one logger: TensorRT keeps the first it is given for the life of the process."""
    import tensorrt_rtx

    class Log(tensorrt_rtx.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (tensorrt_rtx.ILogger.INTERNAL_ERROR, tensorrt_rtx.ILogger.ERROR):
                self.errors.append(message)
            elif severity == tensorrt_rtx.ILogger.WARNING:
                self.warnings.append(message)

    return Log()
