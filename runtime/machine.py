"""What this machine can run: measured or tried where that is possible, never guessed from a package's presence."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from personsearch import __version__
from personsearch.core.cuda_driver import CudaDriver, probe_cuda
from personsearch.core.engine_cache import EngineCache, TensorRtName
from personsearch.core.engine_names import library_missing
from personsearch.core.engine_tensorrt import load_tensorrt
from personsearch.core.errors import InputError
from personsearch.core.manifest import EngineName
from personsearch.core.openvino_core import openvino_core
from personsearch.runtime.engine import default_artifact, open_engine
from personsearch.runtime.video_writer import CODECS, choose_codec

_DISTRIBUTION = "edge-person-search"
_PROBE_WH = (320, 240)


@dataclass(frozen=True)
class Extra:
    """An optional part of the installation.

    Attributes:
        name: as in ``pip install 'edge-person-search[name]'``.
        missing: distributions that are not installed.
    """

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ShippedArtifact:
    """The artifact that `stream` uses when none is named.

    Attributes:
        name: empty where none is shipped.
        problem: why it cannot be used.
    """

    name: str = ""
    problem: str = ""


@dataclass(frozen=True)
class MachineReport:
    """Everything that ``personsearch doctor`` knows.

    Attributes:
        versions: of Python and the base libraries.
        cores: that this process may use.
        memory_gib: of the machine, or the container's limit where that is lower.
        video: what OpenCV was built with, and the codec that it can write.
        engines: name to empty when it runs here, else to what is missing.
        engine_cache: folder of the TensorRT engines that were built here.
        cached_engines: how many these are.
        cuda: the driver.
        extras: of the installation.
        artifact: the shipped one.
        problems: why the base runtime does not work; empty when it does.
    """

    versions: dict[str, str]
    system: str
    cores: int
    memory_gib: float
    video: dict[str, str]
    engines: dict[str, str]
    engine_cache: str
    cached_engines: int
    cuda: CudaDriver
    extras: tuple[Extra, ...]
    artifact: ShippedArtifact
    problems: tuple[str, ...] = field(default=())


def inspect_machine() -> MachineReport:
    """Looks at everything; takes a few seconds, changes nothing."""
    cuda = probe_cuda()
    artifact, ran = _check_artifact()
    cache = EngineCache()
    video = _video()
    problems = [f"default artifact: {artifact.problem}"] if artifact.name and artifact.problem else []
    if not video["mp4_codec"]:
        problems.append("OpenCV can write no .mp4: `stream` works with --no-video only")
    if "CPUExecutionProvider" not in ort.get_available_providers():
        problems.append("ONNX Runtime has no CPU provider; reinstall onnxruntime")
    return MachineReport(
        versions={
            "personsearch": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "onnxruntime": ort.__version__,
        },
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=usable_cores(),
        memory_gib=round(memory_bytes() / 2**30, 1),
        video=video,
        engines={
            "onnxruntime cpu": ran,
            "onnxruntime cuda": _onnx_cuda(cuda),
            "openvino cpu": _openvino(artifact),
            "tensorrt": _tensorrt("tensorrt", cuda),
            "tensorrt-rtx": _tensorrt("tensorrt-rtx", cuda),
        },
        engine_cache=str(cache.folder),
        cached_engines=sum(1 for _ in cache.records()),
        cuda=cuda,
        extras=installed_extras(),
        artifact=artifact,
        problems=tuple(problems),
    )


def installed_extras() -> tuple[Extra, ...]:
    """The extras that the installed distribution declares, and what each lacks."""
    try:
        lines = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return ()
    wanted: dict[str, list[str]] = {}
    for line in lines:
        match = re.match(r"([\w.-]+).*;.*extra\s*==\s*['\"]([\w.-]+)['\"]", line)
        if match and match[1] != _DISTRIBUTION:
            wanted.setdefault(match[2], []).append(match[1])
    return tuple(Extra(name, tuple(each for each in parts if not _has(each))) for name, parts in wanted.items())


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of the machine or, where lower, the limit of the container; 0 where the system does not say."""
    if not hasattr(os, "sysconf"):
        return 0
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file():
        text = limit.read_text().strip()
        found = min(found, int(text)) if text.isdigit() else found
    return found


