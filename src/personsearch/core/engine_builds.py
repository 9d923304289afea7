"""All engines of an artifact: which graphs, for which GPUs, and the command that builds them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from personsearch.core.cuda_driver import CudaDriver, probe_cuda
from personsearch.core.engine_builder import build_engine
from personsearch.core.engine_cache import (
    BuildFlags,
    EngineCache,
    EngineKey,
    EngineRecord,
    TensorRtName,
    local_platform,
    mismatches,
)
from personsearch.core.engine_tensorrt import TensorRt, load_tensorrt, require_gpu
from personsearch.core.errors import InputError
from personsearch.core.manifest import Manifest, load_artifact
from personsearch.core.onnx_file import require_self_contained


def build_artifact(
    artifact: Path,
    library: TensorRtName,
    *,
    targets: Sequence[str] | None = None,
    flags: BuildFlags | None = None,
    cache: EngineCache | None = None,
) -> tuple[EngineRecord, ...]:
    """Builds every graph of an artifact into the local cache, each in place of one built with the same options.

    Args:
        artifact: the folder; its hashes are checked.
        library: whose engines.
        targets: compute capabilities, as ``8.6``; none for the GPU's here. TensorRT builds for no other.
        flags: none for the defaults.
        cache: none for the user's.

    Raises:
        InputError: not an artifact, the library or a GPU that it needs is missing, or it refuses a graph or an option.
    """
    manifest = load_artifact(artifact)
    require_buildable(manifest, artifact)
    api = load_tensorrt(library)
    driver = probe_cuda()
    if not api.is_rtx:
        driver = require_gpu(library, "build engines")
    elif not targets and driver.problem:
        raise InputError(
            f"for which GPU is not said, and here is none: {driver.problem}",
            expected=f"--compute-capability with one of {', '.join(api.compute_capabilities())}",
        )
    wanted = tuple(targets or driver.compute_capabilities[:1])
    if not api.is_rtx and wanted != driver.compute_capabilities[:1]:
        raise InputError(
            f"{api.title} builds for the GPU here, of compute capability {driver.compute_capabilities[0]}, alone",
            remedy="leave --compute-capability out, or use --engine tensorrt-rtx",
        )
    place = cache or EngineCache()
    records = []
    for graph in manifest.graphs.values():
        path = artifact / graph.file
        content = path.read_bytes()
        require_self_contained(content, path)
        for capability in wanted:
            key = engine_key(api, capability, driver, hashlib.sha256(content).hexdigest(), flags)
            records.append(build_engine(api, content, key, place, graph=path.name))
    return tuple(records)


def engine_key(
    api: TensorRt, compute_capability: str, driver: CudaDriver, graph_sha256: str, flags: BuildFlags | None = None
) -> EngineKey:
    """The key of a graph's engine on this machine.

    TensorRT chooses what is fastest on the very GPU, and warns of others; TensorRT for RTX builds for all of a compute
    capability and compiles the rest where it runs.
    """
    chosen = flags or BuildFlags()
    any_model = api.is_rtx or chosen.hardware_compatible != "none"
    return EngineKey(
        library=api.library,
        version=api.version,
        compute_capability=compute_capability,
        gpu="" if any_model or not driver.devices else driver.devices[0],
        platform=local_platform(),
        graph_sha256=graph_sha256,
        flags=chosen,
    )


def require_buildable(manifest: Manifest, artifact: Path) -> None:
    """Refuses graphs made for CPUs before TensorRT's parser does, which would not say what to do.

    Raises:
        InputError: activations are unsigned with a zero point (U8S8), which TensorRT has not, or people are cut out by
            RoiAlign, which is a plugin there.
    """
    if manifest.int8_flavour == "u8s8":
        raise InputError(
            "its int8 graphs are of flavour u8s8, which is for CPUs",
            where=str(artifact),
            expected="s8s8 for TensorRT",
            remedy="export with `--to tensorrt --precision int8`, or use --engine onnxruntime or openvino",
        )
    if manifest.pooling != "matrix":
        raise InputError(
            "its graphs pool by RoiAlign, which is a plugin in TensorRT",
            where=str(artifact),
            expected="pooling by matrix products",
            remedy="export with `--to tensorrt`, or use --engine onnxruntime or openvino",
        )


def why_not_here(record: EngineRecord, driver: CudaDriver) -> str:
    """Why an engine of the cache cannot run on this machine now; empty where it can."""
    if driver.problem:
        return driver.problem
    try:
        api = load_tensorrt(record.key.library)
    except InputError as error:
        return str(error)
    here = engine_key(api, driver.compute_capabilities[0], driver, record.key.graph_sha256)
    if not here.gpu:
        here = here.model_copy(update={"gpu": driver.devices[0]})
    return "; ".join(mismatches(record.key, here))


def build_command(artifact: Path, library: TensorRtName) -> str:
    """What a user types to build an artifact's engines here."""
    return f"personsearch engine build {artifact} --engine {library}"
