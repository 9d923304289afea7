"""Engines of an exported artifact, built into the local cache where this machine can build them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.core.cuda_driver import probe_cuda
from personsearch.core.engine_builds import build_artifact
from personsearch.core.engine_cache import BuildFlags, EngineCache, EngineRecord, TensorRtName
from personsearch.core.engine_names import library_missing
from personsearch.core.engine_tensorrt import TITLES
from personsearch.export.tensorrt_rtx import COMPUTE_CAPABILITIES


@dataclass(frozen=True)
class EngineBuild:
    """What came of building an artifact's engines.

    Attributes:
        records: sidecars of the engines, one a graph and compute capability.
        not_built: why there are none, with what to do; empty where they were built.
    """

    records: tuple[EngineRecord, ...]
    not_built: str = ""


def build_engines(
    artifact: Path,
    engine: TensorRtName,
    *,
    compute_capabilities: Sequence[str] | None = None,
    flags: BuildFlags | None = None,
    cache: EngineCache | None = None,
) -> EngineBuild:
    """Builds every graph of an artifact, or says plainly why this machine cannot.

    TensorRT for RTX needs no GPU for it, TensorRT does. Missing library or GPU is no error here: the artifact is whole
    without engines, and the machine that runs it builds them with `personsearch engine build`.

    Args:
        artifact: the folder.
        engine: whose engines.
        compute_capabilities: as ``8.6``; none for the GPU's here, without one `COMPUTE_CAPABILITIES`.
        flags: none for the defaults.
        cache: none for the user's.

    Raises:
        InputError: a graph that the parser or builder refuses, or an option that this version has not.
    """
    missing = library_missing(engine)
    if missing:
        return EngineBuild((), f"{TITLES[engine]} is not installed here ({missing}); the device builds the engines")
    driver = probe_cuda()
    if engine == "tensorrt" and driver.problem:
        return EngineBuild((), f"TensorRT builds on the GPU it builds for, and here is {driver.problem}")
    targets = compute_capabilities or driver.compute_capabilities[:1] or COMPUTE_CAPABILITIES
    return EngineBuild(build_artifact(artifact, engine, targets=targets, flags=flags, cache=cache))