def _video() -> dict[str, str]:
    # `videoio_registry` also lists backends that were not built in; the build's own text does not.
    build = cv2.getBuildInformation()
    found = {name: re.search(rf"{name}:\s+(YES|NO)", build) for name in ("FFMPEG", "GStreamer", "v4l/v4l2")}
    video = {name.lower(): match[1].lower() if match else "no" for name, match in found.items()}
    return {**video, "mp4_codec": choose_codec(_PROBE_WH) or "", "mp4_codecs_tried": ", ".join(CODECS)}


def _onnx_cuda(cuda: CudaDriver) -> str:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu in place of onnxruntime"
    return cuda.problem


def _openvino(artifact: ShippedArtifact) -> str:
    """What keeps OpenVINO from running; with a good artifact at hand it is run."""
    missing = library_missing("openvino")
    if missing:
        return f"not installed: {missing}"
    try:
        if artifact.name and not artifact.problem:
            _run_blank(default_artifact(), "openvino")
        else:
            if "CPU" not in openvino_core().available_devices:
                return "installed, but it finds no CPU device; reinstall openvino"
    except (InputError, ImportError) as error:
        return " ".join(str(error).split())
    return ""


def _tensorrt(library: TensorRtName, cuda: CudaDriver) -> str:
    """What keeps TensorRT from running. None of its objects is made before the driver is known to work."""
    missing = library_missing(library)
    if missing:
        return f"not installed: {missing}"
    try:
        api = load_tensorrt(library)
    except InputError as error:
        return str(error)
    builds = "; engines can be built here for other machines' GPUs to prove a graph" if api.is_rtx else ""
    if cuda.problem:
        return f"{api.title} is here, a GPU is not: {cuda.problem}{builds}"
    try:
        api.module.Runtime(api.log)
    except TypeError as error:  # the binding's way to say that the library gave no object
        return " ".join([api.title, "does not start:", *api.take_messages()[0], str(error)])
    return ""


def _run_blank(folder: Path, engine: EngineName) -> None:
    opened = open_engine(folder, engine=engine)
    opened.infer([np.zeros((*reversed(_PROBE_WH), 3), dtype=np.uint8)])
    opened.close()


def _check_artifact() -> tuple[ShippedArtifact, str]:
    """The shipped artifact, and what keeps the CPU engine from running it (empty: it ran)."""
    try:
        folder = default_artifact()
    except InputError as error:
        return ShippedArtifact(problem=str(error)), ""
    try:
        _run_blank(folder, "onnxruntime")
    except InputError as error:
        return ShippedArtifact(folder.name, str(error)), str(error)
    return ShippedArtifact(folder.name), ""


def as_dict(report: MachineReport) -> dict[str, Any]:
    """The report as plain containers for JSON; ``works`` sums it up."""
    return {
        "works": not report.problems,
        "problems": list(report.problems),
        "versions": report.versions,
        "system": report.system,
        "cores": report.cores,
        "memory_gib": report.memory_gib,
        "video": report.video,
        "engines": {name: {"runs": not problem, "problem": problem} for name, problem in report.engines.items()},
        "engine_cache": {"folder": report.engine_cache, "engines": report.cached_engines},
        "cuda": {
            "version": report.cuda.version,
            "devices": list(report.cuda.devices),
            "compute_capabilities": list(report.cuda.compute_capabilities),
            "problem": report.cuda.problem,
        },
        "extras": {extra.name: {"missing": list(extra.missing)} for extra in report.extras},
        "artifact": {"name": report.artifact.name, "problem": report.artifact.problem},
    }
